package inspections

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"xuncha/ledger"
	"xuncha/sites"
)

var (
	// ErrPhotoUnknown means that the check-in declares no such photo.
	ErrPhotoUnknown = errors.New("the check-in declares no such photo")
	// ErrPhotoMissing means that the photo has not arrived.
	ErrPhotoMissing = errors.New("the photo has not arrived")
	// ErrPhotoPurged means that the time for which a photo is kept is over.
	ErrPhotoPurged = errors.New("the time to keep the photo is over")
	// ErrPhotoLost means that a photo was stored and is not there, or is not as it
	// was: somebody has been in the store.
	ErrPhotoLost = errors.New("a stored photo is lost or altered")
	// ErrPhotoOffset means that bytes were sent that do not follow those that are
	// there.
	ErrPhotoOffset = errors.New("does not follow what is there")
	// ErrPhotoSize means that more bytes were sent than were declared.
	ErrPhotoSize = errors.New("is longer than was declared")
	// ErrPhotoHash means that what was sent has not the hash that was declared.
	ErrPhotoHash = errors.New("has another hash than was declared")
	// ErrPhotoType means that a picture is of another type than was declared.
	ErrPhotoType = errors.New("is of another type than was declared")
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

// A PhotoRef names a photo of a check-in, by the hash that was declared.
type PhotoRef struct {
	CheckInRef
	SHA256 Digest
}

// A KeptPhoto is a photo that has arrived.
type KeptPhoto struct {
	PhotoRef
	// Stored and Size are of the file that was stored, with nothing but the
	// picture in it.
	Stored Digest
	Size   int64
	// ContentType is image/jpeg, image/png or image/webp.
	ContentType string
	// Order is the closure order that the check-in was made under.
	Order sites.OrderID
	// Purged tells that the file was deleted.
	Purged bool
}

// A File is open for reading.
type File interface {
	io.ReaderAt
	io.Closer
	// Size is in bytes.
	Size() int64
}

// Photos keeps the files of photos, those that have arrived and the beginnings
// of those that have not, and what is to be found quickly of them. All of the
// latter follows from the histories, which count. It is safe for concurrent use.
// A failure that may pass wraps ledger.ErrUnavailable or ledger.ErrFull.
//
// Files that have arrived are named by their own hash and there once, for
// however many check-ins they are.
type Photos interface {
	// Claimed returns for each of the hashes the check-in that claimed it first, or
	// the zero one where nobody did.
	Claimed(ctx context.Context, sums []Digest) ([]CheckInRef, error)
	// Claim returns the same, and lets by claim those that nobody did before.
	Claim(ctx context.Context, sums []Digest, by CheckInRef) ([]CheckInRef, error)

	// Received returns how many bytes of the photo have come so far; 0 where there
	// are none.
	Received(ctx context.Context, p PhotoRef) (int64, error)
	// Receive adds bytes of the photo from the offset on. Those that are there
	// already stay as they are, so that what is opened by Partial never changes.
	// Beyond what was received it is ErrPhotoOffset.
	Receive(ctx context.Context, p PhotoRef, offset int64, b []byte) error
	// Secure returns once what was received would survive a power cut.
	Secure(ctx context.Context, p PhotoRef) error
	// Partial opens what was received; where that is nothing it is ErrPhotoMissing.
	Partial(ctx context.Context, p PhotoRef) (File, error)
	// Discard removes what was received. That there is nothing is no error.
	Discard(ctx context.Context, p PhotoRef) error
	// Partials calls each with every photo of which something was received, how
	// much, and when the last of it came, and stops at the first error.
	Partials(ctx context.Context, each func(p PhotoRef, received int64, last time.Time) error) error

	// Keep stores the photo, claims its stored hash for the check-in, and returns
	// once that would survive a power cut. The content is written where no photo has
	// the same file; its caller sees to it that it has the hash, or fails. A photo
	// that is kept already, or was purged, stays as it is.
	Keep(ctx context.Context, k KeptPhoto, content io.WriterTo) error
	// KeptOf returns the photos of the check-ins that have arrived, purged or not,
	// in no order.
	KeptOf(ctx context.Context, of []CheckInRef) ([]KeptPhoto, error)
	// KeptUnder returns up to n of the photos of check-ins under the order that
	// were not purged, behind the place after, by site, check-in and hash.
	KeptUnder(ctx context.Context, order sites.OrderID, after PhotoRef, n int) ([]KeptPhoto, error)
	// Kept calls each with every photo that was not purged, and stops at the first
	// error.
	Kept(ctx context.Context, each func(KeptPhoto) error) error
	// Open opens the file with the hash; where it is not there it is ErrPhotoLost.
	Open(ctx context.Context, stored Digest) (File, error)
	// Purge notes that the photo was purged, also of one that is not kept, and
	// deletes its file unless other photos have the same.
	Purge(ctx context.Context, k KeptPhoto) error
	// Tidy deletes files that no photo has, which a crash or a copy left, and
	// returns how many there were. It leaves those alone that are being stored.
	Tidy(ctx context.Context) (removed int, err error)
}

// The kinds of a photo's entries.
const (
	// KindPhotoStored says that a declared photo has arrived. Its content is
	// storedRecord.
	KindPhotoStored ledger.Kind = "photo_stored"
	// KindPhotoPurged says that it was deleted, by which rule. Its content is
	// purgedRecord.
	KindPhotoPurged ledger.Kind = "photo_purged"
)

// PhotoKeeper is the account that the entries about photos have that nobody but
// the server makes. No user can have its name.
const PhotoKeeper = "retention"

// storedRecord is the content of the entry of a photo that has arrived. Keys
// keep their order for ever; a new one goes to the end and is left out where it
// says nothing.
type storedRecord struct {
	CheckIn      CheckInID     `json:"check_in_id"`
	SHA256       string        `json:"sha256"`
	StoredSHA256 string        `json:"stored_sha256"`
	StoredSize   int64         `json:"stored_size_bytes"`
	ContentType  string        `json:"content_type"`
	Order        sites.OrderID `json:"closure_order_id"`
	First        *firstRecord  `json:"first,omitempty"`
}

// A firstRecord names the check-in that a picture was first used for.
type firstRecord struct {
	SHA256  string       `json:"sha256,omitempty"`
	Site    sites.SiteID `json:"site_id"`
	CheckIn CheckInID    `json:"check_in_id"`
}

// purgedRecord is the content of the entry of a photo that was purged.
type purgedRecord struct {
	CheckIn       CheckInID     `json:"check_in_id"`
	SHA256        string        `json:"sha256"`
	StoredSHA256  string        `json:"stored_sha256"`
	Order         sites.OrderID `json:"closure_order_id"`
	OrderEnd      time.Time     `json:"closure_order_end_time"`
	RetentionDays int           `json:"retention_days"`
}

// A PhotoEvent is what an entry says of a photo.
type PhotoEvent struct {
	KeptPhoto
	// First is the check-in for which the same picture was stored first, of a
	// photo that has arrived; zero where that is its own.
	First CheckInRef
	// OrderEnd and RetentionDays are of a purge: it came that many days after the
	// order's end.
	OrderEnd      time.Time
	RetentionDays int
}

// entryID is that of the photo's entry of a kind. A photo has one of each.
func (p PhotoRef) entryID(k ledger.Kind) string {
	return string(k) + "/" + string(p.CheckIn) + "/" + p.SHA256.String()
}

// ParsePhotoEvent reads an entry about a photo. What is not one gives an error
// that wraps ledger.ErrBadRecord.
func ParsePhotoEvent(e ledger.Entry) (*PhotoEvent, error) {
	bad := func(why any) error {
		return fmt.Errorf("%w: %s at sequence %d: %v", ledger.ErrBadRecord, e.History, e.Sequence, why)
	}
	site, ok := siteOf(e.History)
	if !ok {
		return nil, bad("not a site's history")
	}
	out := &PhotoEvent{}
	var sum, stored string
	switch e.Kind {
	case KindPhotoStored:
		var r storedRecord
		if err := json.Unmarshal(ledger.Content(e.Record), &r); err != nil {
			return nil, bad(err)
		}
		sum, stored = r.SHA256, r.StoredSHA256
		out.CheckIn, out.Size, out.ContentType, out.Order = r.CheckIn, r.StoredSize, r.ContentType, r.Order
		if r.First != nil {
			out.First = CheckInRef{r.First.Site, r.First.CheckIn}
		}
	case KindPhotoPurged:
		var r purgedRecord
		if err := json.Unmarshal(ledger.Content(e.Record), &r); err != nil {
			return nil, bad(err)
		}
		sum, stored = r.SHA256, r.StoredSHA256
		out.CheckIn, out.Order, out.Purged = r.CheckIn, r.Order, true
		out.OrderEnd, out.RetentionDays = r.OrderEnd, r.RetentionDays
	default:
		return nil, bad(fmt.Sprintf("kind %q", e.Kind))
	}
	out.Site = site
	var err error
	if out.SHA256, err = ParseDigest(sum); err != nil {
		return nil, bad(err)
	}
	if out.Stored, err = ParseDigest(stored); err != nil {
		return nil, bad(err)
	}
	return out, nil
}

// CopyPhoto brings over what an entry of a site's history names and does not
// hold: the file of a photo that has arrived, that it was purged, and which
// check-in used a picture first. ErrPhotoLost means that the file is not there to
// be copied, or is altered.
func CopyPhoto(ctx context.Context, from, to Photos, e ledger.Entry) error {
	switch e.Kind {
	case KindCheckIn:
		c, err := Parse(e)
		if err != nil || len(c.Photos) == 0 {
			return err
		}
		return copyClaims(ctx, from, to, c.sums(), c.ref())
	case KindPhotoStored:
		p, err := ParsePhotoEvent(e)
		if err != nil {
			return err
		}
		if err := copyClaims(ctx, from, to, []Digest{p.Stored}, p.CheckInRef); err != nil {
			return err
		}
		kept, err := keptPhoto(ctx, from, p.PhotoRef)
		if err != nil {
			return err
		}
		if kept != nil && kept.Purged {
			return to.Purge(ctx, p.KeptPhoto)
		}
		f, err := from.Open(ctx, p.Stored)
		if err != nil {
			return err
		}
		defer f.Close()
		return to.Keep(ctx, p.KeptPhoto, wholeFile{f, p.Stored})
	case KindPhotoPurged:
		p, err := ParsePhotoEvent(e)
		if err != nil {
			return err
		}
		return to.Purge(ctx, p.KeptPhoto)
	}
	return nil
}

// copyClaims lets to know who used the pictures first.
func copyClaims(ctx context.Context, from, to Photos, sums []Digest, by CheckInRef) error {
	firsts, err := from.Claimed(ctx, sums)
	if err != nil {
		return err
	}
	for i, sum := range sums {
		if _, err := to.Claim(ctx, []Digest{sum}, cmp.Or(firsts[i], by)); err != nil {
			return err
		}
	}
	return nil
}

// A wholeFile writes a file that must have the hash.
type wholeFile struct {
	File
	sum Digest
}

// WriteTo implements io.WriterTo.
func (f wholeFile) WriteTo(w io.Writer) (int64, error) {
	h := sha256.New()
	n, err := io.Copy(io.MultiWriter(w, h), io.NewSectionReader(f, 0, f.Size()))
	if err == nil && !bytes.Equal(h.Sum(nil), f.sum[:]) {
		err = fmt.Errorf("%s has the content of %x: %w", f.sum, h.Sum(nil), ErrPhotoLost)
	}
	return n, err
}

// keptPhoto returns the photo as it is kept, or nil where it has not arrived.
func keptPhoto(ctx context.Context, photos Photos, p PhotoRef) (*KeptPhoto, error) {
	all, err := photos.KeptOf(ctx, []CheckInRef{p.CheckInRef})
	if err != nil {
		return nil, err
	}
	for i := range all {
		if all[i].SHA256 == p.SHA256 {
			return &all[i], nil
		}
	}
	return nil, nil
}
