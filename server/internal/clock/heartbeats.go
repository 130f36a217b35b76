package clock

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"sync"
	"time"

	"xuncha/ledger"
)

const (
	// noteName is the note in which heartbeats are.
	noteName = "clock"
	// BeatEvery is how often a server beats.
	BeatEvery = time.Minute
	// mostBetween is the most running time that two beats prove. Of what lies further
	// apart, nobody knows what the clocks have shown meanwhile.
	mostBetween = 2 * BeatEvery
	// readingEvery is the running time that one reading stands for.
	readingEvery = time.Hour
	// BelievedAfter is the running time throughout which all clocks must have shown a time
	// before it is believed.
	BelievedAfter = 24 * time.Hour
	// beatTimeout is how long a beat may take.
	beatTimeout = 20 * time.Second
	// beatTries is how often a beat that other servers outrun is tried.
	beatTries = 4
)

// A beatNote is what the note has, in JSON.
type beatNote struct {
	// Running is for how long servers have run, in nanoseconds. Where several run at
	// once, that counts once.
	Running time.Duration `json:"running"`
	// Beat is the time of the newest heartbeat.
	Beat time.Time `json:"beat"`
	// Readings are those of the last 24 hours of running time and the one before, oldest
	// first.
	Readings []reading `json:"readings"`
	// Accepted is up to when entries may lie ahead of the clock, because somebody has
	// said so.
	Accepted time.Time `json:"accepted,omitzero"`
}

// A reading is the earliest time that a clock has shown from a running time on, up to the
// next reading.
type reading struct {
	At    time.Duration `json:"at"`
	Least time.Time     `json:"least"`
}

// ErrDamaged means that a note is none that a server has written.
var ErrDamaged = errors.New("the note of the heartbeats is damaged")

// readNote reads what a server has written. Where it is anything else, nothing follows
// from it, and the error says so.
func readNote(value []byte) (n beatNote, err error) {
	if err := json.Unmarshal(value, &n); err != nil {
		return beatNote{}, fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	// A number that was changed could have a time believed too early, or never.
	last := time.Duration(0)
	for _, r := range n.Readings {
		if r.At < last {
			return beatNote{}, ErrDamaged
		}
		last = r.At
	}
	if n.Running < last || n.Running > math.MaxInt64/2 {
		return beatNote{}, ErrDamaged
	}
	return n, nil
}

// after returns the note after a beat at which so much more has run.
func (n beatNote) after(ran time.Duration, shown, accepted time.Time) beatNote {
	n.Running += ran
	n.Beat = shown
	n.Accepted = later(n.Accepted, accepted)
	n.Readings = slices.Clone(n.Readings)
	if last := len(n.Readings) - 1; last >= 0 && n.Running-n.Readings[last].At < readingEvery {
		if shown.Before(n.Readings[last].Least) {
			n.Readings[last].Least = shown
		}
	} else {
		n.Readings = append(n.Readings, reading{n.Running, shown})
	}
	for len(n.Readings) > 1 && n.old(1) {
		n.Readings = n.Readings[1:]
	}
	return n
}

// old reports whether the reading with the index is as old as must be for a time to be
// believed.
func (n beatNote) old(i int) bool { return n.Running-n.Readings[i].At >= BelievedAfter }

// believed returns the least reading, where they reach back far enough.
func (n beatNote) believed() (t time.Time, ok bool) {
	if len(n.Readings) == 0 || !n.old(0) {
		return time.Time{}, false
	}
	return slices.MinFunc(n.Readings, func(a, b reading) int { return a.Least.Compare(b.Least) }).Least, true
}

func later(a, b time.Time) time.Time {
	if a.Before(b) {
		return b
	}
	return a
}

// HeartbeatsConfig is what heartbeats work with. Notes, Read and Now are required.
type HeartbeatsConfig struct {
	Notes Notes
	// Read reads the wall clock and the monotonic one, as that of a Clock's Config.
	Read func() (wall time.Time, ran time.Duration)
	// Now returns the time, as a Clock does.
	Now func() time.Time
	// Database returns the time by the database's own clock; nil where it has none.
	Database func(context.Context) (time.Time, error)
	// Apart is told when Now and the clock of the database begin to differ by more than
	// Tolerance, and when they no longer do. It may be nil.
	Apart func(apart bool, now, database time.Time)
}

// Heartbeats are signs of life in the store, one a minute, of all servers together. They
// add up to the running time: the time for which at least one server has run and known of
// it, over all restarts, and never more than has passed. A server only adds what its own
// monotonic clock has run since it has seen the beat that it replaces.
//
// They are safe for concurrent use.
type Heartbeats struct {
	c       HeartbeatsConfig
	beating sync.Mutex // held by whoever beats

	mu       sync.Mutex
	note     beatNote // the newest that is known
	revision int64
	seen     time.Duration // when that was seen, by the monotonic clock
	accepted time.Time
	apart    bool

	soon chan struct{} // wakes Run
}

// OpenHeartbeats reads the heartbeats of the store, and stores nothing. They can be used
// where it gives an error, too: then nothing is believed for a day.
func OpenHeartbeats(ctx context.Context, c HeartbeatsConfig) (*Heartbeats, error) {
	h := &Heartbeats{c: c, soon: make(chan struct{}, 1)}
	damage, err := h.read(ctx)
	return h, errors.Join(err, damage)
}

// read takes in what the store has. What is damaged there is replaced by the next beat.
func (h *Heartbeats) read(ctx context.Context) (damage, err error) {
	value, revision, err := h.c.Notes.Note(ctx, noteName)
	if err != nil && !errors.Is(err, ErrNoNote) {
		return nil, err
	}
	var note beatNote
	if err == nil {
		note, damage = readNote(value)
	}
	// Only now: what another server counts ends before it is seen here.
	_, ran := h.c.Read()
	h.mu.Lock()
	defer h.mu.Unlock()
	h.note, h.revision, h.seen = note, revision, ran
	return damage, nil
}

// Last returns the time of the newest heartbeat that is known; zero for none.
func (h *Heartbeats) Last() time.Time {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.note.Beat
}

// Running returns the running time so far.
func (h *Heartbeats) Running() time.Duration {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.note.Running
}

// Believed returns the time that may be counted with where a deed cannot be undone: the
// earliest that a clock of the servers or of the database has shown within the last 24
// hours of running time. It is false before they have run for so long.
func (h *Heartbeats) Believed() (time.Time, bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.note.believed()
}

// Accept notes that entries of up to the time may lie ahead of the clock. It is stored
// with the next beat.
func (h *Heartbeats) Accept(t time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.accepted = later(h.accepted, t.UTC().Round(0))
}

// Accepted returns up to when entries may lie ahead of the clock; zero for none.
func (h *Heartbeats) Accepted() time.Time {
	h.mu.Lock()
	defer h.mu.Unlock()
	return later(h.note.Accepted, h.accepted)
}

// Soon has Run beat at once: the newest beat may be of a time that is known to be wrong now.
func (h *Heartbeats) Soon() {
	select {
	case h.soon <- struct{}{}:
	default: // that is under way
	}
}

// Run beats at once and then every minute, until ctx ends. A beat that fails is not made
// up for.
func (h *Heartbeats) Run(ctx context.Context) {
	ticker := time.NewTicker(BeatEvery)
	defer ticker.Stop()
	for {
		limited, cancel := context.WithTimeout(ctx, beatTimeout)
		_ = h.Beat(limited)
		cancel()
		select {
		case <-ticker.C:
		case <-h.soon:
		case <-ctx.Done():
			return
		}
	}
}

// Beat stores a heartbeat. Where another server has beaten since, this one only adds what
// its clock shows, if that is earlier than what the others' have shown.
func (h *Heartbeats) Beat(ctx context.Context) error {
	h.beating.Lock()
	defer h.beating.Unlock()
	shown, err := h.shown(ctx)
	if err != nil {
		return err
	}
	// Also on a full disk: photos whose time is over are deleted by what is stored here.
	ctx = ledger.WithReserve(ctx)
	for range beatTries {
		h.mu.Lock()
		note, revision, seen, accepted := h.note, h.revision, h.seen, h.accepted
		h.mu.Unlock()
		_, ran := h.c.Read()
		next := note.after(min(ran-seen, mostBetween), shown, accepted)
		value, err := json.Marshal(next)
		if err != nil {
			return err
		}
		err = h.c.Notes.PutNote(ctx, noteName, revision, value)
		if err == nil {
			h.mu.Lock()
			h.note, h.revision, h.seen = next, revision+1, ran
			h.mu.Unlock()
			return nil
		}
		// After other errors it may be stored, and the next beat finds that out.
		if !errors.Is(err, ledger.ErrMoved) {
			return err
		}
		if _, err := h.read(ctx); err != nil {
			return err
		}
		if !h.adds(shown) {
			return nil
		}
	}
	return nil
}

// adds reports whether a reading, or what was accepted here, is missing in the note.
func (h *Heartbeats) adds(shown time.Time) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	last := len(h.note.Readings) - 1
	return last < 0 || shown.Before(h.note.Readings[last].Least) || h.accepted.After(h.note.Accepted)
}

// shown returns the earliest of what the clocks show.
func (h *Heartbeats) shown(ctx context.Context) (time.Time, error) {
	before := h.c.Now()
	least, _ := h.c.Read()
	if before.Before(least) {
		least = before
	}
	if h.c.Database != nil {
		database, err := h.c.Database(ctx)
		if err != nil {
			return time.Time{}, err
		}
		h.compare(before, h.c.Now(), database)
		if database.Before(least) {
			least = database
		}
	}
	return least.UTC().Round(0), nil
}

// compare tells where the clock of the database is far from ours, which was read before
// and after it.
func (h *Heartbeats) compare(before, after, database time.Time) {
	apart := database.Before(before.Add(-Tolerance)) || database.After(after.Add(Tolerance))
	h.mu.Lock()
	changed := apart != h.apart
	h.apart = apart
	h.mu.Unlock()
	if changed && h.c.Apart != nil {
		h.c.Apart(apart, after, database)
	}
}
