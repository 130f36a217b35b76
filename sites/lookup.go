package sites

import "xuncha/internal/persistent"

// A lookup finds things by a hash, of which it keeps only the numbers. A number is
// not 0 and never leaves. One can copy it by copying the struct.
type lookup struct {
	n int
	// slots has 0, or 32 bits of a hash above the number, in the first free slot from
	// the hash on. The count of slots is a power of two.
	slots persistent.Vector[uint64]
}

// find returns the number with the hash that is the one, or 0.
func (l *lookup) find(hash uint64, is func(uint32) bool) uint32 {
	if l.n == 0 {
		return 0
	}
	for i := uint32(hash); ; i++ {
		slot := *l.slots.At(i & (l.slots.Len() - 1))
		if slot == 0 || uint32(slot>>32) == uint32(hash) && is(uint32(slot)) {
			return uint32(slot)
		}
	}
}

// add adds a number that is not there.
func (l *lookup) add(number uint32, hash uint64, own *persistent.Owner) {
	if size := l.slots.Len(); l.n >= int(size)*2/3 {
		old := l.slots
		l.slots = persistent.Vector[uint64]{}
		l.reserve(int(size), own)
		for i := range size {
			if slot := *old.At(i); slot != 0 {
				l.put(slot, own)
			}
		}
	}
	l.put(hash<<32|uint64(number), own)
	l.n++
}

// reserve makes an empty lookup large enough for so many numbers, and some more.
func (l *lookup) reserve(n int, own *persistent.Owner) {
	size := uint32(64)
	for int(size)*2/3 <= n {
		size *= 2
	}
	for i := range size / 64 {
		l.slots.Edit(i*64+63, own)
	}
}

func (l *lookup) put(slot uint64, own *persistent.Owner) {
	mask := l.slots.Len() - 1
	i := uint32(slot>>32) & mask
	for *l.slots.At(i) != 0 {
		i = (i + 1) & mask
	}
	*l.slots.Edit(i, own) = slot
}
