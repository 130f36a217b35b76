package rpc

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/dynamicpb"

	xunchav1 "xuncha/proto/xuncha/v1"
	"xuncha/server/internal/accounts"
	"xuncha/sites"
)

// TestTokenBeforeMessage ensures that who has no token learns that before a message was
// read, whatever the method: none is sent here.
func TestTokenBeforeMessage(t *testing.T) {
	w := newWorld(t)
	w.create(t, "root", accounts.Admin, "511600")
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for _, m := range methods() {
		full := fmt.Sprintf("/%s/%s", m.Parent().FullName(), m.Name())
		if accesses[full].open {
			continue
		}
		stream := must(w.conn.NewStream(ctx, &grpc.StreamDesc{ClientStreams: true, ServerStreams: true}, full))(t)
		wantStatus(t, stream.RecvMsg(dynamicpb.NewMessage(m.Output())), codes.Unauthenticated, "TOKEN_INVALID", "")
	}
}

// TestLongestRequests ensures that a request which is right in itself is as long as its
// method takes, and that methods without a token take no long ones.
func TestLongestRequests(t *testing.T) {
	for _, m := range methods() {
		row := accesses[fmt.Sprintf("/%s/%s", m.Parent().FullName(), m.Name())]
		if row.open && row.large {
			t.Errorf("%s takes large requests from anyone", m.FullName())
		}
		if longest := longestValid(m.Input(), 0); !row.large && longest > plainRequest {
			t.Errorf("%s: a valid request can have %d bytes, and is refused beyond %d", m.FullName(), longest, plainRequest)
		}
	}
}

// longestValid returns how many bytes a message can have by the rules of its fields. A text
// without a limit, such as a page's token, is one that the server made itself.
func longestValid(d protoreflect.MessageDescriptor, depth int) int {
	const unlimited = 1 << 10
	sum := 0
	for i := range d.Fields().Len() {
		f := d.Fields().Get(i)
		limit := limitOfRules(f)
		most, limited := limit.most.(uint64)
		size := 10
		switch f.Kind() {
		case protoreflect.StringKind, protoreflect.BytesKind:
			size = unlimited
			if limited && limit.unit != sites.Items && !f.IsList() {
				if size = int(most); f.Kind() == protoreflect.StringKind {
					size *= 4
				}
			}
			if f.IsList() {
				size = 16 // a division's code
			}
		case protoreflect.MessageKind:
			if depth < 4 {
				size = longestValid(f.Message(), depth+1)
			}
		}
		times := 1
		if f.IsList() && limited {
			times = int(most)
		}
		sum += times * (size + 2*protowire.SizeTag(f.Number()) + 4)
	}
	return sum
}

// TestUnpack ensures that no more is unpacked than a method takes.
func TestUnpack(t *testing.T) {
	for _, test := range []struct {
		size int
		want error
	}{{0, nil}, {plainRequest, nil}, {plainRequest + 1, errTooLarge}, {64 << 20, errTooLarge}} {
		plain, err := unpack(packed(t, test.size), plainRequest)
		if !errors.Is(err, test.want) || err == nil && plain.Len() != test.size {
			t.Errorf("%d bytes: got %d and %v, want %v", test.size, plain.Len(), err, test.want)
		}
	}
	for _, noise := range []string{"", "x", "\x1f\x8b\x08\x00"} {
		if _, err := unpack(mem.BufferSlice{mem.SliceBuffer(noise)}, plainRequest); !errors.Is(err, errMalformed) {
			t.Errorf("%q: got %v", noise, err)
		}
	}
}

// packed returns so many zeros as gzip packs them.
func packed(t testing.TB, size int) mem.BufferSlice {
	t.Helper()
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	zeros := make([]byte, 1<<20)
	for left := size; left > 0; left -= len(zeros) {
		if _, err := z.Write(zeros[:min(left, len(zeros))]); err != nil {
			t.Fatal(err)
		}
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return mem.BufferSlice{mem.SliceBuffer(b.Bytes())}
}

// TestLargeRequests ensures that methods which take large requests go on to, packed or not,
// and also where they cannot be packed.
func TestLargeRequests(t *testing.T) {
	w := newWorld(t) // which takes 1 MiB
	c := w.checkIn(0)
	c.Photos = declare(testPhoto)
	w.submit(t, c)
	incompressible := make([]byte, 1<<20-16)
	if _, err := rand.Read(incompressible); err != nil {
		t.Fatal(err)
	}
	for _, options := range [][]grpc.CallOption{nil, {grpc.UseCompressor(gzipName)}} {
		stream := must(w.photos.UploadPhoto(t.Context(), options...))(t)
		for _, m := range []*xunchav1.UploadPhotoRequest{uploadSpec(c, testPhoto, 0), data(incompressible)} {
			if err := stream.Send(m); err != nil {
				t.Fatal(err)
			}
		}
		_, err := stream.CloseAndRecv()
		wantStatus(t, err, codes.InvalidArgument, "PHOTO_SIZE_MISMATCH", "data") // so it was read
	}
}

// TestSeveralRequests ensures that a second message of a method that takes one is not read.
func TestSeveralRequests(t *testing.T) {
	w := newWorld(t)
	codec := grpc.ForceCodecV2(rawCodec{encoding.GetCodecV2("proto")})
	stream := must(w.conn.NewStream(t.Context(), &grpc.StreamDesc{ClientStreams: true}, xunchav1.AccountService_Login_FullMethodName, codec))(t)
	for range 2 {
		if err := stream.SendMsg([]byte{}); err != nil {
			t.Fatal(err)
		}
	}
	wantStatus(t, stream.RecvMsg(new(xunchav1.LoginResponse)), codes.InvalidArgument, "MALFORMED_REQUEST", "")
}
