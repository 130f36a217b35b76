package rpc

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"xuncha/server/internal/accounts"
)

// This file holds that a call that lasts is judged as it goes, and ends once nobody may
// make it any more.

// watchEvery is how often is looked whether the caller of a stream may still make it, while
// nothing comes or goes.
const watchEvery = time.Second

// errAged means that a call with a stream has lasted as long as any may.
var errAged = errors.New("the call has lasted too long")

// A watch looks whether the caller of a stream may still make the call.
type watch struct {
	calls *calls
	row   *access
	token string
	began time.Time
	end   func(error) // tells the client, and ends the stream's context
	stop  func()

	mu     sync.Mutex
	caller *accounts.Caller // nil for none
	over   error            // why the call may not go on
	quiet  time.Time        // when it is silent for too long; zero while no message is awaited
}

// expect notes that a message is awaited, for so long at most.
func (w *watch) expect(within time.Duration) { w.await(w.calls.now().Add(within)) }

// got notes that a message has come, or none will.
func (w *watch) got() { w.await(time.Time{}) }

func (w *watch) await(until time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.quiet = until
}

// silent returns errSilent once a message has been awaited for too long.
func (w *watch) silent() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.quiet.IsZero() && !w.calls.now().Before(w.quiet) {
		return fmt.Errorf("%w for %s", errSilent, importSilence)
	}
	return nil
}

// watch begins to look after the stream of the request with the id. Its stop must be called.
func (c *calls) watch(ctx context.Context, row *access, id string) *watch {
	s := scopeOf(ctx)
	w := &watch{calls: c, row: row, token: s.token, began: s.now, caller: s.caller}
	on := ctx
	w.end = func(err error) { endCall(on, err, id) }
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	w.stop = sync.OnceFunc(func() { cancel(); <-done })
	go func() {
		defer close(done)
		ticks, end := c.ticks()
		defer end()
		for {
			select {
			case <-ctx.Done():
				return
			case <-ticks:
				w.look(ctx)
			}
		}
	}()
	return w
}

// ticks returns when to look after a stream, and what ends them.
func (c *calls) ticks() (<-chan time.Time, func()) {
	if c.config.StreamTicks != nil {
		return c.config.StreamTicks, func() {}
	}
	t := time.NewTicker(watchEvery)
	return t.C, t.Stop
}

// look ends the call where its caller may not make it any more. What cannot be told just
// now ends nothing: the next message is judged anyway.
func (w *watch) look(ctx context.Context) {
	err := w.aged()
	if err == nil && w.caller == nil && w.calls.config.Accounts.Any() {
		err = fmt.Errorf("%w: there is none", accounts.ErrToken) // for there were no accounts when it began
	}
	if err == nil && w.caller != nil {
		var now accounts.Caller
		if now, err = w.calls.config.Accounts.Still(ctx, *w.caller, w.token); err == nil {
			w.caller = &now
			err = w.row.refuses(now.Account)
		}
	}
	if err == nil {
		err = w.silent()
	}
	if errors.Is(err, errAged) || errors.Is(err, errSilent) || errors.Is(err, accounts.ErrToken) || errors.Is(err, errRole) {
		w.fail(err)
	}
}

// aged returns errAged once the call has lasted as long as any may.
func (w *watch) aged() error {
	if most := w.calls.config.MaxStreamAge; most > 0 && w.calls.now().Sub(w.began) >= most {
		return fmt.Errorf("%w: %s", errAged, most)
	}
	return nil
}

// note says why the call may not go on, unless that is known, and returns why.
func (w *watch) note(err error) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.over == nil {
		w.over = err
	}
	return w.over
}

// fail ends the call, whatever its method waits for.
func (w *watch) fail(err error) error {
	err = w.note(err)
	w.end(err)
	return err
}

// failed returns why the call may not go on, or nil.
func (w *watch) failed() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.over
}

// again judges the caller of a call that lasts by what holds now, and reports whether
// anything has changed by which its messages are judged. Where nothing has, it computes
// nothing.
func (c *calls) again(ctx context.Context, row *access) (changed bool, err error) {
	s := scopeOf(ctx)
	s.now = c.now()
	if roster := c.config.Roster.Roster(); roster != s.rosterAt {
		s.rosterAt, changed = roster, true
	}
	if s.caller == nil {
		if !c.config.Accounts.Any() {
			return changed, nil
		}
		return true, c.identify(ctx, s, row)
	}
	caller, err := c.config.Accounts.Still(ctx, *s.caller, s.token)
	if err != nil || caller == *s.caller {
		return changed, err
	}
	another := caller // so that nothing is kept where nothing has changed
	s.caller = &another
	return true, row.refuses(caller.Account)
}
