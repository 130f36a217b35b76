package photos

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"xuncha/inspections"
	"xuncha/sites"
)

// uploadBuffer is how many bytes of a photo are gathered before they are stored. As
// many again are gathered meanwhile, so that what arrives does not wait for the
// store.
const uploadBuffer = 128 << 10

// An Upload takes in bytes of a photo. It is for one goroutine.
type Upload struct {
	s       *Service
	ref     Ref
	checkIn *inspections.Stored
	photo   inspections.Photo
	account string
	done    bool            // it was stored before
	gone    <-chan struct{} // closed when nothing more can arrive
	ended   chan struct{}   // closed by Close

	// hold has one in it while somebody is at what follows, who may wait for the store.
	// So whoever else wants it waits by the own deadline.
	hold   chan struct{}
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
// Errors are those of inspections.Service.Get and Refused, ErrUnknown, ErrPurged and
// ErrOffset.
func (s *Service) BeginUpload(ctx context.Context, account string, ref Ref, offset int64, gone <-chan struct{}) (_ *Upload, err error) {
	u := &Upload{s: s, ref: ref, account: account, at: offset, gone: gone, ended: make(chan struct{}), hold: make(chan struct{}, 1)}
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
	if err := s.CheckIns.Refused(photo); err != nil {
		return nil, ref.about(err)
	}
	settle(ctx, before)
	state, err := s.state(ctx, c, photo)
	if err != nil {
		return nil, err
	}
	if state.Purged || !state.Stored && s.over(c.Order) {
		return nil, ref.about(ErrPurged)
	}
	if err := u.take(ctx); err != nil {
		return nil, err
	}
	defer u.give()
	u.checkIn, u.photo, u.stored, u.done = c, photo, state.Received, state.Stored
	if !u.done && (offset < 0 || offset > state.Received) {
		return nil, &sites.FieldError{Field: "offset", Err: fmt.Errorf("%d %w: %d bytes", offset, ErrOffset, state.Received)}
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
	select {
	case u.hold <- struct{}{}:
		u.release()
	default: // somebody still waits for the store with it
		go func() {
			u.hold <- struct{}{}
			u.release()
		}()
	}
}

// release gives back the buffers. It needs u.hold.
func (u *Upload) release() {
	defer u.give()
	for _, b := range [][]byte{u.buffer, u.spare} { // nobody has these any more
		if b != nil {
			uploadBuffers.Put((*[uploadBuffer]byte)(b[:uploadBuffer]))
		}
	}
	u.buffer, u.spare = nil, nil
}

// Stored reports whether the photo was stored before the upload began.
func (u *Upload) Stored() bool { return u.done }

// Write takes the next bytes. Where it fails the upload is over; ErrSize
// leaves nothing of it behind.
func (u *Upload) Write(ctx context.Context, b []byte) error {
	if u.done {
		return nil
	}
	if err := u.take(ctx); err != nil {
		return err
	}
	defer u.give()
	if u.failed != nil {
		return u.failed
	}
	// What has arrived is not lost for the sake of a caller who leaves.
	waits := context.WithoutCancel(ctx)
	if u.at+int64(len(b)) > u.photo.Size {
		if err := u.awaitStoring(waits); err != nil {
			return err
		}
		err := fmt.Errorf("%s %w: %d bytes", u.ref.SHA256, ErrSize, u.photo.Size)
		return errors.Join(&sites.FieldError{Field: "data", Err: err}, u.s.Store.Discard(ctx, u.ref))
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
			if err := u.startStoring(waits); err != nil {
				return err
			}
		}
	}
	return nil
}

// take takes u.hold, unless the context ends before, and give gives it back.
func (u *Upload) take(ctx context.Context) error {
	select {
	case u.hold <- struct{}{}: // also where it has ended, since there is nothing to wait for
		return nil
	default:
	}
	select {
	case u.hold <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (u *Upload) give() { <-u.hold }

// startStoring gives the store what was gathered, once it has taken what it was
// given before. Once that is begun, the context's end does not stop it. It needs u.hold.
func (u *Upload) startStoring(ctx context.Context) error {
	if err := u.awaitStoring(ctx); err != nil || len(u.buffer) == 0 {
		return err
	}
	u.storing, u.buffer, u.spare = u.buffer, u.spare, nil
	done, at, b := make(chan error, 1), u.stored, u.storing
	u.storingDone = done
	go func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), finishTimeout)
		defer cancel()
		done <- u.s.Store.Receive(ctx, u.ref, at, b)
	}()
	return nil
}

// awaitStoring waits until the store has taken what it was given, or the context ends. It
// needs u.hold.
func (u *Upload) awaitStoring(ctx context.Context) (err error) {
	if u.failed != nil || u.storingDone == nil {
		return u.failed
	}
	select {
	case err = <-u.storingDone:
	case <-ctx.Done():
		return ctx.Err()
	}
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

// flush stores what was gathered. It needs u.hold.
func (u *Upload) flush(ctx context.Context) error {
	return cmp.Or(u.startStoring(ctx), u.awaitStoring(ctx))
}

// uploadBuffers has those that no upload needs.
var uploadBuffers = sync.Pool{New: func() any { return new([uploadBuffer]byte) }}

// Break ends an upload that was cut. What has come stays.
func (u *Upload) Break() error {
	ctx, cancel := context.WithTimeout(context.Background(), finishTimeout)
	defer cancel()
	if err := u.take(ctx); err != nil {
		return err
	}
	defer u.give()
	return u.flush(ctx)
}

// End ends an upload whose sender has sent what it wanted to. Where that was the
// last of the photo it is cleaned and stored for good, also where the sender does
// not wait, and otherwise kept for PartialDays; either would survive a power cut
// by then.
//
// What turns out not to be what was declared leaves nothing behind: ErrHash,
// ErrType, picture.ErrNotPicture and picture.ErrTooLarge.
func (u *Upload) End(ctx context.Context) (State, error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), finishTimeout)
	defer cancel()
	state := State{Photo: u.photo, Received: u.photo.Size, Stored: true}
	if u.done {
		return state, nil
	}
	if err := u.take(ctx); err != nil {
		return State{}, err
	}
	err := u.flush(ctx)
	stored := u.stored
	u.give()
	if err != nil {
		return State{}, err
	}
	if stored < u.photo.Size {
		state.Stored, state.Received = false, stored
		if stored == 0 {
			return state, nil
		}
		return state, u.s.Store.Secure(ctx, u.ref)
	}
	return state, u.s.finish(ctx, u.account, u.checkIn, u.photo)
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
			if u.take(ctx) != nil {
				return
			}
			_ = u.flush(ctx) // which it tries again itself
			u.give()
		}
	}
}
