//go:build !linux

package clock

import "time"

// ThreadTime begins to measure how much time the goroutine takes: here all that passes, since
// nothing tells what of it others take.
func ThreadTime() (spent func() time.Duration, done func()) {
	begun := time.Now()
	return func() time.Duration { return time.Since(begun) }, func() {}
}
