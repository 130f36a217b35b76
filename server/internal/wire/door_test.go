package wire

import (
	"errors"
	"fmt"
	"io"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// come lets so many callers connect at once, and returns what becomes of each.
func (w *world) come(n int, from func(i int) string) []chan *peer {
	out := make([]chan *peer, n)
	for i := range n {
		out[i] = make(chan *peer, 1)
		go func() {
			p, err := w.connect(from(i))
			if err != nil && !errors.Is(err, errCrowded) && !errors.Is(err, errStopped) {
				w.t.Error(err)
			}
			out[i] <- p // nil for one that was refused
		}()
	}
	return out
}

// TestAllAtOnce ensures that phones which all come back at once wait for each other, and do
// not close each other amid their handshakes.
func TestAllAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, Config{Strangers: 100 * connWeight})
		phones := w.come(150, func(i int) string { return fmt.Sprint("192.0.2.", i%5) })
		var in []*peer
		for len(in) < len(phones) {
			synctest.Wait()
			var come []*peer
			for _, p := range phones {
				if len(p) > 0 {
					come = append(come, <-p)
				}
			}
			if len(come) == 0 {
				t.Fatalf("%d phones of %d got in", len(in), len(phones))
			}
			for _, p := range come {
				if p == nil {
					t.Fatal("one was refused")
				}
				p.open(1, 100) // a call with its token, of all that have shaken hands
			}
			for _, p := range come {
				p.Know()
			}
			in = append(in, come...)
		}
		for _, p := range in {
			if p.raw.isClosed() {
				t.Error("one was closed")
			}
			p.Close()
		}
	})
}

// TestNewcomersWait ensures who waits for whom, and for how long.
func TestNewcomersWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, Config{Strangers: 100 * connWeight})
		var all []*peer
		defer func() {
			for _, p := range all {
				p.Close()
			}
		}()
		crowd := w.come(300, func(i int) string { return fmt.Sprint("192.0.2.", i%2) })
		synctest.Wait()
		in, refused := 0, 0
		for _, c := range crowd {
			if len(c) > 0 {
				if p := <-c; p == nil {
					refused++
				} else {
					in++
					all = append(all, p)
				}
			}
		}
		if in != 50 || refused != 300-50-200 {
			t.Errorf("of the crowd %d are in and %d were refused; only 200 may wait", in, refused)
		}
		other := w.come(1, func(int) string { return "198.51.100.1" })
		synctest.Wait()
		if len(other) == 0 || len(other[0]) == 0 {
			t.Error("who comes from another address waits for the crowd")
		} else {
			all = append(all, <-other[0])
		}
		// A few seconds later those of the crowd that went in say nothing yet.
		w.pass(8 * time.Second)
		synctest.Wait()
		for _, p := range all[:50] {
			if !p.raw.isClosed() {
				t.Error("one of the crowd keeps others waiting for long")
				break
			}
		}
		if all[50].raw.isClosed() {
			t.Error("the one from another address was closed")
		}
		for _, c := range crowd {
			if len(c) > 0 {
				all = append(all, <-c)
			}
		}
		w.pass(3 * time.Second)
		synctest.Wait()
		late := 0
		for _, c := range crowd {
			if len(c) == 0 {
				continue
			}
			if p := <-c; p != nil {
				late++
				all = append(all, p)
				if p.raw.isClosed() {
					t.Error("one was let in and closed at once")
				}
			}
		}
		if len(w.queue) != 0 || late != 49 {
			t.Errorf("%d wait for more than 10 s, and %d were let in then", len(w.queue), late)
		}
	})
}

// TestStopWaiting ensures that a gate which stops lets nobody wait on.
func TestStopWaiting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, Config{Strangers: 10 * connWeight})
		crowd := w.come(12, func(int) string { return "127.0.0.1" })
		synctest.Wait()
		w.Stop()
		var group sync.WaitGroup
		for _, c := range crowd {
			group.Go(func() {
				if p := <-c; p != nil {
					p.Close()
				}
			})
		}
		group.Wait()
	})
}

// TestFramesWait ensures that a stranger cannot keep the server busy with frames that cost
// nothing to send, and that known callers may send as many as they like.
func TestFramesWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, Config{})
		stranger, known := w.mustConnect("192.0.2.1"), w.mustConnect("192.0.2.1")
		known.Know()
		done := map[*peer]chan error{stranger: make(chan error, 1), known: make(chan error, 1)}
		for p, end := range done {
			for range mostFrames * 5 / 2 {
				if err := p.WriteSettingsAck(); err != nil {
					t.Fatal(err)
				}
			}
			go func() { _, err := io.Copy(io.Discard, struct{ io.Reader }{p.Conn}); end <- err }()
		}
		for i, want := range []int64{mostFrames + 1, mostFrames + 1} {
			synctest.Wait()
			if len(done[stranger]) > 0 || stranger.frames.Load() != want || i == 0 && len(done[known]) == 0 {
				t.Fatalf("after look %d, %d frames of the stranger were read", i, stranger.frames.Load())
			}
			w.pass(time.Second)
		}
		if err := <-done[stranger]; err != nil {
			t.Error(err)
		}
		stranger.Close()
		known.Close()
	})
}
