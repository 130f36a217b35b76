package rpc

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"

	xunchav1 "xuncha/proto/xuncha/v1"
	"xuncha/server/internal/accounts"
)

// linesOf adds up what a log says of calls: how many lines it has, and how many calls of
// each method and code those speak of.
func linesOf(t testing.TB, text string) (lines int, calls map[string]int) {
	calls = map[string]int{}
	for l := range strings.Lines(text) {
		var line struct {
			Msg, Method, Code string
			Calls             int
		}
		if err := json.Unmarshal([]byte(l), &line); err != nil {
			t.Fatal(err)
		}
		lines++
		switch line.Msg {
		case "call", "call failed":
			calls[line.Method+" "+line.Code]++
		case "more calls", "more calls failed":
			calls[line.Method+" "+line.Code] += line.Calls
		default:
			lines--
		}
	}
	return lines, calls
}

// TestRefusedCallsAreCounted makes 10,000 calls that are refused. They make a bounded number
// of lines, from which one can tell how many of each there were. Those of callers who are
// known and not refused have a line each.
func TestRefusedCallsAreCounted(t *testing.T) {
	lines := &syncBuffer{}
	counting := NewCallLog(slog.New(slog.NewJSONHandler(lines, nil)))
	w := newWorldWith(t, func(c *Config) { c.CallsPerAddress, c.BehindProxy, c.Lines = 1, true, counting })
	w.create(t, "root", accounts.Admin, "511600")
	w.create(t, "head", accounts.Head, "511600")
	head := with(t.Context(), w.signIn(t, "head"))
	before := len(lines.String())
	people := xunchav1.NewAccountServiceClient(w.conn)
	const each = 2500
	var group sync.WaitGroup
	for worker := range 10 {
		group.Go(func() {
			for i := range each / 10 {
				// Each from an address of its own, but for those that are to be too many.
				n := worker*each/10 + i
				fresh := func(ctx context.Context) context.Context {
					return metadata.AppendToOutgoingContext(ctx, "x-forwarded-for", numbered(n).from.String())
				}
				_ = w.conn.Invoke(fresh(t.Context()), "/nothing.Here/Do"+itoa(n), &xunchav1.GetMeRequest{}, &xunchav1.GetMeResponse{})
				_, _ = people.GetMe(fresh(t.Context()), &xunchav1.GetMeRequest{})
				_, _ = people.Login(fresh(t.Context()), &xunchav1.LoginRequest{})
				_, _ = people.ListAccounts(fresh(head), &xunchav1.ListAccountsRequest{})
			}
		})
	}
	group.Wait()
	w.advance(time.Minute) // for an address shares its counts with others, which are used up
	for range 2 * burstSeconds {
		_, _ = people.GetMe(metadata.AppendToOutgoingContext(head, "x-forwarded-for", "203.0.113.7"), &xunchav1.GetMeRequest{})
	}
	counting.Close()
	got, counts := linesOf(t, lines.String()[before:])
	const service = "/xuncha.v1.AccountService/"
	for kind, want := range map[string]int{
		"unknown Unimplemented":                   each,
		service + "GetMe Unauthenticated":         each,
		service + "Login InvalidArgument":         each,
		service + "ListAccounts PermissionDenied": each,
		service + "GetMe OK":                      burstSeconds,
		service + "GetMe ResourceExhausted":       burstSeconds,
	} {
		if counts[kind] != want {
			t.Errorf("the log speaks of %d calls of %s, want %d", counts[kind], kind, want)
		}
	}
	// Each window of time may have so many lines, and the counts of five kinds.
	if most := callsInAll + 5 + burstSeconds; got > 6*most {
		t.Errorf("%d refused calls made %d lines", 4*each+burstSeconds, got)
	}
	if n := strings.Count(lines.String()[before:], service+"GetMe\",\"code\":\"OK"); n != burstSeconds {
		t.Errorf("%d calls that went well have %d lines", burstSeconds, n)
	}
}

// TestCallLog holds when lines are written and when they are counted.
func TestCallLog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		text := &syncBuffer{}
		l := NewCallLog(slog.New(slog.NewJSONHandler(text, nil)))
		said := func() (int, map[string]int) {
			lines, calls := linesOf(t, text.String())
			text.mu.Lock()
			defer text.mu.Unlock()
			text.b.Reset()
			return lines, calls
		}
		refused := callLine{method: "m", code: codes.Unauthenticated.String()}
		for range 1000 {
			l.call(t.Context(), refused, false)
		}
		if lines, _ := said(); lines != callsOfKind {
			t.Errorf("1,000 calls of a kind: got %d lines at once, want %d", lines, callsOfKind)
		}
		l.call(t.Context(), callLine{method: "n", code: codes.OK.String()}, true)
		l.call(t.Context(), callLine{method: "another", code: codes.Unauthenticated.String()}, false)
		if lines, _ := said(); lines != 2 {
			t.Errorf("one that is known, and one of another kind: got %d lines, want 2", lines)
		}
		time.Sleep(countFor)
		synctest.Wait()
		if lines, calls := said(); lines != 1 || calls["m Unauthenticated"] != 1000-callsOfKind {
			t.Errorf("after %v: got %d lines of %v, want one of the %d others", countFor, lines, calls, 1000-callsOfKind)
		}
		time.Sleep(time.Hour)
		synctest.Wait()
		if lines, _ := said(); lines != 0 {
			t.Errorf("while nobody calls: got %d lines", lines)
		}
		l.call(t.Context(), refused, false)
		if lines, _ := said(); lines != 1 {
			t.Errorf("after a quiet hour: got %d lines, want 1", lines)
		}
		for i := range 10 * callsInAll {
			l.call(t.Context(), callLine{method: itoa(i), code: codes.Unimplemented.String()}, false)
		}
		if lines, _ := said(); lines > callsInAll {
			t.Errorf("calls of %d kinds: got %d lines at once, want at most %d", 10*callsInAll, lines, callsInAll)
		}
		time.Sleep(countFor)
		synctest.Wait()
		said()

		why := errors.New("the disk has gone")
		for range 1000 {
			l.failure(t.Context(), callLine{method: "m", code: codes.Internal.String()}, why)
		}
		if lines, _ := said(); lines != failedOfKind {
			t.Errorf("1,000 failures of a kind: got %d lines at once, want %d", lines, failedOfKind)
		}
		l.Close()
		if lines, calls := said(); lines != 1 || calls["m Internal"] != 1000-failedOfKind {
			t.Errorf("in the end: got %d lines of %v, want one of the others", lines, calls)
		}
		l.call(t.Context(), refused, false)
		if lines, _ := said(); lines != 1 {
			t.Errorf("after the end: got %d lines, want 1", lines)
		}
	})
}
