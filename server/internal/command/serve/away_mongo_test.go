package serve

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"xuncha/inspections"
	"xuncha/ledger"
	"xuncha/server/internal/mongostore/mongotest"
	"xuncha/sites"
)

// fillShared gives a store in memory a roster and so many check-ins of its sites.
func fillShared(t *testing.T, s *shared, checkIns int) {
	t.Helper()
	n := newNode(t, s)
	rows := []sites.DivisionRow{
		{Row: 2, Code: "511600", Name: "a", Level: "city"}, {Row: 3, Code: "511602", Name: "b", Level: "county", Parent: "511600"},
		{Row: 4, Code: "511602001", Name: "c", Level: "township", Parent: "511602"},
		{Row: 5, Code: "511602001001", Name: "d", Level: "village", Parent: "511602001"},
	}
	if _, err := n.roster.ImportDivisions(t.Context(), sites.By{Account: "a"}, sites.Import{Effective: "2019-10-31"}, rows); err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	if _, err := n.roster.CreateOrder(t.Context(), sites.By{Account: "a"}, sites.ClosureOrder{
		Number: "1", Title: "t", IssuingAuthority: "a", LegalBasis: "b", Divisions: []sites.DivisionCode{"511600"},
		Start: now.Add(-time.Hour), End: now.Add(24 * time.Hour), Interval: sites.Duration(24 * time.Hour),
	}); err != nil {
		t.Fatal(err)
	}
	for i := range 10 {
		if _, err := n.roster.CreateSite(t.Context(), sites.By{Account: "a"}, sites.NewSite{
			RegistrationNo: fmt.Sprint(i), Name: "n", Division: "511602001001", Registered: now.Add(-2 * time.Hour),
		}); err != nil {
			t.Fatal(err)
		}
	}
	var all []*sites.Site
	for site := range n.roster.Roster().Sites() {
		all = append(all, site)
	}
	for i := range checkIns {
		c := inspections.CheckIn{
			ID: inspections.CheckInID(fmt.Sprintf("10000000-0000-4000-8000-%012d", i)), Site: all[i%len(all)].ID,
			Captured: now.Add(-time.Minute), Finding: inspections.FoundClosed,
		}
		if _, _, err := n.checkIns.Submit(t.Context(), inspections.By{Account: "a"}, c, time.Time{}); err != nil {
			t.Fatal(err)
		}
	}
}

// copyShared stores in a database what a store in memory has.
func copyShared(t *testing.T, from *shared, uri string) {
	t.Helper()
	to, _, err := OpenEngine(t.Context(), uri, EngineOptions{})
	if err != nil {
		t.Fatal(err)
	}
	job := ledger.CopyJob{From: from, To: to, Progress: func(int) {}, Before: func(ctx context.Context, e ledger.Entry) error {
		if e.History == ledger.Roster {
			return sites.CopyRows(ctx, from, to, e)
		}
		return nil
	}}
	plan, err := job.Plan(t.Context())
	if err == nil {
		err = job.Copy(t.Context(), plan)
	}
	if err != nil {
		t.Fatal(err)
	}
	if err := to.Close(); err != nil {
		t.Fatal(err)
	}
}

// Where the database is killed while a server reads it at its start, the server waits and
// goes on where it was: nothing is read twice, and each check-in counts once.
func TestStartWhileDatabaseIsKilled(t *testing.T) {
	const checkIns = 2500
	database, err := mongotest.StartOwn()
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := database.Stop(); err != nil {
			t.Error(err)
		}
	}()
	full := newShared(t)
	fillShared(t, full, checkIns)
	uri := database.Database(t)
	copyShared(t, full, uri)

	// So many entries were given each time the database is killed. Whoever reads waits
	// for that.
	kills := []int{300, 1500}
	rounds := len(kills)
	kill, killed := make(chan struct{}), make(chan struct{})
	var mu sync.Mutex
	var store *flaky
	log := &lines{}
	c := Config{
		Listen: "127.0.0.1:0", TimeZone: "UTC", LogLevel: "info", MaxMessageBytes: 1 << 20,
		photoConfig: photoConfig{PhotoRetentionDays: 30}, ShutdownTimeout: time.Minute,
	}
	r, err := start(t.Context(), StoreConfig{Store: uri}, c, log,
		func(ctx context.Context, name string, o EngineOptions) (Engine, string, error) {
			opened, where, err := OpenEngine(ctx, name, o)
			store = &flaky{Engine: opened, given: map[ledger.Key]int{}}
			store.away = func() error {
				store.mu.Lock()
				given := len(store.given)
				store.mu.Unlock()
				mu.Lock()
				defer mu.Unlock()
				if len(kills) > 0 && given >= kills[0] {
					kills = kills[1:]
					kill <- struct{}{}
					<-killed
				}
				return nil
			}
			return store, where, err
		})
	if err != nil {
		t.Fatal(err)
	}
	for round := range rounds {
		<-kill
		if err := database.Kill(); err != nil {
			t.Error(err)
		}
		killed <- struct{}{}
		for strings.Count(log.String(), "reading the histories") < round+1 {
			<-time.After(time.Millisecond)
		}
		if err := database.Restart(); err != nil {
			t.Fatal(err)
		}
	}
	select {
	case <-r.Ready:
	case err := <-r.Failed:
		t.Fatal(err)
	}
	now := time.Now()
	answer, err := r.checkIns.Coverage(t.Context(), inspections.Question{Division: "511600", Start: now.Add(-time.Hour), End: now.Add(time.Hour)})
	if err != nil || answer.Report.Row.CheckIns != checkIns {
		t.Errorf("got %+v, %v, want %d check-ins", answer.Report, err, checkIns)
	}
	if err := r.Stop(); err != nil {
		t.Error(err)
	}
	store.mu.Lock()
	defer store.mu.Unlock()
	if want := checkIns + 12; len(store.given) != want {
		t.Errorf("%d entries were given, want %d", len(store.given), want)
	}
	for k, n := range store.given {
		if n > 1 {
			t.Errorf("%v was given %d times", k, n)
		}
	}
}
