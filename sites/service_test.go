package sites_test

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"

	"xuncha/ledger"
	"xuncha/ledger/ledgertest"
	"xuncha/sites"
)

const village = sites.DivisionCode("511602001003")

func TestImportSites(t *testing.T) {
	w := filled(t)
	if got := w.Roster().NumSites(); got != 85 {
		t.Fatalf("got %d sites, want 85", got)
	}
	revision := w.Roster().Revision()

	t.Run("AgainChangesNothing", func(t *testing.T) {
		n, err := w.ImportSites(t.Context(), sites.By{Account: "test"}, sites.Import{}, siteRows(t))
		if err != nil || n.Changed || n.Unchanged != 85 || w.Roster().Revision() != revision {
			t.Errorf("got %+v, %v", n, err)
		}
	})
	t.Run("ChangesWhatDiffers", func(t *testing.T) {
		rows := siteRows(t)[:4]
		rows[0].Name = "样例·新名"
		rows[1].Division = "511602001003"
		rows[2].DeregisteredOn = "2020-03-01"
		before := w.site(t, rows[1].RegistrationNo)
		n, err := w.ImportSites(t.Context(), sites.By{Account: "test"}, sites.Import{Effective: "2020-02-10"}, rows)
		if err != nil || n.Updated != 1 || n.Moved != 1 || n.Deregistered != 1 || n.Unchanged != 1 {
			t.Fatalf("got %+v, %v", n, err)
		}
		after := w.site(t, rows[1].RegistrationNo)
		if after.ID != before.ID {
			t.Error("a site that moved got another id")
		}
		if got := after.PlaceAt(day(t, "2020-02-09")).Division; got != before.Places[0].Division {
			t.Errorf("the day before its move the site stands in %s", got)
		}
		if got := after.PlaceAt(day(t, "2020-02-10")).Division; got != village {
			t.Errorf("on the day of its move the site stands in %s, want %s", got, village)
		}
	})
	t.Run("StruckOffStaysSoWithoutADay", func(t *testing.T) {
		rows := siteRows(t)[2:3]
		if _, err := w.ImportSites(t.Context(), sites.By{Account: "test"}, sites.Import{}, rows); err != nil {
			t.Fatal(err)
		}
		if w.site(t, rows[0].RegistrationNo).Deregistered.IsZero() {
			t.Error("an empty cell brought a site back that was struck off")
		}
	})
}

func TestSites(t *testing.T) {
	ctx := t.Context()
	w := filled(t)
	made, err := w.CreateSite(ctx, sites.By{Account: "test"}, sites.NewSite{RegistrationNo: "N-1", Name: "样例", Division: village})
	if err != nil {
		t.Fatal(err)
	}
	if !made.Registered.Equal(w.now) {
		t.Errorf("registered %v, want now", made.Registered)
	}

	t.Run("ErrRegistrationTaken", func(t *testing.T) {
		_, err := w.CreateSite(ctx, sites.By{Account: "test"}, sites.NewSite{RegistrationNo: "N-1", Name: "样例", Division: village})
		wantField(t, err, sites.ErrRegistrationTaken, "registration_no")
	})
	t.Run("ErrNotVillage", func(t *testing.T) {
		_, err := w.CreateSite(ctx, sites.By{Account: "test"}, sites.NewSite{RegistrationNo: "N-2", Name: "样例", Division: "511602001"})
		wantField(t, err, sites.ErrNotVillage, "division_code")
	})
	t.Run("Position", func(t *testing.T) {
		_, err := w.CreateSite(ctx, sites.By{Account: "test"}, sites.NewSite{RegistrationNo: "N-2", Name: "样例", Division: village, Position: &sites.Position{Latitude: 91}})
		wantField(t, err, sites.ErrInvalid, "latitude")
	})
	t.Run("InvisibleCharacters", func(t *testing.T) {
		for _, r := range "\x00\x1b\n\x7f\u0085\u009b\u2028\u2029\u202a\u202e\u2066\u2069" {
			_, err := w.CreateSite(ctx, sites.By{Account: "test"}, sites.NewSite{RegistrationNo: "N-2", Name: "样" + string(r) + "例", Division: village})
			wantField(t, err, sites.ErrInvalid, "name")
		}
	})
	t.Run("UpdateStale", func(t *testing.T) {
		name := "样例·新名"
		updated, err := w.UpdateSite(ctx, sites.By{Account: "test"}, made.ID, made.Etag(), sites.SiteUpdate{Name: &name})
		if err != nil || updated.Name != name || updated.Etag() == made.Etag() {
			t.Fatalf("got %+v, %v", updated, err)
		}
		_, err = w.UpdateSite(ctx, sites.By{Account: "test"}, made.ID, made.Etag(), sites.SiteUpdate{Name: &made.Name})
		wantField(t, err, sites.ErrStale, "etag")
		revision := w.Roster().Revision()
		if _, err := w.UpdateSite(ctx, sites.By{Account: "test"}, made.ID, "", sites.SiteUpdate{Name: &name}); err != nil || w.Roster().Revision() != revision {
			t.Errorf("an update that changes nothing: %v, revision %d, want %d", err, w.Roster().Revision(), revision)
		}
	})
	t.Run("MoveIntoThePast", func(t *testing.T) {
		_, err := w.MoveSite(ctx, sites.By{Account: "test"}, made.ID, "", sites.Place{Division: "511602002003", From: w.now.Add(-time.Hour)})
		wantField(t, err, sites.ErrInvalid, "effective_time")
	})
	t.Run("UpdateBeforeAMoveToCome", func(t *testing.T) {
		site, err := w.CreateSite(ctx, sites.By{Account: "test"}, sites.NewSite{RegistrationNo: "N-3", Name: "样例", Division: village, Address: "1"})
		if err != nil {
			t.Fatal(err)
		}
		move := w.now.Add(time.Hour)
		if _, err := w.MoveSite(ctx, sites.By{Account: "test"}, site.ID, "", sites.Place{Division: "511602002003", Address: "2", From: move}); err != nil {
			t.Fatal(err)
		}
		address := "1a"
		site, err = w.UpdateSite(ctx, sites.By{Account: "test"}, site.ID, "", sites.SiteUpdate{Address: &address, Position: &sites.Position{Latitude: 30}})
		if err != nil {
			t.Fatal(err)
		}
		if now := site.PlaceAt(w.now); now.Address != "1a" || now.Position == nil {
			t.Errorf("where the site stands now is %+v, want it corrected", now)
		}
		if later := site.PlaceAt(move); later.Address != "2" || later.Position != nil {
			t.Errorf("where the site will stand is %+v, want it as it was", later)
		}
	})
	t.Run("Deregister", func(t *testing.T) {
		w.now = w.now.Add(time.Hour)
		gone, err := w.DeregisterSite(ctx, sites.By{Account: "test"}, made.ID, "", time.Time{})
		if err != nil || gone.RegisteredAt(w.now) || !gone.RegisteredAt(w.now.Add(-1)) {
			t.Fatalf("got %+v, %v", gone, err)
		}
		if _, err := w.DeregisterSite(ctx, sites.By{Account: "test"}, made.ID, "", time.Time{}); !errors.Is(err, sites.ErrSiteStruckOff) {
			t.Errorf("got %v, want ErrSiteStruckOff", err)
		}
		_, err = w.CreateSite(ctx, sites.By{Account: "test"}, sites.NewSite{RegistrationNo: "N-1", Name: "样例", Division: village})
		wantField(t, err, sites.ErrRegistrationTaken, "registration_no")
	})
	t.Run("ErrSiteUnknown", func(t *testing.T) {
		if _, err := w.DeregisterSite(ctx, sites.By{Account: "test"}, "nobody", "", time.Time{}); !errors.Is(err, sites.ErrSiteUnknown) {
			t.Errorf("got %v, want ErrSiteUnknown", err)
		}
	})
}

func TestOrders(t *testing.T) {
	ctx := t.Context()
	w := filled(t)
	for _, test := range []struct {
		name   string
		change func(*sites.ClosureOrder)
		want   error
		field  string
	}{
		{"NoNumber", func(o *sites.ClosureOrder) { o.Number = "" }, sites.ErrInvalid, "number"},
		{"NoTitle", func(o *sites.ClosureOrder) { o.Title = "" }, sites.ErrInvalid, "title"},
		{"NoAuthority", func(o *sites.ClosureOrder) { o.IssuingAuthority = "" }, sites.ErrInvalid, "issuing_authority"},
		{"NoLegalBasis", func(o *sites.ClosureOrder) { o.LegalBasis = "" }, sites.ErrInvalid, "legal_basis"},
		{"NoEnd", func(o *sites.ClosureOrder) { o.End = time.Time{} }, sites.ErrInvalid, "end_time"},
		{"EndsBeforeItStarts", func(o *sites.ClosureOrder) { o.End = o.Start }, sites.ErrInvalid, "end_time"},
		{"LongerThan90Days", func(o *sites.ClosureOrder) { o.End = o.Start.Add(90*24*time.Hour + 1) }, sites.ErrOrderTooLong, "end_time"},
		{"NoInterval", func(o *sites.ClosureOrder) { o.Interval = 0 }, sites.ErrInvalid, "inspection_interval"},
		{"NoScope", func(o *sites.ClosureOrder) { o.Divisions = nil }, sites.ErrInvalid, "division_codes"},
		{"UnknownDivision", func(o *sites.ClosureOrder) { o.Divisions = []sites.DivisionCode{"511600", "990000"} }, sites.ErrDivisionUnknown, "division_codes[1]"},
		{"DivisionTwice", func(o *sites.ClosureOrder) { o.Divisions = []sites.DivisionCode{"511600", "511600"} }, sites.ErrInvalid, "division_codes[1]"},
	} {
		t.Run(test.name, func(t *testing.T) {
			o := order(t, "1", "2020-02-01")
			test.change(&o)
			_, err := w.CreateOrder(ctx, sites.By{Account: "test"}, o)
			wantField(t, err, test.want, test.field)
		})
	}
	longest := order(t, "1", "2020-02-01")
	longest.End = longest.Start.Add(sites.MaxOrderLength)
	made, err := w.CreateOrder(ctx, sites.By{Account: "test"}, longest)
	if err != nil {
		t.Fatal(err)
	}
	t.Run("NumberTaken", func(t *testing.T) {
		_, err := w.CreateOrder(ctx, sites.By{Account: "test"}, order(t, "1", "2020-03-01"))
		wantField(t, err, sites.ErrOrderNumberTaken, "number")
	})
	t.Run("EndOutsideIt", func(t *testing.T) {
		for _, end := range []time.Time{made.Start, made.End, made.End.Add(time.Hour)} {
			_, err := w.EndOrder(ctx, sites.By{Account: "test"}, made.ID, end)
			wantField(t, err, sites.ErrOrderEnded, "end_time")
		}
	})
	t.Run("End", func(t *testing.T) {
		site := w.site(t, "SC-GA-0001")
		if w.Roster().OrderAt(site, w.now) == nil {
			t.Fatal("the order is not in force")
		}
		ended, err := w.EndOrder(ctx, sites.By{Account: "test"}, made.ID, time.Time{})
		if err != nil || !ended.End.Equal(w.now) || !ended.PlannedEnd.Equal(made.End) {
			t.Fatalf("got %+v, %v", ended, err)
		}
		if w.Roster().OrderAt(site, w.now) != nil || w.Roster().OrderAt(site, w.now.Add(-1)) == nil {
			t.Error("the order does not end at the moment at which it was ended")
		}
	})
}

func TestClosures(t *testing.T) {
	w := filled(t)
	w.now = day(t, "2020-02-10")
	first, second := order(t, "1", "2020-02-01"), order(t, "2", "2020-02-20")
	second.Divisions = []sites.DivisionCode{"511681"} // not where the site is
	for _, o := range []sites.ClosureOrder{first, second} {
		if _, err := w.CreateOrder(t.Context(), sites.By{Account: "test"}, o); err != nil {
			t.Fatal(err)
		}
	}
	site := w.site(t, "SC-GA-0001")
	if _, err := w.MoveSite(t.Context(), sites.By{Account: "test"}, site.ID, "", sites.Place{Division: "511602002003", From: day(t, "2020-02-12")}); err != nil {
		t.Fatal(err)
	}
	if _, err := w.DeregisterSite(t.Context(), sites.By{Account: "test"}, site.ID, "", day(t, "2020-02-15")); err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, c := range w.Roster().Closures(w.site(t, "SC-GA-0001")) {
		got = append(got, fmt.Sprint(c.Order.Number, " ", c.Path[0], " ", c.From.In(shanghai).Format("01-02"), " ", c.To.In(shanghai).Format("01-02")))
	}
	want := []string{"1 511602001003 02-01 02-12", "1 511602002003 02-12 02-15"}
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	var kinds []ledger.Kind
	for _, e := range w.Roster().Concerning(w.site(t, "SC-GA-0001")) {
		kinds = append(kinds, e.Kind)
	}
	if want := []ledger.Kind{
		sites.KindDivisionsImported, sites.KindSitesImported, sites.KindOrderIssued, sites.KindSiteMoved, sites.KindSiteDeregistered,
	}; !slices.Equal(kinds, want) {
		t.Errorf("concerning: got %v, want %v", kinds, want)
	}
}

// TestOrderAt ensures that of the orders that close a site at once, of whatever
// divisions above it, the one is told that started first, then by number.
func TestOrderAt(t *testing.T) {
	w := filled(t)
	site := w.site(t, "SC-GA-0001")
	path := w.Roster().Path(site.Places[0].Division, w.now)
	// From the village up, each level's order starts a day before the one below it.
	for i, code := range path {
		for _, number := range []string{"b", "a"} {
			o := order(t, fmt.Sprint(number, i), "2020-02-01")
			o.Divisions, o.Start = []sites.DivisionCode{code}, o.Start.AddDate(0, 0, -i)
			if _, err := w.CreateOrder(t.Context(), sites.By{Account: "test"}, o); err != nil {
				t.Fatal(err)
			}
			want := fmt.Sprint(number, i)
			if got := w.Roster().OrderAt(site, w.now); got == nil || got.Number != want {
				t.Errorf("after order %s of %s: got %+v", want, code, got)
			}
		}
	}
	// And down again, each starts later.
	for i, code := range slices.Backward(path) {
		o := order(t, fmt.Sprint("later", i), "2020-02-01")
		o.Divisions = []sites.DivisionCode{code}
		if _, err := w.CreateOrder(t.Context(), sites.By{Account: "test"}, o); err != nil {
			t.Fatal(err)
		}
		if got := w.Roster().OrderAt(site, w.now); got == nil || got.Number != "a3" {
			t.Errorf("after a later order of %s: got %+v", code, got)
		}
	}
}

// TestReplay ensures that the roster is nothing but what its history says: it
// is the same after a restart, and can be had as it was known at any time.
func TestReplay(t *testing.T) {
	w := filled(t)
	known := w.now
	w.now = w.now.Add(time.Hour)
	site := w.site(t, "SC-GA-0001")
	if _, err := w.DeregisterSite(t.Context(), sites.By{Account: "test"}, site.ID, "", day(t, "2020-01-15")); err != nil {
		t.Fatal(err)
	}
	if _, err := w.CreateOrder(t.Context(), sites.By{Account: "test"}, order(t, "1", "2020-02-01")); err != nil {
		t.Fatal(err)
	}
	again := w.open(t).Roster()
	if d := cmp.Diff(snapshot(w.Roster(), w.now), snapshot(again, w.now), cmpopts.IgnoreUnexported(sites.Site{})); d != "" {
		t.Errorf("after a restart (-before +after):\n%s", d)
	}
	past, err := w.RosterKnown(t.Context(), known)
	if err != nil {
		t.Fatal(err)
	}
	if past.Revision() != 2 || len(past.Orders()) != 0 {
		t.Errorf("as known before: revision %d with %d orders, want 2 with none", past.Revision(), len(past.Orders()))
	}
	if s, err := past.Site(site.ID); err != nil || !s.RegisteredAt(day(t, "2020-01-20")) {
		t.Errorf("as known before, the site was registered on 2020-01-20: %+v, %v", s, err)
	}
}

// snapshot returns what can be seen of a roster.
func snapshot(r *sites.Roster, at time.Time) any {
	type seen struct {
		Revision ledger.Sequence
		Sites    []sites.Site
		Etags    []string
		Orders   []sites.ClosureOrder
		Villages map[sites.DivisionCode][]sites.Division
	}
	out := seen{Revision: r.Revision(), Villages: map[sites.DivisionCode][]sites.Division{}}
	for s := range r.Sites() {
		out.Sites = append(out.Sites, *s)
		out.Etags = append(out.Etags, s.Etag())
		for _, code := range r.Path(s.Places[0].Division, at) {
			out.Villages[code] = r.Children(code, at)
		}
	}
	for _, o := range r.Orders() {
		out.Orders = append(out.Orders, *o)
	}
	return out
}

// TestTwoServers ensures that two servers on one store lose no change: the one
// that comes second decides again on what the first has done.
func TestTwoServers(t *testing.T) {
	w := filled(t)
	other := w.open(t)
	if _, err := w.CreateSite(t.Context(), sites.By{Account: "a"}, sites.NewSite{RegistrationNo: "N-1", Name: "样例", Division: village}); err != nil {
		t.Fatal(err)
	}
	_, err := other.CreateSite(t.Context(), sites.By{Account: "b"}, sites.NewSite{RegistrationNo: "N-1", Name: "样例", Division: village})
	wantField(t, err, sites.ErrRegistrationTaken, "registration_no")
	if _, err := other.CreateSite(t.Context(), sites.By{Account: "b"}, sites.NewSite{RegistrationNo: "N-2", Name: "样例", Division: village}); err != nil {
		t.Fatal(err)
	}
	if got := other.Roster().Revision(); got != 4 {
		t.Errorf("got revision %d, want 4", got)
	}
}

// TestChangeOfWhatAnotherServerDid ensures that a server which has not heard yet of a change
// that another one made just now does not refuse what rests on it, and does not say of a
// table that there is nothing to change, which there is since.
func TestChangeOfWhatAnotherServerDid(t *testing.T) {
	w := filled(t)
	other := w.open(t)
	row := sites.SiteRow{Row: 2, RegistrationNo: "N-1", Name: "样例", Division: string(village), RegisteredOn: "2020-01-01"}
	table := func(s *sites.Service) *sites.SiteImport {
		t.Helper()
		got, err := s.ImportSites(t.Context(), sites.By{Account: "a"}, sites.Import{}, []sites.SiteRow{row})
		if err != nil {
			t.Fatal(err)
		}
		return got
	}
	revision := table(w.Service).Roster.Revision()
	if _, err := other.Revoke(t.Context(), sites.By{Account: "b"}, revision, "test"); err != nil {
		t.Errorf("taking back what another server has just stored: %v", err)
	}
	if got := table(w.Service); !got.Changed || got.Registered != 1 {
		t.Errorf("importing what another server has just taken back: got %d registered, want 1", got.Registered)
	}
}

// TestFailedAppend ensures that a change that could not be stored is not in
// the roster.
func TestFailedAppend(t *testing.T) {
	w := filled(t)
	w.store.OnWrite(func(ledger.Draft) ledgertest.Fault { return ledgertest.Failed })
	_, err := w.CreateSite(t.Context(), sites.By{Account: "test"}, sites.NewSite{RegistrationNo: "N-1", Name: "样例", Division: village})
	if !errors.Is(err, ledger.ErrUnavailable) {
		t.Errorf("got %v, want ErrUnavailable", err)
	}
	if _, err := w.Roster().SiteByRegistration("N-1"); !errors.Is(err, sites.ErrSiteUnknown) {
		t.Errorf("got %v, want ErrSiteUnknown", err)
	}
}

// TestPlacementsCoverAllTime ensures that at every moment exactly one
// placement holds, and that it is the path at that moment.
func TestPlacementsCoverAllTime(t *testing.T) {
	w := filled(t)
	w.now = day(t, "2023-07-01")
	w.importDivisions(t, "2023", "2023-06-30")
	r := w.Roster()
	rapid.Check(t, func(t *rapid.T) {
		site := rapid.SampledFrom(slices.Collect(r.Sites())).Draw(t, "site")
		at := time.Unix(rapid.Int64Range(1_500_000_000, 1_800_000_000).Draw(t, "at"), 0)
		var holds []sites.Placement
		for _, p := range r.Placements(site) {
			if !at.Before(p.From) && (p.To.IsZero() || at.Before(p.To)) {
				holds = append(holds, p)
			}
		}
		if want := r.Path(site.PlaceAt(at).Division, at); len(holds) != 1 || !slices.Equal(holds[0].Path, want) {
			t.Fatalf("at %v: got %v, want one with %v", at, holds, want)
		}
	})
}

// An order can be ended also where the store is full; all else has to wait.
func TestEndOrderInFullStore(t *testing.T) {
	w := filled(t)
	made, err := w.CreateOrder(t.Context(), sites.By{Account: "test"}, order(t, "1", "2020-02-01"))
	if err != nil {
		t.Fatal(err)
	}
	w.store.Memory.Fill(true)
	if _, err := w.CreateOrder(t.Context(), sites.By{Account: "test"}, order(t, "2", "2020-02-01")); !errors.Is(err, ledger.ErrFull) {
		t.Errorf("another order: got %v, want ErrFull", err)
	}
	w.now = w.now.Add(time.Hour)
	if o, err := w.EndOrder(t.Context(), sites.By{Account: "test"}, made.ID, time.Time{}); err != nil || !o.End.Equal(w.now) {
		t.Errorf("got %+v, %v, want it to end now", o, err)
	}
}
