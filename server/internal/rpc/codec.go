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

// codec is grpc's protobuf codec, but for requests that cannot be read or are
// too large. Left to itself, grpc answers those before any interceptor runs.
// Here such a request goes on as an empty message that carries the reason, and
// the interceptor answers with it.
type codec struct {
	encoding.CodecV2
	// most is the length in bytes of the longest message, once unpacked.
	most int
}

func newCodec(most int) codec { return codec{encoding.GetCodecV2("proto"), most} }

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

// Unmarshal reads data into v, a proto.Message.
func (c codec) Unmarshal(data mem.BufferSlice, v any) error {
	m, ok := v.(proto.Message)
	if !ok {
		return c.CodecV2.Unmarshal(data, v)
	}
	if data.Len() > c.most {
		mark(m, tooLarge, "")
		return nil
	}
	if upload, ok := v.(*xunchav1.UploadPhotoRequest); ok && readData(data, upload) {
		return nil
	}
	if c.CodecV2.Unmarshal(data, v) != nil {
		raw := data.Materialize()
		path, _ := findBadText(m.ProtoReflect().Descriptor(), raw, "")
		mark(m, notReadable, path)
	}
	return nil
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

// A mark is what the unknown fields of a message begin with where the codec
// could not take it in; the path of the bad text follows, empty for bytes that
// are no message at all. Marks are no tags of fields, so no sender can make one:
// the number of a field is never 0.
const (
	notReadable byte = iota
	tooLarge
)

func mark(m proto.Message, why byte, path string) {
	proto.Reset(m)
	m.ProtoReflect().SetUnknown(append([]byte{why}, path...))
}

// unreadable returns the error that the codec left in m, if any.
func unreadable(m proto.Message) error {
	raw := m.ProtoReflect().GetUnknown()
	switch {
	case len(raw) == 0 || raw[0] > tooLarge:
		return nil
	case raw[0] == tooLarge:
		return errTooLarge
	case len(raw) == 1:
		return errMalformed
	}
	return &sites.FieldError{Field: string(raw[1:]), Err: errUTF8}
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
