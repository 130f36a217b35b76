package rpc

import (
	"compress/gzip"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"sync"

	"google.golang.org/grpc"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/proto"
)

// plainRequest is the length in bytes of the longest request of most methods, once
// unpacked. It is also what may arrive of a call before its caller is admitted
// (wire.StrangerWindow).
const plainRequest = 64 << 10

// An incoming call is what grpc's stream has below its own RecvMsg. That one has a single
// limit for all methods, unpacks up to it, and answers by itself what it does not take.
type incoming interface {
	// ReadMessageHeader fills b. It returns io.EOF where the call has no more messages.
	ReadMessageHeader(b []byte) error
	// Read returns the next n bytes.
	Read(n int) (mem.BufferSlice, error)
	// RecvCompress returns the grpc-encoding of the call.
	RecvCompress() string
}

// tellTaken is how long a message must be for its connection to be told that it was read. What
// is shorter weighs little, and counts no more once the call has ended.
const tellTaken = 8 << 10

// headLen is how long the prefix of a message is: a flag and a length
// (PROTOCOL-HTTP2.md of grpc, Length-Prefixed-Message).
const headLen = 5

// receive reads the call's next message into m. It is io.EOF where there is none, and
// errTooLarge where the message is longer than most, of which nothing is read then.
func receive(ctx context.Context, m any, most int) error {
	call, err := incomingOf(ctx)
	if err != nil {
		return err
	}
	return receiveFrom(ctx, call, make([]byte, headLen), m, most)
}

// incomingOf returns what the messages of the call are read from.
func incomingOf(ctx context.Context) (incoming, error) {
	stream := grpc.ServerTransportStreamFromContext(ctx)
	call, ok := stream.(incoming)
	if !ok {
		return nil, fmt.Errorf("grpc's stream cannot be read: it is a %T", stream)
	}
	return call, nil
}

// receiveFrom is receive with what the call is read from, and memory for the prefix.
func receiveFrom(ctx context.Context, call incoming, head []byte, m any, most int) error {
	if err := call.ReadMessageHeader(head); err != nil {
		return broken(err)
	}
	packed := head[0] == 1
	switch {
	case head[0] > 1:
		return fmt.Errorf("%w: the flag of a message is %d", errMalformed, head[0])
	case packed && call.RecvCompress() != gzipName:
		return fmt.Errorf("%w: a message is compressed, and grpc-encoding does not say how", errMalformed)
	}
	length := int64(binary.BigEndian.Uint32(head[1:]))
	if onWire := int64(most); length > onWire && (!packed || length > onWire+onWire>>10+64) { // what cannot be compressed grows
		return fmt.Errorf("%w: %d bytes; this method takes %d", errTooLarge, length, most)
	}
	data, err := call.Read(int(length))
	if err != nil {
		if err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		return broken(err)
	}
	defer func() { data.Free() }()
	if length > tellTaken {
		wiredOf(ctx).streamOf().Took(headLen + int(length))
	}
	if packed {
		plain, err := unpack(data, most)
		if err != nil {
			return err
		}
		data.Free()
		data = plain
	}
	msg, ok := m.(proto.Message)
	if !ok {
		return fmt.Errorf("a message of type %T", m)
	}
	return decode(data, msg)
}

// receiveOnly is receive for a call that has exactly one message.
func receiveOnly(ctx context.Context, m any, most int) error {
	call, err := incomingOf(ctx)
	if err != nil {
		return err
	}
	head := make([]byte, headLen)
	switch err := receiveFrom(ctx, call, head, m, most); {
	case err == io.EOF:
		return fmt.Errorf("%w: it has none", errMalformed)
	case err != nil:
		return err
	}
	switch err := call.ReadMessageHeader(head[:1]); {
	case err == io.EOF:
		return nil
	case err != nil:
		return broken(err)
	}
	return fmt.Errorf("%w: it has several messages", errMalformed)
}

// broken returns the error of a call that ended amid what was read. What grpc says of a
// call that was cut is a status already.
func broken(err error) error {
	if err == io.ErrUnexpectedEOF {
		return fmt.Errorf("%w: it ends amid a message", errMalformed)
	}
	return err
}

// gzipName is the grpc-encoding of what unpack unpacks. grpc refuses others.
const gzipName = "gzip"

var unpackers = sync.Pool{New: func() any { return new(gzip.Reader) }}

// unpack returns what gzip has packed, but no more than most bytes of it: errTooLarge
// where there are more.
func unpack(data mem.BufferSlice, most int) (mem.BufferSlice, error) {
	r := data.Reader()
	defer r.Close()
	z := unpackers.Get().(*gzip.Reader)
	defer unpackers.Put(z)
	if err := z.Reset(r); err != nil {
		return nil, fmt.Errorf("%w: %w", errMalformed, err)
	}
	plain, err := mem.ReadAll(io.LimitReader(z, int64(most)+1), mem.DefaultBufferPool())
	switch {
	case err != nil:
		plain.Free()
		return nil, fmt.Errorf("%w: %w", errMalformed, err)
	case plain.Len() > most:
		plain.Free()
		return nil, fmt.Errorf("%w: unpacked; this method takes %d bytes", errTooLarge, most)
	}
	return plain, nil
}
