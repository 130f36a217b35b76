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
	large bool
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
			of = &importing{}
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
	if err := s.wait(i.account); err != nil {
		return err
	}
	var err error
	select {
	case s.large <- struct{}{}:
	default:
		select {
		case s.large <- struct{}{}:
		case <-ctx.Done():
			err = ctx.Err()
		case <-s.after(maxImportWait):
			err = fmt.Errorf("%w: none of %d large ones has ended in %s", errImportsBusy, maxLargeImports, maxImportWait)
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.waiting--
	i.large = err == nil
	if of := s.of[i.account]; of != nil && err != nil {
		of.large = false
	}
	return err
}

// wait notes that an import of the account waits for a slot.
func (s *importSlots) wait(account string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	of := s.of[account]
	switch {
	case of != nil && of.large:
		return fmt.Errorf("%w: this account has another large one under way", errImportsBusy)
	case s.waiting == maxImportsWaiting:
		return fmt.Errorf("%w: %d wait already", errImportsBusy, s.waiting)
	}
	if of != nil {
		of.large = true
	}
	s.waiting++
	return nil
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
	s := i.slots
	s.mu.Lock()
	defer s.mu.Unlock()
	s.all--
	if of := s.of[i.account]; of != nil {
		of.large = of.large && !i.large
		if of.all--; of.all == 0 {
			delete(s.of, i.account)
		}
	}
	if i.large {
		<-s.large
	}
}
