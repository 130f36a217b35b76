package picture

import "time"

// MaxEffort is how much CPU time may go to one picture: to go over its compressed data when
// it is kept, and to make a thumbnail of it. Photos of phones take a tenth of it.
const MaxEffort = 2 * time.Second

// A Stopwatch begins to measure how much CPU time the calling goroutine takes. Spent returns
// that, in the goroutine, until done is called.
type Stopwatch func() (spent func() time.Duration, done func())

// Start begins to measure. One that is nil shows that no time passes.
func (s Stopwatch) Start() (spent func() time.Duration, done func()) {
	if s == nil {
		return func() time.Duration { return 0 }, func() {}
	}
	return s()
}
