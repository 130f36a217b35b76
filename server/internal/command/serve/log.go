package serve

import (
	"fmt"
	"io"
	"log/slog"
	"sync"
	"time"
)

// newLog returns the log that the flags ask for.
func newLog(c Config, w io.Writer) (*slog.Logger, error) {
	var level slog.Level
	if err := level.UnmarshalText([]byte(c.LogLevel)); err != nil {
		return nil, fmt.Errorf("--log-level: %w", err)
	}
	options := &slog.HandlerOptions{Level: level}
	if c.LogFormat == "text" {
		return slog.New(slog.NewTextHandler(w, options)), nil
	}
	return slog.New(slog.NewJSONHandler(w, options)), nil
}

// logDelay is how long a line of the log may wait for others, so that a busy
// server does not write to the log once for every call.
const logDelay = 100 * time.Millisecond

const (
	// logBatch is how many bytes of the log do not wait for more.
	logBatch = 64 << 10
	// maxLogPending is how many bytes of the log wait for whoever takes them, such as a
	// pipe to another program. What comes beyond is lost, and counted: a server does not
	// stand still because its log does.
	maxLogPending = 1 << 20
	// logPatience is how long the last lines may take.
	logPatience = 2 * time.Second
)

// A logWriter gathers lines for a short while before it writes them. No call waits for the
// writing.
type logWriter struct {
	out io.Writer
	// onLost is told, once lines are taken again, how many were lost; nil for nobody.
	onLost func(lines int64)

	mu       sync.Mutex // is never held while out is written to
	pending  []byte
	spare    []byte // room for what waits
	lost     int64
	begun    chan struct{} // closed once what waits is written; nil while nothing does
	timer    *time.Timer   // begins to write; nil where nothing waits for it
	closed   bool
	failure  error
	patience time.Duration
}

func newLogWriter(w io.Writer) *logWriter { return &logWriter{out: w, patience: logPatience} }

// Write takes in a line.
func (l *logWriter) Write(line []byte) (int, error) {
	l.mu.Lock()
	if len(l.pending)+len(line) > maxLogPending {
		l.lost++
		l.mu.Unlock()
		return len(line), nil
	}
	l.pending = append(l.pending, line...)
	if l.closed {
		l.mu.Unlock()
		return len(line), l.flushed()
	}
	switch {
	case l.begun != nil: // whoever writes comes to it
	case len(l.pending) >= logBatch:
		l.mu.Unlock()
		l.begin()
		return len(line), nil
	case l.timer == nil:
		l.timer = time.AfterFunc(logDelay, func() { l.begin() })
	}
	l.mu.Unlock()
	return len(line), nil
}

// begin has what waits written, unless somebody is at it, and returns what is closed then.
func (l *logWriter) begin() <-chan struct{} {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.timer != nil {
		l.timer.Stop()
		l.timer = nil
	}
	if l.begun == nil {
		l.begun = make(chan struct{})
		go l.run(l.begun)
	}
	return l.begun
}

// run writes what waits, until nothing does.
func (l *logWriter) run(done chan struct{}) {
	defer close(done)
	for {
		l.mu.Lock()
		b, lost := l.pending, l.lost
		l.pending, l.spare, l.lost = l.spare, nil, 0
		if len(b) == 0 {
			l.begun = nil
			l.mu.Unlock()
			return
		}
		l.mu.Unlock()
		_, err := l.out.Write(b)
		l.mu.Lock()
		l.spare = b[:0]
		l.failure = err // there is nowhere to say that the log cannot be written
		l.mu.Unlock()
		if lost > 0 && l.onLost != nil {
			l.onLost(lost)
		}
	}
}

// flushed returns once what waits is written, or has had its time.
func (l *logWriter) flushed() error {
	timeout := time.NewTimer(l.patience)
	defer timeout.Stop()
	select {
	case <-l.begin():
	case <-timeout.C:
		return fmt.Errorf("the log took nothing for %s; its last lines are lost", l.patience)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.failure
}

// Close writes what is waiting. Lines after it are written at once.
func (l *logWriter) Close() error {
	l.mu.Lock()
	l.closed = true
	l.mu.Unlock()
	return l.flushed()
}
