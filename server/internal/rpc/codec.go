package rpc

import (
	"encoding/binary"
	"io"
	"strconv"
	"sync"
	"unicode/utf8"

	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	xunchav1 "xuncha/proto/xuncha/v1"
	"xuncha/sites"

	// The codec below is built on the one that this registers.
	_ "google.golang.org/grpc/encoding/proto"
)

// codec is grpc's protobuf codec, which reads the standard services' messages too.
type codec struct{ encoding.CodecV2 }

func newCodec() codec { return codec{protobuf} }

// protobuf is grpc's own codec.
var protobuf = encoding.GetCodecV2("proto")

// Marshal writes v. What encoded has made is sent without being copied.
func (c codec) Marshal(v any) (mem.BufferSlice, error) {
	if raw := ready(v); raw != nil {
		return mem.BufferSlice{mem.SliceBuffer(raw)}, nil
	}
	return c.CodecV2.Marshal(v)
}

// ready returns the bytes of a response that encoded has made, or nil.
func ready(v any) []byte {
	switch m := v.(type) {
	case *xunchav1.ListSiteHistoryResponse:
		if m.Entries == nil && m.NextPageToken == "" {
			return m.ProtoReflect().GetUnknown()
		}
	case *xunchav1.GetCoverageResponse:
		if m.Row == nil && m.Children == nil {
			return m.ProtoReflect().GetUnknown()
		}
	case *xunchav1.ListDueSitesResponse:
		if m.DueSites == nil && m.NextPageToken == "" && m.TotalSize == 0 {
			return m.ProtoReflect().GetUnknown()
		}
	case *xunchav1.ListCheckInsResponse:
		if m.Items == nil && m.NextPageToken == "" {
			return m.ProtoReflect().GetUnknown()
		}
	}
	return nil
}

// decode reads data into m. What cannot be read is errMalformed, or names the text that
// is not UTF-8.
func decode(data mem.BufferSlice, m proto.Message) error {
	if upload, ok := m.(*xunchav1.UploadPhotoRequest); ok && readData(data, upload) {
		return nil
	}
	err := protobuf.Unmarshal(data, m)
	if err == nil {
		return nil
	}
	if path, ok := findBadText(m.ProtoReflect().Descriptor(), data.Materialize(), ""); ok {
		return &sites.FieldError{Field: path, Err: errUTF8}
	}
	return errMalformed
}

// readData reads a message that has a photo's data and nothing else, as all of an
// upload but the first are, into a buffer that freeData takes back. Left to grpc,
// each was put together in memory of up to a megabyte and then copied to new
// memory, which took a seventh of an upload's time.
func readData(data mem.BufferSlice, m *xunchav1.UploadPhotoRequest) bool {
	var head [1 + binary.MaxVarintLen64]byte // a tag and a length
	r := data.Reader()
	defer r.Close()
	n, err := io.ReadFull(r, head[:min(len(head), data.Len())])
	if err != nil || n < 2 || head[0] != dataTag {
		return false
	}
	size, sizeLen := protowire.ConsumeVarint(head[1:n])
	if sizeLen < 0 || size != uint64(data.Len()-1-sizeLen) {
		return false
	}
	var b []byte
	if size <= dataBuffer {
		b = dataBuffers.Get().(*[dataBuffer]byte)[:size]
	} else {
		b = make([]byte, size)
	}
	read := copy(b, head[1+sizeLen:n])
	if _, err := io.ReadFull(r, b[read:]); err != nil {
		return false
	}
	m.Part = &xunchav1.UploadPhotoRequest_Data{Data: b}
	return true
}

// freeData takes a buffer back from a message that nobody needs any more.
func freeData(m *xunchav1.UploadPhotoRequest) {
	if b := m.GetData(); cap(b) == dataBuffer {
		dataBuffers.Put((*[dataBuffer]byte)(b[:dataBuffer]))
	}
	m.Part = nil
}

const (
	// dataTag is the field data of UploadPhotoRequest on the wire: number 2, bytes.
	dataTag = 2<<3 | byte(protowire.BytesType)
	// dataBuffer is how long messages may be whose memory is used again.
	dataBuffer = 128 << 10
)

var dataBuffers = sync.Pool{New: func() any { return new([dataBuffer]byte) }}

// encoded returns a message that is sent as the same bytes as m, without its
// fields being walked each time: all of it is in the unknown fields, which are
// encoded as they are. It is for messages that are sent often; nobody can read
// a field of it.
func encoded[M proto.Message](m M) (M, error) {
	out := m.ProtoReflect().New()
	raw, err := proto.Marshal(m)
	out.SetUnknown(raw)
	return out.Interface().(M), err
}

// maxNesting bounds how deep findBadText follows messages in messages.
const maxNesting = 16

// findBadText returns the path of the first string field in raw, a message of
// the descriptor, that is not valid UTF-8.
func findBadText(d protoreflect.MessageDescriptor, raw []byte, at string) (string, bool) {
	seen := map[protowire.Number]int{}
	for len(raw) > 0 {
		num, typ, n := protowire.ConsumeTag(raw)
		if n < 0 {
			return "", false
		}
		raw = raw[n:]
		field := d.Fields().ByNumber(num)
		if typ != protowire.BytesType || field == nil {
			if n = protowire.ConsumeFieldValue(num, typ, raw); n < 0 {
				return "", false
			}
			raw = raw[n:]
			continue
		}
		value, n := protowire.ConsumeBytes(raw)
		if n < 0 {
			return "", false
		}
		raw = raw[n:]
		path := at + string(field.Name())
		if field.IsList() {
			path += "[" + strconv.Itoa(seen[num]) + "]"
			seen[num]++
		}
		switch field.Kind() {
		case protoreflect.StringKind:
			if !utf8.Valid(value) {
				return path, true
			}
		case protoreflect.MessageKind:
			if len(path) < 64*maxNesting {
				if p, ok := findBadText(field.Message(), value, path+"."); ok {
					return p, ok
				}
			}
		}
	}
	return "", false
}
