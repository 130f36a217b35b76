package serve

import (
	"context"

	"xuncha/ledger"
)

// askedRate is how many entries a second a check reads that somebody waits for. It takes
// some hundredths of a processor, and a million entries take 20 seconds.
const askedRate = 50_000

// checkHistories verifies all histories from their first entry on, as a round does, for
// somebody who waits for it. It calls progress with how many entries were read of how
// many, and returns how many histories there are and all that does not verify.
func (r *Running) checkHistories(ctx context.Context, progress func(checked, total int64)) (histories int64, faults []ledger.Fault, err error) {
	total, err := r.store.CountEntries(ctx)
	if err != nil {
		return 0, nil, err
	}
	err = r.verification.round(ctx, r.store, askedRate, func(n int64) { progress(min(n, total), total) })
	if err != nil {
		return 0, nil, err
	}
	progress(total, total)
	r.catchUpAfterRound(r.beside)
	err = r.store.Heads(ctx, func(ledger.History, ledger.Head) error {
		histories++
		return nil
	})
	return histories, r.Altered().All(), err
}
