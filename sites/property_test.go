package sites_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"xuncha/ledger"
	"xuncha/sites"
)

// The codes of the random worlds, by level.
var worldCodes = [][]sites.DivisionCode{
	{"110000", "120000"},
	{"110101", "110102", "120101"},
	{"110101001", "110101002", "120101001"},
	{"110101001001", "110101001002", "110101002001", "120101001001", "120101001002"},
}

// A randomWorld is a world that changed at random, with its roster after each entry
// and a snapshot of it.
type randomWorld struct {
	*world
	tb        testing.TB
	rosters   []*sites.Roster // by revision
	snapshots [][]byte
}

// newRandomWorld returns a world after some changes, of which those that the rules
// do not allow are left out.
func newRandomWorld(tb testing.TB, t *rapid.T) *randomWorld {
	w := &randomWorld{world: newWorld(tb), tb: tb}
	w.noted(nil)
	w.importRandom(t)
	for range rapid.IntRange(1, 25).Draw(t, "changes") {
		w.now = w.now.Add(time.Duration(rapid.IntRange(1, 30).Draw(t, "hours")) * time.Hour)
		rapid.SampledFrom([]func(*rapid.T){w.importRandom, w.siteRandom, w.siteRandom, w.siteRandom, w.orderRandom, w.tableRandom, w.revokeRandom}).Draw(t, "change")(t)
	}
	return w
}

// noted notes the roster where there is a new one. The error of a change is one of
// the rules.
func (w *randomWorld) noted(err error) {
	if errors.Is(err, ledger.ErrBroken) || errors.Is(err, ledger.ErrBadRecord) {
		w.tb.Error(err)
	}
	if r := w.Roster(); int(r.Revision()) == len(w.rosters) {
		var b bytes.Buffer
		if err := w.Snapshot(&b); err != nil {
			w.tb.Error(err)
		}
		w.rosters, w.snapshots = append(w.rosters, r), append(w.snapshots, b.Bytes())
	}
}

func (w *randomWorld) ctx() context.Context { return w.tb.Context() }

func (w *randomWorld) today() string { return w.now.In(shanghai).Format(time.DateOnly) }

// importRandom imports a table of some of the divisions, each under any of the
// level above.
func (w *randomWorld) importRandom(t *rapid.T) {
	var rows []sites.DivisionRow
	var above []sites.DivisionCode
	for level, codes := range worldCodes {
		var here []sites.DivisionCode
		for _, code := range codes {
			if len(rows) > 0 && (level > 0 && len(above) == 0 || rapid.IntRange(0, 4).Draw(t, "left out") == 0) {
				continue
			}
			parent := ""
			if level > 0 {
				parent = string(rapid.SampledFrom(above).Draw(t, "parent"))
			}
			name := rapid.SampledFrom([]string{"甲", "乙"}).Draw(t, "name")
			rows = append(rows, sites.DivisionRow{Row: len(rows) + 2, Code: string(code), Name: name, Level: []string{"city", "county", "township", "village"}[level], Parent: parent})
			here = append(here, code)
		}
		above = here
	}
	_, err := w.ImportDivisions(w.ctx(), sites.By{Account: "test"}, sites.Import{Effective: w.today()}, rows)
	w.noted(err)
}

func (w *randomWorld) siteRandom(t *rapid.T) {
	village := rapid.SampledFrom(worldCodes[3]).Draw(t, "village")
	all := slices.Collect(w.Roster().Sites())
	what := rapid.IntRange(0, 3).Draw(t, "what")
	if what == 0 || len(all) == 0 {
		_, err := w.CreateSite(w.ctx(), sites.By{Account: "test"}, sites.NewSite{
			RegistrationNo: fmt.Sprint("N-", rapid.IntRange(0, 20).Draw(t, "no")), Name: "样例", Division: village, Address: "路",
			Registered: w.now.Add(time.Duration(rapid.IntRange(-40, 20).Draw(t, "since")) * time.Hour), Position: &sites.Position{Latitude: 30.5},
		})
		w.noted(err)
		return
	}
	id := rapid.SampledFrom(all).Draw(t, "site").ID
	at := w.now.Add(time.Duration(rapid.IntRange(-20, 40).Draw(t, "at")) * time.Hour)
	var err error
	switch what {
	case 1:
		_, err = w.MoveSite(w.ctx(), sites.By{Account: "test"}, id, "", sites.Place{Division: village, From: at, Address: "街"})
	case 2:
		name := rapid.SampledFrom([]string{"丙", "丁"}).Draw(t, "name")
		_, err = w.UpdateSite(w.ctx(), sites.By{Account: "test"}, id, "", sites.SiteUpdate{Name: &name})
	case 3:
		if rapid.Bool().Draw(t, "really") {
			_, err = w.DeregisterSite(w.ctx(), sites.By{Account: "test"}, id, "", at)
		}
	}
	w.noted(err)
}

// tableRandom imports a few sites.
func (w *randomWorld) tableRandom(t *rapid.T) {
	var rows []sites.SiteRow
	for i := range rapid.IntRange(1, 4).Draw(t, "rows") {
		rows = append(rows, sites.SiteRow{
			Row: i + 2, RegistrationNo: fmt.Sprint("N-", 5*i+rapid.IntRange(0, 4).Draw(t, "no")), Name: "样例",
			Division: string(rapid.SampledFrom(worldCodes[3]).Draw(t, "village")), RegisteredOn: "2020-01-20",
		})
	}
	_, err := w.ImportSites(w.ctx(), sites.By{Account: "test"}, sites.Import{}, rows)
	w.noted(err)
}

func (w *randomWorld) orderRandom(t *rapid.T) {
	if all := w.Roster().Orders(); len(all) > 0 && rapid.Bool().Draw(t, "end") {
		_, err := w.EndOrder(w.ctx(), sites.By{Account: "test"}, rapid.SampledFrom(all).Draw(t, "order").ID, time.Time{})
		w.noted(err)
		return
	}
	start := w.now.Add(time.Duration(rapid.IntRange(-50, 50).Draw(t, "start")) * time.Hour)
	codes := rapid.SliceOfNDistinct(rapid.SampledFrom(slices.Concat(worldCodes...)), 1, 3, rapid.ID).Draw(t, "divisions")
	_, err := w.CreateOrder(w.ctx(), sites.By{Account: "test"}, sites.ClosureOrder{
		Number: fmt.Sprint(rapid.IntRange(0, 30).Draw(t, "number")), Title: "t", IssuingAuthority: "a", LegalBasis: "b", Divisions: codes,
		Start: start, End: start.Add(time.Duration(rapid.IntRange(1, 200).Draw(t, "length")) * time.Hour), Interval: sites.Duration(time.Hour),
	})
	w.noted(err)
}

// moments returns times before, between and after those at which something begins
// or ends.
func (w *randomWorld) moments() []time.Time {
	begin := day(w.tb, "2020-01-20")
	var out []time.Time
	for at := begin; at.Before(w.now.AddDate(0, 0, 5)); at = at.Add(29 * time.Hour) {
		out = append(out, at)
	}
	return out
}

// closed writes what Touched promises to tell of.
func closed(r *sites.Roster, id sites.SiteID) string {
	s, err := r.Site(id)
	if err != nil {
		return ""
	}
	var out strings.Builder
	fmt.Fprintln(&out, s.Registered, s.Deregistered)
	for _, p := range r.Placements(s) {
		fmt.Fprintln(&out, p)
	}
	for _, c := range r.Closures(s) {
		fmt.Fprintln(&out, *c.Order, c.From, c.To, c.Path)
	}
	return out.String()
}

func ids(all []*sites.Site) (out []string) {
	for _, s := range all {
		out = append(out, string(s.ID))
	}
	return out
}

// everything returns all that can be asked of a roster.
func everything(r *sites.Roster, at []time.Time) map[string]any {
	out := map[string]any{"revision": r.Revision(), "time": r.Time(), "count": r.NumSites()}
	var orders []sites.ClosureOrder
	for _, o := range r.Orders() {
		orders = append(orders, *o)
	}
	out["orders"] = orders
	var ever []string
	for o, revoked := range r.OrdersEver() {
		ever = append(ever, fmt.Sprint(o.ID, revoked, r.OrderRevision(o.ID)))
	}
	out["orders ever"] = ever
	for _, code := range append(slices.Concat(worldCodes...), "", "990000") {
		out["versions of "+string(code)] = fmt.Sprint(r.Versions(code))
		out["sites in "+string(code)] = slices.Sorted(slices.Values(ids(slices.Collect(r.SitesIn(code)))))
		out["sites after N-2 in "+string(code)] = ids(slices.Collect(r.SitesAfter("N-2", code, "110101")))
		for _, t := range at {
			out[fmt.Sprint("children of ", code, " at ", t)] = fmt.Sprint(r.Children(code, t))
			out[fmt.Sprint("path of ", code, " at ", t)] = r.Path(code, t)
		}
	}
	for s := range r.Sites() {
		of := fmt.Sprint("site ", s.RegistrationNo, " ")
		text, _ := json.Marshal(s)
		known, _ := r.SiteByRegistration(s.RegistrationNo)
		out[of] = []any{string(text), s.Etag(), known == s, closed(r, s.ID), s.Revision()}
		var events []string
		for _, e := range r.Concerning(s) {
			events = append(events, fmt.Sprint(e.Sequence, e.ID, e.Kind, e.Time))
		}
		out[of+"events"] = events
		for _, t := range at {
			if o := r.OrderAt(s, t); o != nil {
				out[fmt.Sprint(of, t)] = o.Number
			}
		}
	}
	for since := range r.Revision() {
		out[fmt.Sprint("touched since ", since)] = slices.Sorted(r.Touched(since))
	}
	return out
}

// TestTouched ensures that no site changes behind the back of whoever asks which
// ones were touched.
func TestTouched(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		w := newRandomWorld(t, rt)
		for i, before := range w.rosters {
			for _, after := range w.rosters[i:] {
				touched := slices.Collect(after.Touched(before.Revision()))
				slices.Sort(touched)
				if len(slices.Compact(slices.Clone(touched))) != len(touched) {
					rt.Fatalf("a site comes twice: %v", touched)
				}
				for _, of := range []*sites.Roster{before, after} { // one of them may not have it
					for s := range of.Sites() {
						if _, ok := slices.BinarySearch(touched, s.ID); !ok && closed(before, s.ID) != closed(after, s.ID) {
							rt.Fatalf("from %d to %d site %s is not touched, but was\n%sand is\n%s",
								before.Revision(), after.Revision(), s.ID, closed(before, s.ID), closed(after, s.ID))
						}
					}
				}
			}
		}
	})
}

// TestTouchedLeavesOthersOut ensures that a change of a few sites is one of a few.
func TestTouchedLeavesOthersOut(t *testing.T) {
	w := filled(t)
	ctx := t.Context()
	touched := func(since ledger.Sequence) int { return len(slices.Collect(w.Roster().Touched(since))) }
	for _, c := range []struct {
		name   string
		change func() error
		want   int
	}{
		{"a site", func() error {
			_, err := w.DeregisterSite(ctx, sites.By{Account: "test"}, w.site(t, "SC-GA-0001").ID, "", w.now)
			return err
		}, 1},
		{"an order of a village", func() error {
			o := order(t, "1", "2020-02-01")
			o.Divisions = []sites.DivisionCode{village}
			_, err := w.CreateOrder(ctx, sites.By{Account: "test"}, o)
			return err
		}, len(slices.Collect(w.Roster().SitesIn(village)))},
		{"a new name", func() error {
			rows := divisionRows(t, "2019")
			rows[0].Name = "新名"
			_, err := w.ImportDivisions(ctx, sites.By{Account: "test"}, sites.Import{Effective: "2020-02-01"}, rows)
			return err
		}, 0},
	} {
		since := w.Roster().Revision()
		if err := c.change(); err != nil {
			t.Fatal(err)
		}
		if got := touched(since); got != c.want || w.Roster().Revision() == since {
			t.Errorf("%s: %d sites are touched, want %d", c.name, got, c.want)
		}
	}
}

// TestRosterAgainstItsEntries compares what a roster finds by its lists with what a
// walk through all entries finds.
func TestRosterAgainstItsEntries(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		w := newRandomWorld(t, rt)
		r := w.Roster()
		type imported struct {
			Op     string             `json:"op"`
			Code   sites.DivisionCode `json:"code"`
			Parent sites.DivisionCode `json:"parent_code"`
		}
		parents := map[sites.DivisionCode]map[sites.DivisionCode]bool{}
		codes := make([]map[sites.DivisionCode]bool, r.Revision()+1)
		contents := make([]sites.Content, r.Revision()+1)
		revoked := w.revoked()
		for q := ledger.Sequence(1); q <= r.Revision(); q++ {
			e, err := w.Entry(w.ctx(), q)
			if err != nil {
				rt.Fatal(err)
			}
			if contents[q], err = sites.ParseContent(e); err != nil {
				rt.Fatal(err)
			}
			if contents[q].Divisions == nil {
				continue
			}
			lines, err := w.store.Rows(w.ctx(), contents[q].Divisions.Rows)
			if err != nil {
				rt.Fatal(err)
			}
			codes[q] = map[sites.DivisionCode]bool{}
			for line := range bytes.Lines(lines) {
				var row imported
				if err := json.Unmarshal(line, &row); err != nil {
					rt.Fatal(err)
				}
				codes[q][row.Code] = true
				if row.Op == "begin" && !revoked[q] {
					if parents[row.Code] == nil {
						parents[row.Code] = map[sites.DivisionCode]bool{}
					}
					parents[row.Code][row.Parent] = true
				}
			}
		}
		var ever func(below, code sites.DivisionCode) bool
		ever = func(below, code sites.DivisionCode) bool {
			return below == code || slices.ContainsFunc(slices.Collect(maps.Keys(parents[below])), func(p sites.DivisionCode) bool { return ever(p, code) })
		}
		for _, code := range slices.Concat(worldCodes...) {
			var want []string
			for s := range r.Sites() {
				if slices.ContainsFunc(s.Places, func(p sites.Place) bool { return ever(p.Division, code) }) {
					want = append(want, string(s.ID))
				}
			}
			if got := ids(slices.Collect(r.SitesAfter("", code))); !slices.Equal(got, want) {
				rt.Fatalf("sites in %s: got %v, want %v", code, got, want)
			}
		}
		for _, code := range slices.Concat(worldCodes...) {
			versions := r.Versions(code)
			for _, at := range w.moments() {
				var want sites.Division
				for i, v := range versions {
					if i == 0 || !v.From.After(at) {
						want = v
					}
				}
				if got, err := r.LastDivision(code, at); got != want || (err == nil) != (len(versions) > 0) {
					rt.Fatalf("division %s at %v: got %+v, %v, want %+v", code, at, got, err, want)
				}
			}
		}
		for s := range r.Sites() {
			var want, got []ledger.Sequence
			for at := ledger.Sequence(1); at <= r.Revision(); at++ {
				q, c := at, contents[at]
				if c.Revoked != nil { // it concerns those that the other one does
					q, c = c.Revoked.Revision, contents[c.Revoked.Revision]
				}
				concerns := c.Site != nil && c.Site.ID == s.ID
				if c.Sites != nil {
					lines, err := w.store.Rows(w.ctx(), c.Sites.Rows)
					if err != nil {
						rt.Fatal(err)
					}
					concerns = bytes.Contains(lines, []byte(s.ID))
				}
				for _, p := range r.Placements(s) {
					if o := c.Order; o != nil && p.From.Before(o.PlannedEnd) && (p.To.IsZero() || p.To.After(o.Start)) {
						concerns = concerns || slices.ContainsFunc(o.Divisions, func(d sites.DivisionCode) bool { return slices.Contains(p.Path, d) })
					}
					concerns = concerns || slices.ContainsFunc(p.Path, func(d sites.DivisionCode) bool { return codes[q][d] })
				}
				if concerns {
					want = append(want, at)
				}
			}
			for _, e := range r.Concerning(s) {
				got = append(got, e.Sequence)
			}
			if !slices.Equal(got, want) {
				rt.Fatalf("events of site %s: got %v, want %v", s.RegistrationNo, got, want)
			}
			closures := r.Closures(s)
			for _, at := range w.moments() {
				var closing []*sites.ClosureOrder
				for _, o := range r.Orders() {
					path := r.Path(s.PlaceAt(at).Division, at)
					if s.RegisteredAt(at) && o.InForce(at) && slices.ContainsFunc(o.Divisions, func(d sites.DivisionCode) bool { return slices.Contains(path, d) }) {
						closing = append(closing, o)
					}
				}
				var first *sites.ClosureOrder
				if len(closing) > 0 {
					first = closing[0]
				}
				if o := r.OrderAt(s, at); o != first {
					rt.Fatalf("site %s at %v: closed by %+v, want %+v", s.RegistrationNo, at, o, first)
				}
				for _, o := range r.Orders() {
					n := 0
					for _, c := range closures {
						if c.Order == o && !at.Before(c.From) && at.Before(c.To) {
							n++
						}
					}
					if (n == 1) != slices.Contains(closing, o) || n > 1 {
						rt.Fatalf("site %s at %v: %d closures under order %s, which closes it: %t", s.RegistrationNo, at, n, o.Number, slices.Contains(closing, o))
					}
				}
			}
		}
	})
}

// TestRestore ensures that a roster that goes on from a snapshot answers as one
// that was read from the history, and so does what was known before.
func TestRestore(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		w := newRandomWorld(t, rt)
		at := w.moments()
		i := rapid.IntRange(0, len(w.snapshots)-1).Draw(rt, "snapshot")
		restored := sites.New(w.config())
		if err := restored.Restore(bytes.NewReader(w.snapshots[i])); err != nil {
			rt.Fatal(err)
		}
		if d := cmp.Diff(everything(w.rosters[i], at), everything(restored.Roster(), at)); d != "" {
			rt.Fatalf("restored (-want +got):\n%s", d)
		}
		if err := restored.Refresh(w.ctx()); err != nil {
			rt.Fatal(err)
		}
		for _, want := range w.rosters {
			got, err := restored.RosterKnown(w.ctx(), want.Time())
			if err != nil {
				rt.Fatal(err)
			}
			want := w.rosters[got.Revision()] // the newest of that time
			if d := cmp.Diff(everything(want, at), everything(got, at)); d != "" {
				rt.Fatalf("as known at revision %d (-want +got):\n%s", want.Revision(), d)
			}
		}
		if d := cmp.Diff(everything(w.Roster(), at), everything(restored.Roster(), at)); d != "" {
			rt.Fatalf("after more entries (-want +got):\n%s", d)
		}
	})
}

// TestRestoreOfAnotherHistory ensures that a snapshot is left aside whose newest
// entry the history does not have.
func TestRestoreOfAnotherHistory(t *testing.T) {
	w, other := filled(t), filled(t)
	for _, c := range []struct {
		name   string
		change func(t *testing.T)
	}{
		{"longer", func(t *testing.T) {
			if _, err := other.CreateOrder(t.Context(), sites.By{Account: "test"}, order(t, "1", "2020-02-01")); err != nil {
				t.Fatal(err)
			}
		}},
		{"as long", func(t *testing.T) {
			w.now = w.now.Add(time.Hour)
			if _, err := w.CreateOrder(t.Context(), sites.By{Account: "test"}, order(t, "2", "2020-02-01")); err != nil {
				t.Fatal(err)
			}
		}},
		{"shorter", func(t *testing.T) {
			w.now = w.now.Add(time.Hour)
			if _, err := w.CreateOrder(t.Context(), sites.By{Account: "test"}, order(t, "3", "2020-02-01")); err != nil {
				t.Fatal(err)
			}
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.change(t)
			var kept bytes.Buffer
			if err := other.Snapshot(&kept); err != nil {
				t.Fatal(err)
			}
			s := sites.New(w.config())
			if err := s.Restore(&kept); err != nil {
				t.Fatal(err)
			}
			if got := s.Roster().Revision(); got != other.Roster().Revision() {
				t.Fatalf("restored to revision %d", got)
			}
			if err := s.Refresh(t.Context()); err != nil {
				t.Fatal(err)
			}
			at := []time.Time{w.now}
			if d := cmp.Diff(everything(w.Roster(), at), everything(s.Roster(), at)); d != "" {
				t.Errorf("(-want +got):\n%s", d)
			}
			past, err := s.RosterKnown(t.Context(), w.now.Add(-time.Minute))
			if err != nil {
				t.Fatal(err)
			}
			want, err := w.RosterKnown(t.Context(), w.now.Add(-time.Minute))
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(everything(want, at), everything(past, at)); d != "" {
				t.Errorf("as known before (-want +got):\n%s", d)
			}
		})
	}
}

// TestRestoreCutShort ensures that a snapshot which is cut short anywhere, or has
// more than was written, leaves the service empty.
func TestRestoreCutShort(t *testing.T) {
	w := filled(t)
	var b bytes.Buffer
	if err := w.Snapshot(&b); err != nil {
		t.Fatal(err)
	}
	kept := b.Bytes()
	for n := 0; n < len(kept); n += 1 + len(kept)/500 {
		s := sites.New(w.config())
		if err := s.Restore(bytes.NewReader(kept[:n])); err == nil {
			t.Fatalf("%d of %d bytes are taken for all", n, len(kept))
		}
		if s.Roster().Revision() != 0 || s.Roster().NumSites() != 0 {
			t.Fatalf("%d of %d bytes leave something", n, len(kept))
		}
	}
}

// TestPreviewBesideChanges looks, with the race detector, at what an import that is
// being decided on and changes that are being made do to one roster.
func TestPreviewBesideChanges(t *testing.T) {
	w := filled(t)
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() {
			for range 5 {
				if _, err := w.ImportDivisions(t.Context(), sites.By{Account: "test"}, sites.Import{Effective: "2020-06-30", DryRun: true}, divisionRows(t, "2023")); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Go(func() {
		for i := range 100 {
			if _, err := w.MoveSite(t.Context(), sites.By{Account: "test"}, w.site(t, "SC-GA-0001").ID, "", sites.Place{Division: village, From: w.now.Add(time.Duration(i) * time.Hour)}); err != nil {
				t.Error(err)
			}
		}
	})
	wg.Go(func() {
		for range 100 {
			r := w.Roster()
			for s := range r.SitesIn("511600") {
				r.OrderAt(s, w.now)
			}
		}
	})
	wg.Wait()
	if got := len(w.site(t, "SC-GA-0001").Places); got != 101 {
		t.Errorf("the site has %d places, want 101", got)
	}
}

// A slowRows lets nobody have rows until it is opened.
type slowRows struct {
	from sites.Rows
	open chan struct{}
}

// PutRows implements sites.Rows.
func (s *slowRows) PutRows(ctx context.Context, sum string, rows []byte) error {
	return s.from.PutRows(ctx, sum, rows)
}

// Rows implements sites.Rows.
func (s *slowRows) Rows(ctx context.Context, sum string) ([]byte, error) {
	select {
	case <-s.open:
		return s.from.Rows(ctx, sum)
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// TestRosterKnownBesideARebuild ensures that nobody waits for a roster that another
// caller has made anew: not for a recent one, nor beyond a deadline for an old one.
func TestRosterKnownBesideARebuild(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := filled(t)
		old := w.now
		for range 2 {
			w.now = w.now.Add(time.Hour)
			name := fmt.Sprint("样例", w.now)
			if _, err := w.UpdateSite(t.Context(), sites.By{Account: "test"}, w.site(t, "SC-GA-0001").ID, "", sites.SiteUpdate{Name: &name}); err != nil {
				t.Fatal(err)
			}
		}
		var kept bytes.Buffer
		if err := w.Snapshot(&kept); err != nil {
			t.Fatal(err)
		}
		config := w.config()
		slow := &slowRows{from: config.Rows, open: make(chan struct{})}
		config.Rows = slow
		s := sites.New(config) // which has the newest roster alone
		if err := s.Restore(&kept); err != nil {
			t.Fatal(err)
		}
		w.now = w.now.Add(time.Hour)
		name := "样例"
		if _, err := s.UpdateSite(t.Context(), sites.By{Account: "test"}, w.site(t, "SC-GA-0001").ID, "", sites.SiteUpdate{Name: &name}); err != nil {
			t.Fatal(err)
		}
		var wg sync.WaitGroup
		wg.Go(func() {
			if r, err := s.RosterKnown(t.Context(), old); err != nil || r.Revision() != 2 {
				t.Errorf("the old one: got %v", err)
			}
		})
		synctest.Wait()
		if r, err := s.RosterKnown(t.Context(), w.now.Add(-time.Minute)); err != nil || r.Revision() != 4 {
			t.Errorf("the one before the change: got %v", err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := s.RosterKnown(ctx, old.Add(time.Hour)); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("another old one: got %v, want the deadline", err)
		}
		close(slow.open)
		wg.Wait()
		if r, err := s.RosterKnown(t.Context(), old.Add(time.Hour)); err != nil || r.Revision() != 3 {
			t.Errorf("another old one then: got %v", err)
		}
	})
}
