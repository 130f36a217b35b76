package inspections_test

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"xuncha/inspections"
	"xuncha/inspections/coverage"
	"xuncha/ledger"
	"xuncha/sites"
)

// A tampered store is one in which something has changed or removed entries.
type tampered struct {
	ledger.Store
	change func(*ledger.Entry)
	gone   ledger.Sequence // that of the entry that is removed; 0 for none
}

func (s *tampered) Entry(ctx context.Context, h ledger.History, id string) (ledger.Entry, error) {
	e, err := s.Store.Entry(ctx, h, id)
	if err == nil {
		e.Record = bytes.Clone(e.Record)
		s.change(&e)
	}
	return e, err
}

func (s *tampered) Entries(ctx context.Context, keys []ledger.Key) ([]ledger.Entry, error) {
	if slices.ContainsFunc(keys, func(k ledger.Key) bool { return k.Sequence == s.gone }) {
		return nil, ledger.ErrNotFound
	}
	all, err := s.Store.Entries(ctx, keys)
	for i := range all {
		all[i].Record = bytes.Clone(all[i].Record)
		s.change(&all[i])
	}
	return all, err
}

// altered returns the world's service as it is with faults, on a store with a guard.
func (w *world) altered(t testing.TB, faults ...ledger.Fault) *inspections.Service {
	t.Helper()
	a := new(ledger.Alterations)
	for _, f := range faults {
		a.Add(f)
	}
	s := inspections.New(inspections.Config{Ledger: ledger.Guard(w.Ledger, a), Claims: w.claims, Roster: w.Roster, Now: w.Clock, Altered: a})
	must(t, ledger.NewFollower(w.Ledger, "", s.Take).CatchUp(t.Context()))
	return s
}

// TestSubmitToAlteredSite ensures that a site whose history does not verify takes
// nothing and refuses nothing for good, and that what was accepted before, and verifies,
// still gets its receipt.
func TestSubmitToAlteredSite(t *testing.T) {
	w := newWorld(t)
	first := w.submit(t, w.checkIn(1))
	w.submit(t, w.checkIn(2))
	s := w.altered(t, ledger.Fault{History: w.Site.ID.History(), Sequence: 2, Why: "it was changed"})
	early := w.checkIn(3)
	early.Captured = start.Add(-400 * day) // which is refused elsewhere
	invalid := w.checkIn(4)
	invalid.Finding = "a newer one"
	for name, c := range map[string]inspections.CheckIn{
		"a new one": w.checkIn(5), "one that would be refused": early, "an invalid one": invalid, "one whose entry does not verify": w.checkIn(2),
	} {
		if _, _, err := s.Submit(t.Context(), inspections.By{Account: "test"}, c, time.Time{}); !errors.Is(err, ledger.ErrAltered) {
			t.Errorf("%s: got %v, want ErrAltered", name, err)
		}
	}
	again, duplicate, err := s.Submit(t.Context(), inspections.By{Account: "test"}, w.checkIn(1), time.Time{})
	if err != nil || !duplicate || again.Entry.Hash != first.Entry.Hash {
		t.Errorf("a repeat: got %v, %v, want the first receipt", duplicate, err)
	}
	if _, err := s.Get(t.Context(), w.Site.ID, first.ID); err != nil {
		t.Errorf("an entry that verifies: %v", err)
	}
	for _, c := range []inspections.CheckIn{w.checkIn(2), w.checkIn(9)} {
		if _, err := s.Get(t.Context(), w.Site.ID, c.ID); !errors.Is(err, ledger.ErrAltered) {
			t.Errorf("%s: got %v, want ErrAltered", c.ID, err)
		}
	}
}

// TestSubmitWithAlteredRoster ensures that no check-in is refused for good because of a
// roster that does not verify, and that others are still taken.
func TestSubmitWithAlteredRoster(t *testing.T) {
	w := newWorld(t)
	s := w.altered(t, ledger.Fault{History: ledger.Roster, Sequence: 3})
	unknown, early, invalid, ahead := w.checkIn(1), w.checkIn(2), w.checkIn(3), w.checkIn(4)
	unknown.Site = "00000000-0000-4000-8000-00000000ffff"
	early.Captured = start.Add(-day)
	invalid.Finding = "a newer one"
	ahead.Captured = w.Now.Add(time.Hour)
	for _, test := range []struct {
		name    string
		checkIn inspections.CheckIn
		want    error
	}{
		{"an unknown site", unknown, ledger.ErrAltered},
		{"before the order", early, ledger.ErrAltered},
		{"an unknown finding", invalid, sites.ErrInvalid},
		{"in the future", ahead, inspections.ErrFuture},
		{"one that is in order", w.checkIn(5), nil},
	} {
		if _, _, err := s.Submit(t.Context(), inspections.By{Account: "test"}, test.checkIn, time.Time{}); !errors.Is(err, test.want) {
			t.Errorf("%s: got %v, want %v", test.name, err, test.want)
		}
	}
	if _, err := s.Get(t.Context(), unknown.Site, unknown.ID); !errors.Is(err, ledger.ErrAltered) {
		t.Errorf("the check-in of an unknown site: got %v, want ErrAltered", err)
	}
}

// TestSetAside ensures that a check-in that was set aside counts nowhere, and that its
// phone is told so for good.
func TestSetAside(t *testing.T) {
	w := newWorld(t)
	w.submit(t, w.checkIn(1))
	w.submit(t, w.checkIn(2))
	altered := new(ledger.Alterations)
	s := inspections.New(inspections.Config{Ledger: ledger.Guard(w.Ledger, altered), Claims: w.claims, Roster: w.Roster, Now: w.Clock, Altered: altered})
	must(t, ledger.NewFollower(w.Ledger, "", s.Take).CatchUp(t.Context()))
	altered.PutAside(w.Site.ID.History(), []ledger.Sequence{2})
	if _, _, err := s.Submit(t.Context(), inspections.By{Account: "test"}, w.checkIn(2), time.Time{}); !errors.Is(err, inspections.ErrConflict) {
		t.Errorf("a repeat: got %v, want ErrConflict", err)
	}
	if _, err := s.Get(t.Context(), w.Site.ID, w.checkIn(2).ID); !errors.Is(err, inspections.ErrNotFound) {
		t.Errorf("Get: got %v, want ErrNotFound", err)
	}
	question := inspections.Question{Division: city, Start: w.Now.Add(-day), End: w.Now.Add(day)}
	page, err := s.List(t.Context(), question, coverage.VisitFilter{}, coverage.VisitRef{}, 10)
	if err != nil || len(page.CheckIns) != 1 || page.CheckIns[0].Entry.Sequence != 1 {
		t.Errorf("got %+v, %v, want the other one alone", page, err)
	}
	if _, _, err := s.Submit(t.Context(), inspections.By{Account: "test"}, w.checkIn(3), time.Time{}); err != nil {
		t.Errorf("the next one: %v", err)
	}
}

// TestRepeatOfChangedEntry ensures that a phone is not told that its id was used for
// other content where the entry was changed and nobody knows it yet.
func TestRepeatOfChangedEntry(t *testing.T) {
	w := newWorld(t)
	w.submit(t, w.checkIn(1))
	w.submit(t, w.checkIn(2))
	other := w.checkIn(2)
	other.DispersedPeople = 7
	if _, _, err := w.Submit(t.Context(), inspections.By{Account: "test"}, other, time.Time{}); !errors.Is(err, inspections.ErrConflict) {
		t.Errorf("another content: got %v, want ErrConflict", err)
	}
	store := &tampered{Store: w.Ledger, change: func(e *ledger.Entry) {
		if e.Sequence == 2 {
			e.Record = bytes.Replace(e.Record, []byte(`"dispersed_people_count":100`), []byte(`"dispersed_people_count":900`), 1)
		}
	}}
	s := inspections.New(inspections.Config{Ledger: store, Claims: w.claims, Roster: w.Roster, Now: w.Clock})
	late := w.checkIn(2)
	late.Captured = late.Captured.Add(-400 * day) // so that the entry is asked for by its id
	if _, _, err := s.Submit(t.Context(), inspections.By{Account: "test"}, late, time.Time{}); !errors.Is(err, ledger.ErrAltered) {
		t.Errorf("a changed record: got %v, want ErrAltered", err)
	}
	store.change, store.gone = func(*ledger.Entry) {}, 1
	if _, _, err := s.Submit(t.Context(), inspections.By{Account: "test"}, late, time.Time{}); !errors.Is(err, ledger.ErrAltered) {
		t.Errorf("the entry before is missing: got %v, want ErrAltered", err)
	}
}

// TestListWithoutAltered ensures that a list leaves out what does not verify, says so, and
// goes on.
func TestListWithoutAltered(t *testing.T) {
	w := newWorld(t)
	for n := range 6 {
		w.Now = w.Now.Add(time.Minute)
		w.submit(t, w.checkIn(n+1))
	}
	h := w.Site.ID.History()
	altered := new(ledger.Alterations)
	altered.Add(ledger.Fault{History: h, Sequence: 5})
	store := &tampered{Store: w.Ledger, gone: 3, change: func(e *ledger.Entry) {
		if e.Sequence == 2 {
			e.Record = e.Record[:len(e.Record)/2]
		}
	}}
	s := inspections.New(inspections.Config{Ledger: store, Claims: w.claims, Roster: w.Roster, Now: w.Clock, Altered: altered})
	must(t, ledger.NewFollower(w.Ledger, "", s.Take).CatchUp(t.Context()))
	question := inspections.Question{Division: city, Start: w.Now.Add(-day), End: w.Now.Add(day)}
	var listed []ledger.Sequence
	left := 0
	for after := (coverage.VisitRef{}); ; {
		page, err := s.List(t.Context(), question, coverage.VisitFilter{}, after, 2)
		must(t, err)
		for _, c := range page.CheckIns {
			listed = append(listed, c.Entry.Sequence)
		}
		left += page.Altered
		if after = page.Next; after == (coverage.VisitRef{}) {
			break
		}
	}
	if want := []ledger.Sequence{6, 4, 1}; !slices.Equal(listed, want) || left != 3 {
		t.Errorf("got %v and %d left out, want %v and 3", listed, left, want)
	}
}

// TestCoverageNamesAltered ensures that a report counts the sites whose histories do not
// verify, in each division above them, where they stood at the time.
func TestCoverageNamesAltered(t *testing.T) {
	w := newWorld(t)
	question := inspections.Question{Division: city, Start: start, End: start.Add(day), Depth: 3}
	got, err := w.altered(t).Coverage(t.Context(), question)
	must(t, err)
	if got.SitesAltered != nil || got.RosterAltered {
		t.Errorf("without faults: got %v, %v", got.SitesAltered, got.RosterAltered)
	}
	s := w.altered(t, ledger.Fault{History: w.Site.ID.History(), Sequence: 1}, ledger.Fault{History: w.Site.ID.History(), Sequence: 4},
		ledger.Fault{History: "site/00000000-0000-4000-8000-00000000ffff", Sequence: 1}, ledger.Fault{History: ledger.Roster, Sequence: 1})
	got, err = s.Coverage(t.Context(), question)
	must(t, err)
	if !got.RosterAltered || got.SitesAltered[city] != 1 || got.SitesAltered[village] != 1 || !s.SiteAltered(w.Site.ID) {
		t.Errorf("got %v, %v, want one in the city and its village, and the roster", got.SitesAltered, got.RosterAltered)
	}
	question.Known = start.Add(-400 * day)
	if got, err := s.Coverage(t.Context(), question); err == nil && got.SitesAltered != nil {
		t.Errorf("before the site was known: got %v", got.SitesAltered)
	}
}
