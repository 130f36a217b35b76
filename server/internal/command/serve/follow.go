package serve

import (
	"context"
	"errors"
	"sync"
	"time"

	"xuncha/inspections"
	"xuncha/ledger"
	xunchav1 "xuncha/proto/xuncha/v1"
	"xuncha/server/internal/accounts"
	"xuncha/server/internal/rpc"
	"xuncha/sites"
)

const (
	// followEvery is how often a server asks for what others have stored.
	followEvery = 500 * time.Millisecond
	// followTimeout is how long the answer may take before the database counts
	// as away.
	followTimeout = 6 * time.Second
)

// follow takes in what other servers store behind the cursor, until r.beside ends.
// While the database does not answer, the server's health says that it does not
// serve. Where only a part of it does not, the server serves what the rest has.
//
// Accounts follow on their own, so that whoever is disabled elsewhere is out soon,
// whatever the others have to do. So does the roster catch up on its own: what
// somebody has imported may take long to read, and check-ins are counted meanwhile.
func (r *Running) follow(store ledger.Store, from ledger.Cursor, people *accounts.Service, roster *sites.Service, checkIns *inspections.Service) {
	presence := &presence{r: r, away: map[string]bool{}}
	ofAccounts := ledger.NewFollower(store, from, people.Take)
	r.every(func(ctx context.Context) {
		err := ofAccounts.CatchUp(ctx)
		if errors.Is(err, ledger.ErrPartly) {
			err = people.Reread(ctx) // the part with their history may answer
		}
		if err == nil || errors.Is(err, ledger.ErrWaiting) {
			err = people.CatchUp(ctx)
		}
		presence.note("accounts", err)
	}, followTimeout)
	ofTheRest := ledger.NewFollower(store, from, roster.Take, r.verification.counting(checkIns.Take))
	var late error // why not all is counted; nil where it is
	r.every(func(ctx context.Context) {
		err := ofTheRest.CatchUp(ctx)
		r.verification.publish()
		at := ofTheRest.Cursor()
		r.followed.Store(&at)
		switch {
		case errors.Is(err, ledger.ErrWaiting):
			if late != ledger.ErrWaiting {
				r.log.Warn("another server does not know yet what has become of entries; they are counted once it does", "error", err.Error())
			}
			late, err = ledger.ErrWaiting, nil
		case errors.Is(err, ledger.ErrPartly):
			if late != ledger.ErrPartly {
				r.log.Warn("a part of the database does not answer; what other servers store is counted once it does", "error", err.Error())
			}
			late, err = ledger.ErrPartly, nil
		case err == nil && late != nil:
			r.log.Info("all is counted again")
			late = nil
		}
		presence.note("histories", err)
	}, followTimeout)
	r.every(func(ctx context.Context) { presence.note("roster", roster.CatchUp(ctx)) }, 0)
}

// every calls f again and again until r.beside ends, each time with a context that
// lasts as long as is given; 0 sets no limit.
func (r *Running) every(f func(context.Context), limit time.Duration) {
	r.running.Go(func() {
		ticker := time.NewTicker(followEvery)
		defer ticker.Stop()
		for {
			select {
			case <-ticker.C:
			case <-r.beside.Done():
				return
			}
			ctx, done := r.beside, context.CancelFunc(func() {})
			if limit > 0 {
				ctx, done = context.WithTimeout(r.beside, limit)
			}
			f(ctx)
			done()
		}
	})
}

// databaseAway is the name of the problem that the database does not answer.
const databaseAway = "database away"

// A presence says whether the database answers all that ask.
type presence struct {
	r    *Running
	mu   sync.Mutex
	away map[string]bool // those who were not answered
}

// note takes down whether somebody was answered.
func (p *presence) note(who string, err error) {
	if p.r.beside.Err() != nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	before := len(p.away)
	if err != nil {
		p.away[who] = true
	} else {
		delete(p.away, who)
	}
	switch now := len(p.away); {
	case before == 0 && now > 0:
		p.r.vitals.serve(false)
		p.r.problems.Set(databaseAway, rpc.Problem{
			Kind:    xunchav1.ProblemKind_PROBLEM_KIND_STORE_UNAVAILABLE,
			Message: "The database does not answer.", Since: time.Now(),
		})
		p.r.log.Error("the database is away", "error", err.Error())
	case before > 0 && now == 0:
		p.r.vitals.serve(true)
		p.r.problems.Clear(databaseAway)
		p.r.log.Info("the database is back")
	}
}
