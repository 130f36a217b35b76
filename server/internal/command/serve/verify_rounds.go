package serve

import (
	"context"
	"errors"
	"time"

	"xuncha/ledger"
)

const (
	// roundEvery is how often all histories are verified at least.
	roundEvery = 24 * time.Hour
	// roundRate is how many entries a second a round verifies, which takes about two
	// thousandths of a core. Where there are so many entries that the round took longer
	// than roundLongest, it is quicker.
	roundRate    = 2000
	roundLongest = 20 * time.Hour
	// roundStep is how many entries are verified between two pauses.
	roundStep = 250
	// roundAgain is how long a round waits that the store has interrupted.
	roundAgain = 10 * time.Second
	// roundFirst is how long after its start a server begins the first round: then those
	// who waited for it have been answered.
	roundFirst = time.Minute
)

// verifyInRounds verifies all histories again and again until r.beside ends. What a start
// has taken from a snapshot, and what changes on the disk afterwards, is found so.
func (r *Running) verifyInRounds() {
	r.running.Go(func() {
		var failed error
		for {
			total, err := r.store.CountEntries(r.beside)
			if err == nil && failed == nil && !sleep(r.beside, untilRound(total, r.verification.verifiedAt(), r.verification.now())) {
				return
			}
			if err == nil {
				err = r.verification.round(r.beside, r.store, paceOf(total), nil)
			}
			if r.beside.Err() != nil {
				return
			}
			if failed = err; failed != nil {
				r.log.Error("the histories could not be verified; this is tried again", "error", err.Error())
				if !sleep(r.beside, roundAgain) {
					return
				}
			}
			r.catchUpAfterRound(r.beside)
		}
	})
}

// untilRound returns how long the next round waits, so that it ends a day after the last
// one has.
func untilRound(total int64, last, now time.Time) time.Duration {
	if last.IsZero() {
		return roundFirst
	}
	takes := time.Duration(float64(total) / paceOf(total) * float64(time.Second))
	return max(roundFirst, roundEvery-takes-takes/10-now.Sub(last))
}

// paceOf returns how many entries a second a round verifies of so many.
func paceOf(total int64) float64 { return max(roundRate, float64(total)/roundLongest.Seconds()) }

// catchUpAfterRound lets the roster and the accounts go on where their histories were
// put right, or have more entries than their index has led to.
func (r *Running) catchUpAfterRound(ctx context.Context) {
	for _, refresh := range []func(context.Context) error{r.roster.Refresh, r.people.Reread} {
		if err := refresh(ctx); err != nil && ctx.Err() == nil {
			r.log.Warn("what a repair has settled is taken in later", "error", err.Error())
		}
	}
	r.verification.say()
}

// An indexed store can tell where its own indexes do not lead to its entries.
type indexed interface {
	// CheckIndexes reads the indexes, calls pause after every few steps, and puts right
	// what does not agree with the entries. It reports what it has put right, and what it
	// cannot read. What it cannot put right for an entry is a fault.
	CheckIndexes(ctx context.Context, pause func(entries int) error, fault func(h ledger.History, q ledger.Sequence, why string), report func(what string, mended bool)) error
}

// round verifies all histories from their first entry on and lets what it finds stand for
// what was known before. It reads so many entries a second; 0 sets no limit. Where the
// store does not answer, it goes on once it does. Where progress is not nil, it is called
// with how many entries were read.
func (v *verification) round(ctx context.Context, store ledger.Store, rate float64, progress func(entries int64)) error {
	chain, before := ledger.NewVerifier(v.now), v.chain.FlawedHeads()
	pace := &pace{ctx: ctx, rate: rate, begun: time.Now(), progress: progress}
	feed := ledger.NewFollower(store, "", func(e ledger.Entry) error {
		if chain.Take(e) && v.altered.Of(e.History) != nil && v.recount != nil {
			// It may not have been counted. To be counted again is no harm.
			if err := v.recount(e); err != nil {
				chain.Unreadable(e, err)
			}
		}
		pace.step(1)
		return nil
	})
	for {
		err := feed.CatchUp(ctx)
		if err == nil || errors.Is(err, ledger.ErrWaiting) {
			break
		}
		if !errors.Is(err, ledger.ErrUnavailable) || ctx.Err() != nil {
			return err
		}
		if !sleep(ctx, roundAgain) {
			return ctx.Err()
		}
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	v.replace(chain, before)
	if s, ok := store.(indexed); ok {
		if err := v.checkIndexes(ctx, s, pace); err != nil {
			return err
		}
	}
	v.say()
	v.wholeAt(v.now())
	return nil
}

// replace lets what a round has found stand for what was known before, with the heads of
// flawed histories from when the round began.
func (v *verification) replace(chain *ledger.Verifier, before map[ledger.History]ledger.Head) {
	was := v.chain.Flaws()
	chain.Publish(v.altered)
	for _, f := range was {
		at, flawed := before[f.History]
		if f.Sequence > chain.Head(f.History).Sequence && !(flawed && v.chain.Head(f.History) == at) {
			v.altered.Add(f.Fault) // which came behind the round
		}
	}
	v.chain.Adopt(chain, before)
	v.takeBackAll()
}

// checkIndexes lets the store compare its indexes with its entries.
func (v *verification) checkIndexes(ctx context.Context, s indexed, pace *pace) error {
	found := map[ledger.History][]ledger.Fault{}
	err := s.CheckIndexes(ctx, func(n int) error { pace.step(n); return ctx.Err() },
		func(h ledger.History, q ledger.Sequence, why string) {
			// An entry that was set aside may be missing, and then its place is too.
			if v.altered.SetAside(h, q-1) || v.altered.SetAside(h, q) || v.altered.SetAside(h, q+1) {
				return
			}
			found[h] = append(found[h], ledger.Fault{History: h, Sequence: q, Why: why, Since: v.now()})
		},
		func(what string, mended bool) {
			if mended {
				v.log.Warn("an index did not lead to its entry, and was put right", "index", what)
			} else {
				v.log.Error("an index cannot be read everywhere; copying the store to a new folder makes it anew", "index", what)
			}
		})
	if err != nil {
		return err
	}
	for _, f := range v.altered.All() {
		if found[f.History] == nil {
			found[f.History] = []ledger.Fault{}
		}
	}
	for h, faults := range found {
		v.altered.Set(h, ledger.ByIndex, faults)
	}
	return nil
}

// A pace keeps a reading to so many entries a second.
type pace struct {
	ctx      context.Context
	rate     float64
	begun    time.Time
	done     int64
	progress func(int64)
}

// step pauses where more was read than the pace allows.
func (p *pace) step(n int) {
	before := p.done
	p.done += int64(n)
	if before/roundStep == p.done/roundStep {
		return
	}
	if p.progress != nil {
		p.progress(p.done)
	}
	if p.rate <= 0 {
		return
	}
	due := p.begun.Add(time.Duration(float64(p.done) / p.rate * float64(time.Second)))
	if ahead := time.Until(due); ahead > 0 {
		sleep(p.ctx, ahead)
	} else if ahead < -time.Second {
		p.begun = p.begun.Add(-ahead) // what the store has held up is not made up for
	}
}
