package sqlitestore

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"zombiezen.com/go/sqlite"

	"xuncha/inspections"
	"xuncha/inspections/photos"
	"xuncha/ledger"
	"xuncha/server/internal/engine"
	"xuncha/server/internal/testdisk"
)

// A smallDisk is a data folder on a disk that a test can fill and free again. Where no
// file system can be mounted, its database may not grow while it is full.
type smallDisk struct {
	*testdisk.Disk
	full atomic.Bool
}

const (
	diskSize    = 24 << 20
	diskReserve = 6 << 20
)

func newSmallDisk(t *testing.T, size int64) *smallDisk {
	t.Helper()
	return &smallDisk{Disk: testdisk.New(t, size)}
}

func (d *smallDisk) folder() string { return filepath.Join(d.Dir, "data") }

// fill leaves no room.
func (d *smallDisk) fill(t *testing.T) {
	t.Helper()
	d.full.Store(true)
	d.Fill(t)
}

// free takes back what fill has done.
func (d *smallDisk) free(t *testing.T) {
	t.Helper()
	d.full.Store(false)
	d.Free(t)
}

// available tells how much room there is.
func (d *smallDisk) available(dir string) (int64, error) {
	if !d.Mounted && d.full.Load() {
		return 0, nil
	}
	return engine.Available(dir)
}

// append stores an entry that needs new pages.
func (d *smallDisk) append(ctx context.Context, s *Store, id string) error {
	e := draft(id)
	e.Content = fmt.Appendf(nil, `{"finding":"closed","note":"%s"}`, strings.Repeat("x", 12_000))
	return s.write(ctx, func(w *writer) error {
		if !d.Mounted {
			// While the disk is full, there is room only where the reserve is not.
			most := 1 << 30
			if _, err := os.Stat(reservePath(d.folder())); err == nil && d.full.Load() {
				most = 1 // which means as many as there are
			}
			if err := execute(w.conn, fmt.Sprintf(`PRAGMA max_page_count = %d`, most)); err != nil {
				return err
			}
		}
		_, _, err := w.append(e)
		return err
	})
}

func execute(conn *sqlite.Conn, sql string) error {
	stmt, _, err := conn.PrepareTransient(sql)
	if err == nil {
		_, err = stmt.Step()
		err = errors.Join(err, stmt.Finalize())
	}
	return err
}

// A fullWatch notes what a store says of its disk.
type fullWatch struct {
	mu    sync.Mutex
	log   bytes.Buffer
	calls []bool
}

func (w *fullWatch) Write(b []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.log.Write(b)
}

func (w *fullWatch) options(d *smallDisk) Options {
	return Options{ReserveBytes: diskReserve, available: d.available, Log: slog.New(slog.NewTextHandler(w, nil)), OnFull: func(full bool) {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.calls = append(w.calls, full)
	}}
}

func (w *fullWatch) said(text string) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return strings.Count(w.log.String(), text)
}

// TestFullDiskKeepsAReserve fills a disk under a store: what may use the reserve goes on,
// all else is refused, nothing that was acknowledged is lost, and all goes on once there
// is room. Where no file system can be mounted, the first run is as the second.
func TestFullDiskKeepsAReserve(t *testing.T) {
	t.Run("mounted", func(t *testing.T) { fillDisk(t, newSmallDisk(t, diskSize)) })
	t.Run("simulated", func(t *testing.T) { fillDisk(t, &smallDisk{Disk: &testdisk.Disk{Dir: t.TempDir()}}) })
}

func fillDisk(t *testing.T, d *smallDisk) {
	var watch fullWatch
	s, err := Open(t.Context(), d.folder(), watch.options(d))
	if err != nil {
		t.Fatal(err)
	}
	reserved := ledger.WithReserve(t.Context())
	stored := 0
	must := func(ctx context.Context, id string) {
		t.Helper()
		if err := d.append(ctx, s, id); err != nil {
			t.Fatalf("%s: %v", id, err)
		}
		stored++
	}
	must(t.Context(), "before")
	info, err := os.Stat(reservePath(d.folder()))
	if err != nil || info.Size() != diskReserve || engine.OnDisk(info) < diskReserve {
		t.Fatalf("the reserve is %v, %v, want %d bytes that are on the disk", info, err, diskReserve)
	}

	// Ordinary writes find no room, and leave the reserve alone.
	d.fill(t)
	for i := 0; ; i++ {
		err := d.append(t.Context(), s, fmt.Sprint("ordinary ", i))
		if err == nil && i < 1000 {
			stored++
			continue
		}
		if !errors.Is(err, ledger.ErrFull) {
			t.Fatalf("got %v, want ErrFull", err)
		}
		break
	}
	if _, err := os.Stat(reservePath(d.folder())); err != nil {
		t.Errorf("an ordinary write has used the reserve: %v", err)
	}

	// What may use it does, for long; ordinary writes do not, and reading goes on.
	for i := range 100 {
		must(reserved, fmt.Sprint("reserved ", i))
		if err := d.append(t.Context(), s, fmt.Sprint("refused ", i)); !errors.Is(err, ledger.ErrFull) {
			t.Fatalf("got %v, want ErrFull", err)
		}
	}
	if _, err := os.Stat(reservePath(d.folder())); err == nil {
		t.Error("the reserve is still there")
	}
	ref := photos.Ref{CheckInRef: inspections.CheckInRef{Site: site, CheckIn: "c"}, SHA256: inspections.Digest{1}}
	if err := s.Photos().Receive(t.Context(), ref, 0, []byte("a part")); !errors.Is(err, ledger.ErrFull) {
		t.Errorf("a part of a photo: got %v, want ErrFull", err)
	}
	if _, err := s.Photos().Keep(t.Context(), photos.Kept{Ref: ref}, bytes.NewBuffer([]byte("a picture"))); !errors.Is(err, ledger.ErrFull) {
		t.Errorf("a photo: got %v, want ErrFull", err)
	}
	if got := len(mustReadAll(t, s)); got != stored {
		t.Errorf("%d entries can be read, want %d", got, stored)
	}
	if watch.said("the disk is full") != 1 || fmt.Sprint(watch.calls) != "[true]" {
		t.Errorf("got the calls %v and the log %s, want it to be said once", watch.calls, watch.log.String())
	}

	// A server that starts on the full disk is as one that was there before.
	s = reopenWith(t, s, watch.options(d))
	must(reserved, "after a start")
	if err := d.append(t.Context(), s, "refused after a start"); !errors.Is(err, ledger.ErrFull) {
		t.Errorf("got %v, want ErrFull", err)
	}

	// Once there is room, all goes on.
	d.free(t)
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		err := d.append(t.Context(), s, "after")
		if err == nil {
			stored++
			break
		}
		if !errors.Is(err, ledger.ErrFull) || time.Now().After(deadline) {
			t.Fatalf("got %v, and there is room again", err)
		}
	}
	if err := s.Photos().Receive(t.Context(), ref, 0, []byte("a part")); err != nil {
		t.Errorf("a part of a photo: %v", err)
	}
	if info, err := os.Stat(reservePath(d.folder())); err != nil || info.Size() != diskReserve {
		t.Errorf("there is no reserve again: %v", err)
	}
	if watch.said("level=INFO msg=\"the disk has room again\"") != 1 {
		t.Errorf("got the log %s, want it to say that there is room again", watch.log.String())
	}

	// Both kinds at once, in one transaction: what may use the reserve is not held up.
	d.fill(t)
	var calls sync.WaitGroup
	var ordinary atomic.Int64
	for i := range 64 {
		calls.Go(func() {
			if err := d.append(reserved, s, fmt.Sprint("together, reserved ", i)); err != nil {
				t.Errorf("reserved: %v", err)
			}
		})
		calls.Go(func() {
			err := d.append(t.Context(), s, fmt.Sprint("together, ordinary ", i))
			if err == nil {
				ordinary.Add(1)
			} else if !errors.Is(err, ledger.ErrFull) {
				t.Errorf("ordinary: got %v, want ErrFull", err)
			}
		})
	}
	calls.Wait()
	stored += 64 + int(ordinary.Load())
	s = reopenWith(t, s, watch.options(d))
	if got := len(mustReadAll(t, s)); got != stored {
		t.Errorf("%d entries can be read, want the %d that were acknowledged", got, stored)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}

func reopenWith(t *testing.T, s *Store, o Options) *Store {
	t.Helper()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s, err := Open(t.Context(), filepath.Dir(s.lock.Name()), o)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// TestStartOnFullDisk holds that a server which was killed on a disk that filled up starts
// there, with the room of the reserve.
func TestStartOnFullDisk(t *testing.T) {
	d := newSmallDisk(t, diskSize)
	var watch fullWatch
	s, err := Open(t.Context(), d.folder(), watch.options(d))
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(d.append(t.Context(), s, "a"), s.Close()); err != nil {
		t.Fatal(err)
	}
	d.fill(t)
	if s, err = Open(t.Context(), d.folder(), watch.options(d)); err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if err := d.append(ledger.WithReserve(t.Context()), s, "b"); err != nil {
		t.Error(err)
	}
	if got := len(mustReadAll(t, s)); got != 2 {
		t.Errorf("got %d entries, want 2", got)
	}
}

// TestReserveLasts holds that people can sign in for long on a full disk: the log, which
// grows to 16 MiB before what is in it moves to the database, fits into the reserve too.
func TestReserveLasts(t *testing.T) {
	const reserve, signIns, people = 64 << 20, 12_000, 16
	d := newSmallDisk(t, 100<<20)
	s, err := Open(t.Context(), d.folder(), Options{ReserveBytes: reserve})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	d.fill(t)
	var calls sync.WaitGroup
	for w := range people {
		calls.Go(func() {
			for i := range signIns / people {
				if err := s.PutSecret(ledger.WithReserve(t.Context()), fmt.Sprintf("device/%d/%d", w, i), 0, make([]byte, 400)); err != nil {
					t.Errorf("sign-in %d: %v", i, err)
					return
				}
			}
		})
	}
	calls.Wait()
}

// A reserve of another size is made anew, one with holes too; without the option, a
// reserve is left alone.
func TestReserveIsMade(t *testing.T) {
	dir := t.TempDir()
	path := reservePath(dir)
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(path, 1<<20); err != nil { // a hole
		t.Fatal(err)
	}
	for _, size := range []int64{1 << 20, 2 << 20, 1 << 20, 0} {
		s, err := Open(t.Context(), dir, Options{ReserveBytes: size})
		if err != nil {
			t.Fatal(err)
		}
		info, err := os.Stat(path)
		if err != nil || info.Size() != max(size, 1<<20) || engine.OnDisk(info) < info.Size() {
			t.Errorf("got a reserve %+v, %v, want %d bytes that are on the disk", info, err, size)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
}

// TestPhotoOnFullDisk holds that nothing half is kept of a photo that found no room, and
// that it goes on where it was once there is. Where no file system can be mounted the disk
// is not full, and TestFullDisk holds what is said.
func TestPhotoOnFullDisk(t *testing.T) {
	d := newSmallDisk(t, diskSize)
	var watch fullWatch
	s, err := Open(t.Context(), d.folder(), watch.options(d))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	content := bytes.Repeat([]byte("0123456789abcdef"), 32<<10)
	ref := photos.Ref{CheckInRef: inspections.CheckInRef{Site: site, CheckIn: "c"}, SHA256: sha256.Sum256(content)}
	half := int64(len(content) / 2)
	if err := s.Photos().Receive(t.Context(), ref, 0, content[:half]); err != nil {
		t.Fatal(err)
	}
	d.fill(t)
	if d.Mounted {
		if err := s.Photos().Receive(t.Context(), ref, half, content[half:]); !errors.Is(err, ledger.ErrFull) {
			t.Errorf("the other half: got %v, want ErrFull", err)
		}
		if _, err := s.Photos().Keep(t.Context(), photos.Kept{Ref: ref}, bytes.NewBuffer(content)); !errors.Is(err, ledger.ErrFull) {
			t.Errorf("all of it: got %v, want ErrFull", err)
		}
	}
	if left, err := os.ReadDir(filepath.Join(s.photos.dir, newFolder)); err != nil || len(left) > 0 {
		t.Errorf("%d files are half written, %v", len(left), err)
	}
	if kept, err := s.Photos().KeptOf(t.Context(), []inspections.CheckInRef{ref.CheckInRef}); err != nil || len(kept) > 0 {
		t.Errorf("got %v, %v, want nothing kept", kept, err)
	}
	d.free(t)
	f, err := s.Photos().Partial(t.Context(), ref)
	if err != nil {
		t.Fatal(err)
	}
	there := f.Size()
	if err := f.Close(); err != nil || there < half {
		t.Fatalf("%d bytes are there, %v, want the first half at least", there, err)
	}
	if err := s.Photos().Receive(t.Context(), ref, there, content[there:]); err != nil {
		t.Fatal(err)
	}
	kept, err := s.photos.KeepReceived(t.Context(), photos.Kept{Ref: ref, ContentType: "image/png", Order: "order"})
	if err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(s.photos.path(kept.Stored))
	if err != nil || !bytes.Equal(b, content) {
		t.Errorf("the photo has %d bytes, %v, want what was sent", len(b), err)
	}
}
