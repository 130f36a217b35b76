package sites_test

import (
	"bytes"
	"context"
	"errors"
	"testing"

	"xuncha/ledger"
	"xuncha/sites"
)

// A silentLedger does not answer who looks an entry up, once it is told to.
type silentLedger struct {
	ledger.Store
	asked chan struct{}
}

func (s *silentLedger) Entries(ctx context.Context, _ []ledger.Key) ([]ledger.Entry, error) {
	close(s.asked)
	<-ctx.Done()
	return nil, ctx.Err()
}

// TestRestoredWhileSilent ensures that who asks for a roster of the past need not wait for
// a store that does not tell whether the newest entry of a snapshot is there.
func TestRestoredWhileSilent(t *testing.T) {
	w := filled(t)
	var kept bytes.Buffer
	if err := w.Snapshot(&kept); err != nil {
		t.Fatal(err)
	}
	silent := &silentLedger{w.store, make(chan struct{})}
	c := w.config()
	c.Ledger = silent
	restored := sites.New(c)
	if err := restored.Restore(&kept); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	refreshed := make(chan error)
	go func() { refreshed <- restored.Refresh(ctx) }()
	<-silent.asked
	if _, err := restored.RosterKnown(t.Context(), w.now); err != nil {
		t.Error(err)
	}
	restored.Ready(w.Roster().Time().Add(-1))
	cancel()
	if err := <-refreshed; !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want the caller's own end", err)
	}
}
