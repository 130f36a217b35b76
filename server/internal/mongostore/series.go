package mongostore

import (
	"slices"
	"sync"
)

// A series gives the numbers under which a server stores its entries. It gives the
// lowest one that is free, so that no number is missing for long: one whose entry could
// not be stored is given to another.
type series struct {
	mu sync.Mutex
	// given is the greatest number that was ever given.
	given int64
	// settled are the numbers under which an entry is stored, or was in an earlier run.
	settled position
	// free are those up to given under which nothing is stored or on its way, sorted.
	free []int64
}

// take gives so many numbers.
func (s *series) take(n int) []int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	reused := min(n, len(s.free))
	out := slices.Clone(s.free[:reused])
	s.free = slices.Delete(s.free, 0, reused)
	for len(out) < n {
		s.given++
		out = append(out, s.given)
	}
	return out
}

// stored says that entries are stored under the numbers, and returns the greatest one
// of which that is known.
func (s *series) stored(numbers ...int64) int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, n := range numbers {
		s.settled.add(n)
	}
	return s.settled.greatest()
}

// resume goes on where an earlier run has ended.
func (s *series) resume(given int64, settled *position, free []int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.given, s.settled, s.free = given, *settled, free
}

// giveBack says that nothing is stored under the numbers and that nothing can be any
// more.
func (s *series) giveBack(numbers ...int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, n := range numbers {
		at, _ := slices.BinarySearch(s.free, n)
		s.free = slices.Insert(s.free, at, n)
	}
	for len(s.free) > 0 && s.free[len(s.free)-1] == s.given {
		s.free = s.free[:len(s.free)-1]
		s.given--
	}
}

// A standing is how far a series has come.
type standing struct {
	given   int64
	settled *position
	free    []int64
}

func (s *series) standing() standing {
	s.mu.Lock()
	defer s.mu.Unlock()
	return standing{s.given, s.settled.clone(), slices.Clone(s.free)}
}
