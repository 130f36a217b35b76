package photos

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"time"

	"xuncha/inspections"
	"xuncha/inspections/picture"
	"xuncha/ledger"
	"xuncha/sites"
)

const (
	// maxFinishers is how many photos are cleaned and stored at once.
	maxFinishers = 8
	// maxWebPs is how many of these are WebP.
	maxWebPs = 1
	// finishTimeout is how long that may take for one, whether or not the phone
	// waits for it.
	finishTimeout = 2 * time.Minute
)

// finish stores a photo of which all has come. Whoever else wants the same photo
// finished meanwhile waits, and is told the same.
func (s *Service) finish(ctx context.Context, account string, c *inspections.Stored, photo inspections.Photo) error {
	ref := Ref{c.Ref(), photo.SHA256}
	key := string(ref.Site) + "/" + string(ref.CheckIn) + "/" + ref.SHA256.String()
	_, err, _ := s.finishing.Do(key, func() (_ any, err error) {
		defer picture.Guard(&err)
		// It is finished for all who wait, so whoever came first may leave.
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), finishTimeout)
		defer cancel()
		places := []chan struct{}{s.finishers}
		if photo.ContentType == picture.WebP {
			places = []chan struct{}{s.webps, s.finishers}
		}
		for _, place := range places {
			select {
			case place <- struct{}{}:
				defer func() { <-place }()
			case <-ctx.Done():
				return nil, ctx.Err()
			}
		}
		return nil, s.store(ctx, account, c, photo, ref)
	})
	return err
}

// store cleans what has come of a photo, keeps it and puts that on record.
func (s *Service) store(ctx context.Context, account string, c *inspections.Stored, photo inspections.Photo, ref Ref) error {
	kept, err := keptAs(ctx, s.Store, ref)
	if err != nil {
		return err
	}
	if kept == nil {
		kept, err = s.keep(ctx, c, photo, ref)
		if errors.Is(err, ErrMissing) {
			// Another server has finished or discarded it just now. Whoever sends it asks
			// how much there is, and goes on from there.
			return fmt.Errorf("%d %w: nothing any more", photo.Size, ErrOffset)
		}
		if err != nil {
			return err
		}
	}
	// The picture is safe, and what has come is only given up once the history
	// says so too. So whatever a crash interrupts is done again from it.
	if err := s.record(ctx, account, *kept); err != nil {
		return err
	}
	return s.Store.Discard(ctx, ref)
}

// keep cleans what has come and keeps it. What has come is read twice: once to
// find the picture in it, which gives the declared hash, and once to write the
// picture, which gives the stored one. Where there is nothing in it but the picture,
// the store may keep it as it is.
func (s *Service) keep(ctx context.Context, c *inspections.Stored, photo inspections.Photo, ref Ref) (*Kept, error) {
	f, err := s.Store.Partial(ctx, ref)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if f.Size() < photo.Size {
		// Another server has discarded some of it meanwhile. What is there is not wrong for
		// that, and the sender goes on with it.
		return nil, fmt.Errorf("%d %w: %d bytes", photo.Size, ErrOffset, f.Size())
	}
	refuse := func(err error) (*Kept, error) {
		return nil, errors.Join(&sites.FieldError{Field: "data", Err: fmt.Errorf("%s %w", ref.SHA256, err)}, s.Store.Discard(ctx, ref))
	}
	hashed := &hashedFile{File: f, hash: sha256.New()}
	p, err := s.readAs(photo.ContentType, hashed, s.CheckIns.LimitsOf(photo))
	if sum, err := hashed.sum(); err != nil {
		return nil, err
	} else if sum != photo.SHA256 {
		// Whatever else is wrong with it, it is not what the phone has.
		return refuse(fmt.Errorf("%w: %s", ErrHash, sum))
	}
	switch {
	case errors.Is(err, picture.ErrNotPicture), errors.Is(err, picture.ErrTooLarge), errors.Is(err, ErrType):
		return refuse(err)
	case err != nil:
		return nil, err
	}
	k := Kept{Ref: ref, ContentType: p.ContentType, Order: c.Order}
	if store, ok := s.Store.(ReceivedKeeper); ok && p.Unchanged() {
		kept, err := store.KeepReceived(ctx, k)
		if !errors.Is(err, errors.ErrUnsupported) {
			return &kept, err
		}
	}
	kept, err := s.Store.Keep(ctx, k, p)
	return &kept, err
}

// readAs finds the picture in a file that is declared to be of the type. One of another
// type is not read, since the limits that it has passed are not those of its own. Its
// compressed data are gone over for picture.MaxEffort at most, and beyond that it is kept as
// its parts say.
func (s *Service) readAs(contentType string, f File, limits picture.Limits) (*picture.Picture, error) {
	start := make([]byte, min(f.Size(), picture.TypeSize))
	if _, err := f.ReadAt(start, 0); err != nil && err != io.EOF {
		return nil, err
	}
	if got := picture.TypeOf(start); got != "" && got != contentType {
		return nil, fmt.Errorf("%w: %s, not %s", ErrType, got, contentType)
	}
	spent, done := s.Stopwatch.Start()
	defer done()
	limits.Enough = func() bool { return spent() > picture.MaxEffort }
	return picture.Read(f, f.Size(), limits)
}

// record puts on record that the photo has arrived.
func (s *Service) record(ctx context.Context, account string, k Kept) error {
	r := storedRecord{
		CheckIn: k.CheckIn, SHA256: k.SHA256.String(), StoredSHA256: k.Stored.String(), StoredSize: k.Size,
		ContentType: k.ContentType, Order: k.Order,
	}
	// The same picture may have come in another file.
	firsts, err := s.CheckIns.UsedBefore(ctx, []inspections.Digest{k.Stored}, k.CheckInRef)
	if err != nil {
		return err
	}
	if first := firsts[0]; first != (inspections.CheckInRef{}) {
		r.FirstSHA256 = inspections.UseOf(first).Name.String()
	}
	return s.append(ctx, account, KindStored, k.Ref, r)
}

// append adds an entry about the photo to its site's history.
func (s *Service) append(ctx context.Context, account string, kind ledger.Kind, ref Ref, content any) error {
	b, err := ledger.MarshalContent(content)
	if err != nil {
		return err
	}
	_, _, err = s.Ledger.Append(ctx, ledger.Draft{
		History: ref.Site.History(), ID: ref.entryID(kind), Kind: kind, Time: s.Now(), Account: account, Content: b,
	})
	return err
}

// A hashedFile takes the hash of a file while it is read for the first time.
type hashedFile struct {
	File
	hash hash.Hash
	upTo int64 // how much of the file is in it
}

// ReadAt implements io.ReaderAt.
func (f *hashedFile) ReadAt(b []byte, at int64) (int, error) {
	if at > f.upTo {
		if err := f.catchUp(at); err != nil {
			return 0, err
		}
	}
	n, err := f.File.ReadAt(b, at)
	if end := at + int64(n); end > f.upTo {
		f.hash.Write(b[f.upTo-at : n])
		f.upTo = end
	}
	return n, err
}

// catchUp takes in what was passed over.
func (f *hashedFile) catchUp(to int64) error {
	n, err := io.Copy(f.hash, io.NewSectionReader(f.File, f.upTo, to-f.upTo))
	if f.upTo += n; err == nil && f.upTo < to {
		err = io.ErrUnexpectedEOF
	}
	return err
}

// sum returns the hash of the whole file.
func (f *hashedFile) sum() (sum inspections.Digest, err error) {
	if err := f.catchUp(f.Size()); err != nil {
		return inspections.Digest{}, err
	}
	f.hash.Sum(sum[:0])
	return sum, nil
}
