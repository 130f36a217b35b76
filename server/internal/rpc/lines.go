package rpc

import (
	"cmp"
	"context"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"google.golang.org/grpc/codes"
)

const (
	// countFor is for how long lines are counted before it is logged how many there were.
	countFor = 10 * time.Second
	// Within that time, so many calls of a kind have lines of their own, and so many calls
	// in all; failedOfKind and failedInAll are those of the server's own failures.
	callsOfKind, callsInAll   = 10, 100
	failedOfKind, failedInAll = 50, 200
)

// A CallLog writes the lines of calls to the log. What anybody can cause as often as they
// like has a line only at first, and then is counted: a line each would fill the disk.
type CallLog struct {
	log *slog.Logger

	mu     sync.Mutex
	counts map[lineKind]lineCount // since pending was set
	calls  int                    // lines of calls that were written since
	failed int                    // and of failures
	// pending ends the counting; nil while there is nothing to count.
	pending *time.Timer
	closed  bool
}

// A lineKind is what lines are counted by.
type lineKind struct {
	what         lineWhat
	method, code string
}

// A lineCount is how many lines of a kind there were, and how many of them were written.
type lineCount struct{ all, written int }

type lineWhat byte

const (
	lineOfCall lineWhat = iota
	lineOfFailure
	lineOfNoAddress
	lineOfBadAddress
)

// A callLine is what the line of a call says.
type callLine struct {
	method, code string
	took         time.Duration
	id           string // of the request
}

// NewCallLog returns one that writes to the log. Close must be called in the end.
func NewCallLog(log *slog.Logger) *CallLog {
	return &CallLog{log: log, counts: map[lineKind]lineCount{}}
}

// ownLine reports whether a call has a line of its own whatever others there are: where its
// caller is known, and was not refused.
func ownLine(known bool, code codes.Code) bool {
	switch code {
	case codes.Unauthenticated, codes.PermissionDenied, codes.ResourceExhausted, codes.Unimplemented:
		return false
	}
	return known
}

// call writes the line of a call, or counts it unless it has one of its own.
func (l *CallLog) call(ctx context.Context, c callLine, own bool) {
	if !l.log.Enabled(ctx, slog.LevelInfo) {
		return
	}
	if own || l.count(lineKind{lineOfCall, c.method, c.code}, &l.calls, callsOfKind, callsInAll) {
		l.log.LogAttrs(ctx, slog.LevelInfo, "call", slog.String("method", c.method), slog.String("code", c.code),
			slog.Duration("duration", c.took), slog.String("request_id", c.id))
	}
}

// failure writes why the server failed at a call, or counts it.
func (l *CallLog) failure(ctx context.Context, c callLine, why error) {
	if l.count(lineKind{lineOfFailure, c.method, c.code}, &l.failed, failedOfKind, failedInAll) {
		l.log.LogAttrs(ctx, slog.LevelError, "call failed", slog.String("method", c.method),
			slog.String("request_id", c.id), slog.String("error", why.Error()))
	}
}

const (
	badAddress = "calls are refused, because what the proxy adds to x-forwarded-for cannot be read"
	noAddress  = "calls come without x-forwarded-for, which the proxy has to add"
)

// forwarded notes that a proxy does not say from where a call comes, or says it in a way that
// cannot be read.
func (l *CallLog) forwarded(ctx context.Context, bad bool) {
	var none int // so that each has its one line
	switch {
	case bad && l.count(lineKind{what: lineOfBadAddress}, &none, 1, 1):
		l.log.ErrorContext(ctx, badAddress)
	case !bad && l.count(lineKind{what: lineOfNoAddress}, &none, 1, 1):
		l.log.WarnContext(ctx, noAddress)
	}
}

// count counts a line of the kind, and reports whether it is to be written.
func (l *CallLog) count(kind lineKind, written *int, ofKind, inAll int) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return true
	}
	if l.pending == nil {
		l.pending = time.AfterFunc(countFor, l.flush)
	}
	n := l.counts[kind]
	n.all++
	write := n.written < ofKind && *written < inAll
	if write {
		n.written++
		*written++
	}
	l.counts[kind] = n
	return write
}

// flush logs how many lines were not written, and begins to count anew.
func (l *CallLog) flush() {
	l.mu.Lock()
	counts := l.counts
	l.counts, l.calls, l.failed, l.pending = map[lineKind]lineCount{}, 0, 0, nil
	l.mu.Unlock()
	for _, kind := range slices.SortedFunc(maps.Keys(counts), func(a, b lineKind) int {
		return cmp.Or(cmp.Compare(a.what, b.what), cmp.Compare(a.method, b.method), cmp.Compare(a.code, b.code))
	}) {
		more := counts[kind].all - counts[kind].written
		if more == 0 {
			continue
		}
		n, method, code := slog.Int("calls", more), slog.String("method", kind.method), slog.String("code", kind.code)
		ctx := context.Background()
		switch kind.what {
		case lineOfCall:
			l.log.LogAttrs(ctx, slog.LevelInfo, "more calls", method, code, n)
		case lineOfFailure:
			l.log.LogAttrs(ctx, slog.LevelError, "more calls failed", method, code, n)
		case lineOfBadAddress:
			l.log.LogAttrs(ctx, slog.LevelError, badAddress, n)
		case lineOfNoAddress:
			l.log.LogAttrs(ctx, slog.LevelWarn, noAddress, n)
		}
	}
}

// Close logs what was counted. Calls after it have a line each.
func (l *CallLog) Close() {
	l.mu.Lock()
	l.closed = true
	if l.pending != nil {
		l.pending.Stop()
	}
	l.mu.Unlock()
	l.flush()
}
