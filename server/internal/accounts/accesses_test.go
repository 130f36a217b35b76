package accounts_test

import (
	"cmp"
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/uuid"

	"xuncha/ledger"
	"xuncha/server/internal/accounts"
	"xuncha/sites"
)

func everything(*accounts.RecordedAccess) bool { return true }

func nothing(*accounts.RecordedAccess) bool { return false }

// listAll goes through all pages of a list, and calls between after each.
func (w *world) listAll(t testing.TB, q accounts.AccessQuery, n int, match func(*accounts.RecordedAccess) bool, between func()) (out []*accounts.RecordedAccess) {
	t.Helper()
	for cursor := (accounts.AccessCursor)(nil); ; {
		page, err := w.Accesses(t.Context(), q, cursor, n, match)
		if err != nil || len(page.Accesses) > n || page.Looked > accounts.MaxLooked+17 {
			t.Fatalf("got %d accesses of %d that were looked at, %v", len(page.Accesses), page.Looked, err)
		}
		if page.Next != nil && (!q.Takes(page.Next) || slices.Equal(page.Next, cursor)) {
			t.Fatalf("got the cursor %v after %v", page.Next, cursor)
		}
		out = append(out, page.Accesses...)
		if cursor = page.Next; cursor == nil {
			return out
		}
		between()
	}
}

// record appends an access to a history.
func (w *world) record(t testing.TB, h ledger.History, by string, at time.Time) ledger.Entry {
	t.Helper()
	return w.append(t, ledger.Draft{History: h, Kind: accounts.KindAccessed, Account: by, Time: at, Content: []byte(`{"method":"m"}`)})
}

func (w *world) append(t testing.TB, d ledger.Draft) ledger.Entry {
	t.Helper()
	d.ID = uuid.NewString()
	e, _, err := w.store.Append(t.Context(), d)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// TestAccessHistory holds which history has an account's accesses, which no version
// may change: printf li.wei | sha256sum | cut -c1
func TestAccessHistory(t *testing.T) {
	for username, want := range map[string]ledger.History{
		"li.wei": "accesses/0", "root": "accesses/4", "local": "accesses/2", "auditor": "accesses/c",
	} {
		if got := accounts.AccessHistory(username); got != want {
			t.Errorf("%s: got %s, want %s", username, got, want)
		}
	}
	seen := map[ledger.History]int{}
	for i := range 16_000 {
		seen[accounts.AccessHistory(fmt.Sprintf("officer%d", i))]++
	}
	for h, n := range seen {
		if n < 800 || n > 1200 {
			t.Errorf("%s has %d of 16000 accounts", h, n)
		}
	}
	if len(seen) != 16 {
		t.Errorf("got %d histories, want 16", len(seen))
	}
}

func TestAccesses(t *testing.T) {
	w := newWorld(t)
	site := accounts.Access{Method: "xuncha.v1.AuditService/ListSiteHistory", Site: "5e6f"}
	photo := accounts.Access{Method: "xuncha.v1.PhotoService/DownloadPhoto", Site: "5e6f", CheckIn: "c1", Photo: strings.Repeat("ab", 32)}
	report := accounts.Access{Method: "xuncha.v1.CoverageService/ExportCoverage", Division: "511602"}
	see := func(s *accounts.Service, by string, a accounts.Access) {
		t.Helper()
		w.advance(time.Second)
		if err := s.Accessed(t.Context(), by, a); err != nil {
			t.Error(err)
		}
	}
	other := w.open(t)
	for range 2 { // in the same minute, whichever server it is, all of this is five accesses
		see(w.Service, "li.wei", site)
		see(other, "li.wei", site)
		see(w.Service, "root", site)
		see(w.Service, "li.wei", photo)
		see(w.Service, "li.wei", report)
		w.advance(25 * time.Second)
	}
	see(other, "li.wei", site)
	all := w.listAll(t, accounts.AccessQuery{}, 100, everything, func() {})
	var got []string
	for _, a := range all {
		got = append(got, fmt.Sprintf("%s %d %s", a.History, a.Sequence, a.Account))
	}
	his, root := accounts.AccessHistory("li.wei"), accounts.AccessHistory("root")
	if want := []string{
		fmt.Sprintf("%s 4 li.wei", his), fmt.Sprintf("%s 3 li.wei", his), fmt.Sprintf("%s 2 li.wei", his),
		fmt.Sprintf("%s 1 root", root), fmt.Sprintf("%s 1 li.wei", his),
	}; !slices.Equal(got, want) {
		t.Fatalf("got %q, want %q", got, want)
	}
	for i, want := range []accounts.Access{site, report, photo, site, site} {
		if all[i].Access != want {
			t.Errorf("access %d: got %+v, want %+v", i, all[i].Access, want)
		}
	}
	if !all[0].Time.Equal(w.clock()) || all[4].Time.Equal(w.clock()) {
		t.Errorf("got the times %v and %v", all[0].Time, all[4].Time)
	}
	entries, err := w.store.Span(t.Context(), his, 0, 1)
	if want := `{"method":"xuncha.v1.AuditService/ListSiteHistory","site_id":"5e6f"}`; err != nil || string(ledger.Content(entries[0].Record)) != want {
		t.Errorf("the record says %s, want %s", ledger.Content(entries[0].Record), want)
	}
	if entries[0].Hash != all[4].Hash {
		t.Errorf("got the hash %x, want %x", all[4].Hash, entries[0].Hash)
	}
}

// TestAccessLists compares lists of accesses with all entries put in order, while
// further ones are put on record between the pages: in histories of which a list has
// shown something, in those that were empty, and in the one of earlier versions.
func TestAccessLists(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	begin := w.clock()
	random := rand.New(rand.NewPCG(1, 2))
	people := []string{"li.wei", "root", "auditor", "local", "m1", "m2", "m3", "m4", "m5"}
	var stored []ledger.Entry
	add := func(h ledger.History, by string, at time.Time) { stored = append(stored, w.record(t, h, by, at)) }
	clock := begin
	for i := range 600 {
		// Half of them are of the time of the one before.
		clock = clock.Add(time.Duration(random.IntN(2)) * time.Second)
		by := people[random.IntN(len(people))]
		if i < 200 || i%10 == 0 { // as when servers of both versions run
			add(ledger.Accesses, by, clock)
		}
		if i >= 200 {
			add(accounts.AccessHistory(by), by, clock)
		}
	}
	later := func() {
		for _, by := range []string{"li.wei", "m9", "empty until now", people[random.IntN(len(people))]} {
			add(accounts.AccessHistory(by), by, clock.Add(-time.Minute)) // by a server whose clock is slow
			add(ledger.Accesses, by, clock)
		}
	}
	middle := begin.Add(clock.Sub(begin) / 2)
	for _, q := range []accounts.AccessQuery{
		{}, {Start: middle}, {End: middle}, {Start: middle.Add(-time.Minute), End: middle}, {End: begin}, {Start: clock.Add(time.Second)},
		{Account: "li.wei"}, {Account: "root", Start: begin.Add(time.Minute), End: middle}, {Account: "nobody"},
	} {
		for _, n := range []int{1, 7, 100, 1000} {
			var want []string
			slices.SortFunc(stored, func(a, b ledger.Entry) int {
				return cmp.Or(b.Time.Compare(a.Time), strings.Compare(string(b.History), string(a.History)), cmp.Compare(b.Sequence, a.Sequence))
			})
			for _, e := range stored {
				if (q.Account == "" || e.Account == q.Account) && !e.Time.Before(q.Start) && (q.End.IsZero() || e.Time.Before(q.End)) {
					want = append(want, fmt.Sprintf("%s %d %s", e.History, e.Sequence, e.Account))
				}
			}
			pages := 0
			var got []string
			for _, a := range w.listAll(t, q, n, everything, func() {
				if pages++; pages <= 5 {
					later()
				}
			}) {
				got = append(got, fmt.Sprintf("%s %d %s", a.History, a.Sequence, a.Account))
			}
			if !slices.Equal(got, want) {
				t.Errorf("%+v in pages of %d: got\n%s\nwant\n%s", q, n, strings.Join(got, "\n"), strings.Join(want, "\n"))
			}
		}
	}
}

// TestUnknownAccesses ensures that a list passes over what it cannot read, and goes on.
func TestUnknownAccesses(t *testing.T) {
	w := newWorld(t)
	his := accounts.AccessHistory("li.wei")
	w.record(t, his, "li.wei", w.clock())
	for _, d := range []ledger.Draft{
		{Kind: accounts.KindAccessed, Content: []byte(`{"method":["a later version"]}`)},
		{Kind: "accessed_otherwise", Content: []byte(`{"method":"m"}`)},
	} {
		d.History, d.Account, d.Time = his, "li.wei", w.clock()
		w.append(t, d)
		d.History = ledger.Accesses
		w.append(t, d)
	}
	w.record(t, his, "li.wei", w.clock())
	for _, n := range []int{1, 10} {
		var got []ledger.Sequence
		for _, a := range w.listAll(t, accounts.AccessQuery{}, n, everything, func() {}) {
			got = append(got, a.Sequence)
		}
		if want := []ledger.Sequence{4, 1}; !slices.Equal(got, want) {
			t.Errorf("pages of %d: got %v, want %v", n, got, want)
		}
	}
}

// TestAccessPages ensures that a list of accesses ends, misses none, and goes on
// where a page had nothing that was asked for.
func TestAccessPages(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	const count = 12_345
	for i := range count {
		if err := w.Accessed(t.Context(), fmt.Sprint("m", i%40), accounts.Access{Method: "m", Site: sites.SiteID(fmt.Sprint(i))}); err != nil {
			t.Fatal(err)
		}
	}
	for _, wanted := range []int{1, 100, count} {
		got := w.listAll(t, accounts.AccessQuery{}, 7, func(a *accounts.RecordedAccess) bool {
			var i int
			_, err := fmt.Sscan(string(a.Site), &i)
			return err == nil && i < wanted
		}, func() {})
		if len(got) != wanted {
			t.Errorf("got %d accesses, want %d", len(got), wanted)
		}
	}
	// What is too old is not even looked at.
	got := w.listAll(t, accounts.AccessQuery{Start: w.clock().Add(2 * time.Hour)}, 7, func(*accounts.RecordedAccess) bool {
		t.Error("one that is too old was looked at")
		return true
	}, func() {})
	if len(got) != 0 {
		t.Errorf("got %v", got)
	}
}

// A distantStore takes a millisecond for each call, and counts the calls and the entries
// that are read.
type distantStore struct {
	*store
	calls, read atomic.Int64
}

func (s *distantStore) answer(out []ledger.Entry, err error) ([]ledger.Entry, error) {
	time.Sleep(time.Millisecond)
	s.calls.Add(1)
	s.read.Add(int64(len(out)))
	return out, err
}

func (s *distantStore) Newest(ctx context.Context, h ledger.History, before ledger.Sequence, n int) ([]ledger.Entry, error) {
	return s.answer(s.store.Newest(ctx, h, before, n))
}

func (s *distantStore) Entries(ctx context.Context, keys []ledger.Key) ([]ledger.Entry, error) {
	return s.answer(s.store.Entries(ctx, keys))
}

// TestPagesReadLittle ensures that a page of accesses reads about what it shows,
// wherever it lies in time, and never much more than it may look at; and that it asks
// about the histories at the same time, and not about one after another.
func TestPagesReadLittle(t *testing.T) {
	w := newWorld(t)
	const count, people = 30_000, 40
	begin := w.clock()
	at := func(i int) time.Time { return begin.Add(time.Duration(i) * time.Second) }
	for i := range count {
		by := fmt.Sprint("m", i%people)
		h := accounts.AccessHistory(by)
		if i < count/4 {
			h = ledger.Accesses
		}
		w.record(t, h, by, at(i))
	}
	const m7 = count - people + 7
	for _, test := range []struct {
		name       string
		query      accounts.AccessQuery
		match      func(*accounts.RecordedAccess) bool
		first      int // of the page; -1 for an empty one
		calls      int64
		read       int64
		roundTrips time.Duration
		more       bool
	}{
		{"Newest", accounts.AccessQuery{}, everything, count - 1, 40, 250, 5, true},
		{"LongAgo", accounts.AccessQuery{End: at(count / 2)}, everything, count/2 - 1, 60, 700, 20, true},
		{"OfEarlierVersions", accounts.AccessQuery{End: at(count / 8)}, everything, count/8 - 1, 60, 700, 24, true},
		{"AnHourLongAgo", accounts.AccessQuery{Start: at(count/2 - 50), End: at(count / 2)}, everything, count/2 - 1, 60, 700, 20, false},
		{"BeforeAll", accounts.AccessQuery{End: begin}, everything, -1, 40, 450, 16, false},
		{"AfterAll", accounts.AccessQuery{Start: at(2 * count)}, everything, -1, 17, 17 * 9, 1, false},
		{"OneAccount", accounts.AccessQuery{Account: "m7"}, everything, m7, 12, 1000, 8, true},
		{"OneAccountLongAgo", accounts.AccessQuery{Account: "m7", End: at(count / 2)}, everything, count/2 - people + 7, 24, 1000, 24, true},
		{"NoneThatMatches", accounts.AccessQuery{}, nothing, -1, 130, accounts.MaxLooked + 17, 20, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			distant := &distantStore{store: w.store}
			w.Ledger = distant
			synctest.Test(t, func(t *testing.T) {
				started := time.Now()
				page, err := w.Accesses(t.Context(), test.query, nil, 100, test.match)
				if err != nil {
					t.Fatal(err)
				}
				first := -1
				if len(page.Accesses) > 0 {
					first = int(page.Accesses[0].Time.Sub(begin) / time.Second)
				}
				if first != test.first || (page.Next != nil) != test.more {
					t.Errorf("got a page from %d on and the cursor %v, want one from %d on", first, page.Next, test.first)
				}
				calls, read, trips := distant.calls.Load(), distant.read.Load(), time.Since(started)/time.Millisecond
				t.Logf("%d calls, %d entries, %d round trips", calls, read, trips)
				if calls > test.calls || read > test.read || trips > test.roundTrips {
					t.Errorf("%d calls read %d entries in %d round trips, want at most %d, %d and %d",
						calls, read, trips, test.calls, test.read, test.roundTrips)
				}
			})
		})
	}
}
