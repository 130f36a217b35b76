package serve

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"

	"pgregory.net/rapid"

	"xuncha/inspections"
	"xuncha/inspections/coverage"
	"xuncha/inspections/photos"
	"xuncha/ledger"
	"xuncha/ledger/ledgertest"
	"xuncha/server/internal/accounts"
	"xuncha/server/internal/accounts/accountstest"
	"xuncha/server/internal/clock/clocktest"
	"xuncha/server/internal/snapshot"
	"xuncha/sites"
	"xuncha/sites/sitestest"
)

// A memoryEngine is a store in memory that one server has alone.
type memoryEngine struct {
	*ledgertest.Memory
	*sitestest.MemoryRows
	*accountstest.MemorySecrets
	*clocktest.MemoryNotes
}

func (e memoryEngine) Photos() photos.Store { return nil }
func (e memoryEngine) Shared() bool         { return false }
func (e memoryEngine) Close() error         { return nil }
func (e memoryEngine) CountEntries(ctx context.Context) (n int64, err error) {
	err = e.Heads(ctx, func(_ ledger.History, head ledger.Head) error {
		n += int64(head.Sequence)
		return nil
	})
	return n, err
}

// A restarting is a server without its port, on a store in memory.
type restarting struct {
	store  Engine
	folder string
	now    time.Time
	ids    int
	log    *lines
}

// open starts the server: it reads what is stored, by the snapshot where there is one.
func (w *restarting) open(t *rapid.T) *Running {
	ctx := context.Background()
	clock := func() time.Time { return w.now }
	id := func() string { w.ids++; return fmt.Sprintf("00000000-0000-4000-8000-%012d", w.ids) }
	r := &Running{log: slog.New(slog.NewTextHandler(w.log, nil)), store: w.store}
	altered := new(ledger.Alterations)
	r.verification = newVerification(r.log, altered, clock)
	err := untilBack(ctx, r.log, "reading the accounts", func() (err error) {
		r.people, err = accounts.Open(ctx, accounts.Config{Ledger: w.store, Secrets: w.store, Now: clock, NewID: id, Random: rand.Reader})
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	r.roster = sites.New(sites.Config{Ledger: w.store, Rows: w.store, Now: clock, NewID: id, Zone: time.UTC})
	r.checkIns = inspections.New(inspections.Config{Ledger: w.store, Roster: r.roster, Now: clock})
	r.snapshots, err = newSnapshots(StoreConfig{Data: w.folder}, "", time.UTC, w.store, r.log, sectionsOf(r.roster, r.checkIns, altered))
	if err != nil {
		t.Fatal(err)
	}
	at, err := r.load(ctx)
	if err != nil {
		t.Fatal(err)
	}
	r.snapshots.catchUp = r.catchUpBehind(at)
	return r
}

// villages stand in two townships of two counties.
var villages = []sites.DivisionCode{"511602001001", "511602001002", "511602002001", "511603001001"}

// begin gives the server its divisions, an order and a site.
func (w *restarting) begin(t *rapid.T, r *Running) {
	ctx := context.Background()
	rows := []sites.DivisionRow{{Code: "511600", Name: "a", Level: "city"}}
	for _, d := range []string{"511602", "511603"} {
		rows = append(rows, sites.DivisionRow{Code: d, Name: "b", Level: "county", Parent: "511600"})
	}
	for _, d := range []string{"511602001", "511602002", "511603001"} {
		rows = append(rows, sites.DivisionRow{Code: d, Name: "c", Level: "township", Parent: d[:6]})
	}
	for _, d := range villages {
		rows = append(rows, sites.DivisionRow{Code: string(d), Name: "d", Level: "village", Parent: string(d[:9])})
	}
	for i := range rows {
		rows[i].Row = i + 2
	}
	if _, err := r.roster.ImportDivisions(ctx, sites.By{Account: "a"}, sites.Import{Effective: "2019-10-31"}, rows); err != nil {
		t.Fatal(err)
	}
	order := sites.ClosureOrder{
		Number: "1", Title: "t", IssuingAuthority: "a", LegalBasis: "b", Divisions: []sites.DivisionCode{"511600"},
		Start: w.now, End: w.now.Add(60 * 24 * time.Hour), Interval: sites.Duration(24 * time.Hour),
	}
	if _, err := r.roster.CreateOrder(ctx, sites.By{Account: "a"}, order); err != nil {
		t.Fatal(err)
	}
	w.site(t, r)
}

func (w *restarting) site(t *rapid.T, r *Running) {
	_, err := r.roster.CreateSite(context.Background(), sites.By{Account: "a"}, sites.NewSite{
		RegistrationNo: fmt.Sprint("no", w.ids), Name: "n", Division: rapid.SampledFrom(villages).Draw(t, "village"),
		Registered: w.now.Add(-time.Hour),
	})
	if err != nil {
		t.Fatal(err)
	}
}

// goOn does so many things of those that officers and heads do.
func (w *restarting) goOn(t *rapid.T, r *Running, n int) {
	ctx := context.Background()
	for range n {
		w.now = w.now.Add(time.Duration(rapid.IntRange(1, 600).Draw(t, "minutes")) * time.Minute)
		var all []*sites.Site
		for s := range r.roster.Roster().Sites() {
			all = append(all, s)
		}
		site := rapid.SampledFrom(all).Draw(t, "site")
		switch rapid.IntRange(0, 9).Draw(t, "deed") {
		case 0:
			w.site(t, r)
		case 1:
			// What is refused, such as a move of a site that is struck off, changes nothing.
			_, _ = r.roster.MoveSite(ctx, sites.By{Account: "a"}, site.ID, "", sites.Place{Division: rapid.SampledFrom(villages).Draw(t, "to")})
		case 2:
			_, _ = r.roster.DeregisterSite(ctx, sites.By{Account: "a"}, site.ID, "", time.Time{})
		case 3:
			// Behind the divisions, the order and the first site, which stays.
			if newest := int(r.roster.Roster().Revision()); newest > 3 {
				revision := ledger.Sequence(rapid.IntRange(4, newest).Draw(t, "revision"))
				_, _ = r.roster.Revoke(ctx, sites.By{Account: "a"}, revision, "by mistake")
			}
		default:
			w.ids++
			c := inspections.CheckIn{
				ID: inspections.CheckInID(fmt.Sprintf("10000000-0000-4000-8000-%012d", w.ids)), Site: site.ID,
				Captured: w.now.Add(-time.Duration(rapid.IntRange(0, 30).Draw(t, "hours")) * time.Hour),
				Finding:  rapid.SampledFrom([]inspections.Finding{inspections.FoundClosed, inspections.FoundOpen}).Draw(t, "finding"),
				Note:     "门口", DispersedPeople: int32(rapid.IntRange(0, 9).Draw(t, "people")),
			}
			_, _, _ = r.checkIns.Submit(ctx, inspections.By{Account: "a"}, c, time.Time{})
		}
	}
}

// answers returns what the server answers to questions of every kind.
func (w *restarting) answers(t *rapid.T, r *Running, begun time.Time) string {
	ctx := context.Background()
	var out []any
	add := func(v any, err error) {
		if err != nil {
			v = err.Error()
		}
		out = append(out, v)
	}
	for _, known := range []time.Time{{}, begun.Add(30 * time.Hour), begun.Add(100 * time.Hour)} {
		for _, days := range []int{1, 3, 40} {
			q := inspections.Question{Division: "511600", Start: begun.Add(12 * time.Hour), Known: known, Depth: 3}
			q.End = q.Start.Add(time.Duration(days) * 24 * time.Hour)
			report, err := r.checkIns.Coverage(ctx, q)
			add(report.Report, err)
			for _, state := range []coverage.State{coverage.Due, coverage.Done, coverage.Overdue, coverage.FoundOpen} {
				due, err := r.checkIns.DueSites(ctx, q, state, coverage.SiteRef{}, 100)
				add(due.Sites, err)
			}
			list, err := r.checkIns.List(ctx, q, coverage.VisitFilter{}, coverage.VisitRef{}, 100)
			add(list.CheckIns, err)
		}
	}
	for s := range r.roster.Roster().Sites() {
		history, _, err := r.checkIns.History(ctx, s.ID, inspections.HistoryCursor{}, 100)
		add(history, err)
		out = append(out, s)
	}
	b, err := json.MarshalIndent(out, "", " ")
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// TestSameAnswersAfterRestart holds that reports, lists and histories are the same whether
// a server started from a snapshot, from one that was damaged, or from none.
func TestSameAnswersAfterRestart(t *testing.T) {
	folder := t.TempDir()
	rapid.Check(t, func(t *rapid.T) {
		ctx := context.Background()
		begun := time.Date(2020, 2, 1, 0, 0, 0, 0, time.UTC)
		path := filepath.Join(folder, "snapshot")
		if err := snapshot.Remove(path); err != nil {
			t.Fatal(err)
		}
		w := &restarting{
			store:  memoryEngine{ledgertest.New(t), new(sitestest.MemoryRows), new(accountstest.MemorySecrets), new(clocktest.MemoryNotes)},
			folder: folder, now: begun, log: &lines{},
		}
		r := w.open(t)
		w.begin(t, r)
		w.goOn(t, r, rapid.IntRange(0, 20).Draw(t, "before"))
		if err := r.snapshots.writeAfter(ctx, 0); err != nil {
			t.Fatal(err)
		}
		// Also a server that started from a snapshot writes one.
		if rapid.Bool().Draw(t, "twice") {
			r = w.open(t)
			w.goOn(t, r, rapid.IntRange(0, 10).Draw(t, "between"))
			if err := r.snapshots.writeAfter(ctx, 0); err != nil {
				t.Fatal(err)
			}
		}
		w.goOn(t, r, rapid.IntRange(0, 10).Draw(t, "after"))
		file, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		damaged := rapid.Bool().Draw(t, "damaged")
		if damaged {
			if rapid.Bool().Draw(t, "cut") {
				file = file[:rapid.IntRange(0, len(file)-1).Draw(t, "length")]
			} else {
				file[rapid.IntRange(0, len(file)-1).Draw(t, "byte")] ^= byte(rapid.IntRange(1, 255).Draw(t, "bits"))
			}
			if err := os.WriteFile(path, file, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		restored := w.open(t)
		if used := restored.snapshots.written > 0; used == damaged {
			t.Errorf("damaged %v, used %v: %s", damaged, used, w.log)
		}
		if err := snapshot.Remove(path); err != nil {
			t.Fatal(err)
		}
		read := w.open(t)
		got, want := w.answers(t, restored, begun), w.answers(t, read, begun)
		if got != want {
			t.Errorf("got %s, want %s", got, want)
		}
		if running := w.answers(t, r, begun); running != want {
			t.Errorf("before the restart it was %s, and now it is %s", running, want)
		}
	})
}
