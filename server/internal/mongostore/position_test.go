package mongostore

import (
	"errors"
	"math/rand/v2"
	"testing"

	"xuncha/ledger"
)

// A position has what was added to it and nothing else, whatever the order, and its
// gaps are the rest.
func TestPosition(t *testing.T) {
	for seed := range uint64(200) {
		random := rand.New(rand.NewPCG(seed, 1))
		p, want := &position{}, map[int64]bool{}
		const count = 40
		for range random.IntN(60) {
			n := 1 + random.Int64N(count)
			p.add(n)
			want[n] = true
		}
		again, err := readPosition(p.String())
		if err != nil || again.String() != p.String() {
			t.Fatalf("%s was read as %v, %v", p, again, err)
		}
		for n := int64(1); n <= count+1; n++ {
			inGap := false
			for _, g := range p.gaps() {
				inGap = inGap || g.first < n && (g.last == 0 || n < g.last)
			}
			if p.has(n) != want[n] || inGap == want[n] {
				t.Fatalf("%s: has %d: %v, in a gap: %v, added: %v", p, n, p.has(n), inGap, want[n])
			}
		}
		for i, r := range p.beyond {
			if last := p.done; i == 0 && r.first <= last+1 || i > 0 && r.first <= p.beyond[i-1].last+1 {
				t.Fatalf("%s is not as short as it can be", p)
			}
		}
	}
}

func FuzzReadVector(f *testing.F) {
	v := &vector{whole: &bookmark{"site/x", 7}, writers: map[string]*position{"a": {done: 3, beyond: []run{{5, 9}}}, "b": {}}}
	for _, c := range []ledger.Cursor{v.cursor(), "", "mongo:", `mongo:{}`, `mongo:{"writers":{}}`, `mongo:{"writers":{"a":"1,3-2"}}`, `mongo:{"writers":{"a":"-1"}}`, `mongo:{"writers":{"a":"1,2-3"}}`, "sqlite:1"} {
		f.Add(string(c))
	}
	f.Fuzz(func(t *testing.T, s string) {
		v, err := readVector(ledger.Cursor(s))
		if err != nil {
			if !errors.Is(err, ledger.ErrCursor) {
				t.Errorf("got %v, want ErrCursor", err)
			}
			return
		}
		again, err := readVector(v.cursor())
		if err != nil || again.cursor() != v.cursor() {
			t.Errorf("%q was read as %s, and that as %v, %v", s, v.cursor(), again, err)
		}
		for _, p := range v.writers {
			p.has(1)
			p.add(5)
			if !p.has(5) {
				t.Errorf("%s has not what was added", p)
			}
		}
	})
}
