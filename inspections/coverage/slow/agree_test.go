package slow_test

import (
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"xuncha/inspections"
	"xuncha/inspections/coverage"
	"xuncha/inspections/coverage/slow"
	"xuncha/sites"
)

// TestAgrees lets things happen at random on two servers with one store, and asks
// between them. The service and this package have to give the same answers. Each of
// the parts takes as many worlds as -rapid.checks says; a failure prints its seed,
// and what happened in the smallest world found.
func TestAgrees(t *testing.T) {
	t.Parallel()
	for part := range parts {
		t.Run(fmt.Sprint(part), func(t *testing.T) {
			t.Parallel()
			rapid.Check(t, liveAndAsk)
		})
	}
}

// parts times rapid's 100 checks are the worlds of a run.
const parts = 21

func liveAndAsk(t *rapid.T) {
	w := newWorld(t)
	deeds := slices.Concat(
		slices.Repeat([]func(){w.submit}, 9),
		slices.Repeat([]func(){w.ask}, 5),
		slices.Repeat([]func(){w.advance}, 4),
		slices.Repeat([]func(){w.moveSite}, 2),
		[]func(){w.issueOrder, w.endOrder, w.importSites, w.importDivisions, w.updateSite, w.strikeOff, w.revoke, w.revoke, w.retry, w.askBehind, w.writeByHand, func() { w.createSite(w.registered()) }},
	)
	for range rapid.IntRange(4, 40).Draw(t, "deeds") {
		deeds[rapid.IntRange(0, len(deeds)-1).Draw(t, "deed")]()
	}
	for range 4 {
		w.ask()
		w.advance()
	}
	s := newServer(t, "new", w.store, w.rows, w.clock(0), w.newID)
	for range 2 {
		w.askOf(s, w.question())
	}
}

// ask asks one of the servers, once it has heard of everything.
func (w *world) ask() {
	s := w.servers[rapid.IntRange(0, 1).Draw(w.t, "server")]
	s.catchUp(w.t)
	w.askOf(s, w.question())
}

// A stamped report may be given again while its stamp is fresh.
type stamped struct {
	report slow.Report
	stamp  coverage.Stamp
}

// question returns one that was asked before, or a new one.
func (w *world) question() inspections.Question {
	if len(w.asked) > 0 && rapid.IntRange(0, 2).Draw(w.t, "ask again") > 0 {
		q := w.asked[len(w.asked)-1-rapid.IntRange(0, min(len(w.asked)-1, 3)).Draw(w.t, "question")]
		if rapid.Bool().Draw(w.t, "elsewhere") {
			q.Division, q.Depth = w.anyDivision(), rapid.IntRange(0, 5).Draw(w.t, "depth")
		}
		return q
	}
	q := inspections.Question{Division: w.anyDivision(), Depth: rapid.IntRange(0, 5).Draw(w.t, "depth")}
	q.Start = w.border("start")
	if rapid.IntRange(0, 2).Draw(w.t, "whole days") == 0 {
		q.Start = q.Start.Truncate(24 * time.Hour)
	}
	q.End = w.border("end")
	if !q.End.After(q.Start) {
		long := []time.Duration{24 * time.Hour, time.Hour, 7 * 24 * time.Hour, 1, 30 * 24 * time.Hour, 399 * 24 * time.Hour}
		q.End = q.Start.Add(rapid.SampledFrom(long).Draw(w.t, "window"))
	}
	if rapid.IntRange(0, 2).Draw(w.t, "known") == 2 {
		q.Known = rapid.SampledFrom(w.received).Draw(w.t, "known").Add(w.nanosecond())
	}
	w.asked = append(w.asked, q)
	return q
}

// anyDivision returns one of the widest divisions, or any, or, seldom, one that never
// was.
func (w *world) anyDivision() sites.DivisionCode {
	codes := w.codes()
	switch n := rapid.IntRange(0, 40).Draw(w.t, "division"); {
	case n == 40:
		return "990000"
	case n < 15:
		codes = w.levels[0].all
	}
	return rapid.SampledFrom(codes).Draw(w.t, "division")
}

// askOf has the server answer the question, by a report and by lists, and compares
// each answer with the slow one.
func (w *world) askOf(s *server, q inspections.Question) {
	t, ctx := w.t, w.t.Context()
	differ := func(what, how string) {
		if how != "" {
			t.Fatalf("%s\n\nThen server %s is asked at %s for %s of %s, window %s to %s, known %s, depth %d: (-want +got)\n%s",
				strings.Join(w.script, "\n"), s.name, short(s.now()), what, q.Division, short(q.Start), short(q.End), short(q.Known), q.Depth, how)
		}
	}
	if w.all == nil {
		var err error
		if w.all, err = slow.Read(ctx, w.store, w.rows); err != nil {
			t.Fatal(err)
		}
	}
	window, err := w.all.Window(q.Start, q.End, s.now(), q.Known)
	if err != nil {
		t.Fatal(err)
	}

	report, err := window.Report(string(q.Division), q.Depth)
	got, stamp, gotErr := s.report(ctx, q)
	if err != nil {
		if !errors.Is(err, slow.ErrDivisionUnknown) || !errors.Is(gotErr, sites.ErrDivisionUnknown) {
			differ("a report", fmt.Sprintf("-%v\n+%v", err, gotErr))
		}
		return
	}
	if gotErr != nil {
		differ("a report", fmt.Sprintf("+%v", gotErr))
	}
	differ("a report", diff(report, plainReport(got)))
	if q.Known.IsZero() {
		key := fmt.Sprint(s.name, q)
		if before, ok := w.stamps[key]; ok && before.stamp.Fresh(s.now()) {
			differ("a report that is said to be fresh", diff(report, before.report))
		}
		w.stamps[key] = stamped{report, stamp}
	}

	page := rapid.IntRange(1, 7).Draw(t, "page")
	for _, state := range slices.Sorted(maps.Keys(states)) {
		want, err := window.DueSites(string(q.Division), states[state])
		list, total, gotErr := s.dueSites(ctx, q, state, page)
		what := fmt.Sprintf("the sites that are %s in pages of %d", states[state], page)
		if err != nil || gotErr != nil {
			differ(what, fmt.Sprintf("-%v\n+%v", err, gotErr))
		}
		differ(what, diff(slowSites(want), plainSites(list)))
		differ("how many there are of "+what, diff(int64(len(want)), total))
	}

	var f slow.Filter
	switch rapid.IntRange(0, 5).Draw(t, "filter") {
	case 1:
		f.SyncedLate = true
	case 2:
		f.VisitedLate = true
	case 3:
		f.Open = true
	case 4:
		f.VisitedLate, f.Open = true, rapid.Bool().Draw(t, "open")
	case 5:
		f.Site = rapid.SampledFrom(w.sites).Draw(t, "site")
	}
	division := string(q.Division)
	if f.Site != "" {
		division = "" // which does not matter then
	}
	want, err := window.CheckIns(division, f)
	list, gotErr := s.checkIns(ctx, q, coverage.VisitFilter{
		Site: sites.SiteID(f.Site), Open: f.Open, VisitedLate: f.VisitedLate, SyncedLate: f.SyncedLate,
	}, page)
	what := fmt.Sprintf("the check-ins %+v in pages of %d", f, page)
	if err != nil || gotErr != nil {
		differ(what, fmt.Sprintf("-%v\n+%v", err, gotErr))
	}
	differ(what, diff(slowCheckIns(want), plainCheckIns(list)))
}

// diff returns how the two differ; nothing where they are the same.
func diff(want, got any) string {
	if reflect.DeepEqual(want, got) {
		return "" // much sooner than cmp finds it
	}
	return cmp.Diff(want, got)
}
