package rpc

import (
	"context"
	"errors"
	"fmt"
	"math"
	"sync"

	lru "github.com/hashicorp/golang-lru/v2"
	"golang.org/x/sync/semaphore"

	"xuncha/inspections"
	"xuncha/inspections/photos"
	"xuncha/inspections/picture"
)

// errThumbnail means that no thumbnail can be made of a picture.
var errThumbnail = errors.New("no thumbnail can be made of the photo")

const (
	// thumbnailMemory bounds what thumbnails are made in, all together. A photo of
	// 12 megapixels takes a tenth of it; a picture that would take more has none.
	thumbnailMemory = 256 << 20
	// thumbnailWork bounds how many samples are gone over for one, to two seconds. The
	// largest JPEG with a usual number of scans that fits into the memory takes all of it.
	thumbnailWork = 1 << 29
	// maxThumbnailers is how many are made at once, whatever they take. All but one are quick.
	maxThumbnailers = 2
	// maxThumbnails is how many are kept, of about 20 KB each.
	maxThumbnails = 512
	// maxWithout is how many files are remembered of which there is none, of 32 bytes each.
	maxWithout = 1 << 14
)

// thumbnails makes small pictures, each once while it is remembered. What cannot be made is
// not tried again while that is remembered, which is longer.
type thumbnails struct {
	known     *lru.Cache[inspections.Digest, []byte]
	without   *lru.Cache[inspections.Digest, struct{}]
	memory    *semaphore.Weighted
	workers   *turns
	stopwatch picture.Stopwatch

	mu     sync.Mutex
	making map[inspections.Digest]*making
}

// A making is of one thumbnail, for all who wait for it.
type making struct {
	waiting int
	stop    context.CancelFunc
	done    chan struct{} // closed once the others are set
	made    []byte
	err     error
}

func newThumbnails(stopwatch picture.Stopwatch) (*thumbnails, error) {
	known, err := lru.New[inspections.Digest, []byte](maxThumbnails)
	without, err2 := lru.New[inspections.Digest, struct{}](maxWithout)
	return &thumbnails{
		known: known, without: without, stopwatch: stopwatch, making: map[inspections.Digest]*making{},
		memory: semaphore.NewWeighted(thumbnailMemory), workers: newTurns(maxThumbnailers),
	}, errors.Join(err, err2)
}

// of returns the thumbnail of the photo, whose file open opens, for the caller.
func (t *thumbnails) of(ctx context.Context, caller string, k photos.Kept, open func(context.Context) (photos.File, error)) ([]byte, error) {
	t.mu.Lock()
	if b, ok := t.known.Get(k.Stored); ok {
		t.mu.Unlock()
		return b, nil
	}
	if t.without.Contains(k.Stored) {
		t.mu.Unlock()
		return nil, fmt.Errorf("%s, as before: %w", k.Stored, errThumbnail)
	}
	m := t.making[k.Stored]
	if m == nil {
		// It is made for all who wait, so whoever came first may leave. Once nobody waits any
		// more, it is given up.
		lasting, stop := context.WithCancel(context.WithoutCancel(ctx))
		m = &making{stop: stop, done: make(chan struct{})}
		t.making[k.Stored] = m
		go func() {
			defer stop()
			// A panic of a decoder ends this and nothing else.
			err := guard(func() (err error) {
				m.made, err = t.make(lasting, caller, k, open)
				return err
			})
			t.end(k.Stored, m, err)
		}()
	}
	m.waiting++
	t.mu.Unlock()
	select {
	case <-m.done:
		return m.made, m.err
	case <-ctx.Done():
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if m.waiting--; m.waiting == 0 {
		m.stop()
		if t.making[k.Stored] == m {
			delete(t.making, k.Stored) // whoever comes now has it made anew
		}
	}
	return nil, ctx.Err()
}

// end tells all who wait what has become of a thumbnail.
func (t *thumbnails) end(stored inspections.Digest, m *making, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.making[stored] == m {
		delete(t.making, stored)
	}
	switch m.err = err; {
	case err == nil:
		t.known.Add(stored, m.made)
	case errors.Is(err, errThumbnail), errors.Is(err, picture.ErrPanicked):
		t.without.Add(stored, struct{}{})
	}
	close(m.done)
}

// make makes a thumbnail once it is its turn and there is room for it.
func (t *thumbnails) make(ctx context.Context, caller string, k photos.Kept, open func(context.Context) (photos.File, error)) (_ []byte, err error) {
	done, err := t.workers.take(ctx, caller, false)
	if err != nil {
		return nil, err
	}
	defer func() { done() }()
	f, err := open(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	// What is stored may have been taken in under other limits.
	p, err := picture.Read(f, f.Size(), picture.Limits{JPEGPixels: math.MaxInt64, Kept: true})
	if err != nil {
		return nil, unlike(k, err)
	}
	need := p.Memory()
	if need > thumbnailMemory || p.Work() > thumbnailWork {
		return nil, fmt.Errorf("%d by %d pixels: %w", p.Width, p.Height, errThumbnail)
	}
	if !p.Quick() {
		done() // others may have it meanwhile
		done = func() {}
		again, err := t.workers.take(ctx, caller, true)
		if err != nil {
			return nil, err
		}
		done = again
	}
	if err := t.memory.Acquire(ctx, need); err != nil {
		return nil, err
	}
	defer t.memory.Release(need)
	spent, stop := t.stopwatch.Start()
	defer stop()
	b, err := p.Thumbnail(func() error {
		if spent() > picture.MaxEffort {
			return fmt.Errorf("it takes more than %v: %w", picture.MaxEffort, errThumbnail)
		}
		return ctx.Err()
	})
	if errors.Is(err, picture.ErrNotPicture) {
		err = fmt.Errorf("%w: %w", errThumbnail, err)
	}
	return b, err
}

// unlike says that what was stored as a picture is none.
func unlike(k photos.Kept, err error) error {
	if errors.Is(err, picture.ErrNotPicture) || errors.Is(err, picture.ErrTooLarge) {
		return fmt.Errorf("%s: %w: %v", k.Stored, photos.ErrLost, err)
	}
	return err
}
