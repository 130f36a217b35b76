package photos

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/singleflight"

	"xuncha/inspections"
	"xuncha/inspections/picture"
	"xuncha/ledger"
	"xuncha/sites"
)

// Config is what a Service works with. All fields but Believed and Stopwatch are required.
type Config struct {
	// Ledger keeps the sites' histories.
	Ledger ledger.Store
	Store  Store
	// CheckIns have declared the photos.
	CheckIns *inspections.Service
	Roster   *sites.Service
	// RetentionDays is for how many days after the end of its closure order a
	// photo is kept, 1 to MaxRetentionDays.
	RetentionDays int
	// Now returns the server's clock. It decides what is shown and taken in.
	Now func() time.Time
	// Believed returns the time that may be counted with where a deed cannot be undone,
	// and whether there is such a time yet. It decides what is deleted; while it is nil,
	// or there is none, nothing is.
	Believed func() (time.Time, bool)
	// Stopwatch measures what is done with a picture, which ends after picture.MaxEffort; nil
	// sets no limit to that.
	Stopwatch picture.Stopwatch
}

// A Service takes in photos and keeps them for their time. It is safe for
// concurrent use.
type Service struct {
	Config

	finishing singleflight.Group // by the photo
	finishers chan struct{}      // has as many as are finished at once
	webps     chan struct{}      // has as many of these as are WebP, whose decoder works in memory

	uploading sync.Mutex
	uploads   map[Ref][]*Upload // those under way
}

// New returns a service. The error is sites.ErrInvalid where RetentionDays is
// out of range.
func New(c Config) (*Service, error) {
	if c.RetentionDays < 1 || c.RetentionDays > MaxRetentionDays {
		return nil, fmt.Errorf("photos are kept for %d days: %w: want 1 to %d", c.RetentionDays, sites.ErrInvalid, MaxRetentionDays)
	}
	return &Service{Config: c, finishers: make(chan struct{}, maxFinishers), webps: make(chan struct{}, maxWebPs), uploads: map[Ref][]*Upload{}}, nil
}

// States returns the state of each photo of each check-in. Of one that the store
// kept and failed to put on record it says that it is stored; State says that it
// is not, so that the phone ends its upload once more, and Tend finishes it where
// the phone does not. One whose time is over by the server's clock is said to be
// purged, whether or not its file is there still.
func (s *Service) States(ctx context.Context, list []*inspections.Stored) ([][]State, error) {
	out := make([][]State, len(list))
	var of []inspections.CheckInRef
	for i, c := range list {
		if len(c.Photos) == 0 {
			continue
		}
		of = append(of, c.Ref())
		out[i] = make([]State, len(c.Photos))
	}
	if len(of) == 0 {
		return out, nil
	}
	all, err := s.Store.KeptOf(ctx, of)
	if err != nil {
		return nil, err
	}
	kept := make(map[Ref]Kept, len(all))
	for _, k := range all {
		kept[k.Ref] = k
	}
	for i, c := range list {
		for j, p := range c.Photos {
			state := State{Photo: p}
			ref := Ref{c.Ref(), p.SHA256}
			if k, ok := kept[ref]; ok {
				state.Stored, state.Purged, state.Received = true, k.Purged || s.over(c.Order), p.Size
			} else if p.Refused == "" {
				if state.Received, err = s.received(ctx, ref); err != nil {
					return nil, err
				}
			}
			out[i][j] = state
		}
	}
	return out, nil
}

// received returns how many bytes of the photo the store has received.
func (s *Service) received(ctx context.Context, ref Ref) (int64, error) {
	f, err := s.Store.Partial(ctx, ref)
	if errors.Is(err, ErrMissing) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	return f.Size(), f.Close()
}

// declared returns the check-in and the photo of it. Errors are those of
// inspections.Service.Get and ErrUnknown.
func (s *Service) declared(ctx context.Context, ref Ref) (*inspections.Stored, inspections.Photo, error) {
	c, err := s.CheckIns.Get(ctx, ref.Site, ref.CheckIn)
	if err != nil {
		return nil, inspections.Photo{}, err
	}
	i := slices.IndexFunc(c.Photos, func(p inspections.Photo) bool { return p.SHA256 == ref.SHA256 })
	if i < 0 {
		return nil, inspections.Photo{}, ref.about(ErrUnknown)
	}
	return c, c.Photos[i], nil
}

// State returns how much of a photo there is, with all that uploads under way have
// brought so far. Errors are those of inspections.Service.Get and ErrUnknown.
func (s *Service) State(ctx context.Context, ref Ref) (State, error) {
	c, photo, err := s.declared(ctx, ref)
	if err != nil {
		return State{}, err
	}
	s.uploading.Lock()
	list := slices.Clone(s.uploads[ref])
	s.uploading.Unlock()
	settle(ctx, list)
	return s.state(ctx, c, photo)
}

// state returns how much of a photo the store has.
func (s *Service) state(ctx context.Context, c *inspections.Stored, p inspections.Photo) (State, error) {
	one := *c
	one.Photos = []inspections.Photo{p}
	states, err := s.States(ctx, []*inspections.Stored{&one})
	if err != nil {
		return State{}, err
	}
	state := states[0][0]
	if state.Stored && !state.Purged {
		// Where what came is there too, the store failed before the history had it.
		came, err := s.received(ctx, Ref{c.Ref(), p.SHA256})
		if err != nil {
			return State{}, err
		}
		state.Stored = came < p.Size
	}
	return state, nil
}

// Open opens a photo as it is stored. Errors are those of inspections.Service.Get,
// ErrUnknown, ErrRefused, ErrMissing, ErrPurged and ErrLost. It is ErrPurged as soon as the photo's
// time is over by the server's clock, though its file is only deleted once that is sure.
func (s *Service) Open(ctx context.Context, ref Ref) (Kept, File, error) {
	c, photo, err := s.declared(ctx, ref)
	if err == nil && photo.Refused != "" {
		err = ref.about(fmt.Errorf("%w: %v", ErrRefused, s.CheckIns.Refused(photo)))
	}
	if err != nil {
		return Kept{}, nil, err
	}
	kept, err := keptAs(ctx, s.Store, ref)
	switch {
	case err != nil:
		return Kept{}, nil, err
	case kept == nil:
		return Kept{}, nil, ref.about(ErrMissing)
	case kept.Purged || s.over(c.Order):
		return Kept{}, nil, ref.about(ErrPurged)
	}
	f, err := s.Store.Open(ctx, kept.Stored)
	if err == nil && f.Size() != kept.Size {
		err = errors.Join(fmt.Errorf("%s has %d bytes, not %d: %w", kept.Stored, f.Size(), kept.Size, ErrLost), f.Close())
	}
	if err != nil {
		return Kept{}, nil, err
	}
	return *kept, f, nil
}

// FindFirst finds the check-in that used the picture of the event first, where the event
// only names it. One that is not found stays as it is.
func (s *Service) FindFirst(ctx context.Context, e *Event) error {
	if !e.Reused() || e.First != (inspections.CheckInRef{}) {
		return nil
	}
	return s.CheckIns.FirstUses(ctx, []inspections.Digest{e.Stored}, []*inspections.FirstUse{&e.FirstUse})
}

// keptAs returns the photo as it is kept, or nil where it has not arrived.
func keptAs(ctx context.Context, store Store, ref Ref) (*Kept, error) {
	all, err := store.KeptOf(ctx, []inspections.CheckInRef{ref.CheckInRef})
	if err != nil {
		return nil, err
	}
	for i := range all {
		if all[i].SHA256 == ref.SHA256 {
			return &all[i], nil
		}
	}
	return nil, nil
}
