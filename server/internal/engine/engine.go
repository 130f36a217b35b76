// Package engine has what the engines need alike and none of them should write
// again: closing while calls are under way, gathering what waits to be written,
// and locks by key. How an engine stores is its own.
package engine

import (
	"context"
	"fmt"
	"sync"

	"xuncha/ledger"
)

// A Gate lets calls in until it is closed. Its zero value is open.
type Gate struct {
	calls  sync.RWMutex // held for reading while a call is under way
	closed bool
}

// Enter begins a call; leave ends it. Once the gate is closed the error is
// ledger.ErrUnavailable.
func (g *Gate) Enter(ctx context.Context) (leave func(), err error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	g.calls.RLock()
	if g.closed {
		g.calls.RUnlock()
		return nil, fmt.Errorf("%w: it is closed", ledger.ErrUnavailable)
	}
	return g.calls.RUnlock, nil
}

// Close waits for the calls that are under way, then calls end. A second Close
// does nothing.
func (g *Gate) Close(end func() error) error {
	g.calls.Lock()
	defer g.calls.Unlock()
	if g.closed {
		return nil
	}
	g.closed = true
	return end()
}
