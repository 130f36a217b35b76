package serve

import (
	"bufio"
	"errors"
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

// A logWriter gathers lines for a short while before it writes them.
type logWriter struct {
	mu      sync.Mutex
	buffer  *bufio.Writer
	pending *time.Timer // flushes the buffer; nil while it is empty
	closed  bool
}

func newLogWriter(w io.Writer) *logWriter { return &logWriter{buffer: bufio.NewWriterSize(w, 64<<10)} }

// Write takes in a line.
func (l *logWriter) Write(line []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	n, err := l.buffer.Write(line)
	if l.closed {
		return n, errors.Join(err, l.buffer.Flush())
	}
	if l.pending == nil {
		l.pending = time.AfterFunc(logDelay, l.flush)
	}
	return n, err
}

func (l *logWriter) flush() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.pending = nil
	_ = l.buffer.Flush() // there is nowhere to say that the log cannot be written
}

// Close writes what is waiting. Lines after it are written at once.
func (l *logWriter) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed = true
	if l.pending != nil {
		l.pending.Stop()
		l.pending = nil
	}
	return l.buffer.Flush()
}
