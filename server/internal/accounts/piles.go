package accounts

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"xuncha/ledger"
)

const (
	// readPage is how many entries of a history are read at once at most.
	readPage = 500
	// readSpare is how many more entries of each of several histories are read at first
	// than its share of the page.
	readSpare = 4
	// MaxLooked is how many entries are read for one page of an answer, but for a few of
	// each history. It takes some ten milliseconds.
	MaxLooked = 5000
)

// errEnd says that no entry from here on is wanted.
var errEnd = errors.New("the end")

// A pile is what a list has yet to look at of one history, the newest on top.
type pile struct {
	history ledger.History
	// before is greater by one than the sequence of the entry on top. It is 1 where none
	// is left, and 0 until the history's newest entry is known.
	before ledger.Sequence
	ahead  []ledger.Entry // read already, the one on top first
	taken  int
}

func (p *pile) empty() bool { return p.before == 1 }

// dry reports whether the entry on top has to be read first.
func (p *pile) dry() bool { return !p.empty() && len(p.ahead) == 0 }

// unread returns the sequence of which those that are not read yet are less.
func (p *pile) unread() ledger.Sequence {
	if n := len(p.ahead); n > 0 {
		return p.ahead[n-1].Sequence
	}
	return p.before
}

// read reads up to n further entries.
func (p *pile) read(ctx context.Context, store ledger.Store, n int) error {
	page, err := store.Newest(ctx, p.history, p.unread(), n)
	if err != nil {
		return err
	}
	switch p.ahead = append(p.ahead, page...); {
	case len(p.ahead) == 0:
		p.before = 1
	case p.before == 0:
		p.before = p.ahead[0].Sequence + 1
	}
	return nil
}

// take takes the entry off the top.
func (p *pile) take() {
	p.before, p.ahead = p.ahead[0].Sequence, p.ahead[1:]
	p.taken++
}

// takeFrom takes off what was read and received at t or later.
func (p *pile) takeFrom(t time.Time) {
	for len(p.ahead) > 0 && !p.ahead[0].Time.Before(t) {
		p.take()
	}
}

// firstRead is how many entries of each of so many histories are read first for a
// page of n.
func firstRead(histories, n int) int { return max(1, min(n, n/histories+readSpare)) }

// readAhead reads on in all piles of which little is left that is read, at the same
// time: at least first entries of each, and as many as were taken from it, so that a
// long list takes few reads. It reports whether there was anything to read, or
// MaxLooked are read already.
func readAhead(ctx context.Context, store ledger.Store, piles []*pile, first int) (more bool, err error) {
	left := MaxLooked
	var low []*pile
	for _, p := range piles {
		left -= p.taken + len(p.ahead)
		if len(p.ahead) < (first+1)/2 && p.unread() != 1 {
			low = append(low, p)
		}
	}
	if left <= 0 {
		return false, nil
	}
	g, ctx := errgroup.WithContext(ctx)
	for _, p := range low {
		n := min(max(first, p.taken), readPage, max(1, left/len(low)))
		g.Go(func() error { return p.read(ctx, store, n) })
	}
	return len(low) > 0, g.Wait()
}

// newestFirst calls each with the entries of the piles, newest first: by their times,
// those of one time by their histories' names and then by their sequences, all from
// the greatest on. It takes them off until each wants no more or MaxLooked are read,
// and returns how many that were. Where each ends with errEnd, the piles are empty.
//
// It reads about n entries, as if each wanted all of them, and then more and more.
func newestFirst(ctx context.Context, store ledger.Store, piles []*pile, n int, each func(ledger.Entry) (more bool, err error)) (looked int, err error) {
	first := firstRead(len(piles), n)
	for {
		if slices.ContainsFunc(piles, (*pile).dry) {
			if more, err := readAhead(ctx, store, piles, first); err != nil || !more {
				return looked, err
			}
		}
		newest := newestOf(piles)
		if newest == nil {
			return looked, nil
		}
		looked++
		more, err := each(newest.ahead[0])
		if errors.Is(err, errEnd) {
			for _, p := range piles {
				p.before, p.ahead = 1, nil
			}
			return looked, nil
		}
		if err != nil {
			return looked, err
		}
		if newest.take(); !more {
			return looked, nil
		}
	}
}

// newestOf returns the pile with the newest entry on top, or nil where all are empty.
// None may be dry.
func newestOf(piles []*pile) (newest *pile) {
	for _, p := range piles {
		if !p.empty() && (newest == nil || newer(p.ahead[0], newest.ahead[0])) {
			newest = p
		}
	}
	return newest
}

// newer compares entries of different histories.
func newer(a, b ledger.Entry) bool {
	if c := a.Time.Compare(b.Time); c != 0 {
		return c > 0
	}
	return strings.Compare(string(a.History), string(b.History)) > 0
}

// skipFrom takes off the piles, of which the first entries are read, what was received
// at t or later. The times of a history never run backwards, so it searches by halves,
// in all piles at the same time.
func skipFrom(ctx context.Context, store ledger.Store, piles []*pile, t time.Time) error {
	// A pile's first entry of t or later lies from low to before, the latter included.
	low := make(map[*pile]ledger.Sequence, len(piles))
	for _, p := range piles {
		p.takeFrom(t)
		if p.taken = 0; p.dry() {
			low[p] = 1
		}
	}
	for {
		var keys []ledger.Key
		var asked []*pile
		for _, p := range piles {
			if from, ok := low[p]; ok && from < p.before {
				asked = append(asked, p)
				keys = append(keys, ledger.Key{History: p.history, Sequence: (from + p.before) / 2})
			}
		}
		if len(keys) == 0 {
			return nil
		}
		entries, err := store.Entries(ctx, keys)
		if err != nil {
			return err
		}
		for i, e := range entries {
			if e.Time.Before(t) {
				low[asked[i]] = e.Sequence + 1
			} else {
				asked[i].before = e.Sequence
			}
		}
	}
}
