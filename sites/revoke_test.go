package sites_test

import (
	"bytes"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"xuncha/ledger"
	"xuncha/sites"
)

var admin = sites.By{Account: "test"}

// must fails the test where a change was refused, and returns the revision that it made.
func (w *world) must(t testing.TB, err error) ledger.Sequence {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	return w.Roster().Revision()
}

// revoke takes the change back.
func (w *world) revoke(t testing.TB, q ledger.Sequence) {
	t.Helper()
	if _, err := w.Revoke(t.Context(), admin, q, "by mistake"); err != nil {
		t.Fatalf("revision %d cannot be taken back: %v", q, err)
	}
}

// wantRests checks that the change cannot be taken back because of the later one.
func (w *world) wantRests(t testing.TB, q, later ledger.Sequence) {
	t.Helper()
	_, err := w.Revoke(t.Context(), admin, q, "by mistake")
	var rests *sites.RestedOnError
	if !errors.Is(err, sites.ErrRestedOn) || !errors.As(err, &rests) || rests.Revision != int64(later) {
		t.Errorf("revision %d: got %v, want that %d rests on it", q, err, later)
	}
}

// TestRevokeOrder ensures that an order which was planned and dropped, or issued by
// mistake, closes nothing at any time, and that its number can be given again.
func TestRevokeOrder(t *testing.T) {
	for _, start := range []string{"2020-02-03", "2020-02-01"} { // two days ahead, and today
		w := filled(t)
		before := w.now
		w.now = w.now.Add(time.Hour)
		o, err := w.CreateOrder(t.Context(), admin, order(t, "S01", start))
		q := w.must(t, err)
		known := w.Roster()
		w.now = w.now.Add(time.Hour)
		w.revoke(t, q)
		r := w.Roster()
		if _, err := r.Order(o.ID); !errors.Is(err, sites.ErrOrderUnknown) {
			t.Errorf("the order: got %v, want that there is none", err)
		}
		if len(r.Orders()) != 0 || len(slices.Collect(r.OrdersBefore(nil))) != 0 {
			t.Errorf("lists have %d orders, want none", len(r.Orders()))
		}
		closing := func(r *sites.Roster) (n int) {
			for s := range r.Sites() {
				n += len(r.Closures(s))
			}
			return n
		}
		if n := closing(r); n != 0 {
			t.Errorf("the order closes %d sites, want none", n)
		}
		ever, revoked, err := r.OrderEver(o.ID)
		if err != nil || ever.Number != "S01" || !revoked.Equal(w.now) {
			t.Errorf("what is kept of it: got %v, %v, %v, want it with the time at which it was taken back", ever, revoked, err)
		}
		for _, s := range []*sites.Service{w.Service, w.open(t)} {
			then, err := s.RosterKnown(t.Context(), w.now.Add(-time.Minute))
			if err != nil || closing(then) != closing(known) || closing(then) == 0 {
				t.Errorf("as known before, it closes %d sites, %v, want %d", closing(then), err, closing(known))
			}
			if then, err = s.RosterKnown(t.Context(), before); err != nil || closing(then) != 0 {
				t.Errorf("as known before it was issued, it closes %d sites, %v", closing(then), err)
			}
		}
		if _, err := w.CreateOrder(t.Context(), admin, order(t, "S01", start)); err != nil {
			t.Errorf("its number cannot be given again: %v", err)
		}
	}
}

func TestRevokeEndOfOrder(t *testing.T) {
	w := filled(t)
	o, err := w.CreateOrder(t.Context(), admin, order(t, "1", "2020-02-01"))
	issued := w.must(t, err)
	w.now = w.now.Add(time.Hour)
	_, err = w.EndOrder(t.Context(), admin, o.ID, time.Time{})
	ended := w.must(t, err)
	w.wantRests(t, issued, ended)
	if got := w.Roster().OrderRevision(o.ID); got != ended {
		t.Errorf("the order's change is %d, want %d", got, ended)
	}
	w.revoke(t, ended)
	if got, err := w.Roster().Order(o.ID); err != nil || !got.End.Equal(o.PlannedEnd) {
		t.Errorf("got %v, %v, want the order with its planned end", got, err)
	}
	if got := w.Roster().OrderRevision(o.ID); got != issued {
		t.Errorf("the order's change is %d, want %d", got, issued)
	}
	w.now = w.now.Add(time.Hour)
	if _, err := w.EndOrder(t.Context(), admin, o.ID, time.Time{}); err != nil {
		t.Errorf("it cannot be ended once more: %v", err)
	}
}

// TestRevokeSiteChanges takes back what was done to a site, one after another, up to its
// registration.
func TestRevokeSiteChanges(t *testing.T) {
	w := filled(t)
	registered, err := w.CreateSite(t.Context(), admin, sites.NewSite{RegistrationNo: "X-1", Name: "样例", Division: village, Address: "路"})
	id := registered.ID
	q := []ledger.Sequence{w.must(t, err)}
	name := "新名"
	for i, change := range []func() error{
		func() error {
			_, err := w.UpdateSite(t.Context(), admin, id, "", sites.SiteUpdate{Name: &name})
			return err
		},
		func() error {
			_, err := w.MoveSite(t.Context(), admin, id, "", sites.Place{Division: "511602001001", From: w.now})
			return err
		},
		func() error { _, err := w.DeregisterSite(t.Context(), admin, id, "", w.now); return err },
	} {
		w.now = w.now.Add(time.Hour)
		q = append(q, w.must(t, change()))
		w.wantRests(t, q[0], q[i+1])
	}
	etags := map[string]bool{}
	look := func(want func(*sites.Site) bool, what string) {
		t.Helper()
		s, err := w.Roster().Site(id)
		if err != nil || !want(s) || etags[s.Etag()] {
			t.Errorf("%s: got %+v, %v", what, s, err)
			return
		}
		etags[s.Etag()] = true
	}
	in := func(code sites.DivisionCode) bool {
		return slices.ContainsFunc(slices.Collect(w.Roster().SitesIn(code)), func(s *sites.Site) bool { return s.ID == id })
	}
	look(func(s *sites.Site) bool { return !s.Deregistered.IsZero() }, "at first")
	w.revoke(t, q[3])
	look(func(s *sites.Site) bool { return s.Deregistered.IsZero() && len(s.Places) == 2 }, "after the strike-off")
	w.revoke(t, q[2])
	look(func(s *sites.Site) bool { return len(s.Places) == 1 && s.Name == name }, "after the move")
	if in("511602001001") || !in(village) {
		t.Error("the site is listed where it was never to stand, or not where it stands")
	}
	if got := w.site(t, "X-1").Revision(); got != q[1] {
		t.Errorf("the site's change is %d, want %d", got, q[1])
	}
	w.revoke(t, q[1])
	look(func(s *sites.Site) bool { return s.Name == "样例" }, "after the update")
	w.revoke(t, q[0])
	if _, err := w.Roster().Site(id); !errors.Is(err, sites.ErrSiteUnknown) || in(village) || w.Roster().NumSites() != 85 {
		t.Errorf("after the registration: got %v and %d sites, want no such site and 85", err, w.Roster().NumSites())
	}
	ever, err := w.Roster().SiteEver(id)
	if err != nil || ever.PlaceAt(w.now).Division != village || ever.RegisteredAt(w.now) {
		t.Errorf("what is kept of it: got %+v, %v, want where it stood, and not registered", ever, err)
	}
	if got := len(w.Roster().Concerning(ever)); got != 9 { // with the division import
		t.Errorf("%d entries concern it, want all four changes and what took them back", got)
	}
	if _, err := w.UpdateSite(t.Context(), admin, id, "", sites.SiteUpdate{Name: &name}); !errors.Is(err, sites.ErrSiteUnknown) {
		t.Errorf("an update: got %v", err)
	}
	again, err := w.CreateSite(t.Context(), admin, sites.NewSite{RegistrationNo: "X-1", Name: "样例", Division: village})
	if err != nil || again.ID == id {
		t.Errorf("its number cannot be given again: %v", err)
	}
}

// TestRevokeImportOfSites takes back a table that registers, moves, strikes off and
// corrects.
func TestRevokeImportOfSites(t *testing.T) {
	w := filled(t)
	before := map[string]string{}
	for s := range w.Roster().Sites() {
		before[s.RegistrationNo] = closed(w.Roster(), s.ID)
	}
	w.now = w.now.Add(time.Hour)
	_, err := w.ImportSites(t.Context(), admin, sites.Import{Effective: "2020-02-10", Source: "wrong"}, []sites.SiteRow{
		{Row: 2, RegistrationNo: "NEW", Name: "样例", Division: string(village), RegisteredOn: "2020-01-01"},
		{Row: 3, RegistrationNo: "SC-GA-0001", DeregisteredOn: "2020-02-10"},
		{Row: 4, RegistrationNo: "SC-GA-0002", Division: "511602001001"},
		{Row: 5, RegistrationNo: "SC-GA-0003", RegisteredOn: "2020-01-31"},
	})
	q := w.must(t, err)
	gone := w.site(t, "NEW")
	w.revoke(t, q)
	after := map[string]string{}
	for s := range w.Roster().Sites() {
		after[s.RegistrationNo] = closed(w.Roster(), s.ID)
	}
	for no, want := range before {
		if after[no] != want {
			t.Errorf("site %s: got\n%swant\n%s", no, after[no], want)
		}
	}
	if _, err := w.Roster().Site(gone.ID); err == nil || len(after) != 85 {
		t.Errorf("%d sites are there, and the one that the table registered is %v", len(after), err)
	}
}

// TestRevokeImportOfDivisions takes back a table that was dated wrongly. The right one can
// be imported then.
func TestRevokeImportOfDivisions(t *testing.T) {
	w := filled(t)
	today := w.now
	w.now = day(t, "2062-01-01") // for earlier versions took any date
	w.importDivisions(t, "2023", "2062-06-30")
	w.now = today
	q := w.Roster().Revision()
	_, err := w.ImportDivisions(t.Context(), admin, sites.Import{Effective: "2020-06-30"}, divisionRows(t, "2023"))
	wantField(t, err, sites.ErrInvalid, "effective_date")
	w.revoke(t, q)
	if v := w.Roster().Versions("511602"); len(v) != 1 || !v[0].To.IsZero() {
		t.Errorf("got %v, want the versions of the first table", v)
	}
	w.importDivisions(t, "2023", "2020-06-30")
	other := newWorld(t)
	other.importDivisions(t, "2019", "2019-10-31")
	other.importDivisions(t, "2023", "2020-06-30")
	for _, row := range divisionRows(t, "2023") {
		code := sites.DivisionCode(row.Code).Shortest()
		if got, want := w.Roster().Versions(code), other.Roster().Versions(code); !slices.Equal(got, want) {
			t.Fatalf("%s: got %v, want %v", code, got, want)
		}
	}
}

// TestDivisionTakenBackLies ensures that a division whose import was taken back still lies where
// it lay, for who may see what is left of it: also after a start from a snapshot, and
// after another change that begins and takes back the same.
func TestDivisionTakenBackLies(t *testing.T) {
	w := filled(t)
	check := func(parent sites.DivisionCode) {
		t.Helper()
		var kept bytes.Buffer
		if err := w.Snapshot(&kept); err != nil {
			t.Fatal(err)
		}
		restored := sites.New(w.config())
		if err := restored.Restore(&kept); err != nil {
			t.Fatal(err)
		}
		for name, r := range map[string]*sites.Roster{"kept": w.Roster(), "restored": restored.Roster()} {
			if !r.WithinAny("511699001", []sites.DivisionCode{parent}, w.now) {
				t.Errorf("%s: what was taken back does not lie in %s", name, parent)
			}
			if _, err := r.Division("511699001", w.now); !errors.Is(err, sites.ErrDivisionUnknown) {
				t.Errorf("%s: got %v, want that there is no such division", name, err)
			}
		}
	}
	for _, parent := range []sites.DivisionCode{"511602", "511603"} {
		rows := append(divisionRows(t, "2019"),
			sites.DivisionRow{Row: 1, Code: "511699001", Name: "新镇", Level: "township", Parent: string(parent)})
		if _, err := w.ImportDivisions(t.Context(), admin, sites.Import{Effective: "2020-06-30"}, rows); err != nil {
			t.Fatal(err)
		}
		w.revoke(t, w.Roster().Revision())
		check(parent)
	}
	if w.Roster().WithinAny("511699001", []sites.DivisionCode{"511602"}, w.now) {
		t.Error("what was taken back lies where it lay earlier")
	}
}

// TestRevokeRestsOnDivisions ensures that no table is taken back on which sites, orders or
// other tables rest.
func TestRevokeRestsOnDivisions(t *testing.T) {
	rows := func(more ...sites.DivisionRow) []sites.DivisionRow {
		return append([]sites.DivisionRow{
			{Row: 2, Code: "110000", Name: "甲市", Level: "city"},
			{Row: 3, Code: "110101", Name: "甲区", Level: "county", Parent: "110000"},
			{Row: 4, Code: "110101001", Name: "甲街道", Level: "township", Parent: "110101"},
		}, more...)
	}
	village := sites.DivisionRow{Row: 5, Code: "110101001001", Name: "甲社区", Level: "village", Parent: "110101001"}
	for _, c := range []struct {
		name   string
		change func(*world) error
	}{
		{"a site in it", func(w *world) error {
			_, err := w.CreateSite(t.Context(), admin, sites.NewSite{RegistrationNo: "1", Name: "样例", Division: "110101001001"})
			return err
		}},
		{"an order that names it", func(w *world) error {
			o := order(t, "1", "2020-02-01")
			o.Divisions = []sites.DivisionCode{"110101001001"}
			_, err := w.CreateOrder(t.Context(), admin, o)
			return err
		}},
		{"a table with it", func(w *world) error {
			named := village
			named.Name = "乙社区"
			_, err := w.ImportDivisions(t.Context(), admin, sites.Import{Effective: "2020-02-01"}, rows(named))
			return err
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t)
			for i, table := range [][]sites.DivisionRow{rows(), rows(village)} {
				_, err := w.ImportDivisions(t.Context(), admin, sites.Import{Effective: []string{"2019-01-01", "2020-01-01"}[i]}, table)
				w.must(t, err)
			}
			later := w.must(t, c.change(w))
			w.wantRests(t, 2, later)
			w.revoke(t, later)
			w.wantRests(t, 1, 2)
			w.revoke(t, 2)
			if v := w.Roster().Versions("110101001001"); len(v) != 0 {
				t.Errorf("the village has the versions %v", v)
			}
			w.revoke(t, 1)
			if r := w.Roster(); len(r.Versions("110000"))+len(r.Children("", w.now))+r.NumSites()+len(r.Orders()) != 0 {
				t.Error("something is left")
			}
		})
	}
	t.Run("a division below it", func(t *testing.T) {
		w := newWorld(t)
		_, err := w.ImportDivisions(t.Context(), admin, sites.Import{Effective: "2019-01-01"}, rows())
		w.must(t, err)
		_, err = w.ImportDivisions(t.Context(), admin, sites.Import{Effective: "2020-01-01"}, []sites.DivisionRow{village})
		w.wantRests(t, 1, w.must(t, err))
	})
}

func TestRevokeRefused(t *testing.T) {
	w := filled(t)
	issue := func(number string) ledger.Sequence {
		_, err := w.CreateOrder(t.Context(), admin, order(t, number, "2020-02-01"))
		return w.must(t, err)
	}
	q := issue("1")
	for reason, want := range map[string]error{
		"": sites.ErrMissing, "  ": sites.ErrMissing, strings.Repeat("字", 501): sites.ErrTooLong, "two\nlines": sites.ErrInvalid,
	} {
		_, err := w.Revoke(t.Context(), admin, q, reason)
		wantField(t, err, want, "reason")
	}
	if _, err := w.Revoke(t.Context(), admin, 0, ""); len(sites.FieldErrorsOf(err)) != 2 || !errors.Is(err, sites.ErrMissing) {
		t.Errorf("with nothing given: got %v, want both named as missing", err)
	}
	if _, err := w.Revoke(t.Context(), admin, q, strings.Repeat("字", 500)); err != nil {
		t.Error(err)
	}
	for _, c := range []struct {
		what string
		q    ledger.Sequence
		want error
	}{
		{"what was taken back", q, sites.ErrNotRevocable},
		{"what takes back", q + 1, sites.ErrNotRevocable},
		{"none", 0, sites.ErrMissing},
		{"less than none", -1, sites.ErrChangeUnknown},
		{"one to come", q + 2, sites.ErrChangeUnknown},
	} {
		_, err := w.Revoke(t.Context(), admin, c.q, "by mistake")
		if !errors.Is(err, c.want) {
			t.Errorf("%s: got %v, want %v", c.what, err, c.want)
		}
		wantField(t, err, c.want, "revision")
	}
	altered := issue("2")
	w.alter(altered)
	w.aside(t, altered)
	s := w.open(t)
	for _, at := range []ledger.Sequence{altered, altered + 1} {
		if _, err := s.Revoke(t.Context(), admin, at, "by mistake"); !errors.Is(err, sites.ErrNotRevocable) {
			t.Errorf("what was set aside, or the repair, at %d: got %v", at, err)
		}
	}
}

// TestRevokeSetAside ensures that a history can be read whichever of its entries was set
// aside: the change that was taken back, or the entry that did so.
func TestRevokeSetAside(t *testing.T) {
	for i, orders := range []int{0, 1} {
		w := filled(t)
		_, err := w.CreateOrder(t.Context(), admin, order(t, "1", "2020-02-01"))
		q := w.must(t, err)
		w.revoke(t, q)
		w.alter(q + ledger.Sequence(i))
		w.aside(t, q+ledger.Sequence(i))
		if got := w.open(t).Roster(); got.Revision() != q+2 || len(got.Orders()) != orders {
			t.Errorf("got revision %d with %d orders, want %d with %d", got.Revision(), len(got.Orders()), q+2, orders)
		}
	}
}

// TestRevokeAsksForDivisions ensures that a change is taken back only by who may for each
// division that it touched, where a site stood or is to stand and on both sides of a new
// border.
func TestRevokeAsksForDivisions(t *testing.T) {
	w := filled(t)
	moved := w.site(t, "SC-GA-0001")
	_, err := w.MoveSite(t.Context(), admin, moved.ID, "", sites.Place{Division: "511681001001", From: w.now})
	move := w.must(t, err)
	o := order(t, "1", "2020-02-01")
	o.Divisions = []sites.DivisionCode{"511602", "511681"}
	_, err = w.CreateOrder(t.Context(), admin, o)
	issued := w.must(t, err)
	rows := divisionRows(t, "2019")
	for i := range rows {
		if rows[i].Code == "511602001" {
			rows[i].Parent = "511681" // from 511602
		}
	}
	_, err = w.ImportDivisions(t.Context(), admin, sites.Import{Effective: "2020-02-02"}, rows)
	regrouped := w.must(t, err)
	for what, q := range map[string]ledger.Sequence{"a move": move, "an order": issued, "a table": regrouped} {
		for _, own := range []sites.DivisionCode{"511602", "511681"} {
			by := sites.By{Account: "test", May: func(r *sites.Roster, code sites.DivisionCode, at time.Time) bool { return r.Within(code, own, at) }}
			if _, err := w.Revoke(t.Context(), by, q, "by mistake"); !errors.Is(err, sites.ErrChangeUnknown) {
				t.Errorf("%s, by who may in %s alone: got %v, want that there is no such change", what, own, err)
			}
		}
	}
	by := sites.By{Account: "test", May: func(r *sites.Roster, code sites.DivisionCode, at time.Time) bool { return r.Within(code, "511600", at) }}
	for _, q := range []ledger.Sequence{regrouped, issued, move} {
		if _, err := w.Revoke(t.Context(), by, q, "by mistake"); err != nil {
			t.Errorf("by who may in the city, %d: %v", q, err)
		}
	}
}

// TestRevokeAfterRestore ensures that a city which a table has put below a province stands
// at the top again, also on a server that started from a snapshot.
func TestRevokeAfterRestore(t *testing.T) {
	w := newWorld(t)
	city := sites.DivisionRow{Row: 2, Code: "510100", Name: "甲市", Level: "city"}
	below := city
	below.Row, below.Parent = 3, "510000"
	for _, rows := range [][]sites.DivisionRow{{city}, {{Row: 2, Code: "510000", Name: "甲省", Level: "province"}, below}} {
		_, err := w.ImportDivisions(t.Context(), admin, sites.Import{Effective: "2020-01-01"}, rows)
		w.must(t, err)
	}
	var kept bytes.Buffer
	if err := w.Snapshot(&kept); err != nil {
		t.Fatal(err)
	}
	s := sites.New(w.config())
	if err := s.Restore(&kept); err != nil {
		t.Fatal(err)
	}
	if err := s.Refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Revoke(t.Context(), admin, 2, "by mistake"); err != nil {
		t.Fatal(err)
	}
	if tops := s.Roster().Children("", w.now); len(tops) != 1 || tops[0].Code != "510100" {
		t.Errorf("at the top is %v, want the city", tops)
	}
}

// TestRepeatOfWhatWasTakenBack ensures that whoever keeps a division and has taken back a
// table that began others below it is answered by the same request as before, and is told
// that the change was taken back.
func TestRepeatOfWhatWasTakenBack(t *testing.T) {
	w := filled(t)
	by := sites.By{Account: "county", Request: ledger.Request{ID: "9b1d0f7e-0f0c-4f6e-9d55-3a6a0d9c1a01"}}
	by.May = func(r *sites.Roster, code sites.DivisionCode, at time.Time) bool {
		return r.WithinAny(code, []sites.DivisionCode{"511602"}, at)
	}
	table := []sites.DivisionRow{{Row: 2, Code: "511602999", Name: "新街道", Level: "township", Parent: "511602"}}
	in := sites.Import{Effective: "2020-02-02"}
	first, err := w.ImportDivisions(t.Context(), by, in, table)
	if err != nil {
		t.Fatal(err)
	}
	q := first.Roster.Revision()
	back := by
	back.Request = ledger.Request{}
	if _, err := w.Revoke(t.Context(), back, q, "by mistake"); err != nil {
		t.Fatal(err)
	}
	_, err = w.Revoke(t.Context(), back, q, "by mistake")
	wantField(t, err, sites.ErrNotRevocable, "revision")
	again, err := w.ImportDivisions(t.Context(), by, in, table)
	if err != nil || again.Created != first.Created || again.Roster.Revision() != q {
		t.Errorf("got %+v, %v; want the first answer", again, err)
	}
}
