package clock

import (
	"runtime"
	"time"

	"golang.org/x/sys/unix"
)

// ThreadTime begins to measure how much CPU time the goroutine takes. Spent returns it, and is
// called from that goroutine until done. Meanwhile it has a thread of its own.
func ThreadTime() (spent func() time.Duration, done func()) {
	runtime.LockOSThread()
	now := func() time.Duration {
		var t unix.Timespec
		if unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &t) != nil {
			return 0
		}
		return time.Duration(t.Nano())
	}
	begun := now()
	return func() time.Duration { return now() - begun }, runtime.UnlockOSThread
}
