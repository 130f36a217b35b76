package rpc

import (
	"context"
	"errors"
	"fmt"
	"math"

	lru "github.com/hashicorp/golang-lru/v2"
	"golang.org/x/sync/semaphore"
	"golang.org/x/sync/singleflight"

	"xuncha/inspections"
	"xuncha/inspections/photos"
	"xuncha/inspections/picture"
	"xuncha/ledger"
)

// errThumbnail means that no thumbnail can be made of a picture.
var errThumbnail = errors.New("no thumbnail can be made of the photo")

const (
	// thumbnailMemory bounds what thumbnails are made in, all together. A photo of
	// 12 megapixels takes a tenth of it; a picture that would take more has none.
	thumbnailMemory = 256 << 20
	// thumbnailWork bounds how many samples are gone over for one, to some seconds. The
	// largest JPEG with a usual number of scans that fits into the memory takes half of it.
	thumbnailWork = 1 << 30
	// maxThumbnailers is how many are made at once, whatever they take.
	maxThumbnailers = 2
	// maxThumbnails is how many are kept, of about 20 KB each.
	maxThumbnails = 512
)

// thumbnails makes small pictures, each once while it is remembered.
type thumbnails struct {
	known   *lru.Cache[inspections.Digest, []byte]
	making  singleflight.Group
	memory  *semaphore.Weighted
	workers *semaphore.Weighted
}

func newThumbnails() (*thumbnails, error) {
	known, err := lru.New[inspections.Digest, []byte](maxThumbnails)
	return &thumbnails{known: known, memory: semaphore.NewWeighted(thumbnailMemory), workers: semaphore.NewWeighted(maxThumbnailers)}, err
}

// of returns the thumbnail of the photo, whose file open opens.
func (t *thumbnails) of(ctx context.Context, k photos.Kept, open func(context.Context) (photos.File, error)) ([]byte, error) {
	if b, ok := t.known.Get(k.Stored); ok {
		return b, nil
	}
	// It is made for all who wait, so whoever came first may leave.
	lasting := context.WithoutCancel(ctx)
	made := t.making.DoChan(k.Stored.String(), func() (any, error) {
		b, err := t.make(lasting, k, open)
		if err == nil {
			t.known.Add(k.Stored, b)
		}
		return b, err
	})
	select {
	case r := <-made:
		b, _ := r.Val.([]byte)
		return b, r.Err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// make makes a thumbnail once there is room for it.
func (t *thumbnails) make(ctx context.Context, k photos.Kept, open func(context.Context) (photos.File, error)) (_ []byte, err error) {
	if err := t.workers.Acquire(ctx, 1); err != nil {
		return nil, err
	}
	defer t.workers.Release(1)
	f, err := open(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	// What is stored may have been taken in under other limits.
	p, err := picture.Read(f, f.Size(), picture.Limits{JPEGPixels: math.MaxInt64})
	if err != nil {
		return nil, unlike(k, err)
	}
	need := p.Memory()
	if need > thumbnailMemory || p.Work() > thumbnailWork {
		return nil, fmt.Errorf("%d by %d pixels: %w", p.Width, p.Height, errThumbnail)
	}
	if err := t.memory.Acquire(ctx, need); err != nil {
		return nil, err
	}
	defer t.memory.Release(need)
	b, err := p.Thumbnail()
	if errors.Is(err, ledger.ErrUnavailable) {
		return nil, err // the file could not be read just now, which says nothing about it
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errThumbnail, err)
	}
	return b, nil
}

// unlike says that what was stored as a picture is none.
func unlike(k photos.Kept, err error) error {
	if errors.Is(err, picture.ErrNotPicture) || errors.Is(err, picture.ErrTooLarge) {
		return fmt.Errorf("%s: %w: %v", k.Stored, photos.ErrLost, err)
	}
	return err
}
