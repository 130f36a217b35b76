package serve

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"xuncha/ledger"
	"xuncha/sites"
)

// linesOfFaults is how many faults the log names at once.
const linesOfFaults = 50

// A verification is what a server knows of whether the histories in its store verify.
type verification struct {
	log     *slog.Logger
	altered *ledger.Alterations
	now     func() time.Time
	// chain is where the services are in the feed.
	chain *ledger.Verifier
	// recount is given entries that verify of histories that did not before.
	recount func(ledger.Entry) error
	// takeBack is given entries that were set aside, of which some may have been counted
	// before they were altered. It may be given one again.
	takeBack func(ledger.History, ledger.Sequence)
	// onFault is called once something is found that was not known.
	onFault func()

	mu sync.Mutex
	// touched are the histories of which something is known since the last publish.
	touched map[ledger.History]bool
	said    map[ledger.Key]bool
	// loaded tells that the services have read everything. A repair that comes later is
	// of entries that they may have counted.
	loaded, repaired bool
	// whole is when all histories were verified last; zero for never.
	whole time.Time
}

func newVerification(log *slog.Logger, altered *ledger.Alterations, now func() time.Time) *verification {
	return &verification{
		log: log, altered: altered, now: now, chain: ledger.NewVerifier(now), onFault: func() {}, takeBack: func(ledger.History, ledger.Sequence) {},
		touched: map[ledger.History]bool{}, said: map[ledger.Key]bool{},
	}
}

// counting returns a taker of the feed that gives f the entries that verify. One that f
// cannot read does not verify either.
func (v *verification) counting(f func(ledger.Entry) error) func(ledger.Entry) error {
	return func(e ledger.Entry) error {
		whole := v.chain.Take(e)
		if whole {
			if err := f(e); err != nil {
				v.chain.Unreadable(e, err)
				whole = false
			}
		}
		if !whole || e.Kind == ledger.KindRepaired {
			v.mu.Lock()
			defer v.mu.Unlock()
			v.touched[e.History] = true
			v.repaired = v.repaired || v.loaded && e.Kind == ledger.KindRepaired
		}
		return nil
	}
}

// begin lets the verification go on behind what is known already.
func (v *verification) begin(h ledger.History, at ledger.Head) { v.chain.Begin(h, at) }

// isLoaded tells that the services have read all that is stored, from the beginning of
// all histories where whole is true. Only now is it known what a repair has settled.
func (v *verification) isLoaded(whole bool) {
	v.mu.Lock()
	v.loaded = true
	v.mu.Unlock()
	if whole {
		v.chain.Publish(v.altered)
		v.wholeAt(v.now())
	}
	v.publish()
}

// publish makes known what was found since the last call.
func (v *verification) publish() {
	v.mu.Lock()
	touched := v.touched
	v.touched = map[ledger.History]bool{}
	v.mu.Unlock()
	for h := range touched {
		v.chain.PublishOf(h, v.altered)
	}
	if len(touched) > 0 {
		v.takeBackAll()
	}
	v.say()
}

// takeBackAll has nobody count what was set aside.
func (v *verification) takeBackAll() {
	for h, sequences := range v.altered.AllSetAside() {
		for _, q := range sequences {
			v.takeBack(h, q)
		}
	}
}

// say logs the faults that it has not logged yet.
func (v *verification) say() {
	v.mu.Lock()
	defer v.mu.Unlock()
	faults := v.altered.All()
	if len(faults) == 0 && len(v.said) == 0 {
		return
	}
	before, fresh := v.said, 0
	v.said = make(map[ledger.Key]bool, len(faults))
	still := map[ledger.History]bool{}
	for _, f := range faults {
		key := ledger.Key{History: f.History, Sequence: f.Sequence}
		v.said[key], still[f.History] = true, true
		if before[key] {
			continue
		}
		if fresh++; fresh <= linesOfFaults {
			site, _ := sites.SiteOf(f.History)
			v.log.Error("a history does not verify", "history", string(f.History), "site", string(site), "sequence", int64(f.Sequence), "why", f.Why)
		}
	}
	if fresh > linesOfFaults {
		v.log.Error("more entries do not verify than the log names", "entries", fresh-linesOfFaults)
	}
	for key := range before {
		if !still[key.History] {
			still[key.History] = true
			v.log.Info("a history verifies again", "history", string(key.History))
		}
	}
	if fresh > 0 {
		v.onFault()
	}
}

// holdsSnapshots reports whether a snapshot now would hide from the next start what it
// has to find out, or hold what a repair has set aside.
func (v *verification) holdsSnapshots() bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.repaired || len(v.altered.All()) > 0
}

func (v *verification) wholeAt(t time.Time) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.whole = t
}

// verifiedAt returns when all histories were verified last; zero for never.
func (v *verification) verifiedAt() time.Time {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.whole
}

// Altered returns what the server knows of histories that do not verify.
func (r *Running) Altered() *ledger.Alterations { return r.verification.altered }

// VerifiedAt returns when all histories were verified last; zero for never.
func (r *Running) VerifiedAt() time.Time { return r.verification.verifiedAt() }

// beginBehind lets the verification go on behind the heads that a snapshot knows.
func (v *verification) beginBehind(ctx context.Context, heads func(context.Context, func(ledger.History, ledger.Head)) error, aside map[ledger.History][]ledger.Sequence) error {
	if err := heads(ctx, v.begin); err != nil {
		return err
	}
	for h, sequences := range aside {
		v.chain.BeginAside(h, sequences)
	}
	return nil
}
