package engine

import "sync"

// Locks keep apart those who work on the same file, by the first byte of its
// SHA-256. Two files may share a lock.
type Locks [256]sync.Mutex

// Lock takes the lock of the file with the hash, and returns what gives it back.
func (l *Locks) Lock(sum [32]byte) (unlock func()) {
	m := &l[sum[0]]
	m.Lock()
	return m.Unlock
}
