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
	c := newCodec(1 << 20)
	spec := must(proto.Marshal(uploadSpec(&xunchav1.CheckIn{SiteId: "s", CheckInId: "c"}, testPhoto, 7)))(t)
	messages := [][]byte{nil, spec, {dataTag}, {dataTag, 0}, {dataTag, 0x80, 0}, {dataTag, 5, 1, 2}, {0xff, 0xff}}
	for _, n := range []int{0, 1, 8, 9, 10, 11, 127, 128, 16 << 10, dataBuffer - 1, dataBuffer, dataBuffer + 1, 1<<20 - 5} {
		m := must(proto.Marshal(data(bytes.Repeat([]byte("photo "), n/6+1)[:n])))(t)
		messages = append(messages, m, m[:len(m)-1], slices.Concat(m, spec), slices.Concat(m, []byte{dataTag, 1, 'x'}), slices.Concat(spec, m))
	}
	for _, m := range messages {
		want := &xunchav1.UploadPhotoRequest{}
		if len(m) > c.most || proto.Unmarshal(m, want) != nil {
			want = nil // the codec marks it
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
			if err := c.Unmarshal(slice, got); err != nil {
				t.Fatal(err)
			}
			if want == nil {
				if unreadable(got) == nil {
					t.Errorf("%d bytes in pieces of %d are taken for a message", len(m), piece)
				}
				continue
			}
			if !proto.Equal(got, want) {
				t.Errorf("%d bytes in pieces of %d are read as another message", len(m), piece)
			}
			freeData(got)
		}
	}
}
