package clock

import (
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// A machine has clocks that a test drives.
type machine struct {
	wall   time.Time
	ran    time.Duration
	asleep time.Duration
	events []Event
}

func newMachine() (*machine, *Clock) {
	m := &machine{wall: time.Date(2026, 11, 26, 8, 0, 0, 0, time.UTC), ran: 40 * time.Hour}
	return m, New(Config{
		Read:   func() (time.Time, time.Duration) { return m.wall, m.ran },
		Asleep: func() (time.Duration, bool) { return m.asleep, true },
		Notice: func(e Event) { m.events = append(m.events, e) },
	})
}

// run lets time pass, and the clock look each second.
func (m *machine) run(k *Clock, d time.Duration) {
	for ; d > 0; d -= time.Second {
		step := min(d, time.Second)
		m.wall, m.ran = m.wall.Add(step), m.ran+step
		k.look()
	}
}

// step sets the wall clock.
func (m *machine) step(d time.Duration) { m.wall = m.wall.Add(d) }

// sleep is a suspend: the monotonic clock stands still.
func (m *machine) sleep(d time.Duration) { m.wall, m.asleep = m.wall.Add(d), m.asleep+d }

// happened returns what the clock has noticed, and forgets it.
func (m *machine) happened() (out []What) {
	for _, e := range m.events {
		out = append(out, e.What)
	}
	m.events = nil
	return out
}

func wantNow(t *testing.T, k *Clock, want time.Time) {
	t.Helper()
	if got := k.Now(); !got.Equal(want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

func wantHappened(t *testing.T, m *machine, want ...What) {
	t.Helper()
	if got := m.happened(); !slices.Equal(got, want) {
		t.Errorf("happened: got %v, want %v", got, want)
	}
}

// A jump changes no time that anybody is given, for as long as the clock has not proved
// itself.
func TestJump(t *testing.T) {
	for _, by := range []time.Duration{
		6 * time.Hour, -6 * time.Hour, 366 * 24 * time.Hour, -366 * 24 * time.Hour, Tolerance + time.Second, -Tolerance - time.Second,
	} {
		t.Run(by.String(), func(t *testing.T) {
			m, k := newMachine()
			m.run(k, time.Minute)
			right := m.wall
			m.step(by)
			wantNow(t, k, right) // at once, and not at the next look
			wantHappened(t, m, Jumped)
			if e, wrong := k.Jumped(); !wrong || !e.Wall.Equal(m.wall) || !e.Good.Equal(right) {
				t.Errorf("got %v, %v, want the jump from %v to %v", e, wrong, right, m.wall)
			}
			m.run(k, SteadyFor-time.Second)
			wantNow(t, k, right.Add(SteadyFor-time.Second))
			wantHappened(t, m)
			m.run(k, 2*time.Second)
			wantNow(t, k, m.wall)
			wantHappened(t, m, Steadied)
			if e, wrong := k.Jumped(); wrong {
				t.Errorf("got %v, want no jump any more", e)
			}
		})
	}
}

// A small step is the clock's own affair.
func TestSmallStep(t *testing.T) {
	for _, by := range []time.Duration{Tolerance, -Tolerance, time.Second, -time.Second} {
		m, k := newMachine()
		m.step(by)
		wantNow(t, k, m.wall)
		m.run(k, time.Minute)
		wantNow(t, k, m.wall)
		wantHappened(t, m)
	}
}

func TestComesBack(t *testing.T) {
	m, k := newMachine()
	right := m.wall
	m.step(6 * time.Hour)
	m.run(k, 3*time.Minute)
	m.step(-6*time.Hour + 2*time.Second)
	wantNow(t, k, right.Add(3*time.Minute+2*time.Second))
	m.run(k, time.Second)
	wantNow(t, k, m.wall)
	wantHappened(t, m, Jumped, Returned)
}

// Whoever confirms the time of a clock that has jumped need not wait.
func TestConfirm(t *testing.T) {
	m, k := newMachine()
	m.step(-6 * time.Hour)
	m.run(k, time.Second)
	if got := k.Confirm(); !got.Equal(m.wall) {
		t.Errorf("got %v, want %v", got, m.wall)
	}
	wantNow(t, k, m.wall)
	m.run(k, time.Hour)
	wantNow(t, k, m.wall)
	wantHappened(t, m, Jumped, Confirmed)
	k.Confirm()
	wantHappened(t, m) // there was nothing to confirm
}

// A clock that does not run steadily never proves itself, and each of its jumps is told.
func TestUnsteady(t *testing.T) {
	m, k := newMachine()
	right := m.wall
	for range 10 {
		m.step(time.Hour)
		m.run(k, 8*time.Minute)
	}
	wantNow(t, k, right.Add(80*time.Minute))
	if got := len(m.happened()); got != 10 {
		t.Errorf("%d jumps were told, want 10", got)
	}
	for range 60 { // neither does one that runs 20 % fast
		m.step(12 * time.Second)
		m.run(k, time.Minute)
	}
	wantNow(t, k, right.Add(140*time.Minute))
}

// While a machine sleeps its monotonic clock stands still. That is no jump.
func TestSleep(t *testing.T) {
	m, k := newMachine()
	m.run(k, time.Minute)
	m.sleep(8 * time.Hour)
	wantNow(t, k, m.wall)
	m.run(k, time.Minute)
	wantNow(t, k, m.wall)
	if len(m.events) != 1 || m.events[0].Asleep != 8*time.Hour {
		t.Errorf("got %v, want that it slept for 8 hours", m.events)
	}
	wantHappened(t, m, Slept)
	// A clock that is wrong does not become right by that, and the good time goes on.
	right := m.wall
	m.step(-24 * time.Hour)
	m.run(k, time.Minute)
	m.sleep(time.Hour)
	m.run(k, time.Minute)
	wantNow(t, k, right.Add(time.Hour+2*time.Minute))
	wantHappened(t, m, Jumped, Slept)
	// Whoever sets the clock while the machine sleeps is noticed.
	m, k = newMachine()
	m.sleep(time.Hour)
	right = m.wall
	m.step(time.Hour)
	wantNow(t, k, right)
	wantHappened(t, m, Slept, Jumped)
}

// Drift that NTP corrects all the time adds up to hours and is no jump.
func TestDrift(t *testing.T) {
	for _, ppm := range []time.Duration{400, -400} {
		m, k := newMachine()
		begin := m.wall
		for range 6 * 7 * 24 * 60 { // six weeks
			m.step(ppm * time.Minute / 1_000_000)
			m.run(k, time.Second)
			m.wall, m.ran = m.wall.Add(59*time.Second), m.ran+59*time.Second
		}
		wantNow(t, k, m.wall)
		wantHappened(t, m)
		if off := m.wall.Sub(begin) - 6*7*24*time.Hour; off.Abs() < 20*time.Minute {
			t.Errorf("it has only drifted by %v", off)
		}
	}
}

// Several steps that are each too small for a jump add up to one.
func TestSlowSteps(t *testing.T) {
	for _, every := range []time.Duration{time.Second, time.Minute, time.Hour, 12 * time.Hour} {
		m, k := newMachine()
		m.step(4 * time.Minute)
		m.run(k, every)
		wantHappened(t, m)
		right := m.wall
		m.step(4 * time.Minute)
		wantNow(t, k, right)
		wantHappened(t, m, Jumped)
	}
}

// Whatever happens to the clock, if it does not stay wrong for ten minutes, nobody is given
// a time that is wrong by more than the tolerance, and nobody sees time run back by more
// than the wall clock did.
func TestNoWrongTime(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m, k := newMachine()
		truth := m.wall
		last, back, backward := k.Now(), time.Duration(0), time.Duration(0)
		set := func(to time.Time) {
			backward += max(0, m.wall.Sub(to))
			m.wall = to
		}
		check := func(what string) {
			t.Helper()
			now := k.Now()
			if d := now.Sub(truth); d.Abs() > Tolerance+2*time.Second {
				t.Fatalf("%s: wrong by %v: %v", what, d, m.events)
			}
			back += max(0, last.Sub(now))
			if back > backward+time.Duration(1+len(m.events))*near {
				t.Fatalf("%s: %v back in all, and the clock %v", what, back, backward)
			}
			last = now
		}
		pass := func(d time.Duration) {
			for ; d > 0; d -= time.Second {
				truth = truth.Add(time.Second)
				m.run(k, time.Second)
				check("running")
			}
		}
		for range rapid.IntRange(1, 12).Draw(t, "episodes") {
			pass(time.Duration(rapid.IntRange(0, 200).Draw(t, "seconds")) * time.Second)
			switch rapid.IntRange(0, 3).Draw(t, "what") {
			case 0:
				d := time.Duration(rapid.IntRange(1, 100_000).Draw(t, "sleep")) * time.Second
				truth = truth.Add(d)
				m.sleep(d)
				check("after sleep")
			case 1: // a jump, which somebody corrects
				d := time.Duration(rapid.IntRange(-40_000_000, 40_000_000).Draw(t, "jump")) * time.Second
				set(truth.Add(d))
				check("after a jump")
				pass(time.Duration(rapid.IntRange(0, 550).Draw(t, "wrong for")) * time.Second)
				set(truth)
				check("after its end")
			case 2: // what NTP does
				set(truth.Add(time.Duration(rapid.IntRange(-2000, 2000).Draw(t, "milliseconds")) * time.Millisecond))
				check("after a small step")
			}
		}
	})
}

// Durations are right even across a jump, as with time.Now.
func TestDurations(t *testing.T) {
	begun, off := time.Now(), time.Duration(0)
	k := New(Config{Read: func() (time.Time, time.Duration) {
		now := time.Now()
		ran := now.Sub(begun)
		if off == 0 {
			return now, ran
		}
		return now.Round(0).Add(off), ran
	}})
	before := k.Now()
	off = 6 * time.Hour
	if got := k.Now().Sub(before); got < 0 || got > time.Minute {
		t.Errorf("got %v between two calls", got)
	}
}

func TestSystem(t *testing.T) {
	k := New(Config{})
	if d := time.Since(k.Now()).Abs(); d > time.Second {
		t.Errorf("the clock is off by %v", d)
	}
	k.look()
	if e, wrong := k.Jumped(); wrong {
		t.Errorf("it has jumped: %v", e)
	}
	if asleep, known := systemAsleep(); known && asleep < -time.Second {
		t.Errorf("the machine has slept for %v", asleep)
	}
}

func BenchmarkNow(b *testing.B) {
	k := New(Config{})
	for name, now := range map[string]func() time.Time{"clock": k.Now, "time": time.Now} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				_ = now()
			}
		})
	}
}
