package photos

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"fmt"
	"io"

	"xuncha/inspections"
	"xuncha/ledger"
)

// Copy brings over what an entry of a site's history names and does not hold: the
// file of a photo that has arrived, that it was purged, and which check-in used a
// picture first. ErrLost means that the file is not there to be copied, or is
// altered.
func Copy(ctx context.Context, from, to Store, e ledger.Entry) error {
	switch e.Kind {
	case inspections.KindCheckIn:
		c, err := inspections.Parse(e)
		if err != nil || len(c.Photos) == 0 {
			return err
		}
		return copyClaims(ctx, from, to, c.Sums(), c.Ref())
	case KindStored:
		p, err := ParseEvent(e)
		if err != nil {
			return err
		}
		if err := copyClaims(ctx, from, to, []inspections.Digest{p.Stored}, p.CheckInRef); err != nil {
			return err
		}
		kept, err := keptAs(ctx, from, p.Ref)
		if err != nil {
			return err
		}
		if kept != nil && kept.Purged {
			return to.Purge(ctx, p.Kept)
		}
		f, err := from.Open(ctx, p.Stored)
		if err != nil {
			return err
		}
		defer f.Close()
		_, err = to.Keep(ctx, p.Kept, wholeFile{f, p.Stored})
		return err
	case KindPurged:
		p, err := ParseEvent(e)
		if err != nil {
			return err
		}
		return to.Purge(ctx, p.Kept)
	}
	return nil
}

// copyClaims lets the copy know who used the pictures first.
func copyClaims(ctx context.Context, from, to Store, sums []inspections.Digest, by inspections.CheckInRef) error {
	firsts, err := from.Claimed(ctx, sums)
	if err != nil {
		return err
	}
	for i, sum := range sums {
		if err := to.Claim(ctx, []inspections.Digest{sum}, cmp.Or(firsts[i], by)); err != nil {
			return err
		}
	}
	return nil
}

// A wholeFile writes a file that must have the hash.
type wholeFile struct {
	File
	sum inspections.Digest
}

// WriteTo implements io.WriterTo.
func (f wholeFile) WriteTo(w io.Writer) (int64, error) {
	h := sha256.New()
	n, err := io.Copy(io.MultiWriter(w, h), io.NewSectionReader(f, 0, f.Size()))
	if err == nil && !bytes.Equal(h.Sum(nil), f.sum[:]) {
		err = fmt.Errorf("%s has the content of %x: %w", f.sum, h.Sum(nil), ErrLost)
	}
	return n, err
}
