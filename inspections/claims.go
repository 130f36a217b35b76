package inspections

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"

	"xuncha/ledger"
	"xuncha/sites"
)

// A Digest is the SHA-256 of a file.
type Digest [32]byte

// String returns the digest in hexadecimal.
func (d Digest) String() string { return hex.EncodeToString(d[:]) }

// ParseDigest reads what String has written.
func ParseDigest(s string) (d Digest, err error) {
	if n, err := hex.Decode(d[:], []byte(s[:min(len(s), 2*len(d))])); err != nil || n != len(d) || len(s) != 2*n {
		return Digest{}, fmt.Errorf("%w: %q is no SHA-256", sites.ErrInvalid, s)
	}
	return d, nil
}

// A CheckInRef names a check-in.
type CheckInRef struct {
	Site    sites.SiteID
	CheckIn CheckInID
}

// Claims remember which check-in used a picture first. They follow from the
// histories, which count. An implementation is safe for concurrent use. A failure
// that may pass wraps ledger.ErrUnavailable or ledger.ErrFull.
type Claims interface {
	// Claimed returns for each of the hashes the check-in that claimed it first, or
	// the zero one where nobody did.
	Claimed(ctx context.Context, sums []Digest) ([]CheckInRef, error)

	// Claim lets by claim each of the hashes that nobody has claimed, and returns
	// once that would survive a power cut. Where another check-in was first, it
	// stays the first.
	Claim(ctx context.Context, sums []Digest, by CheckInRef) error
}

// findReused flags a check-in some of whose photos were used for another. Nothing
// is claimed yet, because nobody knows whether it will be stored.
func (s *Service) findReused(ctx context.Context, c *Stored) error {
	sums := c.Sums()
	if len(sums) == 0 {
		return nil
	}
	firsts, err := s.UsedBefore(ctx, sums, c.Ref())
	if err != nil {
		return err
	}
	for i, first := range firsts {
		if first != (CheckInRef{}) {
			c.Reused = append(c.Reused, ReusedPhoto{sums[i], UseOf(first)})
		}
	}
	if len(c.Reused) > 0 {
		c.Flags = append(c.Flags, PhotoReused)
	}
	return nil
}

// UsedBefore returns for each of the hashes which other check-in than by claimed it
// first, or the zero one where none did.
func (s *Service) UsedBefore(ctx context.Context, sums []Digest, by CheckInRef) ([]CheckInRef, error) {
	firsts, err := s.Claims.Claimed(ctx, sums)
	if err != nil {
		return nil, err
	}
	for i, first := range firsts {
		if first == by {
			firsts[i] = CheckInRef{}
		}
		if firsts[i] == (CheckInRef{}) {
			continue
		}
		// Earlier versions claimed before they stored the check-in, and kept the claim
		// where storing it failed.
		_, err := s.Ledger.Entry(ctx, first.Site.History(), string(first.CheckIn))
		if errors.Is(err, ledger.ErrNotFound) {
			firsts[i] = CheckInRef{}
		} else if err != nil {
			return nil, err
		}
	}
	return firsts, nil
}
