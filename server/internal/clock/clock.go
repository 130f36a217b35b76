// Package clock tells the time in a way that one wrong turn of the machine's clock cannot
// spoil.
//
// A [Clock] is what a server reads instead of time.Now. It compares the wall clock, which
// anybody may set, with the monotonic clock, which only runs. Where they disagree by more
// than [Tolerance] it goes on with the last good time plus what has run since, until the
// wall clock has proved itself or somebody has confirmed it.
//
// [Heartbeats] remember across restarts, and for all servers of a store together, for how
// long servers have run and what their clocks have shown meanwhile. What cannot be undone,
// such as a deletion, goes by what they believe.
package clock

import (
	"context"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// Tolerance is how far the wall clock may step before that counts as a jump.
	Tolerance = 5 * time.Minute
	// SteadyFor is how long a clock that has jumped must then run steadily to be taken
	// for right.
	SteadyFor = 10 * time.Minute
	// lookEvery is how often Run compares the clocks.
	lookEvery = time.Second
	// near is how far both clocks may drift apart between two looks. It is far less than
	// what a wrong time would cost, and more than what reading one after the other takes.
	near = 10 * time.Millisecond
	// steady is how far a clock may drift during SteadyFor.
	steady = time.Second
	// slew is the part of the time that has passed by which the reference follows the
	// wall clock: 500 parts in a million, the most that the kernel lets NTP bend it. So
	// honest drift never adds up to a jump, and steps add up: to pass unseen, those of
	// Tolerance together must take a week.
	slew = 2000
)

// Config is where a Clock has its time from. The zero value stands for the machine.
type Config struct {
	// Read reads both clocks at one moment: the wall clock, and how long the monotonic
	// one has run since any fixed moment.
	Read func() (wall time.Time, ran time.Duration)
	// Asleep returns for how long the machine has been asleep since it started, in which
	// its monotonic clock may stand still; nil asks the system. It is false where that is
	// not known.
	Asleep func() (time.Duration, bool)
	// Notice is told what happens, in order. It must not call the Clock.
	Notice func(Event)
}

// A What is a kind of event.
type What int

const (
	// Jumped means that the wall clock has stepped by more than Tolerance.
	Jumped What = iota
	// Returned means that it came back by itself.
	Returned
	// Steadied means that it has been steady for SteadyFor, so it is taken for right.
	Steadied
	// Confirmed means that somebody has said that it is right.
	Confirmed
	// Slept means that the machine was asleep.
	Slept
)

// An Event is something that a Clock has noticed.
type Event struct {
	What What
	// Wall is what the wall clock shows, and Good the last good time plus what has run
	// since.
	Wall, Good time.Time
	// Asleep is for how long the machine slept; 0 for other events.
	Asleep time.Duration
}

// A Clock tells the time. It is safe for concurrent use.
type Clock struct {
	c     Config
	state atomic.Pointer[state]

	mu     sync.Mutex
	looked time.Duration // by the monotonic clock
	asleep time.Duration // as of the last look
	// Offsets are what the wall clock shows beyond the monotonic one. The reference
	// follows that of the wall clock slowly. Once it has jumped, the reference stands,
	// and candidate is the wall clock's offset since the monotonic clock had run for.
	reference, candidate, since time.Duration
	jump                        Event // the newest, while the clock is wrong
}

// A state is what Now needs to know. It never changes.
type state struct {
	// good is what the wall clock has shown when it was last known to be right, and the
	// monotonic one had run for ran.
	good time.Time
	ran  time.Duration
	// wrong tells that the wall clock has jumped since.
	wrong bool
	// offset is that of the wall clock at the last look, right or wrong.
	offset time.Duration
}

// at returns the good time once the monotonic clock has run so far. It has a monotonic
// reading where good does, so that durations are right whatever happens to the clock.
func (s *state) at(ran time.Duration) time.Time { return s.good.Add(ran - s.ran) }

// New returns a clock, which takes the wall clock for right as it is.
func New(c Config) *Clock {
	if c.Read == nil {
		c.Read = Machine()
	}
	if c.Asleep == nil {
		c.Asleep = systemAsleep
	}
	if c.Notice == nil {
		c.Notice = func(Event) {}
	}
	k := &Clock{c: c}
	wall, ran := c.Read()
	k.asleep, _ = c.Asleep()
	k.takeOver(wall, ran)
	return k
}

// Machine returns a function that reads the clocks of the machine.
func Machine() func() (wall time.Time, ran time.Duration) {
	begun := time.Now()
	return func() (time.Time, time.Duration) {
		t := time.Now()
		return t, t.Sub(begun)
	}
}

// offsetOf returns what the wall clock shows beyond the monotonic one.
func offsetOf(wall time.Time, ran time.Duration) time.Duration {
	return time.Duration(wall.UnixNano()) - ran
}

// Now returns the time: that of the wall clock, unless it has jumped.
func (k *Clock) Now() time.Time {
	wall, ran := k.c.Read()
	s := k.state.Load()
	switch {
	case (offsetOf(wall, ran) - s.offset).Abs() > near:
		return k.look()
	case s.wrong:
		return s.at(ran)
	}
	return wall
}

// Run compares the clocks every second until ctx ends.
func (k *Clock) Run(ctx context.Context) {
	ticker := time.NewTicker(lookEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
			k.look()
		case <-ctx.Done():
			return
		}
	}
}

// Jumped returns the newest jump of the wall clock, where it is not taken for right.
func (k *Clock) Jumped() (Event, bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.jump, k.state.Load().wrong
}

// Confirm takes the wall clock for right as it is, and returns what it shows.
func (k *Clock) Confirm() time.Time {
	k.mu.Lock()
	defer k.mu.Unlock()
	wall, ran := k.c.Read()
	k.sleep(wall, ran)
	was := *k.state.Load()
	k.takeOver(wall, ran)
	if was.wrong {
		k.c.Notice(Event{What: Confirmed, Wall: wall, Good: was.at(ran)})
	}
	return wall
}

// takeOver takes the wall clock for right.
func (k *Clock) takeOver(wall time.Time, ran time.Duration) {
	k.looked, k.reference = ran, offsetOf(wall, ran)
	k.right(wall, ran)
}

// right notes that the wall clock is right.
func (k *Clock) right(wall time.Time, ran time.Duration) {
	k.state.Store(&state{good: wall, ran: ran, offset: offsetOf(wall, ran)})
}

// look compares the clocks, and returns the time.
func (k *Clock) look() time.Time {
	k.mu.Lock()
	defer k.mu.Unlock()
	wall, ran := k.c.Read()
	k.sleep(wall, ran)
	offset, passed := offsetOf(wall, ran), ran-k.looked
	k.looked = ran
	s := k.state.Load()
	if !s.wrong {
		k.reference += min(max(offset-k.reference, -passed/slew), passed/slew)
	}
	switch within := (offset - k.reference).Abs() <= Tolerance; {
	case within && !s.wrong:
		k.right(wall, ran)
		return wall
	case within:
		k.right(wall, ran)
		k.c.Notice(Event{What: Returned, Wall: wall, Good: s.at(ran)})
		return wall
	}
	good := s.at(ran)
	switch moved := (offset - k.candidate).Abs(); {
	case !s.wrong || moved > Tolerance:
		k.candidate, k.since = offset, ran
		k.jump = Event{What: Jumped, Wall: wall, Good: good}
		k.c.Notice(k.jump)
	case moved > steady:
		k.candidate, k.since = offset, ran
	case ran-k.since >= SteadyFor:
		k.takeOver(wall, ran)
		k.c.Notice(Event{What: Steadied, Wall: wall, Good: good})
		return wall
	}
	k.state.Store(&state{good: s.good, ran: s.ran, wrong: true, offset: offset})
	return good
}

// sleep adds the time for which the machine was asleep since the last look, in which the
// monotonic clock stood still.
func (k *Clock) sleep(wall time.Time, ran time.Duration) {
	asleep, known := k.c.Asleep()
	slept := asleep - k.asleep
	if !known || slept < time.Second {
		return
	}
	k.asleep = asleep
	k.reference += slept
	k.candidate += slept
	s := *k.state.Load()
	s.good = s.good.Add(slept)
	k.state.Store(&s)
	k.c.Notice(Event{What: Slept, Wall: wall, Good: s.at(ran), Asleep: slept})
}
