package serve

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// TestLogWriter ensures that no line is lost on the way to the log.
func TestLogWriter(t *testing.T) {
	var out bytes.Buffer
	w := newLogWriter(&out)
	for i := range 3 {
		fmt.Fprintln(w, i)
	}
	if err := errors.Join(w.Close(), w.Close()); err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(w, "late\n"); err != nil {
		t.Fatal(err)
	}
	if got := out.String(); got != "0\n1\n2\nlate\n" {
		t.Errorf("got %q", got)
	}
}

// A stoppedPipe takes lines only once it is told to.
type stoppedPipe struct {
	goOn chan struct{}
	out  bytes.Buffer
}

func (p *stoppedPipe) Write(b []byte) (int, error) {
	<-p.goOn
	return p.out.Write(b)
}

// TestLogStopped ensures that nobody waits for a log that takes nothing, neither a call nor
// the server's stop, that no more of it is kept than a bound, and that what is lost is told.
func TestLogStopped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		pipe := &stoppedPipe{goOn: make(chan struct{})}
		w := newLogWriter(pipe)
		var lost atomic.Int64
		w.onLost = func(lines int64) { lost.Add(lines) }
		line := bytes.Repeat([]byte("x"), 1023)
		line = append(line, '\n')
		began := time.Now()
		if _, err := w.Write(line); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * logDelay) // and now it is being written
		const lines = 5000
		for range lines {
			if _, err := w.Write(line); err != nil {
				t.Fatal(err)
			}
		}
		if held := len(w.pending); held > maxLogPending {
			t.Errorf("%d bytes are held", held)
		}
		if err := w.Close(); err == nil {
			t.Error("the last lines are lost, and nothing is said")
		}
		if took := time.Since(began); took != 2*logDelay+logPatience {
			t.Errorf("it took %s", took)
		}
		close(pipe.goOn)
		synctest.Wait()
		if got := int64(pipe.out.Len()/len(line)) + lost.Load(); got != lines+1 || lost.Load() == 0 {
			t.Errorf("%d lines were written or told to be lost, %d of them lost; want %d", got, lost.Load(), lines+1)
		}
	})
}
