package serve

import (
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"xuncha/inspections/photos"
	xunchav1 "xuncha/proto/xuncha/v1"
	"xuncha/server/internal/rpc"
)

// maxPhotoProblems is how many lost photos are named as problems. The log has all of them.
const maxPhotoProblems = 100

// photoProblems are the photos that a check has found lost, as problems that need somebody.
type photoProblems struct {
	log      *slog.Logger
	problems *rpc.Problems
	now      func() time.Time

	mu    sync.Mutex
	since map[string]time.Time // by the problem's name
	found map[string]bool      // in this round
}

// lostName is the name of the problem that a photo is lost.
func lostName(k photos.Kept) string {
	return fmt.Sprintf("photo/%s/%s/%s", k.Site, k.CheckIn, k.SHA256)
}

// lost notes that a photo is lost, or cannot be read.
func (l *photoProblems) lost(k photos.Kept, why error) {
	what := []any{"site", string(k.Site), "check_in", string(k.CheckIn), "sha256", k.SHA256.String(), "stored_sha256", k.Stored.String(), "error", why.Error()}
	message := "The photo %s of the check-in %s is lost or altered: %v."
	if errors.Is(why, photos.ErrLost) {
		l.log.Error("photo lost or altered", what...)
	} else {
		l.log.Error("a photo cannot be read", what...)
		message = "The photo %s of the check-in %s cannot be read: %v."
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	name := lostName(k)
	since, known := l.since[name]
	if !known {
		if len(l.since) >= maxPhotoProblems {
			return
		}
		since = l.now()
		put(&l.since, name, since)
	}
	put(&l.found, name, true)
	l.problems.Set(name, rpc.Problem{
		Kind: xunchav1.ProblemKind_PROBLEM_KIND_PHOTO_LOST, Message: fmt.Sprintf(message, k.SHA256, k.CheckIn, why), Since: since, Site: k.Site,
	})
}

// whole notes that a photo is as it was stored.
func (l *photoProblems) whole(k photos.Kept) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.clear(lostName(k))
}

// endRound clears what this round has not found lost, such as photos that were purged.
func (l *photoProblems) endRound() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for name := range l.since {
		if !l.found[name] {
			l.clear(name)
		}
	}
	l.found = nil
}

// clear ends a problem. It needs l.mu.
func (l *photoProblems) clear(name string) {
	if _, known := l.since[name]; known {
		delete(l.since, name)
		l.problems.Clear(name)
	}
}

// put sets a value of a map, which it makes where there is none.
func put[K comparable, V any](m *map[K]V, k K, v V) {
	if *m == nil {
		*m = map[K]V{}
	}
	(*m)[k] = v
}
