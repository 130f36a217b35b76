package accounts_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"xuncha/ledger"
	"xuncha/server/internal/accounts"
	"xuncha/sites"
)

// TestAfter ensures that a list of accounts goes on behind any name, whether or not an
// account has it, and that one list does not change while accounts do.
func TestAfter(t *testing.T) {
	w := newWorld(t)
	create := func(name string) {
		t.Helper()
		if _, _, err := w.Create(t.Context(), "root", accounts.NewAccount{
			Username: name, Role: accounts.Head, Divisions: []sites.DivisionCode{"511600"}, Password: password,
		}); err != nil {
			t.Fatal(err)
		}
	}
	create("an")
	create("zhou")
	for after, want := range map[string]string{
		"": "an li.wei root zhou", "an": "li.wei root zhou", "an1": "li.wei root zhou", "root": "zhou", "zhou": "", "zz": "",
	} {
		if got := names(w.Service, after); got != want {
			t.Errorf("after %q: got %s, want %s", after, got, want)
		}
	}
	list := w.After("li.wei")
	create("lu")
	if _, err := w.Disable(t.Context(), "root", w.officer.ID); err != nil {
		t.Fatal(err)
	}
	var got []string
	for a := range list {
		got = append(got, a.Username)
	}
	if want := []string{"root", "zhou"}; !slices.Equal(got, want) {
		t.Errorf("a list begun before a change: got %v, want %v", got, want)
	}
	if got := names(w.Service, "li.wei"); got != "lu root zhou" {
		t.Errorf("a list begun after it: got %s", got)
	}
}

// TestListsBesideChanges reads lists and checks tokens while accounts change. It is for
// the race detector, and holds that every list is in order.
func TestListsBesideChanges(t *testing.T) {
	w := newWorld(t)
	token := w.login(t, right()).Access
	done := make(chan struct{})
	var readers sync.WaitGroup
	for range 2 {
		readers.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
				}
				list := strings.Fields(names(w.Service, ""))
				if !slices.IsSorted(list) || len(list) < 2 {
					t.Errorf("got the list %v", list)
					return
				}
				if _, err := w.Verify(t.Context(), token); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	root, _, err := w.Login(t.Context(), accounts.SignIn{Username: "root", Password: password + " root", Address: "10.0.0.2"})
	if err != nil {
		t.Fatal(err)
	}
	for i := range 200 {
		name := fmt.Sprint("name ", i)
		if _, err := w.Update(t.Context(), "root", root.ID, accounts.Change{DisplayName: &name}); err != nil {
			t.Fatal(err)
		}
	}
	close(done)
	readers.Wait()
}

// A countingStore counts the entries that are read.
type countingStore struct {
	*store
	read atomic.Int64
}

func (s *countingStore) Newest(ctx context.Context, h ledger.History, before ledger.Sequence, n int) ([]ledger.Entry, error) {
	out, err := s.store.Newest(ctx, h, before, n)
	s.read.Add(int64(len(out)))
	return out, err
}

// TestPagesReadLittle ensures that a page of accesses reads about what it shows,
// wherever it lies in time, and never more than it may look at.
func TestPagesReadLittle(t *testing.T) {
	w := newWorld(t)
	const count = 6000
	begin := w.clock()
	for i := range count {
		if err := w.Accessed(t.Context(), "root", accounts.Access{Method: "m", Site: sites.SiteID(fmt.Sprint(i))}); err != nil {
			t.Fatal(err)
		}
		w.advance(time.Minute)
	}
	counted := &countingStore{store: w.store}
	w.Ledger = counted
	all := func(*accounts.RecordedAccess) bool { return true }
	none := func(*accounts.RecordedAccess) bool { return false }
	for _, test := range []struct {
		name       string
		start, end time.Time
		match      func(*accounts.RecordedAccess) bool
		first      ledger.Sequence // of the page; 0 for an empty one
		most       int64           // entries read
		more       bool
	}{
		{"Newest", time.Time{}, time.Time{}, all, count, 10, true},
		{"LongAgo", time.Time{}, begin.Add(100 * time.Minute), all, 100, 40, true},
		{"AnHourLongAgo", begin.Add(95 * time.Minute), begin.Add(100 * time.Minute), all, 100, 40, false},
		{"BeforeAll", time.Time{}, begin, all, 0, 30, false},
		{"AfterAll", begin.Add(2 * count * time.Minute), time.Time{}, all, 0, 10, false},
		{"NoneThatMatches", time.Time{}, time.Time{}, none, 0, accounts.MaxLooked, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			counted.read.Store(0)
			page, next, err := w.Accesses(t.Context(), 0, 10, test.start, test.end, test.match)
			if err != nil {
				t.Fatal(err)
			}
			var first ledger.Sequence
			if len(page) > 0 {
				first = page[0].Sequence
			}
			if first != test.first || (next != 0) != test.more {
				t.Errorf("got a page from %d on and next %d, want one from %d on", first, next, test.first)
			}
			if got := counted.read.Load(); got > test.most {
				t.Errorf("%d entries were read, want at most %d", got, test.most)
			}
		})
	}
}

// TestManySignedOut ensures that a device that was signed out stays so for as long as
// its token lives, also beside many others.
func TestManySignedOut(t *testing.T) {
	w := newWorld(t)
	var tokens []string
	for range 5 {
		tokens = append(tokens, w.login(t, right()).Access)
	}
	for i, token := range tokens[:4] {
		c, err := w.Verify(t.Context(), token)
		if err != nil {
			t.Fatal(err)
		}
		if err := w.Logout(t.Context(), c); err != nil {
			t.Fatal(err)
		}
		for j, token := range tokens {
			if _, err := w.Verify(t.Context(), token); (err == nil) != (j > i) {
				t.Errorf("device %d after %d signed out: %v", j, i+1, err)
			}
		}
		w.advance(accounts.AccessLifetime / 5)
	}
}
