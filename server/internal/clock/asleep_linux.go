package clock

import (
	"time"

	"golang.org/x/sys/unix"
)

// systemAsleep returns what the clock that goes on while the machine sleeps is ahead of
// the one that does not.
func systemAsleep() (time.Duration, bool) {
	var on, still unix.Timespec
	if unix.ClockGettime(unix.CLOCK_BOOTTIME, &on) != nil || unix.ClockGettime(unix.CLOCK_MONOTONIC, &still) != nil {
		return 0, false
	}
	return time.Duration(on.Nano() - still.Nano()), true
}
