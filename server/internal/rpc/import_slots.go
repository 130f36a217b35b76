package rpc

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
)

const (
	// smallImport is how many bytes of rows an import may hold without a slot: those of
	// a county have less.
	smallImport = 1 << 20
	// maxImports is how many imports that have sent a row may be under way, and
	// maxImportsOfAccount how many of one account.
	maxImports, maxImportsOfAccount = 64, 4
	// maxLargeImports is how many imports beyond smallImport are taken in at once, and one
	// of an account. They are decided one after the other, since each takes several times
	// its rows then.
	maxLargeImports = 2
	// maxImportsWaiting is how many more wait for a slot, and maxImportWait for how long.
	maxImportsWaiting = 8
	maxImportWait     = 30 * time.Second
	// importRetry is after how long an import that was refused may find a place.
	importRetry = 10 * time.Second
	// importSilence is how long an import may send nothing while the server waits for a
	// row. Its rows are held until all are there.
	importSilence = time.Minute
)

var (
	// errImportsBusy means that as many imports are under way as the server takes.
	errImportsBusy = errors.New("too many imports at once")
	// errSilent means that an import has sent nothing for importSilence.
	errSilent = errors.New("no row has come")
)

// importSlots bound what all imports together hold in memory: a few large ones, beside
// small ones, which never wait for them. An import that sends no row takes no place.
type importSlots struct {
	// after is time.After.
	after func(time.Duration) <-chan time.Time
	// large and deciding have an element for each import that has the slot.
	large, deciding chan struct{}

	mu      sync.Mutex
	all     int
	waiting int
	of      map[string]*importing // by the id of the account
}

// importing is what one account imports.
type importing struct {
	all   int
	large chan struct{} // has an element for the one that is large
}

func newImportSlots(after func(time.Duration) <-chan time.Time) *importSlots {
	return &importSlots{
		after: after, large: make(chan struct{}, maxLargeImports), deciding: make(chan struct{}, 1), of: map[string]*importing{},
	}
}

// An importSlot is the place of one import, once it holds rows.
type importSlot struct {
	slots          *importSlots
	account        string // "" on a server without accounts
	entered, large bool
	own            chan struct{} // the account's own slot; nil for none
}

// slotOf returns the slot of an import of the account, which has no place yet.
func (s *importSlots) slotOf(account string) *importSlot {
	return &importSlot{slots: s, account: account}
}

// hold returns what takes the place that an import of so many bytes needs. Where it has to
// wait for one, nothing more is read of it. The error is errImportsBusy, or that of the
// context.
func (i *importSlot) hold(ctx context.Context) func(bytes int) error {
	return func(bytes int) error {
		if !i.entered {
			if err := i.slots.enter(i.account); err != nil {
				return err
			}
			i.entered = true
		}
		if bytes > smallImport && !i.large {
			return i.grow(ctx)
		}
		return nil
	}
}

// enter takes a place for an import of an account.
func (s *importSlots) enter(account string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.all == maxImports {
		return fmt.Errorf("%w: %d are under way", errImportsBusy, s.all)
	}
	if account != "" {
		of := s.of[account]
		if of == nil {
			of = &importing{large: make(chan struct{}, 1)}
			s.of[account] = of
		}
		if of.all == maxImportsOfAccount {
			return fmt.Errorf("%w: this account has %d under way", errImportsBusy, of.all)
		}
		of.all++
	}
	s.all++
	return nil
}

// grow waits until the import may hold more than smallImport.
func (i *importSlot) grow(ctx context.Context) error {
	s := i.slots
	own, err := s.wait(i.account)
	if err != nil {
		return err
	}
	over := s.after(maxImportWait)
	// An import of the same account that is under way may be this one: whoever has lost its
	// answer sends it again.
	if own == nil {
		err = take(ctx, s.large, over)
	} else if err = take(ctx, own, over); err == nil {
		if err = take(ctx, s.large, over); err != nil {
			<-own
		}
	}
	i.own, i.large = own, err == nil
	s.mu.Lock()
	defer s.mu.Unlock()
	s.waiting--
	return err
}

// take takes one of so many slots, until there is no more time.
func take(ctx context.Context, slots chan<- struct{}, over <-chan time.Time) error {
	select {
	case slots <- struct{}{}:
		return nil
	default:
	}
	select {
	case slots <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-over:
		return fmt.Errorf("%w: no large one of %d has ended in %s", errImportsBusy, cap(slots), maxImportWait)
	}
}

// wait notes that an import of the account waits for a slot, and returns the account's own;
// nil on a server without accounts.
func (s *importSlots) wait(account string) (own chan struct{}, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.waiting == maxImportsWaiting {
		return nil, fmt.Errorf("%w: %d wait already", errImportsBusy, s.waiting)
	}
	s.waiting++
	if of := s.of[account]; of != nil {
		own = of.large
	}
	return own, nil
}

// decide waits until the import, all of whose rows are there, may be decided, and returns
// what ends that.
func (i *importSlot) decide(ctx context.Context) (done func(), err error) {
	if !i.large {
		return func() {}, nil
	}
	select {
	case i.slots.deciding <- struct{}{}:
		return func() { <-i.slots.deciding }, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// leave gives the place back.
func (i *importSlot) leave() {
	if !i.entered {
		return
	}
	if i.large {
		<-i.slots.large
		if i.own != nil {
			<-i.own
		}
	}
	s := i.slots
	s.mu.Lock()
	defer s.mu.Unlock()
	s.all--
	if of := s.of[i.account]; of != nil {
		if of.all--; of.all == 0 {
			delete(s.of, i.account)
		}
	}
}
