package photos

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"

	"xuncha/inspections"
	"xuncha/ledger"
)

// A Checking is how Check goes about it. All fields are required.
type Checking struct {
	// Pace is called before a file is read, with its size, and may wait.
	Pace func(context.Context, int64) error
	// Away is called with what the store says when it does not answer, and returns when it
	// is to be asked again. An error ends the check.
	Away func(context.Context, error) error
	// Whole is called with each photo that is as it was stored, and Lost with each that is
	// not. Where the store answers and the file cannot be read all the same, Lost gets an
	// error that is not ErrLost.
	Whole func(Kept)
	Lost  func(Kept, error)
}

// readTries is how often a file is read that cannot be read, as while a database elects.
const readTries = 3

// Check looks at every photo that is kept, and returns how many there were. It goes on
// after the store was away.
func (s *Service) Check(ctx context.Context, c Checking) (checked int, err error) {
	tries := readTries
	for after := (Ref{}); ; {
		var page []Kept
		err := c.patiently(ctx, func() (err error) {
			page, err = s.Store.Kept(ctx, "", after, keptPage)
			return err
		})
		if err != nil || len(page) == 0 {
			return checked, err
		}
		for _, k := range page {
			read, err := s.checkOne(ctx, c, k, tries)
			if err != nil {
				return checked, err
			}
			checked++
			// Where many cannot be read, as of a shard that is away, each waits no more.
			if tries = readTries; !read {
				tries = 1
			}
		}
		after = page[len(page)-1].Ref
	}
}

// patiently calls f again for as long as the store does not answer.
func (c *Checking) patiently(ctx context.Context, f func() error) error {
	for {
		err := f()
		if !errors.Is(err, ledger.ErrUnavailable) {
			return err
		}
		if err := c.Away(ctx, err); err != nil {
			return err
		}
	}
}

// checkOne checks a photo, and reports whether its file could be read.
func (s *Service) checkOne(ctx context.Context, c Checking, k Kept, tries int) (read bool, err error) {
	for try := 1; ; try++ {
		if err := c.Pace(ctx, k.Size); err != nil {
			return false, err
		}
		why := s.whole(ctx, k)
		if why == nil {
			c.Whole(k)
			return true, nil
		}
		if err := ctx.Err(); err != nil {
			return false, err
		}
		// It may have been purged meanwhile.
		var now *Kept
		err := c.patiently(ctx, func() (err error) {
			now, err = keptAs(ctx, s.Store, k.Ref)
			return err
		})
		if err != nil {
			return false, err
		}
		read = errors.Is(why, ErrLost)
		switch {
		case now == nil || now.Purged:
			return read, nil
		case read || try >= tries:
			c.Lost(k, why)
			return read, nil
		}
		if err := c.Away(ctx, why); err != nil {
			return false, err
		}
	}
}

// whole checks that a photo is as it was stored.
func (s *Service) whole(ctx context.Context, k Kept) (err error) {
	f, err := s.Store.Open(ctx, k.Stored)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	h := sha256.New()
	if _, err := io.Copy(h, io.NewSectionReader(f, 0, f.Size())); err != nil {
		return err
	}
	if sum := inspections.Digest(h.Sum(nil)); sum != k.Stored {
		return fmt.Errorf("%s has the content of %s: %w", k.Stored, sum, ErrLost)
	}
	return nil
}
