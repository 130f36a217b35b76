package inspections

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"xuncha/inspections/picture"
	"xuncha/ledger"
	"xuncha/sites"
)

const (
	// PartialDays is for how many days the beginning of a photo is kept.
	PartialDays = 7
	// uploadBuffer is how many bytes of a photo are gathered before they are
	// stored.
	uploadBuffer = 256 << 10
	// maxFinishers is how many photos are cleaned and stored at once.
	maxFinishers = 8
	// finishTimeout is how long that may take for one, whether or not the phone
	// waits for it.
	finishTimeout = time.Minute
)

// A PhotoState is how much of a declared photo there is.
type PhotoState struct {
	Photo
	// Received is how many bytes have come, of the file on the phone.
	Received int64
	// Stored tells that all of it is stored for good; Purged, that it was, and
	// was deleted when its time was over.
	Stored, Purged bool
}

// PhotoStates returns the state of each photo of each check-in. Of one that the
// store kept and failed to put on record it says that it is stored; PhotoState
// says that it is not, so that the phone ends its upload once more, and
// TendPhotos does where it does not.
func (s *Service) PhotoStates(ctx context.Context, list []*Stored) ([][]PhotoState, error) {
	out := make([][]PhotoState, len(list))
	var of []CheckInRef
	for i, c := range list {
		if len(c.Photos) == 0 {
			continue
		}
		of = append(of, c.ref())
		out[i] = make([]PhotoState, len(c.Photos))
	}
	if len(of) == 0 {
		return out, nil
	}
	all, err := s.Photos.KeptOf(ctx, of)
	if err != nil {
		return nil, err
	}
	kept := make(map[PhotoRef]KeptPhoto, len(all))
	for _, k := range all {
		kept[k.PhotoRef] = k
	}
	for i, c := range list {
		for j, p := range c.Photos {
			state := PhotoState{Photo: p}
			ref := PhotoRef{c.ref(), p.SHA256}
			if k, ok := kept[ref]; ok {
				state.Stored, state.Purged, state.Received = true, k.Purged, p.Size
			} else if state.Received, err = s.Photos.Received(ctx, ref); err != nil {
				return nil, err
			}
			out[i][j] = state
		}
	}
	return out, nil
}

// declared returns the check-in and the photo of it. Errors are those of Get and
// ErrPhotoUnknown.
func (s *Service) declared(ctx context.Context, ref PhotoRef) (*Stored, Photo, error) {
	c, err := s.Get(ctx, ref.Site, ref.CheckIn)
	if err != nil {
		return nil, Photo{}, err
	}
	i := slices.IndexFunc(c.Photos, func(p Photo) bool { return p.SHA256 == ref.SHA256 })
	if i < 0 {
		return nil, Photo{}, photoError(ErrPhotoUnknown, ref)
	}
	return c, c.Photos[i], nil
}

func photoError(err error, ref PhotoRef) error {
	return &sites.FieldError{Field: "sha256", Err: fmt.Errorf("%s: %w", ref.SHA256, err)}
}

// PhotoState returns how much of a photo there is. Errors are those of Get and
// ErrPhotoUnknown.
func (s *Service) PhotoState(ctx context.Context, ref PhotoRef) (PhotoState, error) {
	c, photo, err := s.declared(ctx, ref)
	if err != nil {
		return PhotoState{}, err
	}
	return s.state(ctx, c, photo)
}

func (s *Service) state(ctx context.Context, c *Stored, p Photo) (PhotoState, error) {
	one := *c
	one.Photos = []Photo{p}
	states, err := s.PhotoStates(ctx, []*Stored{&one})
	if err != nil {
		return PhotoState{}, err
	}
	state := states[0][0]
	if state.Stored && !state.Purged {
		// Where what came is there too, the store failed before the history had it.
		came, err := s.Photos.Received(ctx, PhotoRef{c.ref(), p.SHA256})
		if err != nil {
			return PhotoState{}, err
		}
		state.Stored = came < p.Size
	}
	return state, nil
}

// An Upload takes in bytes of a photo. It is for one goroutine.
type Upload struct {
	s       *Service
	ref     PhotoRef
	checkIn *Stored
	photo   Photo
	account string
	at      int64 // of what comes next
	stored  int64 // how much was given to the store, or was there before
	buffer  []byte
	done    bool // it was stored before
}

// BeginUpload takes bytes of a photo from the offset on, which come by Write;
// End or Break ends it. Where the photo is stored already, they are not needed.
//
// Errors are those of Get, ErrPhotoUnknown, ErrPhotoPurged and ErrPhotoOffset.
func (s *Service) BeginUpload(ctx context.Context, account string, ref PhotoRef, offset int64) (*Upload, error) {
	c, photo, err := s.declared(ctx, ref)
	if err != nil {
		return nil, err
	}
	state, err := s.state(ctx, c, photo)
	if err != nil {
		return nil, err
	}
	if state.Purged || !state.Stored && s.over(c.Order) {
		return nil, photoError(ErrPhotoPurged, ref)
	}
	u := &Upload{s: s, ref: ref, checkIn: c, photo: photo, account: account, at: offset, stored: state.Received, done: state.Stored}
	if !u.done && (offset < 0 || offset > state.Received) {
		return nil, &sites.FieldError{Field: "offset", Err: fmt.Errorf("%d %w: %d bytes", offset, ErrPhotoOffset, state.Received)}
	}
	return u, nil
}

// Stored reports whether the photo was stored before the upload began.
func (u *Upload) Stored() bool { return u.done }

// Write takes the next bytes. Where it fails the upload is over; ErrPhotoSize
// leaves nothing of it behind.
func (u *Upload) Write(ctx context.Context, b []byte) error {
	if u.done {
		return nil
	}
	if u.at+int64(len(b)) > u.photo.Size {
		err := fmt.Errorf("%s %w: %d bytes", u.ref.SHA256, ErrPhotoSize, u.photo.Size)
		return errors.Join(&sites.FieldError{Field: "data", Err: err}, u.s.Photos.Discard(ctx, u.ref))
	}
	// What was there before stays as it is.
	if known := u.stored + int64(len(u.buffer)) - u.at; known > 0 {
		n := min(known, int64(len(b)))
		u.at += n
		b = b[n:]
	}
	for len(b) > 0 {
		if u.buffer == nil {
			u.buffer = make([]byte, 0, min(uploadBuffer, u.photo.Size-u.stored))
		}
		n := min(len(b), cap(u.buffer)-len(u.buffer))
		u.buffer = append(u.buffer, b[:n]...)
		u.at += int64(n)
		b = b[n:]
		if len(u.buffer) == cap(u.buffer) {
			if err := u.flush(ctx); err != nil {
				return err
			}
		}
	}
	return nil
}

func (u *Upload) flush(ctx context.Context) error {
	if len(u.buffer) == 0 {
		return nil
	}
	if err := u.s.Photos.Receive(ctx, u.ref, u.stored, u.buffer); err != nil {
		return err
	}
	u.stored += int64(len(u.buffer))
	u.buffer = u.buffer[:0]
	return nil
}

// Break ends an upload that was cut. What has come stays.
func (u *Upload) Break() error {
	ctx, cancel := context.WithTimeout(context.Background(), finishTimeout)
	defer cancel()
	return u.flush(ctx)
}

// End ends an upload whose sender has sent what it wanted to. Where that was the
// last of the photo it is cleaned and stored for good, also where the sender does
// not wait, and otherwise kept for PartialDays; either would survive a power cut
// by then.
//
// What turns out not to be what was declared leaves nothing behind: ErrPhotoHash,
// ErrPhotoType, picture.ErrNotPicture and picture.ErrTooLarge.
func (u *Upload) End(ctx context.Context) (PhotoState, error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), finishTimeout)
	defer cancel()
	state := PhotoState{Photo: u.photo, Received: u.photo.Size, Stored: true}
	if u.done {
		return state, nil
	}
	if err := u.flush(ctx); err != nil {
		return PhotoState{}, err
	}
	if u.stored < u.photo.Size {
		state.Stored, state.Received = false, u.stored
		if u.stored == 0 {
			return state, nil
		}
		return state, u.s.Photos.Secure(ctx, u.ref)
	}
	u.buffer = nil
	return state, u.s.finish(ctx, u.account, u.checkIn, u.photo)
}

// finish stores a photo of which all has come. Whoever else does the same
// waits, and finds it stored.
func (s *Service) finish(ctx context.Context, account string, c *Stored, photo Photo) error {
	select {
	case s.finishers <- struct{}{}:
		defer func() { <-s.finishers }()
	case <-ctx.Done():
		return ctx.Err()
	}
	lock := &s.finishing[photo.SHA256[0]]
	lock.Lock()
	defer lock.Unlock()
	ref := PhotoRef{c.ref(), photo.SHA256}
	kept, err := keptPhoto(ctx, s.Photos, ref)
	if err != nil {
		return err
	}
	if kept == nil {
		if kept, err = s.keep(ctx, c, photo, ref); err != nil {
			return err
		}
	}
	// The picture is safe, and what has come is only given up once the history
	// says so too. So whatever a crash interrupts is done again from it.
	if err := s.record(ctx, account, *kept); err != nil {
		return err
	}
	return s.Photos.Discard(ctx, ref)
}

// keep cleans what has come and stores it.
func (s *Service) keep(ctx context.Context, c *Stored, photo Photo, ref PhotoRef) (*KeptPhoto, error) {
	f, err := s.Photos.Partial(ctx, ref)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	refuse := func(err error) (*KeptPhoto, error) {
		return nil, errors.Join(&sites.FieldError{Field: "data", Err: fmt.Errorf("%s %w", ref.SHA256, err)}, s.Photos.Discard(ctx, ref))
	}
	sum, err := digest(io.NewSectionReader(f, 0, f.Size()))
	if err != nil {
		return nil, err
	}
	if sum != photo.SHA256 || f.Size() != photo.Size {
		return refuse(fmt.Errorf("%w: %s", ErrPhotoHash, sum))
	}
	p, err := picture.Read(f, f.Size())
	switch {
	case errors.Is(err, picture.ErrNotPicture), errors.Is(err, picture.ErrTooLarge):
		return refuse(err)
	case err != nil:
		return nil, err
	case p.ContentType != photo.ContentType:
		return refuse(fmt.Errorf("%w: %s, not %s", ErrPhotoType, p.ContentType, photo.ContentType))
	}
	kept := KeptPhoto{PhotoRef: ref, Size: p.Size(), ContentType: p.ContentType, Order: c.Order}
	if kept.Stored, err = digest(p.Reader()); err != nil {
		return nil, err
	}
	return &kept, s.Photos.Keep(ctx, kept, p)
}

func digest(r io.Reader) (sum Digest, err error) {
	h := sha256.New()
	if _, err := io.Copy(h, r); err != nil {
		return Digest{}, err
	}
	h.Sum(sum[:0])
	return sum, nil
}

// record puts on record that the photo has arrived.
func (s *Service) record(ctx context.Context, account string, k KeptPhoto) error {
	r := storedRecord{
		CheckIn: k.CheckIn, SHA256: k.SHA256.String(), StoredSHA256: k.Stored.String(), StoredSize: k.Size,
		ContentType: k.ContentType, Order: k.Order,
	}
	// The same picture may have come in another file.
	first, err := s.Photos.Claim(ctx, []Digest{k.Stored}, k.CheckInRef)
	if err != nil {
		return err
	}
	if first[0] != k.CheckInRef {
		r.First = &firstRecord{Site: first[0].Site, CheckIn: first[0].CheckIn}
	}
	return s.appendPhoto(ctx, account, KindPhotoStored, k.PhotoRef, r)
}

func (s *Service) appendPhoto(ctx context.Context, account string, kind ledger.Kind, ref PhotoRef, content any) error {
	b, err := marshal(content)
	if err != nil {
		return err
	}
	_, _, err = s.Store.Append(ctx, ledger.Draft{
		History: ref.Site.History(), ID: ref.entryID(kind), Kind: kind, Time: s.Now(), Account: account, Content: b,
	})
	return err
}

// OpenPhoto opens a photo as it is stored. Errors are those of Get,
// ErrPhotoUnknown, ErrPhotoMissing, ErrPhotoPurged and ErrPhotoLost.
func (s *Service) OpenPhoto(ctx context.Context, ref PhotoRef) (KeptPhoto, File, error) {
	if _, _, err := s.declared(ctx, ref); err != nil {
		return KeptPhoto{}, nil, err
	}
	kept, err := keptPhoto(ctx, s.Photos, ref)
	switch {
	case err != nil:
		return KeptPhoto{}, nil, err
	case kept == nil:
		return KeptPhoto{}, nil, photoError(ErrPhotoMissing, ref)
	case kept.Purged:
		return KeptPhoto{}, nil, photoError(ErrPhotoPurged, ref)
	}
	f, err := s.Photos.Open(ctx, kept.Stored)
	if err == nil && f.Size() != kept.Size {
		err = errors.Join(fmt.Errorf("%s has %d bytes, not %d: %w", kept.Stored, f.Size(), kept.Size, ErrPhotoLost), f.Close())
	}
	if err != nil {
		return KeptPhoto{}, nil, err
	}
	return *kept, f, nil
}
