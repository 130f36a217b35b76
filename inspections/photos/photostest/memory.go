package photostest

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"time"

	"xuncha/inspections"
	"xuncha/inspections/photos"
	"xuncha/sites"
)

// A Memory keeps photos for tests of what stands above the port. Its zero value is
// empty.
type Memory struct {
	// Now returns the time at which bytes come in; nil is the zero time.
	Now func() time.Time
	// FailReceive is what Receive fails with, where it is set.
	FailReceive error

	mu       sync.Mutex
	firsts   map[inspections.Digest]inspections.CheckInRef
	partials map[photos.Ref]partial
	kept     map[photos.Ref]photos.Kept
	files    map[inspections.Digest][]byte
	// aside has the day on which a file was set aside.
	aside map[inspections.Digest]photos.Day
}

type partial struct {
	bytes []byte
	last  time.Time
}

// memoryFile is an open file.
type memoryFile struct{ *bytes.Reader }

func (memoryFile) Close() error { return nil }

// Claimed implements photos.Store.
func (m *Memory) Claimed(ctx context.Context, sums []inspections.Digest) ([]inspections.CheckInRef, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	out := make([]inspections.CheckInRef, len(sums))
	for i, sum := range sums {
		out[i] = m.firsts[sum]
	}
	return out, ctx.Err()
}

// Claim implements photos.Store.
func (m *Memory) Claim(ctx context.Context, sums []inspections.Digest, by inspections.CheckInRef) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, sum := range sums {
		m.claim(sum, by)
	}
	return nil
}

// claim needs m.mu.
func (m *Memory) claim(sum inspections.Digest, by inspections.CheckInRef) {
	if _, ok := m.firsts[sum]; !ok {
		put(&m.firsts, sum, by)
	}
}

// put sets a value of a map, which it makes where there is none.
func put[K comparable, V any](m *map[K]V, k K, v V) {
	if *m == nil {
		*m = map[K]V{}
	}
	(*m)[k] = v
}

// Receive implements photos.Store.
func (m *Memory) Receive(ctx context.Context, p photos.Ref, offset int64, b []byte) error {
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
		return fmt.Errorf("%d %w: %d bytes", offset, photos.ErrOffset, len(old.bytes))
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

// Secure implements photos.Store.
func (m *Memory) Secure(context.Context, photos.Ref) error { return nil }

// Partial implements photos.Store.
func (m *Memory) Partial(ctx context.Context, p photos.Ref) (photos.File, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	old, ok := m.partials[p]
	if !ok {
		return nil, fmt.Errorf("%s: %w", p.SHA256, photos.ErrMissing)
	}
	return memoryFile{bytes.NewReader(old.bytes)}, nil
}

// Discard implements photos.Store.
func (m *Memory) Discard(_ context.Context, p photos.Ref) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.partials, p)
	return nil
}

// Partials implements photos.Store.
func (m *Memory) Partials(_ context.Context, each func(photos.Ref, int64, time.Time) error) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	for p, old := range m.partials {
		if err := each(p, int64(len(old.bytes)), old.last); err != nil {
			return err
		}
	}
	return nil
}

// Keep implements photos.Store.
func (m *Memory) Keep(ctx context.Context, k photos.Kept, content io.WriterTo) (photos.Kept, error) {
	if err := ctx.Err(); err != nil {
		return photos.Kept{}, err
	}
	var file bytes.Buffer
	if _, err := content.WriteTo(&file); err != nil {
		return photos.Kept{}, err
	}
	k.Stored, k.Size = sha256.Sum256(file.Bytes()), int64(file.Len())
	m.mu.Lock()
	defer m.mu.Unlock()
	if there, ok := m.kept[k.Ref]; ok {
		return there, nil
	}
	put(&m.files, k.Stored, file.Bytes())
	delete(m.aside, k.Stored)
	put(&m.kept, k.Ref, k)
	m.claim(k.Stored, k.CheckInRef)
	return k, nil
}

// KeepReceived implements photos.ReceivedKeeper.
func (m *Memory) KeepReceived(ctx context.Context, k photos.Kept) (photos.Kept, error) {
	if known := m.list(func(there photos.Kept) bool { return there.Ref == k.Ref }); len(known) > 0 {
		return known[0], nil
	}
	f, err := m.Partial(ctx, k.Ref)
	if err != nil {
		return photos.Kept{}, err
	}
	return m.Keep(ctx, k, f.(memoryFile))
}

// list returns the photos for which want holds, in the order of compare.
func (m *Memory) list(want func(photos.Kept) bool) (out []photos.Kept) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, k := range m.kept {
		if want(k) {
			out = append(out, k)
		}
	}
	slices.SortFunc(out, func(a, b photos.Kept) int { return compare(a.Ref, b.Ref) })
	return out
}

// compare gives the order by site, check-in and declared hash.
func compare(a, b photos.Ref) int {
	return cmp.Or(strings.Compare(string(a.Site), string(b.Site)), strings.Compare(string(a.CheckIn), string(b.CheckIn)), bytes.Compare(a.SHA256[:], b.SHA256[:]))
}

// KeptOf implements photos.Store.
func (m *Memory) KeptOf(ctx context.Context, of []inspections.CheckInRef) ([]photos.Kept, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	return m.list(func(k photos.Kept) bool { return slices.Contains(of, k.CheckInRef) }), nil
}

// Kept implements photos.Store.
func (m *Memory) Kept(ctx context.Context, order sites.OrderID, after photos.Ref, n int) ([]photos.Kept, error) {
	all := m.list(func(k photos.Kept) bool {
		return !k.Purged && (order == "" || k.Order == order) && compare(k.Ref, after) > 0
	})
	return all[:min(n, len(all))], ctx.Err()
}

// Open implements photos.Store.
func (m *Memory) Open(ctx context.Context, stored inspections.Digest) (photos.File, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	b, ok := m.files[stored]
	delete(m.aside, stored)
	if !ok {
		return nil, fmt.Errorf("%s: %w", stored, photos.ErrLost)
	}
	return memoryFile{bytes.NewReader(b)}, nil
}

// Purge implements photos.Store.
func (m *Memory) Purge(ctx context.Context, k photos.Kept) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	k.Purged = true
	put(&m.kept, k.Ref, k)
	if !m.used(k.Stored) {
		m.drop(k.Stored)
	}
	return nil
}

// used reports whether a photo has the file. It needs m.mu.
func (m *Memory) used(stored inspections.Digest) bool {
	for _, k := range m.kept {
		if k.Stored == stored && !k.Purged {
			return true
		}
	}
	return false
}

// drop deletes a file. It needs m.mu.
func (m *Memory) drop(stored inspections.Digest) {
	delete(m.files, stored)
	delete(m.aside, stored)
}

// Tidy implements photos.Store. What is kept in memory survives no crash.
func (m *Memory) Tidy(ctx context.Context) (removed int, err error) { return 0, ctx.Err() }

// SetAside implements photos.Store.
func (m *Memory) SetAside(ctx context.Context, today photos.Day, drop func(inspections.Digest, photos.Day) (bool, error)) (a photos.Aside, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for sum := range m.files {
		day, aside := m.aside[sum]
		if m.used(sum) {
			if delete(m.aside, sum); aside {
				a.Back++
			}
			continue
		}
		if !aside {
			day = today
			put(&m.aside, sum, today)
			a.Unknown++
		}
		gone, err := drop(sum, day)
		if err != nil {
			return a, err
		}
		if gone {
			m.drop(sum)
			a.Dropped++
		}
	}
	return a, ctx.Err()
}

// Forget removes what the store knows of a photo and leaves its file, as an older
// database in the place of the right one would.
func (m *Memory) Forget(r photos.Ref) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.kept, r)
}

// Recall puts back what Forget has removed.
func (m *Memory) Recall(k photos.Kept) {
	m.mu.Lock()
	defer m.mu.Unlock()
	put(&m.kept, k.Ref, k)
}

// Spoil sets the file with the hash to b, as somebody could who has the folder;
// nil removes it.
func (m *Memory) Spoil(stored inspections.Digest, b []byte) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if b == nil {
		m.drop(stored)
		return
	}
	put(&m.files, stored, b)
}

// Files returns how many files there are that were not set aside, and how many beginnings
// of some.
func (m *Memory) Files() (files, partials int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.files) - len(m.aside), len(m.partials)
}
