package inspections

import (
	"context"
	"encoding/hex"
	"fmt"

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
