package serve

import (
	"bufio"
	"errors"
	"io"
	"sync"
	"time"
)

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
