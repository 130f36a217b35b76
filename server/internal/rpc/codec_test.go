package rpc

import (
	"bytes"
	"slices"
	"testing"

	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/proto"

	xunchav1 "xuncha/proto/xuncha/v1"
)

// TestReadData compares what the codec makes of an upload's messages with what
// protobuf makes of them, whatever pieces they come in.
func TestReadData(t *testing.T) {
	spec := must(proto.Marshal(uploadSpec(&xunchav1.CheckIn{SiteId: "s", CheckInId: "c"}, testPhoto, 7)))(t)
	messages := [][]byte{nil, spec, {dataTag}, {dataTag, 0}, {dataTag, 0x80, 0}, {dataTag, 5, 1, 2}, {0xff, 0xff}}
	for _, n := range []int{0, 1, 8, 9, 10, 11, 127, 128, 16 << 10, dataBuffer - 1, dataBuffer, dataBuffer + 1, 1<<20 - 5} {
		m := must(proto.Marshal(data(bytes.Repeat([]byte("photo "), n/6+1)[:n])))(t)
		messages = append(messages, m, m[:len(m)-1], slices.Concat(m, spec), slices.Concat(m, []byte{dataTag, 1, 'x'}), slices.Concat(spec, m))
	}
	for _, m := range messages {
		want := &xunchav1.UploadPhotoRequest{}
		if proto.Unmarshal(m, want) != nil {
			want = nil
		}
		for _, piece := range []int{1 << 20, 4096, 3, 1} {
			if len(m)/piece > 5000 {
				continue
			}
			var slice mem.BufferSlice
			for b := range slices.Chunk(m, piece) {
				slice = append(slice, mem.SliceBuffer(b))
			}
			got := &xunchav1.UploadPhotoRequest{}
			err := decode(slice, got)
			if (err != nil) != (want == nil) {
				t.Errorf("%d bytes in pieces of %d: got %v", len(m), piece, err)
			}
			if want == nil {
				continue
			}
			if !proto.Equal(got, want) {
				t.Errorf("%d bytes in pieces of %d are read as another message", len(m), piece)
			}
			freeData(got)
		}
	}
}

// FuzzReadData compares the two on whatever bytes a phone may send.
func FuzzReadData(f *testing.F) {
	for _, m := range []*xunchav1.UploadPhotoRequest{data([]byte("some bytes")), data(nil), uploadSpec(&xunchav1.CheckIn{}, testPhoto, 1)} {
		b, err := proto.Marshal(m)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b, 3)
	}
	f.Fuzz(func(t *testing.T, b []byte, piece int) {
		var slice mem.BufferSlice
		for part := range slices.Chunk(b, max(1, piece)) {
			slice = append(slice, mem.SliceBuffer(part))
		}
		got, want := &xunchav1.UploadPhotoRequest{}, &xunchav1.UploadPhotoRequest{}
		err := decode(slice, got)
		if proto.Unmarshal(b, want) != nil {
			if err == nil {
				t.Errorf("%x is taken for a message", b)
			}
		} else if err != nil || !proto.Equal(got, want) {
			t.Errorf("%x is read as %v and %v, want %v", b, got, err, want)
		}
	})
}
