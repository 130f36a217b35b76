package serve

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/health"

	"xuncha/inspections"
	"xuncha/ledger"
	"xuncha/ledger/ledgertest"
	"xuncha/server/internal/accounts"
	"xuncha/server/internal/accounts/accountstest"
	"xuncha/server/internal/rpc"
	"xuncha/sites"
	"xuncha/sites/sitestest"
)

// A shared is what two servers store in, in memory.
type shared struct {
	*ledgertest.Memory
	*sitestest.MemoryRows
	*accountstest.MemorySecrets
	// reading is closed once the rows of imports may be read here.
	reading chan struct{}
	// feedErr is what a feed ends with.
	feedErr atomic.Pointer[error]
}

func newShared(t *testing.T) *shared {
	s := &shared{Memory: ledgertest.New(t), MemoryRows: new(sitestest.MemoryRows), MemorySecrets: new(accountstest.MemorySecrets), reading: make(chan struct{})}
	close(s.reading)
	return s
}

// elsewhere is the same store as another server has it, where no rows can be read yet.
func (s *shared) elsewhere() *shared {
	return &shared{Memory: s.Memory, MemoryRows: s.MemoryRows, MemorySecrets: s.MemorySecrets, reading: make(chan struct{})}
}

func (s *shared) Rows(ctx context.Context, sum string) ([]byte, error) {
	select {
	case <-s.reading:
		return s.MemoryRows.Rows(ctx, sum)
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (s *shared) Feed(ctx context.Context, from ledger.Cursor) iter.Seq2[ledger.FeedEntry, error] {
	return func(yield func(ledger.FeedEntry, error) bool) {
		if err := s.feedErr.Load(); err != nil && errors.Is(*err, ledger.ErrPartly) {
			yield(ledger.FeedEntry{}, *err)
			return
		}
		for e, err := range s.Memory.Feed(ctx, from) {
			if !yield(e, err) {
				return
			}
		}
		if err := s.feedErr.Load(); err != nil {
			yield(ledger.FeedEntry{}, *err)
		}
	}
}

// Who is disabled on one server is out on another also while a part of the database, which
// has another history, does not answer. That is no reason not to serve what the rest has.
func TestAccountsFollowThoughAPartIsAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newShared(t)
		here, there := newNode(t, s), newNode(t, s)
		log := following(t, s, there)
		partly := fmt.Errorf("%w: %w: shard 7", ledger.ErrPartly, ledger.ErrUnavailable)
		s.feedErr.Store(&partly)
		account, _, err := here.people.Create(t.Context(), accounts.By{Account: "local"}, accounts.NewAccount{
			Username: "root", Role: accounts.Admin, Divisions: []sites.DivisionCode{"511600"}, Password: "correct horse battery",
		})
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * time.Second)
		if _, err := there.people.Get(account.ID); err != nil {
			t.Error(err)
		}
		if got := log.String(); strings.Contains(got, "database is away") || strings.Count(got, "\n") != 1 {
			t.Errorf("the log has %q, want that a part is away, once", got)
		}
	})
}

// A lines is a log in memory.
type lines struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *lines) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(b)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// A node is one of the servers.
type node struct {
	people   *accounts.Service
	roster   *sites.Service
	checkIns *inspections.Service
}

func newNode(t *testing.T, s *shared) node {
	t.Helper()
	var n node
	var err error
	ids := func() string {
		return fmt.Sprintf("00000000-0000-4000-8000-%012d", time.Now().UnixNano()+int64(s.Count(ledger.Roster)))
	}
	if n.roster, err = sites.Open(t.Context(), sites.Config{Ledger: s, Rows: s, Now: time.Now, NewID: ids, Zone: time.UTC}); err != nil {
		t.Fatal(err)
	}
	if n.people, err = accounts.Open(t.Context(), accounts.Config{Ledger: s, Secrets: s, Now: time.Now, NewID: ids, Random: rand.Reader}); err != nil {
		t.Fatal(err)
	}
	n.checkIns = inspections.New(inspections.Config{Ledger: s, Roster: n.roster, Now: time.Now})
	return n
}

// following lets a server follow, and returns its log.
func following(t *testing.T, s *shared, n node) *lines {
	t.Helper()
	log := &lines{}
	r := &Running{log: slog.New(slog.NewTextHandler(log, nil)), vitals: newVitals(health.NewServer(), nil), problems: new(rpc.Problems)}
	r.verification = newVerification(r.log, new(ledger.Alterations), time.Now)
	r.beside, r.endBeside = context.WithCancel(t.Context())
	r.follow(s, "", n.people, n.roster, n.checkIns)
	t.Cleanup(func() {
		r.endBeside()
		r.running.Wait()
	})
	return log
}

// Who is disabled on one server is out on another within seconds, also while that
// one takes in an import that takes long; and its roster has the import in the end.
func TestAccountsFollowOnTheirOwn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newShared(t)
		slow := s.elsewhere()
		here, there := newNode(t, s), newNode(t, slow)
		log := following(t, slow, there)
		account, _, err := here.people.Create(t.Context(), accounts.By{Account: "local"}, accounts.NewAccount{
			Username: "root", Role: accounts.Admin, Divisions: []sites.DivisionCode{"511600"}, Password: "correct horse battery",
		})
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * time.Second)
		if _, err := there.people.Get(account.ID); err != nil {
			t.Fatal(err)
		}
		_, err = here.roster.ImportDivisions(t.Context(), sites.By{Account: "root"}, sites.Import{Effective: "1999-10-31"}, []sites.DivisionRow{{Row: 2, Code: "511600", Name: "广安市", Level: "city"}})
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		if there.roster.Roster().Revision() != 0 {
			t.Fatal("the import was not held up")
		}
		if _, err := here.people.Disable(t.Context(), accounts.By{Account: "local", Force: true}, account.ID); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * time.Second)
		if a, err := there.people.Get(account.ID); err != nil || a.Disabled.IsZero() {
			t.Errorf("got %+v, %v, want it disabled", a, err)
		}
		close(slow.reading)
		time.Sleep(2 * time.Second)
		if got := there.roster.Roster().Revision(); got != 1 {
			t.Errorf("the roster is at %d, want 1", got)
		}
		if got := log.String(); got != "" {
			t.Errorf("the log has %q", got)
		}
	})
}

// A feed that waits is said once, and is no database that is away; one that fails is.
func TestFollowSays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newShared(t)
		log := following(t, s, newNode(t, s))
		want := func(err error, words ...string) {
			t.Helper()
			s.feedErr.Store(&err)
			if err == nil {
				s.feedErr.Store(nil)
			}
			before := len(log.String())
			time.Sleep(10 * followEvery)
			got := log.String()[before:]
			if n := strings.Count(got, "\n"); n != len(words) {
				t.Errorf("got %d lines %q, want %v", n, got, words)
			}
			for _, w := range words {
				if !strings.Contains(got, w) {
					t.Errorf("got %q, want %q in it", got, w)
				}
			}
		}
		want(nil)
		want(fmt.Errorf("%w: number 7", ledger.ErrWaiting), "number 7")
		want(nil, "all is counted again")
		want(fmt.Errorf("%w: %w: shard 7", ledger.ErrPartly, ledger.ErrUnavailable), "a part of the database does not answer")
		want(nil, "all is counted again")
		want(errors.New("broken"), "the database is away")
		want(nil, "the database is back")
	})
}
