package rpc

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"

	xunchav1 "xuncha/proto/xuncha/v1"
	"xuncha/server/internal/accounts"
	"xuncha/server/internal/wire"
)

// strangersHold is how much callers without a token may hold in these tests.
const strangersHold = 4 << 20

// newGuarded returns a world with accounts, whose gate is looked at by hand.
func newGuarded(t testing.TB) (*world, *wire.Gate) {
	t.Helper()
	var w *world
	start := time.Unix(1_000_000, 0)
	gate := wire.New(wire.Config{Strangers: strangersHold, Known: 64 << 20, Ticks: make(chan time.Time), Now: func() time.Time {
		if w == nil {
			return start
		}
		return w.clock()
	}})
	w = newWorldWith(t, func(c *Config) { c.Gate = gate })
	w.create(t, "root", accounts.Admin, "511600")
	w.create(t, "officer.one", accounts.Officer, "511600")
	return w, gate
}

// A stranger speaks HTTP/2 by hand and keeps to no rule but those of its frames.
type stranger struct {
	*http2.Framer
	t    testing.TB
	conn net.Conn
	b    bytes.Buffer
	h    *hpack.Encoder

	mu     sync.Mutex
	ended  map[uint32]string // the grpc-status of each stream that has ended; "" for a reset
	window map[uint32]int    // what the server lets the stranger send more of a stream
	first  int               // the window of a stream that is opened
	closed bool
}

func (w *world) stranger(t testing.TB) *stranger {
	t.Helper()
	s := &stranger{t: t, conn: must(w.listener.DialContext(t.Context()))(t), ended: map[uint32]string{}, window: map[uint32]int{}}
	t.Cleanup(func() { s.conn.Close() })
	s.Framer, s.h = http2.NewFramer(s.conn, s.conn), hpack.NewEncoder(&s.b)
	s.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	if _, err := io.WriteString(s.conn, http2.ClientPreface); err != nil {
		t.Fatal(err)
	}
	if err := s.WriteSettings(); err != nil {
		t.Fatal(err)
	}
	go s.listen()
	return s
}

// listen notes what the server says.
func (s *stranger) listen() {
	for {
		f, err := s.ReadFrame()
		s.mu.Lock()
		switch f := f.(type) {
		case *http2.MetaHeadersFrame:
			if f.StreamEnded() {
				for _, field := range f.Fields {
					if field.Name == "grpc-status" {
						s.ended[f.StreamID] = field.Value
					}
				}
			}
		case *http2.RSTStreamFrame:
			if _, ok := s.ended[f.StreamID]; !ok {
				s.ended[f.StreamID] = ""
			}
		case *http2.SettingsFrame:
			if v, ok := f.Value(http2.SettingInitialWindowSize); ok {
				s.first = int(v)
			}
		case *http2.WindowUpdateFrame:
			s.window[f.StreamID] += int(f.Increment)
		}
		s.closed = s.closed || err != nil
		s.mu.Unlock()
		if err != nil {
			return
		}
	}
}

// open opens a stream, and reports whether the connection stands.
func (s *stranger) open(id uint32, method string, fields ...hpack.HeaderField) bool {
	s.b.Reset()
	for _, f := range append([]hpack.HeaderField{
		{Name: ":method", Value: "POST"}, {Name: ":scheme", Value: "http"}, {Name: ":path", Value: method},
		{Name: ":authority", Value: "x"}, {Name: "content-type", Value: "application/grpc"}, {Name: "te", Value: "trailers"},
	}, fields...) {
		if err := s.h.WriteField(f); err != nil {
			s.t.Fatal(err)
		}
	}
	return s.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: s.b.Bytes(), EndHeaders: true}) == nil
}

// has returns what was noted.
func (s *stranger) has() (ended map[uint32]string, closed bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := map[uint32]string{}
	for id, st := range s.ended {
		out[id] = st
	}
	return out, s.closed
}

// maySend returns how much the stranger may send of a stream, of which it has sent nothing.
func (s *stranger) maySend(id uint32) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.first + s.window[id]
}

// wantServed checks that a caller with a token is served, on a connection of its own.
func (w *world) wantServed(t testing.TB, token string) {
	t.Helper()
	_, err := xunchav1.NewRosterServiceClient(w.dial(t)).ListClosureOrders(with(t.Context(), token), &xunchav1.ListClosureOrdersRequest{})
	if err != nil {
		t.Errorf("a caller with a token is not served: %v", err)
	}
}

// prefix announces a message of the length.
func prefix(length int) []byte {
	return []byte{0, byte(length >> 24), byte(length >> 16), byte(length >> 8), byte(length)}
}

// TestStrangersSendLittle ensures that of a request of 16 MiB without a token no more can be
// sent than 64 KiB, and that it is refused before any more could come.
func TestStrangersSendLittle(t *testing.T) {
	w, gate := newGuarded(t)
	s := w.stranger(t)
	methods := []string{
		xunchav1.InspectionService_SubmitCheckIn_FullMethodName, xunchav1.PhotoService_UploadPhoto_FullMethodName,
		xunchav1.AccountService_Login_FullMethodName, healthv1.Health_Check_FullMethodName,
		"/grpc.reflection.v1.ServerReflection/ServerReflectionInfo", "/no.Service/Method",
	}
	for i := range 40 {
		id := uint32(2*i + 1)
		if !s.open(id, methods[i%len(methods)]) || s.WriteData(id, false, append(prefix(16<<20), make([]byte, 10_000)...)) != nil {
			t.Fatal("the connection was closed")
		}
	}
	waitFor(t, "the end of all streams", func() bool { ended, _ := s.has(); return len(ended) == 40 })
	for i := range 40 {
		if got := s.maySend(uint32(2*i + 1)); got > wire.StrangerWindow {
			t.Errorf("%s: %d bytes could be sent", methods[i%len(methods)], got)
		}
	}
	waitFor(t, "nothing held", func() bool { held, _, _ := gate.Held(); return held < 200<<10 })
}

// TestStrangersHoldLittle ensures that whatever callers without a token open and leave open,
// they hold no more than they may, that others are served meanwhile, and that all is given
// back when they go.
func TestStrangersHoldLittle(t *testing.T) {
	for _, test := range []struct{ name, method string }{
		{"HeadersOnly", xunchav1.AccountService_Login_FullMethodName},
		{"HealthCheck", healthv1.Health_Check_FullMethodName},
		{"HealthWatch", healthv1.Health_Watch_FullMethodName},
		{"Reflection", "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo"},
		{"OldReflection", "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"},
	} {
		t.Run(test.name, func(t *testing.T) {
			w, gate := newGuarded(t)
			token := w.signIn(t, "root")
			var all []*stranger
			for range 20 {
				s := w.stranger(t)
				all = append(all, s)
				for i := range maxStreams {
					if !s.open(uint32(2*i+1), test.method, hpack.HeaderField{Name: "x-more", Value: fmt.Sprint(i)}) {
						break
					}
				}
				// Whoever has just added something closes what is too much.
				waitFor(t, "no more held than they may", func() bool { held, _, _ := gate.Held(); return held <= strangersHold })
				w.wantServed(t, token)
			}
			if _, closed := all[0].has(); !closed {
				t.Error("the first connection stands")
			}
			for _, s := range all {
				s.conn.Close()
			}
			waitFor(t, "all given back", func() bool { held, _, _ := gate.Held(); return held < 100<<10 })
			w.wantServed(t, token)
		})
	}
}

// TestStrangersTakeTooLong ensures that a request which does not come ends, and so does a
// stream of a standard service, after a while and with a reason.
func TestStrangersTakeTooLong(t *testing.T) {
	w, gate := newGuarded(t)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	conn := w.dial(t)
	login := must(conn.NewStream(ctx, &grpc.StreamDesc{ClientStreams: true}, xunchav1.AccountService_Login_FullMethodName))(t)
	watch := must(healthv1.NewHealthClient(conn).Watch(ctx, &healthv1.HealthCheckRequest{}))(t)
	if _, err := watch.Recv(); err != nil {
		t.Fatal(err)
	}
	waitFor(t, "both calls", func() bool { held, _, _ := gate.Held(); return held > standardWaits })
	ended := make(chan error)
	go func() { ended <- login.RecvMsg(new(xunchav1.LoginResponse)) }()
	for over := false; !over; {
		w.advance(openRequestTime) // once more if the method had not begun to read by then
		gate.Look()
		select {
		case err := <-ended:
			wantStatus(t, err, codes.DeadlineExceeded, "DEADLINE_EXCEEDED", "")
			over = true
		case <-time.After(time.Second):
		}
	}
	w.advance(standardTime)
	gate.Look()
	_, err := watch.Recv()
	wantStatus(t, err, codes.DeadlineExceeded, "DEADLINE_EXCEEDED", "")
}

// TestPhonesStay ensures that phones whose calls need their time are served as before: one
// whose upload pauses for longer than a request may take, and 64 at once.
func TestPhonesStay(t *testing.T) {
	w, gate := newGuarded(t)
	token := w.signIn(t, "officer.one")
	c := w.checkIn(0)
	c.Photos = declare(testPhoto)
	must(w.checkIns.SubmitCheckIn(with(t.Context(), token), &xunchav1.SubmitCheckInRequest{CheckIn: c}))(t)
	stream := must(w.photos.UploadPhoto(with(t.Context(), token)))(t)
	send := func(m *xunchav1.UploadPhotoRequest) {
		t.Helper()
		if err := stream.Send(m); err != nil {
			t.Fatal(err)
		}
	}
	send(uploadSpec(c, testPhoto, 0))
	send(data(testPhoto[:1000]))
	for range 10 {
		w.advance(time.Minute)
		gate.Look()
	}
	send(data(testPhoto[1000:]))
	if done := must(stream.CloseAndRecv())(t); !done.Stored {
		t.Errorf("got %v", done)
	}
	token = w.signIn(t, "officer.one")
	conn := w.dial(t)
	var group sync.WaitGroup
	for range 64 {
		group.Go(func() {
			c := w.checkIn(1)
			if _, err := xunchav1.NewInspectionServiceClient(conn).SubmitCheckIn(with(t.Context(), token), &xunchav1.SubmitCheckInRequest{CheckIn: c}); err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
	if held, known, _ := gate.Held(); held > 200<<10 || known == 0 {
		t.Errorf("strangers hold %d and known callers %d", held, known)
	}
}

// TestHeadersHaveALimit ensures that the token of an identity provider of 16 KiB fits, and
// that headers of a megabyte are not taken.
func TestHeadersHaveALimit(t *testing.T) {
	w, _ := newGuarded(t)
	_, err := w.roster.ListClosureOrders(with(t.Context(), string(bytes.Repeat([]byte("x"), 16<<10))), &xunchav1.ListClosureOrdersRequest{})
	wantStatus(t, err, codes.Unauthenticated, "TOKEN_INVALID", "")
	_, err = w.roster.ListClosureOrders(with(t.Context(), string(bytes.Repeat([]byte("x"), 1<<20))), &xunchav1.ListClosureOrdersRequest{})
	if status.Code(err) != codes.Internal { // gRPC clients do not send what the server does not take
		t.Errorf("got %v", err)
	}
	// Others may: nothing of it is kept, and the connection goes on.
	s := w.stranger(t)
	s.b.Reset()
	for i := range 40 {
		if err := s.h.WriteField(hpack.HeaderField{Name: fmt.Sprint("x-", i), Value: fmt.Sprint(bytes.Repeat([]byte("y"), 1000))}); err != nil {
			t.Fatal(err)
		}
	}
	block := s.b.Bytes()
	if err := errors.Join(s.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: block[:16<<10]}), s.WriteContinuation(1, true, block[16<<10:32<<10])); err != nil {
		t.Fatal(err)
	}
	waitFor(t, "the end of the stream", func() bool { ended, closed := s.has(); _, ok := ended[1]; return ok || closed })
}
