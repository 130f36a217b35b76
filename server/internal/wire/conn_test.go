package wire

import (
	"bytes"
	"errors"
	"io"
	"slices"
	"testing"

	"golang.org/x/net/http2"
)

// TestWeights ensures that what is held is what came and was not taken, for as long as its
// stream lasts.
func TestWeights(t *testing.T) {
	w := newWorld(t, Config{})
	const stream = streamWeight + 200
	p := w.mustConnect("192.0.2.1")
	w.wantHeld(connWeight, 0, 1)
	s := p.open(1, 40_000)
	w.wantHeld(connWeight+stream+40_000, 0, 1)
	s.Took(30_000)
	w.wantHeld(connWeight+stream+10_000, 0, 1)
	s.Took(30_000)
	w.wantHeld(connWeight+stream, 0, 1)
	s.Weigh(1000)
	w.wantHeld(connWeight+stream+1000, 0, 1)
	p.Know()
	w.wantHeld(0, connWeight+stream+1000, 1)
	p.answer(1)
	w.wantHeld(0, connWeight, 1)
	s.Took(1)
	s.Weigh(1) // it has ended
	s = p.open(3, 10)
	p.open(5, 10)
	if err := errors.Join(p.WriteRSTStream(3, http2.ErrCodeCancel), p.WriteData(3, true, []byte("late"))); err != nil {
		t.Fatal(err)
	}
	p.arrive()
	w.wantHeld(0, connWeight+2*stream+20, 1) // for the method of 3 does not know yet
	s.Returned()
	w.wantHeld(0, connWeight+stream+10, 1)
	if got := p.Opened(nil); got.id != 5 || got.Whole() {
		t.Errorf("got %+v", got)
	}
	if err := p.WriteData(5, true, nil); err != nil {
		t.Fatal(err)
	}
	p.arrive()
	if !p.Opened(nil).Whole() {
		t.Error("the end of the request was not seen")
	}
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	w.wantHeld(0, 0, 0)
	if got := w.gone.Load(); got != stream+10 {
		t.Errorf("%d bytes are on their way, want those of the method that has not returned", got)
	}
	p.Opened(nil)
	w.mustConnect("192.0.2.2") // so that somebody looks
	w.pass(dies)
	if got := w.gone.Load(); got != 0 || len(w.dying) != 0 {
		t.Errorf("%d bytes of %d connections are on their way for ever", got, len(w.dying))
	}
}

// TestWindows ensures which window streams have, before the caller is known and afterwards,
// and that a frame is put only between others.
func TestWindows(t *testing.T) {
	w := newWorld(t, Config{})
	p := w.mustConnect("192.0.2.1")
	window := func() (size uint32) {
		f, err := p.ReadFrame()
		if err != nil {
			t.Fatal(err)
		}
		size, _ = f.(*http2.SettingsFrame).Value(http2.SettingInitialWindowSize)
		return size
	}
	if got := window(); got != StrangerWindow {
		t.Errorf("a stranger has a window of %d", got)
	}
	p.Know()
	var answer bytes.Buffer
	if err := http2.NewFramer(&answer, nil).WriteData(1, false, make([]byte, 100)); err != nil {
		t.Fatal(err)
	}
	for _, part := range [][]byte{answer.Bytes()[:4], answer.Bytes()[4:50], answer.Bytes()[50:]} {
		if _, err := p.Write(part); err != nil {
			t.Fatal(err)
		}
	}
	if f, err := p.ReadFrame(); err != nil || f.Header().Type != http2.FrameData {
		t.Fatalf("got %v and %v", f, err)
	}
	if got := window(); got != KnownWindow {
		t.Errorf("a known caller has a window of %d", got)
	}
	p.Know() // says nothing new
	p.answer(1)
	if got := frames(t, p); len(got) != 1 {
		t.Errorf("got %v, want the answer alone", got)
	}
}

// TestReadsMuch ensures that what comes is what was sent, whatever is read ahead.
func TestReadsMuch(t *testing.T) {
	for _, known := range []bool{false, true} {
		w := newWorld(t, Config{})
		p := w.mustConnect("192.0.2.1")
		if known {
			p.Know()
		}
		for i := range 200 {
			if err := p.WriteData(1, false, bytes.Repeat([]byte{byte(i)}, i*i%16_000)); err != nil {
				t.Fatal(err)
			}
		}
		want := bytes.Clone(p.raw.sent.Bytes())
		got, err := io.ReadAll(struct{ io.Reader }{p.Conn})
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("known is %t: got %d other bytes of %d, and %v", known, len(got), len(want), err)
		}
	}
}

// FuzzFollower compares the frames found in bytes that come in pieces with those of bytes
// that come at once, and ensures that whatever a caller sends is followed.
func FuzzFollower(f *testing.F) {
	var b bytes.Buffer
	framer := http2.NewFramer(&b, nil)
	if err := errors.Join(framer.WriteSettings(), framer.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: []byte("h")}),
		framer.WriteContinuation(1, true, []byte("c")), framer.WriteData(1, true, []byte("data")), framer.WriteRSTStream(1, 0), framer.WritePing(true, [8]byte{})); err != nil {
		f.Fatal(err)
	}
	f.Add(b.Bytes(), uint8(1))
	f.Add(b.Bytes(), uint8(7))
	f.Add([]byte{0xff, 0xff, 0xff, 0, 1, 0, 0, 0, 1}, uint8(3))
	f.Fuzz(func(t *testing.T, b []byte, piece uint8) {
		var want, got []frame
		var whole, parts follower
		whole.follow(b, func(f frame) { want = append(want, f) })
		for part := range slices.Chunk(b, max(1, int(piece))) {
			parts.follow(part, func(f frame) { got = append(got, f) })
		}
		if !slices.Equal(got, want) || whole.next() != parts.next() || whole.between() != parts.between() {
			t.Errorf("got %v, want %v", got, want)
		}
		w := newWorld(t, Config{Strangers: 1 << 20})
		p := w.mustConnect("192.0.2.1")
		p.raw.sent.Write(b)
		p.arrive()
		if s, _, _ := w.Held(); s > 1<<20 {
			t.Errorf("%d bytes are held", s)
		}
		p.Close()
		w.wantHeld(0, 0, 0)
	})
}
