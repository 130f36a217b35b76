package clock_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"xuncha/ledger"
	"xuncha/server/internal/clock"
	"xuncha/server/internal/clock/clocktest"
)

const day = 24 * time.Hour

// A county has a store and the true time.
type county struct {
	notes    notes
	truth    time.Time
	embedded bool // the database has no clock of its own
}

// notes are those of a store that can fail.
type notes struct {
	clocktest.MemoryNotes
	away bool // nothing is answered
	lose bool // what is put is stored, and the answer is lost
}

func (n *notes) Note(ctx context.Context, name string) ([]byte, int64, error) {
	if n.away {
		return nil, 0, ledger.ErrUnavailable
	}
	return n.MemoryNotes.Note(ctx, name)
}

func (n *notes) PutNote(ctx context.Context, name string, revision int64, value []byte) error {
	if n.away {
		return ledger.ErrUnavailable
	}
	err := n.MemoryNotes.PutNote(ctx, name, revision, value)
	if n.lose {
		return ledger.ErrUnavailable
	}
	return err
}

func newCounty() *county { return &county{truth: time.Date(2026, 11, 26, 8, 0, 0, 0, time.UTC)} }

// A server of the county has a clock that is wrong by off, and a monotonic one that began
// somewhere.
type server struct {
	*clock.Heartbeats
	off   time.Duration
	apart []bool
}

// start starts a server, which begins to beat.
func (c *county) start(t testing.TB, off time.Duration) *server {
	t.Helper()
	s := &server{off: off}
	begun := c.truth.Add(-time.Duration(rand.Int64N(int64(100 * day))))
	read := func() (time.Time, time.Duration) { return c.truth.Add(s.off), c.truth.Sub(begun) }
	config := clock.HeartbeatsConfig{
		Notes: &c.notes, Read: read, Now: func() time.Time { return c.truth.Add(s.off) },
		Database: func(context.Context) (time.Time, error) { return c.truth, nil },
		Apart:    func(apart bool, _, _ time.Time) { s.apart = append(s.apart, apart) },
	}
	if c.embedded {
		config.Database = nil
	}
	var err error
	s.Heartbeats, err = clock.OpenHeartbeats(context.Background(), config)
	if err != nil {
		t.Fatal(err)
	}
	s.beat(t)
	return s
}

func (s *server) beat(t testing.TB) {
	t.Helper()
	if err := s.Beat(context.Background()); err != nil {
		t.Fatal(err)
	}
}

// run lets the servers run. Each beats once a minute, one after the other.
func (c *county) run(t testing.TB, d time.Duration, servers ...*server) {
	t.Helper()
	for end := c.truth.Add(d); c.truth.Before(end); {
		for _, s := range servers {
			c.truth = c.truth.Add(clock.BeatEvery / time.Duration(len(servers)))
			s.beat(t)
		}
	}
}

func (s *server) wantBelieved(t testing.TB, from, to time.Time) {
	t.Helper()
	if got, ok := s.Believed(); !ok || got.Before(from) || got.After(to) {
		t.Errorf("after %v: believed %v, %v, want %v to %v", s.Running(), got, ok, from, to)
	}
}

func (s *server) wantNothing(t testing.TB) {
	t.Helper()
	if got, ok := s.Believed(); ok {
		t.Errorf("after %v: believed %v, want nothing", s.Running(), got)
	}
}

// A server believes what its clock has shown for a day.
func TestBelieved(t *testing.T) {
	c := newCounty()
	begin := c.truth
	s := c.start(t, 0)
	c.run(t, day-time.Minute, s)
	s.wantNothing(t)
	c.run(t, time.Minute, s)
	s.wantBelieved(t, begin, begin)
	c.run(t, 10*day, s)
	s.wantBelieved(t, c.truth.Add(-day-time.Hour), c.truth.Add(-day))
}

// One that starts two years ahead believes nothing of it for a day of running time, over
// however many restarts, and then still only the earliest that it has shown.
func TestTwoYearsAhead(t *testing.T) {
	const ahead = 2 * 365 * day
	t.Run("a new store", func(t *testing.T) {
		c := newCounty()
		c.embedded = true
		begin := c.truth
		for range 3 {
			s := c.start(t, ahead)
			c.run(t, 7*time.Hour, s)
			s.wantNothing(t)
			c.truth = c.truth.Add(20 * day) // it is off
		}
		s := c.start(t, ahead)
		c.run(t, 3*time.Hour, s)
		s.wantBelieved(t, begin.Add(ahead), begin.Add(ahead))
	})
	t.Run("a store of long", func(t *testing.T) {
		c := newCounty()
		c.embedded = true
		s := c.start(t, 0)
		c.run(t, 5*day, s)
		right := c.truth
		s = c.start(t, ahead)
		for range 3 { // it is killed now and then
			c.run(t, 7*time.Hour, s)
			s.wantBelieved(t, right.Add(-day-time.Hour), right)
			s = c.start(t, ahead)
		}
		// Once somebody has set the clock right, nothing wrong was believed.
		s.off = 0
		c.run(t, 3*day, s)
		s.wantBelieved(t, c.truth.Add(-day-time.Hour), c.truth.Add(-day))
	})
	t.Run("ahead for good", func(t *testing.T) {
		c := newCounty()
		c.embedded = true
		s := c.start(t, 0)
		c.run(t, 5*day, s)
		right := c.truth
		s = c.start(t, ahead)
		c.run(t, day-2*time.Minute, s)
		s.wantBelieved(t, right.Add(-day-time.Hour), right)
		c.run(t, 2*time.Hour, s)
		s.wantBelieved(t, right.Add(ahead), right.Add(ahead+time.Hour))
	})
}

// What one server's clock shows, another's that is right corrects, and so does that of the
// database.
func TestLeastOfAllClocks(t *testing.T) {
	const ahead = 2 * 365 * day
	c := newCounty()
	c.embedded = true
	wrong, right := c.start(t, ahead), c.start(t, 0)
	c.run(t, 3*day, wrong, right)
	for _, s := range []*server{wrong, right} {
		s.wantBelieved(t, c.truth.Add(-day-2*time.Hour), c.truth.Add(-day+time.Hour))
	}
	c = newCounty()
	s := c.start(t, ahead)
	c.run(t, 3*day, s)
	s.wantBelieved(t, c.truth.Add(-day-time.Hour), c.truth.Add(-day))
	s.off = 0
	s.beat(t)
	if !slices.Equal(s.apart, []bool{true, false}) {
		t.Errorf("told that the database's clock is apart: %v", s.apart)
	}
}

// While the store is away no time is proved, and beats go on afterwards.
func TestAway(t *testing.T) {
	c := newCounty()
	s := c.start(t, 0)
	c.run(t, time.Hour, s)
	c.notes.away = true
	for range 300 {
		c.truth = c.truth.Add(time.Minute)
		if err := s.Beat(t.Context()); !errors.Is(err, ledger.ErrUnavailable) {
			t.Fatalf("got %v", err)
		}
	}
	c.notes.away = false
	c.run(t, time.Hour, s)
	if got := s.Running(); got < 2*time.Hour || got > 2*time.Hour+2*time.Minute {
		t.Errorf("it has run for %v, want the two hours in which it has beaten", got)
	}
}

// What was accepted stays so, and reaches the store also where another server beats.
func TestAccepted(t *testing.T) {
	c := newCounty()
	a, b := c.start(t, 0), c.start(t, 0)
	ahead := c.truth.Add(365 * day)
	b.Accept(ahead)
	b.Accept(ahead.Add(-time.Hour))
	c.run(t, 2*time.Minute, a, b)
	if got := c.start(t, 0); !got.Accepted().Equal(ahead) || !got.Last().Equal(c.truth) {
		t.Errorf("accepted up to %v, last at %v, want %v and %v", got.Accepted(), got.Last(), ahead, c.truth)
	}
}

// A note that no server has written proves nothing, is told of, and does not stop the next
// one.
func TestDamagedNote(t *testing.T) {
	const reading = `"least":"2026-11-20T08:00:00Z"`
	for name, value := range map[string]string{
		"cut short":         `{"running": "long"`,
		"no text":           "\x00\xff",
		"nothing":           "",
		"runs backwards":    `{"running":-1}`,
		"runs for ever":     `{"running":9223372036854775807,"readings":[{"at":0,` + reading + `}]}`,
		"read before":       `{"running":90000000000000,"readings":[{"at":-1,` + reading + `}]}`,
		"read later":        `{"running":90000000000000,"readings":[{"at":0,` + reading + `},{"at":90000000000001,` + reading + `}]}`,
		"read out of order": `{"running":90000000000000,"readings":[{"at":7,` + reading + `},{"at":6,` + reading + `}]}`,
	} {
		t.Run(name, func(t *testing.T) {
			c := newCounty()
			if err := c.notes.PutNote(t.Context(), "clock", 0, []byte(value)); err != nil {
				t.Fatal(err)
			}
			begun := c.truth
			read := func() (time.Time, time.Duration) { return c.truth, c.truth.Sub(begun) }
			h, err := clock.OpenHeartbeats(t.Context(), clock.HeartbeatsConfig{Notes: &c.notes, Read: read, Now: func() time.Time { return c.truth }})
			if !errors.Is(err, clock.ErrDamaged) {
				t.Errorf("got %v, want ErrDamaged", err)
			}
			s := &server{Heartbeats: h}
			s.wantNothing(t)
			s.beat(t)
			c.run(t, time.Hour, s)
			if got := s.Running(); got != time.Hour {
				t.Errorf("it has run for %v, want an hour", got)
			}
			if _, err := clock.OpenHeartbeats(t.Context(), clock.HeartbeatsConfig{Notes: &c.notes, Read: read, Now: time.Now}); err != nil {
				t.Errorf("after beats: %v", err)
			}
		})
	}
}

// However many servers start, beat, lose answers and are killed, the running time is never
// more than what has passed.
func TestRunningTime(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		c := newCounty()
		begin := c.truth
		var servers []*server
		var newest time.Duration
		for range rapid.IntRange(1, 80).Draw(rt, "steps") {
			c.truth = c.truth.Add(time.Duration(rapid.IntRange(0, 90).Draw(rt, "seconds")) * time.Second)
			c.notes.lose, c.notes.away = rapid.IntRange(0, 9).Draw(rt, "lose") == 0, rapid.IntRange(0, 9).Draw(rt, "away") == 0
			switch n := len(servers); {
			case n == 0 || n < 4 && rapid.IntRange(0, 9).Draw(rt, "start") == 0:
				c.notes.lose, c.notes.away = false, false
				servers = append(servers, c.start(t, 0))
			case rapid.IntRange(0, 19).Draw(rt, "kill") == 0:
				servers = slices.Delete(servers, n-1, n)
			default:
				s := servers[rapid.IntRange(0, n-1).Draw(rt, "who")]
				_ = s.Beat(context.Background())
				newest = max(newest, s.Running())
			}
			if passed := c.truth.Sub(begin); newest > passed {
				rt.Fatalf("counted %v in %v", newest, passed)
			}
		}
	})
	// Several servers that beat regularly do not lose time either.
	for n := range 4 {
		c := newCounty()
		var servers []*server
		for range n + 1 {
			servers = append(servers, c.start(t, 0))
			c.truth = c.truth.Add(7 * time.Second)
		}
		c.run(t, 12*time.Hour, servers...)
		if got := servers[0].Running(); got < 12*time.Hour-5*time.Minute {
			t.Errorf("%d servers: counted %v in 12 h", n+1, got)
		}
	}
}

func ExampleHeartbeats() {
	var notes clocktest.MemoryNotes
	wall, ran := time.Date(2026, 11, 26, 8, 0, 0, 0, time.UTC), time.Duration(0)
	h, err := clock.OpenHeartbeats(context.Background(), clock.HeartbeatsConfig{
		Notes: &notes, Now: func() time.Time { return wall },
		Read: func() (time.Time, time.Duration) { return wall, ran },
	})
	if err != nil {
		panic(err)
	}
	for range 3 {
		if err := h.Beat(context.Background()); err != nil {
			panic(err)
		}
		wall, ran = wall.Add(clock.BeatEvery), ran+clock.BeatEvery
	}
	value, revision, _ := notes.Note(context.Background(), "clock")
	fmt.Printf("%d: %s\n", revision, value)
	// Output: 3: {"running":120000000000,"beat":"2026-11-26T08:02:00Z","readings":[{"at":0,"least":"2026-11-26T08:00:00Z"}]}
}
