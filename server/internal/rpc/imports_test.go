package rpc

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	xunchav1 "xuncha/proto/xuncha/v1"
	"xuncha/server/internal/accounts"
)

// TestHeldRows ensures that rows come back as they came, also odd ones.
func TestHeldRows(t *testing.T) {
	var held heldRows
	var want []string
	for i, cells := range [][]string{{"", ""}, {"a", "广安"}, {strings.Repeat("b", 4096), ""}, {"", strings.Repeat("c", 2*mostPiece)}, {"\x00\xff", "d"}} {
		held.add(int32(i-1), cells...)
		want = append(want, fmt.Sprint(i-1, cells))
	}
	for i := range 10_000 {
		cells := []string{strings.Repeat("e", i%300), fmt.Sprint(i)}
		held.add(int32(i), cells...)
		want = append(want, fmt.Sprint(i, cells))
	}
	var got []string
	held.each(2, func(number int32, cells []string) { got = append(got, fmt.Sprint(number, cells)) })
	if !slices.Equal(got, want) || held.count != len(want) {
		t.Errorf("got %d rows, want the %d of before", len(got), len(want))
	}
	room := 0
	for _, piece := range held.pieces {
		room += piece.Cap()
	}
	if room > held.bytes+held.bytes/2+4*mostPiece {
		t.Errorf("%d bytes of rows are held in %d", held.bytes, room)
	}
	var few heldRows
	few.add(1, "a", "b")
	if c := few.pieces[0].Cap(); c > 2*leastPiece {
		t.Errorf("one row is held in %d bytes", c)
	}
}

// TestImportSlots ensures that what all imports hold is bounded, that a small one never
// waits for large ones, and that a large one waits only so long.
func TestImportSlots(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		slots := newImportSlots(time.After)
		of := func(account string, bytes int) (*importSlot, error) {
			slot := slots.slotOf(account)
			return slot, slot.hold(t.Context())(bytes)
		}
		want := func(what string, err, want error) {
			t.Helper()
			if !errors.Is(err, want) {
				t.Errorf("%s: got %v, want %v", what, err, want)
			}
		}
		first, err := of("a", smallImport+1)
		want("a large one", err, nil)
		begin := time.Now()
		second, err := of("a", smallImport+1)
		want("another large one of the account", err, errImportsBusy)
		if waited := time.Since(begin); waited != maxImportWait {
			t.Errorf("it waited %s", waited)
		}
		third, err := of("b", smallImport+1)
		want("a large one of another account", err, nil)
		var small []*importSlot
		for i := range maxImports - 3 {
			slot, err := of(fmt.Sprint("c", i/maxImportsOfAccount), smallImport)
			want("a small one beside large ones", err, nil)
			small = append(small, slot)
		}
		_, err = of("d", 1)
		want("more than are taken", err, errImportsBusy)
		small[0].leave()
		_, err = of("c1", 1)
		want("more of an account than are taken", err, errImportsBusy)

		begin = time.Now()
		waiting, err := of("e", smallImport+1)
		want("a third large one", err, errImportsBusy)
		if waited := time.Since(begin); waited != maxImportWait {
			t.Errorf("it waited %s", waited)
		}
		waiting.leave()
		waiting = slots.slotOf("e")
		done := make(chan error)
		go func() { done <- waiting.hold(t.Context())(smallImport + 1) }()
		synctest.Wait()
		first.leave()
		want("a third one once the first has ended", <-done, nil)

		end, err := waiting.decide(t.Context())
		want("a decision", err, nil)
		decided := make(chan error)
		go func() {
			end, err := third.decide(t.Context())
			if err == nil {
				end()
			}
			decided <- err
		}()
		synctest.Wait()
		select {
		case <-decided:
			t.Error("two large ones are decided at once")
		default:
		}
		end()
		want("the next decision", <-decided, nil)

		for _, slot := range append(small[1:], second, third, waiting) {
			slot.leave()
		}
		if slots.all != 0 || slots.waiting != 0 || len(slots.of) != 0 || len(slots.large) != 0 {
			t.Errorf("once all have ended: %d places, %d waiting, %d accounts, %d large", slots.all, slots.waiting, len(slots.of), len(slots.large))
		}
	})
}

// TestImportsWaiting ensures that only so many large imports wait.
func TestImportsWaiting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		slots := newImportSlots(time.After)
		results := make(chan error, maxLargeImports+maxImportsWaiting)
		for range cap(results) {
			go func() { results <- slots.slotOf("").hold(t.Context())(smallImport + 1) }()
		}
		synctest.Wait()
		if err := slots.slotOf("").hold(t.Context())(smallImport + 1); !errors.Is(err, errImportsBusy) {
			t.Errorf("one more: got %v", err)
		}
		busy := 0
		for range cap(results) {
			if err := <-results; errors.Is(err, errImportsBusy) {
				busy++
			}
		}
		if busy != maxImportsWaiting {
			t.Errorf("%d were refused after their time, want %d", busy, maxImportsWaiting)
		}
	})
}

// TestSilent ensures that a stream is silent only while a message is awaited, and for long
// enough: a server that works on the last one waits for none.
func TestSilent(t *testing.T) {
	now := time.Date(2020, 2, 1, 8, 0, 0, 0, shanghai)
	w := &watch{calls: &calls{now: func() time.Time { return now }}}
	for _, step := range []struct {
		do     func()
		passes time.Duration
		silent bool
	}{
		{func() {}, time.Hour, false},
		{func() { w.expect(importSilence) }, importSilence - 1, false},
		{func() { w.expect(importSilence) }, importSilence - 1, false},
		{func() {}, 1, true},
		{w.got, time.Hour, false},
		{func() { w.expect(importSilence) }, importSilence, true},
	} {
		step.do()
		now = now.Add(step.passes)
		if err := w.silent(); errors.Is(err, errSilent) != step.silent {
			t.Errorf("%s later: got %v, want silent %t", step.passes, err, step.silent)
		}
	}
}

// TestSilentImports ensures that an import which sends nothing for a minute ends, with the
// reason, whether or not a row of it has come.
func TestSilentImports(t *testing.T) {
	for _, rows := range []int{0, 1} {
		r := newRiver(t, false)
		type message = xunchav1.ImportSitesRequest
		stream := must(r.roster.ImportSites(t.Context()))(t)
		messages := []*message{{Part: &xunchav1.ImportSitesRequest_Header{Header: &xunchav1.ImportHeader{DryRun: true}}}}
		for range rows {
			messages = append(messages, &message{Part: &xunchav1.ImportSitesRequest_Row{Row: &xunchav1.SiteRow{Row: 2, RegistrationNo: "N-1"}}})
		}
		for _, m := range messages {
			if err := stream.Send(m); err != nil {
				t.Fatal(err)
			}
		}
		ended := make(chan error, 1)
		go func() { ended <- stream.RecvMsg(new(xunchav1.ImportSitesResponse)) }()
		var err error
		for over := false; !over; { // for the server reads what was sent when it likes
			r.advance(importSilence)
			select {
			case r.ticks <- time.Time{}:
			case err = <-ended:
				over = true
			}
		}
		wantStatus(t, err, codes.DeadlineExceeded, "DEADLINE_EXCEEDED", "")
		if got := status.Convert(err).Message(); !strings.Contains(got, errSilent.Error()) {
			t.Errorf("%d rows: got %q, want it to say why", rows, got)
		}
	}
}

// TestBusyImports ensures that an account is told when it has as many imports under way as
// it may, and when to try again, and that others' imports go on.
func TestBusyImports(t *testing.T) {
	w := newWorld(t)
	w.create(t, "root", accounts.Admin, "511600")
	w.create(t, "other", accounts.Admin, "511600")
	type message = xunchav1.ImportSitesRequest
	header := &message{Part: &xunchav1.ImportSitesRequest_Header{Header: &xunchav1.ImportHeader{DryRun: true}}}
	row := &message{Part: &xunchav1.ImportSitesRequest_Row{Row: &xunchav1.SiteRow{Row: 2, RegistrationNo: "N-1"}}}
	errs := make(chan error, maxImportsOfAccount+1)
	for range maxImportsOfAccount + 1 {
		stream := must(w.roster.ImportSites(w.as(t, "root")))(t)
		for _, m := range []*message{header, row} {
			if err := stream.Send(m); err != nil {
				t.Fatal(err)
			}
		}
		go func() { errs <- stream.RecvMsg(new(xunchav1.ImportSitesResponse)) }()
	}
	err := <-errs
	wantStatus(t, err, codes.ResourceExhausted, "SERVER_BUSY", "")
	wait := time.Duration(0)
	for _, d := range status.Convert(err).Details() {
		if r, ok := d.(*errdetails.RetryInfo); ok {
			wait = r.RetryDelay.AsDuration()
		}
	}
	if wait != importRetry {
		t.Errorf("got a RetryInfo of %s, want %s", wait, importRetry)
	}
	stream := must(w.roster.ImportSites(w.as(t, "other")))(t)
	for _, m := range []*message{header, row} {
		if err := stream.Send(m); err != nil {
			t.Fatal(err)
		}
	}
	if got, err := stream.CloseAndRecv(); err != nil || got.ProblemCount == 0 {
		t.Errorf("another account's: got %v, %v; want its problems", got, err)
	}
}
