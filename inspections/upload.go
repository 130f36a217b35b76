package inspections

import (
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"slices"
	"sync"
	"time"

	"xuncha/inspections/picture"
	"xuncha/ledger"
	"xuncha/sites"
)

const (
	// PartialDays is for how many days the beginning of a photo is kept.
	PartialDays = 7
	// uploadBuffer is how many bytes of a photo are gathered before they are
	// stored. As many again are gathered meanwhile, so that what arrives does not
	// wait for the store.
	uploadBuffer = 128 << 10
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

// PhotoState returns how much of a photo there is, with all that uploads under
// way have brought so far. Errors are those of Get and ErrPhotoUnknown.
func (s *Service) PhotoState(ctx context.Context, ref PhotoRef) (PhotoState, error) {
	c, photo, err := s.declared(ctx, ref)
	if err != nil {
		return PhotoState{}, err
	}
	s.uploading.Lock()
	list := slices.Clone(s.uploads[ref])
	s.uploading.Unlock()
	settle(ctx, list)
	return s.state(ctx, c, photo)
}

// settle lets uploads that were cut come to their end, and the others store what
// they hold, so that no byte of either is sent again.
func settle(ctx context.Context, list []*Upload) {
	for _, u := range list {
		select {
		case <-u.gone:
			select {
			case <-u.ended:
			case <-ctx.Done():
				return
			}
		default:
			u.mu.Lock()
			_ = u.flush(ctx) // which it tries again itself
			u.mu.Unlock()
		}
	}
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
	done    bool            // it was stored before
	gone    <-chan struct{} // closed when nothing more can arrive
	ended   chan struct{}   // closed by Close

	mu     sync.Mutex
	at     int64 // of what comes next
	stored int64 // how much the store has
	buffer []byte
	// storing are bytes on their way to the store, and spare is room for more.
	storing, spare []byte
	storingDone    chan error
	failed         error // what ended it
}

// BeginUpload takes bytes of a photo from the offset on, which come by Write;
// End or Break ends it, and then it is closed. Where the photo is stored already,
// they are not needed. The channel gone is closed as soon as its sender is cut
// off, though bytes that have arrived may still be read; nil where nobody knows.
//
// Errors are those of Get, ErrPhotoUnknown, ErrPhotoPurged and ErrPhotoOffset.
func (s *Service) BeginUpload(ctx context.Context, account string, ref PhotoRef, offset int64, gone <-chan struct{}) (_ *Upload, err error) {
	u := &Upload{s: s, ref: ref, account: account, at: offset, gone: gone, ended: make(chan struct{})}
	// From now on, who asks how much there is waits for what this one brings.
	s.uploading.Lock()
	before := slices.Clone(s.uploads[ref])
	s.uploads[ref] = append(s.uploads[ref], u)
	s.uploading.Unlock()
	defer func() {
		if err != nil {
			u.Close()
		}
	}()
	c, photo, err := s.declared(ctx, ref)
	if err != nil {
		return nil, err
	}
	settle(ctx, before)
	state, err := s.state(ctx, c, photo)
	if err != nil {
		return nil, err
	}
	if state.Purged || !state.Stored && s.over(c.Order) {
		return nil, photoError(ErrPhotoPurged, ref)
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	u.checkIn, u.photo, u.stored, u.done = c, photo, state.Received, state.Stored
	if !u.done && (offset < 0 || offset > state.Received) {
		return nil, &sites.FieldError{Field: "offset", Err: fmt.Errorf("%d %w: %d bytes", offset, ErrPhotoOffset, state.Received)}
	}
	return u, nil
}

// Close gives up what the upload holds, after End or Break or an error.
func (u *Upload) Close() {
	u.s.uploading.Lock()
	rest := slices.DeleteFunc(u.s.uploads[u.ref], func(other *Upload) bool { return other == u })
	if u.s.uploads[u.ref] = rest; len(rest) == 0 {
		delete(u.s.uploads, u.ref)
	}
	u.s.uploading.Unlock()
	close(u.ended)
	u.mu.Lock() // somebody may still wait for the store with it
	defer u.mu.Unlock()
	for _, b := range [][]byte{u.buffer, u.spare} { // nobody has these any more
		if b != nil {
			uploadBuffers.Put((*[uploadBuffer]byte)(b[:uploadBuffer]))
		}
	}
	u.buffer, u.spare = nil, nil
}

// Stored reports whether the photo was stored before the upload began.
func (u *Upload) Stored() bool { return u.done }

// Write takes the next bytes. Where it fails the upload is over; ErrPhotoSize
// leaves nothing of it behind.
func (u *Upload) Write(ctx context.Context, b []byte) error {
	if u.done {
		return nil
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.failed != nil {
		return u.failed
	}
	if u.at+int64(len(b)) > u.photo.Size {
		if err := u.awaitStoring(); err != nil {
			return err
		}
		err := fmt.Errorf("%s %w: %d bytes", u.ref.SHA256, ErrPhotoSize, u.photo.Size)
		return errors.Join(&sites.FieldError{Field: "data", Err: err}, u.s.Photos.Discard(ctx, u.ref))
	}
	// What was there before stays as it is.
	if known := u.stored + int64(len(u.storing)+len(u.buffer)) - u.at; known > 0 {
		n := min(known, int64(len(b)))
		u.at += n
		b = b[n:]
	}
	for len(b) > 0 {
		if u.buffer == nil {
			u.buffer = uploadBuffers.Get().(*[uploadBuffer]byte)[:0]
		}
		n := min(len(b), cap(u.buffer)-len(u.buffer))
		u.buffer = append(u.buffer, b[:n]...)
		u.at += int64(n)
		b = b[n:]
		if len(u.buffer) == cap(u.buffer) {
			if err := u.startStoring(ctx); err != nil {
				return err
			}
		}
	}
	return nil
}

// startStoring gives the store what was gathered, once it has taken what it was
// given before. The context's end does not stop it. It needs u.mu.
func (u *Upload) startStoring(ctx context.Context) error {
	if err := u.awaitStoring(); err != nil || len(u.buffer) == 0 {
		return err
	}
	u.storing, u.buffer, u.spare = u.buffer, u.spare, nil
	done, at, b := make(chan error, 1), u.stored, u.storing
	u.storingDone = done
	go func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), finishTimeout)
		defer cancel()
		done <- u.s.Photos.Receive(ctx, u.ref, at, b)
	}()
	return nil
}

// awaitStoring waits until the store has taken what it was given. It needs u.mu.
func (u *Upload) awaitStoring() error {
	if u.failed != nil || u.storingDone == nil {
		return u.failed
	}
	err := <-u.storingDone
	u.storingDone = nil
	if err == nil {
		u.stored += int64(len(u.storing))
		u.spare, u.storing = u.storing[:0], nil
		return nil
	}
	// Nothing of it counts; the sender begins again where the store is.
	u.failed = err
	return err
}

// flush stores what was gathered. It needs u.mu.
func (u *Upload) flush(ctx context.Context) error {
	return cmp.Or(u.startStoring(ctx), u.awaitStoring())
}

// uploadBuffers has those that no upload needs.
var uploadBuffers = sync.Pool{New: func() any { return new([uploadBuffer]byte) }}

// Break ends an upload that was cut. What has come stays.
func (u *Upload) Break() error {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.flush(context.Background())
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
	u.mu.Lock()
	err := u.flush(ctx)
	stored := u.stored
	u.mu.Unlock()
	if err != nil {
		return PhotoState{}, err
	}
	if stored < u.photo.Size {
		state.Stored, state.Received = false, stored
		if stored == 0 {
			return state, nil
		}
		return state, u.s.Photos.Secure(ctx, u.ref)
	}
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
	hashed := &hashedFile{File: f, hash: sha256.New()}
	p, err := picture.Read(hashed, f.Size())
	if sum, err := hashed.sum(); err != nil {
		return nil, err
	} else if sum != photo.SHA256 {
		// Whatever else is wrong with it, it is not what the phone has.
		return refuse(fmt.Errorf("%w: %s", ErrPhotoHash, sum))
	}
	switch {
	case errors.Is(err, picture.ErrNotPicture), errors.Is(err, picture.ErrTooLarge):
		return refuse(err)
	case err != nil:
		return nil, err
	case p.ContentType != photo.ContentType:
		return refuse(fmt.Errorf("%w: %s, not %s", ErrPhotoType, p.ContentType, photo.ContentType))
	}
	kept := KeptPhoto{PhotoRef: ref, Size: p.Size(), ContentType: p.ContentType, Order: c.Order}
	h := sha256.New()
	if _, err := p.WriteTo(h); err != nil {
		return nil, err
	}
	h.Sum(kept.Stored[:0])
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
func (f *hashedFile) sum() (sum Digest, err error) {
	if err := f.catchUp(f.Size()); err != nil {
		return Digest{}, err
	}
	f.hash.Sum(sum[:0])
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
	_, _, err = s.Ledger.Append(ctx, ledger.Draft{
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
