package inspectionstest

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"time"

	"xuncha/inspections"
	"xuncha/sites"
)

// MemoryPhotos keeps photos for tests of what stands above the port. Its zero
// value is empty.
type MemoryPhotos struct {
	// Now returns the time at which bytes come in; nil is the zero time.
	Now func() time.Time
	// FailReceive is what Receive fails with, where it is set.
	FailReceive error

	mu       sync.Mutex
	firsts   map[inspections.Digest]inspections.CheckInRef
	partials map[inspections.PhotoRef]partial
	kept     map[inspections.PhotoRef]inspections.KeptPhoto
	files    map[inspections.Digest][]byte
}

type partial struct {
	bytes []byte
	last  time.Time
}

// Photos returns where the store keeps photos.
func (m *Memory) Photos() inspections.Photos { return &m.MemoryPhotos }

// memoryFile is an open file.
type memoryFile struct{ *bytes.Reader }

func (memoryFile) Close() error { return nil }

// Claimed implements inspections.Photos.
func (m *MemoryPhotos) Claimed(ctx context.Context, sums []inspections.Digest) ([]inspections.CheckInRef, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	out := make([]inspections.CheckInRef, len(sums))
	for i, sum := range sums {
		out[i] = m.firsts[sum]
	}
	return out, ctx.Err()
}

// Claim implements inspections.Photos.
func (m *MemoryPhotos) Claim(ctx context.Context, sums []inspections.Digest, by inspections.CheckInRef) ([]inspections.CheckInRef, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	out := make([]inspections.CheckInRef, len(sums))
	for i, sum := range sums {
		first, ok := m.firsts[sum]
		if !ok {
			put(&m.firsts, sum, by)
			first = by
		}
		out[i] = first
	}
	return out, nil
}

// put sets a value of a map, which it makes where there is none.
func put[K comparable, V any](m *map[K]V, k K, v V) {
	if *m == nil {
		*m = map[K]V{}
	}
	(*m)[k] = v
}

// Received implements inspections.Photos.
func (m *MemoryPhotos) Received(ctx context.Context, p inspections.PhotoRef) (int64, error) {
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	return int64(len(m.partials[p].bytes)), nil
}

// Receive implements inspections.Photos.
func (m *MemoryPhotos) Receive(ctx context.Context, p inspections.PhotoRef, offset int64, b []byte) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.FailReceive != nil {
		return m.FailReceive
	}
	old := m.partials[p]
	known := int64(len(old.bytes)) - offset
	if known < 0 {
		return fmt.Errorf("%d %w: %d bytes", offset, inspections.ErrPhotoOffset, len(old.bytes))
	}
	if known < int64(len(b)) {
		old.bytes = append(slices.Clip(old.bytes), b[known:]...)
	}
	if m.Now != nil {
		old.last = m.Now()
	}
	put(&m.partials, p, old)
	return nil
}

// Secure implements inspections.Photos.
func (m *MemoryPhotos) Secure(context.Context, inspections.PhotoRef) error { return nil }

// Partial implements inspections.Photos.
func (m *MemoryPhotos) Partial(_ context.Context, p inspections.PhotoRef) (inspections.File, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	old, ok := m.partials[p]
	if !ok {
		return nil, inspections.ErrPhotoMissing
	}
	return memoryFile{bytes.NewReader(old.bytes)}, nil
}

// Discard implements inspections.Photos.
func (m *MemoryPhotos) Discard(_ context.Context, p inspections.PhotoRef) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.partials, p)
	return nil
}

// Partials implements inspections.Photos.
func (m *MemoryPhotos) Partials(_ context.Context, each func(inspections.PhotoRef, int64, time.Time) error) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	for p, old := range m.partials {
		if err := each(p, int64(len(old.bytes)), old.last); err != nil {
			return err
		}
	}
	return nil
}

// Keep implements inspections.Photos.
func (m *MemoryPhotos) Keep(ctx context.Context, k inspections.KeptPhoto, content io.WriterTo) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, ok := m.kept[k.PhotoRef]; ok {
		return nil
	}
	if _, ok := m.files[k.Stored]; !ok {
		var b bytes.Buffer
		if _, err := content.WriteTo(&b); err != nil {
			return err
		}
		put(&m.files, k.Stored, b.Bytes())
	}
	put(&m.kept, k.PhotoRef, k)
	if _, ok := m.firsts[k.Stored]; !ok {
		put(&m.firsts, k.Stored, k.CheckInRef)
	}
	return nil
}

// list returns the photos for which want holds, by their place.
func (m *MemoryPhotos) list(want func(inspections.KeptPhoto) bool) (out []inspections.KeptPhoto) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, k := range m.kept {
		if want(k) {
			out = append(out, k)
		}
	}
	slices.SortFunc(out, func(a, b inspections.KeptPhoto) int { return comparePhotos(a.PhotoRef, b.PhotoRef) })
	return out
}

func comparePhotos(a, b inspections.PhotoRef) int {
	return cmp.Or(strings.Compare(string(a.Site), string(b.Site)), strings.Compare(string(a.CheckIn), string(b.CheckIn)), bytes.Compare(a.SHA256[:], b.SHA256[:]))
}

// KeptOf implements inspections.Photos.
func (m *MemoryPhotos) KeptOf(ctx context.Context, of []inspections.CheckInRef) ([]inspections.KeptPhoto, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	return m.list(func(k inspections.KeptPhoto) bool { return slices.Contains(of, k.CheckInRef) }), nil
}

// KeptUnder implements inspections.Photos.
func (m *MemoryPhotos) KeptUnder(_ context.Context, order sites.OrderID, after inspections.PhotoRef, n int) ([]inspections.KeptPhoto, error) {
	all := m.list(func(k inspections.KeptPhoto) bool {
		return !k.Purged && k.Order == order && comparePhotos(k.PhotoRef, after) > 0
	})
	return all[:min(n, len(all))], nil
}

// Kept implements inspections.Photos.
func (m *MemoryPhotos) Kept(_ context.Context, each func(inspections.KeptPhoto) error) error {
	for _, k := range m.list(func(k inspections.KeptPhoto) bool { return !k.Purged }) {
		if err := each(k); err != nil {
			return err
		}
	}
	return nil
}

// Open implements inspections.Photos.
func (m *MemoryPhotos) Open(ctx context.Context, stored inspections.Digest) (inspections.File, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	b, ok := m.files[stored]
	if !ok {
		return nil, fmt.Errorf("%s: %w", stored, inspections.ErrPhotoLost)
	}
	return memoryFile{bytes.NewReader(b)}, nil
}

// Purge implements inspections.Photos.
func (m *MemoryPhotos) Purge(ctx context.Context, k inspections.KeptPhoto) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	m.mu.Lock()
	k.Purged = true
	put(&m.kept, k.PhotoRef, k)
	m.mu.Unlock()
	_, err := m.Tidy(context.Background())
	return err
}

// Tidy implements inspections.Photos.
func (m *MemoryPhotos) Tidy(context.Context) (removed int, err error) {
	used := map[inspections.Digest]bool{}
	for _, k := range m.list(func(k inspections.KeptPhoto) bool { return !k.Purged }) {
		used[k.Stored] = true
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for sum := range m.files {
		if !used[sum] {
			delete(m.files, sum)
			removed++
		}
	}
	return removed, nil
}

// Spoil sets the file with the hash to b, as somebody could who has the folder;
// nil removes it.
func (m *MemoryPhotos) Spoil(stored inspections.Digest, b []byte) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if b == nil {
		delete(m.files, stored)
		return
	}
	put(&m.files, stored, b)
}

// Files returns how many files there are, and how many beginnings of some.
func (m *MemoryPhotos) Files() (files, partials int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.files), len(m.partials)
}
