package ledger

import (
	"bytes"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"testing"
	"time"
)

// sealed returns n entries of a history.
func sealed(h History, n int) (out []Entry) {
	var head Head
	for i := range n {
		e := head.Seal(Draft{
			History: h, ID: fmt.Sprint("id-", i+1), Kind: "check_in", Time: time.Date(2026, 1, 1, 0, i, 0, 0, time.UTC),
			Account: "local", Content: []byte(fmt.Sprintf(`{"n":%d,"note":"核查"}`, i)),
		})
		out, head = append(out, e), e.Head()
	}
	return out
}

// flipped returns the entry with one bit of its record changed.
func flipped(e Entry) Entry {
	e.Record = bytes.Clone(e.Record)
	e.Record[len(e.Record)-9] ^= 1
	return e
}

// repair seals a repair behind the entry that settles the flaws.
func repair(t testing.TB, after Head, h History, flaws []Flaw) Entry {
	t.Helper()
	r := Repair{Reason: "a disk went bad"}
	for _, f := range flaws {
		r.SetAside = append(r.SetAside, f.Aside)
	}
	content, err := r.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	return after.Seal(Draft{History: h, ID: fmt.Sprint("repair-", after.Sequence), Kind: KindRepaired, Time: after.Time, Account: "operator", Content: content})
}

func verified(v *Verifier, entries []Entry) (counted []Sequence) {
	for _, e := range entries {
		if v.Take(e) {
			counted = append(counted, e.Sequence)
		}
	}
	return counted
}

func namesOf(flaws []Flaw) (out []string) {
	for _, f := range flaws {
		out = append(out, fmt.Sprintf("%d: %s", f.Sequence, f.Why))
	}
	return out
}

var verifierNow = time.Date(2026, 2, 1, 0, 0, 0, 0, time.UTC)

func newTestVerifier() *Verifier { return NewVerifier(func() time.Time { return verifierNow }) }

func TestVerifierNamesWhatWasChanged(t *testing.T) {
	const h = History("site/1")
	tests := []struct {
		name    string
		alter   func([]Entry) []Entry
		want    []string
		counted []Sequence // all from 1 to 8 where nil
	}{
		{"nothing", func(e []Entry) []Entry { return e }, nil, nil},
		{"a record", func(e []Entry) []Entry { e[3] = flipped(e[3]); return e },
			[]string{"4: its record was changed: its hash, which the next entry proves, is that of another one"}, []Sequence{1, 2, 3, 5, 6, 7, 8}},
		{"a hash", func(e []Entry) []Entry { e[3].Hash[5] ^= 8; return e },
			[]string{"4: the hash stored with it was changed: the next entry proves its record"}, []Sequence{1, 2, 3, 5, 6, 7, 8}},
		{"two hashes in a row", func(e []Entry) []Entry { e[3].Hash[5] ^= 8; e[4].Hash[5] ^= 8; return e },
			[]string{"4: its hash does not follow from its record and the entry before", "5: the hash stored with it was changed: the next entry proves its record"}, []Sequence{1, 2, 3, 6, 7, 8}},
		{"two records in a row", func(e []Entry) []Entry { e[3], e[4] = flipped(e[3]), flipped(e[4]); return e },
			[]string{"4: its hash does not follow from its record and the entry before", "5: its record was changed: its hash, which the next entry proves, is that of another one"}, []Sequence{1, 2, 3, 6, 7, 8}},
		{"a record and the next one's hash", func(e []Entry) []Entry { e[3] = flipped(e[3]); e[4].Hash[5] ^= 8; return e },
			[]string{"4: its hash does not follow from its record and the entry before", "5: the hash stored with it was changed: the next entry proves its record"}, []Sequence{1, 2, 3, 6, 7, 8}},
		{"the first record", func(e []Entry) []Entry { e[0] = flipped(e[0]); return e },
			[]string{"1: its record was changed: its hash, which the next entry proves, is that of another one"}, []Sequence{2, 3, 4, 5, 6, 7, 8}},
		{"the last record", func(e []Entry) []Entry { e[7] = flipped(e[7]); return e },
			[]string{"8: its hash does not follow from its record and the entry before"}, []Sequence{1, 2, 3, 4, 5, 6, 7}},
		{"a record and its hash together", func(e []Entry) []Entry {
			e[3] = flipped(e[3])
			e[3].Hash = Chain(e[2].Hash, e[3].Record)
			return e
		}, []string{"5: its record was changed: its hash, which the next entry proves, is that of another one"}, []Sequence{1, 2, 3, 4, 6, 7, 8}},
		{"an id beside its record", func(e []Entry) []Entry { e[3].ID = "other"; return e },
			[]string{"4: the id stored beside its record is not the record's"}, []Sequence{1, 2, 3, 5, 6, 7, 8}},
		{"a time beside its record", func(e []Entry) []Entry { e[3].Time = e[3].Time.Add(1); return e },
			[]string{"4: the time stored beside its record is not the record's"}, []Sequence{1, 2, 3, 5, 6, 7, 8}},
		{"a far time beside its record", func(e []Entry) []Entry { e[3].Time = e[3].Time.AddDate(150, 0, 0); return e },
			[]string{"4: the time stored beside its record is not the record's"}, []Sequence{1, 2, 3, 5, 6, 7, 8}},
		{"a kind beside its record", func(e []Entry) []Entry { e[3].Kind = "check_im"; return e },
			[]string{"4: the kind stored beside its record is not the record's"}, []Sequence{1, 2, 3, 5, 6, 7, 8}},
		{"an account beside its record", func(e []Entry) []Entry { e[3].Account = "x"; return e },
			[]string{"4: the account stored beside its record is not the record's"}, []Sequence{1, 2, 3, 5, 6, 7, 8}},
		{"a sequence beside its record", func(e []Entry) []Entry { e[3].Sequence = 1 << 40; return e },
			[]string{"4: it is stored with the sequence 1099511627776, and its record has 4"}, []Sequence{1, 2, 3, 5, 6, 7, 8}},
		{"one missing", func(e []Entry) []Entry { return slices.Delete(e, 3, 4) },
			[]string{"4: it is missing", "5: it cannot be proven, because the entry before it is missing"}, []Sequence{1, 2, 3, 6, 7, 8}},
		{"the first missing", func(e []Entry) []Entry { return slices.Delete(e, 0, 1) },
			[]string{"1: it is missing", "2: it cannot be proven, because the entry before it is missing"}, []Sequence{3, 4, 5, 6, 7, 8}},
		{"one that the disk does not give", func(e []Entry) []Entry { e[3] = Entry{History: h, Sequence: 4}; return e },
			[]string{"4: it cannot be read from the disk", "5: it cannot be proven, because the entry before it is missing"}, []Sequence{1, 2, 3, 6, 7, 8}},
		{"one stored twice", func(e []Entry) []Entry { return slices.Insert(e, 4, e[3]) },
			[]string{"4: a second entry with this sequence, or one out of its order"}, nil},
		{"one put in", func(e []Entry) []Entry { return slices.Insert(e, 3, flipped(e[3])) },
			[]string{"4: a second entry with this sequence was put in"}, nil},
		{"two in the wrong order", func(e []Entry) []Entry { e[3], e[4] = e[4], e[3]; return e },
			[]string{"4: it stands behind the entry with the sequence 5", "5: it cannot be proven, because the entry before it is missing"}, []Sequence{1, 2, 3, 6, 7, 8}},
		{"the contents of two exchanged", func(e []Entry) []Entry {
			e[3].Record, e[4].Record = e[4].Record, e[3].Record
			return e
		}, []string{"4: its hash does not follow from its record and the entry before", "5: its record was changed: its hash, which the next entry proves, is that of another one"}, []Sequence{1, 2, 3, 6, 7, 8}},
		{"one of another history", func(e []Entry) []Entry { e[3] = sealed("site/2", 4)[3]; e[3].History = h; return e },
			[]string{"4: its hash does not follow from its record and the entry before", "5: its record was changed: its hash, which the next entry proves, is that of another one"}, []Sequence{1, 2, 3, 6, 7, 8}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			v := newTestVerifier()
			counted := verified(v, test.alter(sealed(h, 8)))
			flaws := v.FlawsOf(h)
			if got := namesOf(flaws); !reflect.DeepEqual(got, test.want) {
				t.Errorf("got\n%q, want\n%q", got, test.want)
			}
			if test.counted == nil {
				test.counted = []Sequence{1, 2, 3, 4, 5, 6, 7, 8}
			}
			if !slices.Equal(counted, test.counted) {
				t.Errorf("counts %v, want %v", counted, test.counted)
			}
			// A repair behind what is there settles all of it, and nothing else.
			again := newTestVerifier()
			entries := test.alter(sealed(h, 8))
			e := repair(t, entries[len(entries)-1].Head(), h, flaws)
			verified(again, append(entries, e))
			if left := again.Flaws(); len(left) > 0 {
				t.Errorf("after the repair there is still %q", namesOf(left))
			}
			for _, f := range flaws {
				if counts := slices.Contains(test.counted, f.Sequence); again.SetAside(h, f.Sequence) == counts {
					t.Errorf("sequence %d is set aside: %v; it counts: %v", f.Sequence, !counts, counts)
				}
			}
			if next := e.Head().Seal(Draft{History: h, ID: "n", Kind: "check_in", Time: e.Time, Content: []byte(`{}`)}); !again.Take(next) {
				t.Errorf("an entry after the repair does not verify: %q", namesOf(again.FlawsOf(h)))
			}
		})
	}
}

func TestVerifierKeepsHistoriesApart(t *testing.T) {
	v := newTestVerifier()
	bad := sealed("site/1", 3)
	bad[1] = flipped(bad[1])
	good := sealed("site/2", 3)
	for i := range bad {
		v.Take(bad[i])
		if !v.Take(good[i]) {
			t.Errorf("%s at sequence %d does not verify", good[i].History, good[i].Sequence)
		}
	}
	if flaws := v.Flaws(); len(flaws) != 1 || flaws[0].History != "site/1" || flaws[0].Sequence != 2 || flaws[0].Since != verifierNow {
		t.Errorf("got %+v", flaws)
	}
}

// A repair names entries as they are. What is changed again afterwards, or was brought
// back from a backup, is not what somebody has decided about.
func TestVerifierRepairNamesBytes(t *testing.T) {
	const h = History("site/1")
	entries := sealed(h, 4)
	right := entries[2]
	entries[2] = flipped(right)
	v := newTestVerifier()
	verified(v, entries)
	entries = append(entries, repair(t, entries[3].Head(), h, v.FlawsOf(h)))

	entries[2].Record = bytes.Clone(entries[2].Record)
	entries[2].Record[len(entries[2].Record)-8] ^= 1
	v = newTestVerifier()
	verified(v, entries)
	if got := namesOf(v.FlawsOf(h)); len(got) != 1 {
		t.Errorf("changed once more: got %q, want one flaw", got)
	}

	entries[2] = right
	v = newTestVerifier()
	if counted := verified(v, entries); len(counted) != 5 || len(v.FlawsOf(h)) > 0 || v.SetAside(h, 3) {
		t.Errorf("put right: counts %v, has %q, set aside %v; want all to count", counted, namesOf(v.FlawsOf(h)), v.SetAside(h, 3))
	}
}

// Where the newest entries are lost, the store still knows how many there were. A
// repair then goes behind those.
func TestVerifierLackingTheNewest(t *testing.T) {
	const h = History("site/1")
	entries := sealed(h, 4)
	v := newTestVerifier()
	verified(v, entries)
	v.Lacks(h, 6)
	if got, want := namesOf(v.FlawsOf(h)), []string{"5: it is missing", "6: it is missing"}; !slices.Equal(got, want) {
		t.Fatalf("got %q, want %q", got, want)
	}
	at := entries[3].Head()
	at.Sequence = 6
	e := repair(t, at, h, v.FlawsOf(h))
	v = newTestVerifier()
	if counted := verified(v, append(entries, e)); len(counted) != 5 || len(v.Flaws()) > 0 || !v.SetAside(h, 6) {
		t.Errorf("counts %v, has %q", counted, namesOf(v.Flaws()))
	}
}

func TestVerifierGoesOnBehindWhatIsKnown(t *testing.T) {
	const h = History("site/1")
	entries := sealed(h, 6)
	v := newTestVerifier()
	v.Begin(h, entries[3].Head())
	if counted := verified(v, entries[2:]); len(counted) != 4 || len(v.Flaws()) > 0 {
		t.Errorf("counts %v, has %q", counted, namesOf(v.Flaws()))
	}
	v = newTestVerifier()
	v.Begin(h, entries[3].Head())
	entries[4] = flipped(entries[4])
	if counted := verified(v, entries[4:]); len(counted) != 1 || len(v.Flaws()) != 1 {
		t.Errorf("counts %v, has %q", counted, namesOf(v.Flaws()))
	}
}

func TestVerifierUnreadable(t *testing.T) {
	const h = History("site/1")
	entries := sealed(h, 3)
	v := newTestVerifier()
	verified(v, entries)
	v.Unreadable(entries[1], errors.New("finding: unknown"))
	flaws := v.FlawsOf(h)
	if got, want := namesOf(flaws), []string{"2: cannot be read: finding: unknown"}; !slices.Equal(got, want) {
		t.Fatalf("got %q, want %q", got, want)
	}
	v.Take(repair(t, entries[2].Head(), h, flaws))
	if !v.SetAside(h, 2) || len(v.Flaws()) > 0 {
		t.Errorf("a repair does not settle it: %q", namesOf(v.Flaws()))
	}
}

func BenchmarkVerifier(b *testing.B) {
	var head Head
	content := append(append([]byte(`{"note":"`), bytes.Repeat([]byte("x"), 230)...), `"}`...)
	entries := make([]Entry, 1000)
	for i := range entries {
		entries[i] = head.Seal(Draft{
			History: "site/0d6a1f0e-9d38-4c0c-8f2f-0123456789ab", ID: "0d6a1f0e-9d38-4c0c-8f2f-0123456789ac", Kind: "check_in",
			Time: time.Date(2026, 1, 1, 0, 0, i, 123456789, time.UTC), Account: "officer", Content: content,
		})
		head = entries[i].Head()
	}
	b.SetBytes(int64(len(entries[0].Record)))
	v := newTestVerifier()
	b.ResetTimer()
	for i := range b.N {
		if i%len(entries) == 0 {
			v = newTestVerifier()
		}
		if !v.Take(entries[i%len(entries)]) {
			b.Fatal("does not verify")
		}
	}
}

// Where a second entry with a sequence was put in and set aside, the one that verifies
// still counts.
func TestVerifierKeepsWhatStandsBesideASecondEntry(t *testing.T) {
	const h = History("site/1")
	for name, at := range map[string]int{"right before": 3, "right behind": 4, "at the end": 8} {
		entries := sealed(h, 8)
		last := entries[7].Head()
		entries = slices.Insert(entries, at, flipped(entries[3]))
		v := newTestVerifier()
		verified(v, entries)
		entries = append(entries, repair(t, last, h, v.FlawsOf(h)))
		v = newTestVerifier()
		if counted := verified(v, entries); len(counted) != 9 || len(v.FlawsOf(h)) > 0 || v.SetAside(h, 4) {
			t.Errorf("%s: counts %v, has %q, set aside %v; want the 8 entries and the repair", name, counted, namesOf(v.FlawsOf(h)), v.SetAside(h, 4))
		}
	}
}

// An entry that was moved is known by its place, and one that is not what its record says
// is not taken for right before somebody has noticed it.
func TestAlterationsOfEntry(t *testing.T) {
	a := &Alterations{}
	entries := sealed("site/1", 4)
	moved := entries[2]
	moved.Sequence = 1 << 40
	want := func(e Entry, altered, aside bool) {
		t.Helper()
		if gotAltered, gotAside := a.OfEntry(e); gotAltered != altered || gotAside != aside {
			t.Errorf("%d: got altered %v, aside %v; want %v, %v", e.Sequence, gotAltered, gotAside, altered, aside)
		}
	}
	want(entries[1], false, false)
	want(moved, true, false)
	a.Add(Fault{History: "site/1", Sequence: 2})
	want(entries[1], true, false)
	a.Clear("site/1")
	a.PutAside("site/1", []Sequence{3})
	want(entries[1], false, false)
	want(moved, false, true)
	want(entries[2], false, true)
}

// An entry that somebody has moved far ahead, and that is read behind all others, stays
// settled while the history grows.
func TestVerifierOfOneFarAhead(t *testing.T) {
	const h = History("site/1")
	e := sealed(h, 8)
	far := e[2]
	far.Sequence = 1 << 40
	stored := slices.Delete(slices.Clone(e), 2, 3)
	for looks := 0; ; looks++ {
		v := newTestVerifier()
		verified(v, append(slices.Clone(stored), far))
		flaws := v.FlawsOf(h)
		if len(flaws) == 0 {
			break
		}
		if looks == 4 {
			t.Fatalf("got %q after %d repairs", namesOf(flaws), looks)
		}
		stored = append(stored, repair(t, v.Head(h), h, flaws))
	}
	for range 3 {
		last := stored[len(stored)-1]
		stored = append(stored, last.Head().Seal(Draft{History: h, ID: fmt.Sprint("later-", last.Sequence), Kind: "check_in", Time: last.Time, Content: []byte(`{}`)}))
		v := newTestVerifier()
		verified(v, append(slices.Clone(stored), far))
		if flaws := v.FlawsOf(h); len(flaws) > 0 || !v.SetAside(h, 3) {
			t.Errorf("with %d entries: got %q", len(stored), namesOf(flaws))
		}
	}
}
