package rpc

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/dynamicpb"

	"xuncha/server/internal/accounts"
)

// hollow returns requests of the method that lack what they should have: one
// that is empty, and for each message in it, one where that alone is there and
// is empty itself.
func hollow(m protoreflect.MethodDescriptor) []proto.Message {
	out := []proto.Message{dynamicpb.NewMessage(m.Input())}
	fields := m.Input().Fields()
	for i := range fields.Len() {
		f := fields.Get(i)
		if f.Kind() != protoreflect.MessageKind {
			continue
		}
		request := dynamicpb.NewMessage(m.Input())
		if f.IsList() {
			request.Mutable(f).List().AppendMutable()
		} else {
			request.Mutable(f)
		}
		out = append(out, request)
	}
	return out
}

// wantNoFault checks that a call was answered by what it is, and not by a fault
// of the server's.
func (w *world) wantNoFault(t testing.TB, what string, err error) {
	t.Helper()
	if code := status.Code(err); code == codes.Internal || code == codes.Unknown || code == codes.DataLoss {
		t.Errorf("%s: got %v", what, err)
	}
	if _, errs := w.callLines(""); len(errs) > 0 {
		t.Fatalf("%s: the log has %s", what, errs)
	}
}

// TestHollowRequests holds that what a request lacks is the caller's fault,
// whatever the method and whoever calls it.
func TestHollowRequests(t *testing.T) {
	open, closed := newWorld(t), newWorld(t)
	closed.create(t, "root", accounts.Admin, "511600")
	type caller struct {
		name string
		w    *world
		ctx  context.Context
	}
	callers := []caller{{"anyone", open, t.Context()}, {"nobody", closed, t.Context()}}
	for _, role := range accounts.Roles {
		name := "a." + string(role)
		closed.create(t, name, role, "511602")
		callers = append(callers, caller{name, closed, with(t.Context(), closed.signIn(t, name))})
	}
	for _, m := range methods() {
		for _, c := range callers {
			for i, request := range hollow(m) {
				err := c.w.call(c.ctx, m, request)
				c.w.wantNoFault(t, fmt.Sprintf("%s, request %d of %s", m.FullName(), i, c.name), err)
				if m.IsStreamingClient() && c.name == "anyone" && status.Code(err) != codes.InvalidArgument {
					t.Errorf("%s, request %d: got %v, want INVALID_ARGUMENT", m.FullName(), i, err)
				}
			}
			if m.IsStreamingClient() {
				err := c.w.call(c.ctx, m)
				c.w.wantNoFault(t, fmt.Sprintf("%s without a message, of %s", m.FullName(), c.name), err)
			}
		}
	}
}

// TestStreamWithoutARequest calls a method that takes one request with none.
// grpc answers that itself, and the log must not take it for a fault of ours.
func TestStreamWithoutARequest(t *testing.T) {
	w := newWorld(t)
	for _, m := range methods() {
		if m.IsStreamingServer() {
			_ = w.call(t.Context(), m)
			waitFor(t, "the call's end", func() bool { return strings.Contains(w.log.String(), string(m.Name())) })
		}
	}
	w.wantNoFault(t, "no request", nil)
}

// FuzzRequests sends bytes to every method: nothing that a caller can say is a
// fault of the server's.
func FuzzRequests(f *testing.F) {
	all := methods()
	for i, m := range all {
		for _, request := range hollow(m) {
			raw, err := proto.Marshal(request)
			if err != nil {
				f.Fatal(err)
			}
			f.Add(uint8(i), raw, raw)
		}
	}
	errs := &syncBuffer{}
	w := newWorldWith(f, func(c *Config) {
		c.Log = slog.New(slog.NewJSONHandler(errs, &slog.HandlerOptions{Level: slog.LevelError}))
	})
	w.log = errs // which alone is looked at, so nothing else is kept
	codec := grpc.ForceCodecV2(rawCodec{encoding.GetCodecV2("proto")})
	f.Fuzz(func(t *testing.T, method uint8, first, second []byte) {
		m := all[int(method)%len(all)]
		stream, err := w.conn.NewStream(t.Context(), &grpc.StreamDesc{ClientStreams: true, ServerStreams: true}, fmt.Sprintf("/%s/%s", m.Parent().FullName(), m.Name()), codec)
		if err != nil {
			t.Fatal(err)
		}
		messages := [][]byte{first, second}
		if !m.IsStreamingClient() {
			messages = messages[:1]
		}
		for _, raw := range messages {
			if stream.SendMsg(raw) != nil {
				break // and RecvMsg says why
			}
		}
		if err := stream.CloseSend(); err != nil {
			t.Fatal(err)
		}
		w.wantNoFault(t, string(m.FullName()), stream.RecvMsg(dynamicpb.NewMessage(m.Output())))
	})
}
