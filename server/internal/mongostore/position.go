package mongostore

import (
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"xuncha/ledger"
)

// A run is a range of numbers, both ends included.
type run struct{ first, last int64 }

// A position says which of a writer's numbers a reader of the feed has behind it:
// all up to done, and some runs beyond, which are sorted and do not touch.
type position struct {
	done   int64
	beyond []run
}

// has reports whether the number is behind the reader.
func (p *position) has(n int64) bool {
	if n <= p.done {
		return true
	}
	// The first run that does not end before the number.
	at, _ := slices.BinarySearchFunc(p.beyond, n, func(r run, n int64) int { return cmp.Compare(r.last, n) })
	return at < len(p.beyond) && p.beyond[at].first <= n
}

// add puts a number behind the reader.
func (p *position) add(n int64) {
	if p.has(n) {
		return
	}
	at, _ := slices.BinarySearchFunc(p.beyond, n, func(r run, n int64) int { return cmp.Compare(r.first, n) })
	p.beyond = slices.Insert(p.beyond, at, run{n, n})
	if next := at + 1; next < len(p.beyond) && p.beyond[next].first == n+1 {
		p.beyond[at].last = p.beyond[next].last
		p.beyond = slices.Delete(p.beyond, next, next+1)
	}
	if at > 0 && p.beyond[at-1].last == n-1 {
		p.beyond[at-1].last = p.beyond[at].last
		p.beyond = slices.Delete(p.beyond, at, at+1)
	}
	if len(p.beyond) > 0 && p.beyond[0].first == p.done+1 {
		p.done = p.beyond[0].last
		p.beyond = slices.Delete(p.beyond, 0, 1)
	}
}

// gaps returns what is not behind the reader, as what lies between two numbers that
// are; the last gap has no end, which a last of 0 says.
func (p *position) gaps() []run {
	out := make([]run, 0, 1+len(p.beyond))
	last := p.done
	for _, r := range p.beyond {
		out = append(out, run{last, r.first})
		last = r.last
	}
	return append(out, run{last, 0})
}

// lacks returns how many of the numbers from 1 to last are not behind the reader.
func (p *position) lacks(last int64) int64 {
	missing := max(0, last-p.done)
	for _, r := range p.beyond {
		missing -= max(0, min(r.last, last)-r.first+1)
	}
	return missing
}

// greatest returns the greatest number that is behind the reader; 0 for none.
func (p *position) greatest() int64 {
	if len(p.beyond) == 0 {
		return p.done
	}
	return p.beyond[len(p.beyond)-1].last
}

// clone returns a copy that changes on its own.
func (p *position) clone() *position { return &position{p.done, slices.Clone(p.beyond)} }

// String writes the position as "12" or "12,15-20,30-30".
func (p *position) String() string {
	b := strconv.AppendInt(nil, p.done, 10)
	for _, r := range p.beyond {
		b = fmt.Appendf(b, ",%d-%d", r.first, r.last)
	}
	return string(b)
}

// readPosition reads what String has written.
func readPosition(s string) (*position, error) {
	parts := strings.Split(s, ",")
	p := &position{}
	var err error
	if p.done, err = strconv.ParseInt(parts[0], 10, 64); err != nil || p.done < 0 {
		return nil, fmt.Errorf("%q is no position", s)
	}
	least := p.done + 2
	for _, part := range parts[1:] {
		first, last, _ := strings.Cut(part, "-")
		a, errA := strconv.ParseInt(first, 10, 64)
		b, errB := strconv.ParseInt(last, 10, 64)
		if errA != nil || errB != nil || a < least || b < a {
			return nil, fmt.Errorf("%q is no position", s)
		}
		p.beyond = append(p.beyond, run{a, b})
		least = b + 2
	}
	return p, nil
}

// A bookmark is where one is in the order of histories and sequences, by which a
// feed from the beginning reads.
type bookmark struct {
	History  string `json:"history"`
	Sequence int64  `json:"sequence"`
}

// A vector is where a reader of the feed is: with each writer, and, as long as it
// has not read all that was there when it began, in the order of histories.
type vector struct {
	whole   *bookmark // nil once that is read
	writers map[string]*position
}

// cursorPrefix begins a cursor; a vector in JSON follows.
const cursorPrefix = "mongo:"

// vectorJSON is how a cursor spells a vector.
type vectorJSON struct {
	Whole   *bookmark         `json:"whole,omitempty"`
	Writers map[string]string `json:"writers"`
}

// cursor returns the vector as text.
func (v *vector) cursor() ledger.Cursor {
	out := vectorJSON{v.whole, make(map[string]string, len(v.writers))}
	for id, p := range v.writers {
		out.Writers[id] = p.String()
	}
	b, err := json.Marshal(out)
	if err != nil {
		panic(err) // strings and numbers can always be written
	}
	return ledger.Cursor(cursorPrefix + string(b))
}

// readVector reads what cursor has written.
func readVector(c ledger.Cursor) (*vector, error) {
	wrong := fmt.Errorf("%.100q: %w", string(c), ledger.ErrCursor)
	text, ours := strings.CutPrefix(string(c), cursorPrefix)
	var in vectorJSON
	if !ours || json.Unmarshal([]byte(text), &in) != nil || in.Writers == nil {
		return nil, wrong
	}
	v := &vector{in.Whole, make(map[string]*position, len(in.Writers))}
	for id, s := range in.Writers {
		p, err := readPosition(s)
		if err != nil {
			return nil, wrong
		}
		v.writers[id] = p
	}
	return v, nil
}

// of returns the position with a writer, which begins before its first number where
// the vector does not know it.
func (v *vector) of(writer string) *position {
	p := v.writers[writer]
	if p == nil {
		p = &position{}
		v.writers[writer] = p
	}
	return p
}

// hasMark reports whether the entry with the mark is behind the reader. What is no mark
// never is.
func (v *vector) hasMark(mark string) bool {
	writer, n, err := readMark(mark)
	if err != nil {
		return false
	}
	p := v.writers[writer]
	return p != nil && p.has(n)
}

// addMark puts the entry with the mark behind the reader.
func (v *vector) addMark(mark string) {
	if writer, n, err := readMark(mark); err == nil {
		v.of(writer).add(n)
	}
}
