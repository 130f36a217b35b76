package sqlitestore

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"xuncha/ledger"
	"xuncha/server/internal/engine"
)

const (
	// reserveFile is the name of the reserve in the data folder.
	reserveFile = "reserve"
	// leastMargin is how much room there must be at least beyond the reserve before the
	// disk is no longer full; a large reserve wants a quarter of its size. Without that,
	// the disk would be full and not full in turns.
	leastMargin = 1 << 20
	// looksForRoom is how often is looked whether a full disk has room again, and
	// looksAtMost how often where somebody wants to write.
	looksForRoom = 10 * time.Second
	looksAtMost  = time.Second
)

// A reserve is room on the disk for what must go on when it is full: a file that is
// deleted then. Writes of a context from ledger.WithReserve may use the room, others are
// refused until the file could be made again. It is safe for concurrent use.
type reserve struct {
	dir    string
	size   int64 // 0 for no reserve
	log    *slog.Logger
	onFull func(bool)
	// available tells how much room a folder's disk has.
	available func(string) (int64, error)

	mu sync.Mutex
	// full tells that a write has found no room, and none was seen since.
	full bool
	// spent tells that the file is not there, so what it kept may be in use. It changes
	// with the lock.
	spent  atomic.Bool
	looked time.Time
	look   *time.Timer // nil where the disk is not full
	closed bool
}

func reservePath(dir string) string { return filepath.Join(dir, reserveFile) }

// giveUpReserve deletes the reserve of a folder, and reports whether there was one.
func giveUpReserve(dir string) bool { return os.Remove(reservePath(dir)) == nil }

// openReserve makes the reserve of a folder, unless it is there.
func openReserve(dir string, o Options) (*reserve, error) {
	r := &reserve{dir: dir, size: o.ReserveBytes, log: o.Log, onFull: o.OnFull, available: o.available}
	if r.size <= 0 {
		r.size = 0
		return r, nil
	}
	info, err := os.Stat(reservePath(dir))
	if err == nil && info.Size() == r.size && engine.OnDisk(info) >= r.size {
		return r, nil
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	giveUpReserve(dir) // of another size, or with holes
	r.mu.Lock()
	defer r.mu.Unlock()
	r.spent.Store(true)
	if err := r.restore(); r.spent.Load() {
		r.setFull(err)
	}
	return r, nil
}

// admit returns ledger.ErrFull where a write would use what is kept for others.
func (r *reserve) admit(ctx context.Context) error {
	if !r.spent.Load() || ledger.MayUseReserve(ctx) {
		return nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return nil
	}
	if time.Since(r.looked) >= looksAtMost {
		r.lookForRoom()
	}
	if r.spent.Load() {
		return fmt.Errorf("%w: what is left of the disk is kept in reserve", ledger.ErrFull)
	}
	return nil
}

// found notes that a write found no room.
func (r *reserve) found(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.setFull(err)
}

// giveUp gives the room of the reserve to what is written next. It reports false where
// that is done already, or there is none.
func (r *reserve) giveUp() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.size == 0 || r.spent.Load() {
		return false
	}
	r.spent.Store(true)
	return giveUpReserve(r.dir)
}

// setFull says that the disk is full, once. It needs the lock.
func (r *reserve) setFull(err error) {
	if r.look == nil && !r.closed {
		r.look = time.AfterFunc(looksForRoom, r.tick)
	}
	if r.full {
		return
	}
	r.full = true
	r.log.Error("the disk is full", "folder", r.dir, "reserve_bytes", r.size, "error", err.Error())
	r.onFull(true)
}

func (r *reserve) tick() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.look = nil; r.closed {
		return
	}
	if r.lookForRoom(); r.full {
		r.look = time.AfterFunc(looksForRoom, r.tick)
	}
}

// lookForRoom ends that the disk is full where it has room again. It needs the lock.
func (r *reserve) lookForRoom() {
	r.looked = time.Now()
	if r.spent.Load() {
		if _ = r.restore(); r.spent.Load() {
			return // and that is known
		}
	} else if !r.hasRoom(0) {
		return
	}
	if r.full {
		r.full = false
		r.log.Info("the disk has room again", "folder", r.dir)
		r.onFull(false)
	}
}

// hasRoom reports whether the disk has so much room and some more, as far as it says.
func (r *reserve) hasRoom(size int64) bool {
	free, err := r.available(r.dir)
	return err != nil || free >= size+max(leastMargin, r.size/4)
}

// errNoRoom means that there is no room for the reserve.
var errNoRoom = errors.New("the disk has no room for the reserve")

// restore makes the file again where there is room. Where it cannot be made for another
// reason, there is none from now on. It needs the lock.
func (r *reserve) restore() error {
	if !r.hasRoom(r.size) {
		return errNoRoom
	}
	f, err := os.OpenFile(reservePath(r.dir), os.O_CREATE|os.O_TRUNC|os.O_RDWR, 0o600)
	if err == nil {
		err = errors.Join(engine.Allocate(f, r.size), f.Close())
	}
	switch {
	case err == nil:
	case errors.Is(engine.FileError(err), ledger.ErrFull):
		giveUpReserve(r.dir)
		return err
	default:
		giveUpReserve(r.dir)
		r.size = 0
		r.log.Warn("no reserve can be made on the disk; the server goes on without", "folder", r.dir, "error", err.Error())
	}
	r.spent.Store(false)
	return nil
}

// close ends what runs beside the calls. The file stays for the next start.
func (r *reserve) close() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.closed = true
	if r.look != nil {
		r.look.Stop()
	}
	return nil
}
