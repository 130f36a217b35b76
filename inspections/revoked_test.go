package inspections_test

import (
	"errors"
	"testing"
	"time"

	"xuncha/inspections"
	"xuncha/inspections/coverage"
	"xuncha/ledger"
	"xuncha/sites"
	"xuncha/sites/sitestest"
)

// revoke takes a change of the roster back.
func (w *world) revoke(t *testing.T, q ledger.Sequence) {
	t.Helper()
	_, err := w.Roster.Revoke(t.Context(), sites.By{Account: "test"}, q, "by mistake")
	must(t, err)
}

// TestRegistrationRevoked ensures that a site whose registration was taken back is due
// nowhere and takes no check-in, and that what was reported of it stays.
func TestRegistrationRevoked(t *testing.T) {
	w := newWorld(t)
	w.submit(t, w.withPhoto(1, inspections.Digest{1}))
	other, err := w.Roster.CreateSite(t.Context(), sites.By{Account: "test"}, sites.NewSite{
		RegistrationNo: "2", Name: "样例", Division: sitestest.Village, Registered: sitestest.Start,
	})
	must(t, err)
	week := inspections.Question{Division: sitestest.City, Start: sitestest.Start, End: sitestest.Start.AddDate(0, 0, 7)}
	due := func() int64 {
		t.Helper()
		a, err := w.Coverage(t.Context(), week)
		must(t, err)
		return a.SitesDue
	}
	if got := due(); got != 2 {
		t.Fatalf("%d sites are due, want 2", got)
	}
	w.Now = w.Now.Add(time.Hour)
	w.revoke(t, w.Site.Revision())
	if got := due(); got != 1 {
		t.Errorf("%d sites are due, want the other one", got)
	}
	past := week
	past.Known = w.Now.Add(-time.Minute)
	if a, err := w.Coverage(t.Context(), past); err != nil || a.SitesDue != 2 || a.CheckIns != 1 {
		t.Errorf("as known before: got %+v, %v, want 2 due and a check-in", a.Figures, err)
	}
	if _, _, err := w.Submit(t.Context(), inspections.By{Account: "test"}, w.checkIn(2), time.Time{}); !errors.Is(err, sites.ErrSiteUnknown) {
		t.Errorf("another check-in: got %v, want that there is no such site", err)
	}
	again := w.withPhoto(1, inspections.Digest{1})
	again.Captured = again.Captured.Add(-time.Hour)
	if _, duplicate, err := w.Submit(t.Context(), inspections.By{Account: "test"}, again, time.Time{}); err != nil || !duplicate {
		t.Errorf("the same check-in again: duplicate %t, %v", duplicate, err)
	}
	if _, err := w.Get(t.Context(), w.Site.ID, again.ID); err != nil {
		t.Errorf("the check-in cannot be read: %v", err)
	}
	page, err := w.List(t.Context(), week, coverage.VisitFilter{Site: w.Site.ID}, coverage.VisitRef{}, 10)
	if err != nil || len(page.CheckIns) != 1 {
		t.Errorf("the list has %d check-ins, %v, want one", len(page.CheckIns), err)
	}
	entries, _, err := w.History(t.Context(), w.Site.ID, inspections.HistoryCursor{}, 10)
	must(t, err)
	var kinds []ledger.Kind
	for _, e := range entries {
		kinds = append(kinds, e.Kind)
	}
	if len(kinds) < 3 || kinds[0] != sites.KindChangeRevoked || kinds[1] != inspections.KindCheckIn {
		t.Errorf("the history has %v, want the revocation, the check-in and what was taken back", kinds)
	}
	if _, err := w.HistoryVersion(t.Context(), w.Site.ID); err != nil {
		t.Error(err)
	}
	c := w.withPhoto(3, inspections.Digest{1})
	c.Site = other.ID
	if got := w.submit(t, c); !got.Has(inspections.PhotoReused) {
		t.Error("the photo of the site that never was can be used again")
	}
}

// TestOrderRevoked ensures that nothing is due under an order that was taken back, and that
// no check-in is taken under it, but for a repeat.
func TestOrderRevoked(t *testing.T) {
	w := newWorld(t)
	w.submit(t, w.checkIn(1))
	w.Now = w.Now.Add(time.Hour)
	w.revoke(t, w.Roster.Roster().OrderRevision(w.Order.ID))
	a, err := w.Coverage(t.Context(), inspections.Question{Division: sitestest.City, Start: sitestest.Start, End: sitestest.Start.AddDate(0, 0, 7)})
	if err != nil || a.SitesDue != 0 || a.SitesNeverInspected != 0 || a.CheckIns != 1 {
		t.Errorf("got %+v, %v, want nothing due and the check-in", a.Figures, err)
	}
	if _, _, err := w.Submit(t.Context(), inspections.By{Account: "test"}, w.checkIn(2), time.Time{}); !errors.Is(err, inspections.ErrNoOrder) {
		t.Errorf("another check-in: got %v, want that no order closes the site", err)
	}
	c := w.checkIn(1)
	c.Captured = c.Captured.Add(-time.Hour)
	if stored, duplicate, err := w.Submit(t.Context(), inspections.By{Account: "test"}, c, time.Time{}); err != nil || !duplicate || stored.Order != w.Order.ID {
		t.Errorf("the same check-in again: duplicate %t, %v", duplicate, err)
	}
}
