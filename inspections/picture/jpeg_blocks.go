package picture

import "math/bits"

// sequential goes over the blocks of one group (T.81, F.2.2).
func sequential(s *bitReader, group []blockCodes) error {
	for i := range group {
		if s.n < 48 {
			if err := s.fill(); err != nil {
				return err
			}
		}
		e := group[i].dc.first[s.acc>>(64-lookBits)]
		if e == 0 {
			if e = longEntry(s, group[i].dc, false); e == 0 {
				return errScan(s.r.at, "have a code that is none")
			}
		}
		s.drop(e.bits())
		if err := skipAC(s, group[i].ac); err != nil {
			return err
		}
	}
	return nil
}

// skipAC goes over the AC coefficients of a block (T.81, F.2.2.2).
func skipAC(s *bitReader, ac *huffman) error {
	acc, n := s.acc, s.n
	k := 1
	for k < 64 {
		if n < 32 {
			s.acc, s.n = acc, n
			if err := s.fill(); err != nil {
				return err
			}
			acc, n = s.acc, s.n
		}
		e := ac.more[acc>>(64-lookBits)]
		if k+e.passed() >= 64 {
			e = ac.first[acc>>(64-lookBits)]
		}
		if e == 0 {
			s.acc, s.n = acc, n
			if e = longEntry(s, ac, true); e == 0 {
				return errScan(s.r.at, "have a code that is none")
			}
		}
		acc <<= e.bits()
		n -= e.bits()
		if k += e.passed(); e&entryEnds != 0 {
			break
		}
	}
	s.acc, s.n = acc, n
	if k > 64 {
		return errScan(s.r.at, "have more coefficients than a block")
	}
	if n < 0 {
		return s.short()
	}
	return nil
}

// longEntry is the entry of the next symbol whose code is longer than what is looked up, or 0.
// It goes over nothing.
func longEntry(s *bitReader, h *huffman, ac bool) entry {
	was := *s
	value, ok := h.symbol(s)
	length := was.n - s.n
	*s = was
	if !ok {
		return 0
	}
	return entryOf(length, value, ac)
}

// firstDC goes over the blocks of one group of a first scan of DC coefficients (T.81,
// G.1.2.1).
func firstDC(s *bitReader, group []blockCodes) error {
	for i := range group {
		if s.n < 48 {
			if err := s.fill(); err != nil {
				return err
			}
		}
		size, ok := group[i].dc.symbol(s)
		if !ok || size > maxSize {
			return errScan(s.r.at, "have a code that is none")
		}
		if s.drop(int(size)); s.n < 0 {
			return s.short()
		}
	}
	return nil
}

// An acScan is a scan of AC coefficients of a progressive JPEG.
type acScan struct {
	s        *bitReader
	codes    *huffman
	from, to int
	nonzero  []uint64
	ended    int64 // how many blocks have nothing more
}

// symbol returns the next symbol: how many coefficients are passed, and the size of the one
// behind them. Where it is of blocks that have nothing more, it has added them.
func (a *acScan) symbol() (run, size int, ended bool, err error) {
	if a.s.n < 48 {
		if err := a.s.fill(); err != nil {
			return 0, 0, false, err
		}
	}
	v, ok := a.codes.symbol(a.s)
	if !ok {
		return 0, 0, false, errScan(a.s.r.at, "have a code that is none")
	}
	run, size = int(v>>4), int(v&15)
	if size == 0 && run < 15 {
		more, err := a.s.take(run)
		a.ended = 1<<run + int64(more)
		return 0, 0, true, err
	}
	if a.s.n < 0 {
		return 0, 0, false, a.s.short()
	}
	return run, size, false, nil
}

// first goes over a block of a first scan (T.81, G.1.2.2).
func (a *acScan) first(i, _ int64) error {
	if a.ended > 0 {
		a.ended--
		return nil
	}
	for k := a.from; k <= a.to; k++ {
		run, size, ended, err := a.symbol()
		if err != nil {
			return err
		}
		if ended {
			a.ended--
			return nil
		}
		if k += run; k > a.to {
			return errScan(a.s.r.at, "have more coefficients than a block")
		}
		if size > 0 {
			a.nonzero[i] |= 1 << k
			if a.s.drop(size); a.s.n < 0 {
				return a.s.short()
			}
		}
	}
	return nil
}

// refine goes over a block of a refining scan (T.81, G.1.2.3).
func (a *acScan) refine(i, _ int64) error {
	known, k := a.nonzero[i], a.from
	for a.ended == 0 && k <= a.to {
		run, size, ended, err := a.symbol()
		switch {
		case err != nil:
			return err
		case ended:
			continue
		case size > 1:
			return errScan(a.s.r.at, "have a code that is none")
		}
		// It passes so many that are not known, and a bit comes for each that is.
		unknown := ^known >> k << k
		for range run {
			unknown &= unknown - 1
		}
		at := min(bits.TrailingZeros64(unknown), a.to+1)
		corrected := bits.OnesCount64(known >> k << k & (1<<at - 1))
		k = at
		if err := a.correct(corrected + size); err != nil { // with its sign
			return err
		}
		if size > 0 {
			if k > a.to {
				return errScan(a.s.r.at, "have more coefficients than a block")
			}
			a.nonzero[i] |= 1 << k
		}
		k++
	}
	if a.ended > 0 {
		a.ended--
		if k <= a.to {
			return a.correct(bits.OnesCount64(known >> k << k << (63 - a.to)))
		}
	}
	return nil
}

// correct goes over n bits.
func (a *acScan) correct(n int) error {
	for n > 0 {
		m := min(n, 48) // as many as fill sees to
		if err := a.s.need(m); err != nil {
			return err
		}
		a.s.drop(m)
		n -= m
	}
	return nil
}
