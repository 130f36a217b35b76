package sqlitestore

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"math"
	"math/bits"
	"sync"
	"sync/atomic"

	"zombiezen.com/go/sqlite"

	"xuncha/ledger"
)

// An id is looked up by a number that its history and it give, its slot. Two ids
// may have one: then the later one lies in the next slot that is free, as in a hash
// table. So whoever looks an id up compares what lies in its slot and in those
// behind it, up to one in which nothing lies. Nothing is ever deleted.
//
// Ids come from phones, so nobody may be able to make many that share a slot. That
// is why the number is of SHA-256. Two ids with one slot take 2^31 tries to find,
// three 2^41, and cost whoever looks them up one or two slots more.

// slotOf returns the slot of an id of a history: 62 bits, so that there are slots
// behind it.
func slotOf(h ledger.History, id string) int64 {
	var room [128]byte
	b := append(append(append(room[:0], h...), 0), id...)
	sum := sha256.Sum256(b)
	return int64(binary.BigEndian.Uint64(sum[:]) >> 2)
}

const (
	bySlot = `SELECT ` + entryColumns + `, h.name, s.entry FROM slots s LEFT JOIN entries e ON e.entry = s.entry
		LEFT JOIN histories h ON h.id = e.history WHERE s.slot = +?1`

	// byOldID looks into the table that had the ids before there were slots.
	byOldID = `SELECT ` + entryColumns + ` FROM histories h CROSS JOIN ids i ON i.history = h.id
		CROSS JOIN entries e ON e.entry = i.entry WHERE h.name = +?1 AND i.id = +?2`

	slotsAfter  = `SELECT slot FROM slots WHERE slot > ?1 ORDER BY slot`
	oldIDsAfter = `SELECT i.history, i.id, h.name FROM ids i CROSS JOIN histories h ON h.id = i.history
		WHERE (i.history, i.id) > (?1, ?2) ORDER BY i.history, i.id`
)

// ids finds entries by their ids in the indexes.
type ids struct {
	slotOf func(ledger.History, string) int64
	// old tells that the table ids has some.
	old bool
	filter
	// wanted is closed once somebody looks for an id that the filter could tell of.
	wanted chan struct{}
	once   sync.Once
}

// find returns the indexed entry with the id. One whose record says something else is
// returned only where there is no other: somebody may have given it the id of another, or
// put in a copy.
func (i *ids) find(conn *sqlite.Conn, h ledger.History, id string) (e ledger.Entry, found bool, err error) {
	var odd *ledger.Entry
	for slot := i.slotOf(h, id); ; slot++ {
		taken, row := false, int64(0)
		err := query(conn, bySlot, 1,
			func(stmt *sqlite.Stmt) { stmt.BindInt64(1, slot) },
			func(stmt *sqlite.Stmt) {
				e = readEntry(stmt, ledger.History(stmt.ColumnText(7)), new(arena).record(stmt))
				if taken = true; stmt.ColumnType(6) == sqlite.TypeNull {
					row = stmt.ColumnInt64(8)
				}
			})
		if row > 0 {
			// The slot leads to an entry that the disk does not give, or not at once.
			if e, _, _, err = readRow(conn, row); err == nil && len(e.Record) == 0 && slot == i.slotOf(h, id) {
				err = alteredAt(h, 0, "the entry with the id "+id+" cannot be read from the disk")
			}
		}
		if err != nil {
			return ledger.Entry{}, false, err
		}
		if taken && e.ID == id && (e.History == h || saysHistory(e.Record, h)) {
			e.History = h // whatever is stored beside it
			if e.Whole() {
				return e, true, nil
			}
			if odd == nil {
				first := e
				odd = &first
			}
		}
		if !taken {
			break
		}
	}
	if odd != nil {
		return *odd, true, nil
	}
	if !i.old {
		return ledger.Entry{}, false, nil
	}
	err = query(conn, byOldID, 1,
		func(stmt *sqlite.Stmt) {
			stmt.BindText(1, string(h))
			stmt.BindText(2, id)
		},
		func(stmt *sqlite.Stmt) { e, found = readEntry(stmt, h, new(arena).record(stmt)), true })
	return e, found, err
}

// findMaybe is find for whoever expects the id to be new: mostly, nothing is read.
func (i *ids) findMaybe(conn *sqlite.Conn, h ledger.History, id string) (e ledger.Entry, found bool, err error) {
	i.once.Do(func() { close(i.wanted) })
	if i.lacks(i.slotOf(h, id)) {
		return e, false, nil
	}
	return i.find(conn, h, id)
}

// fill adds all ids of the indexes to the filter, once somebody wants it. Whoever
// stores an entry meanwhile adds its id too.
func (s *Store) fill(ctx context.Context) error {
	select {
	case <-s.ids.wanted:
	case <-ctx.Done():
		return ctx.Err()
	}
	slots := make([]int64, 0, feedPage)
	// pages calls each with all rows of a query that goes on behind the last row.
	pages := func(sql string, bind, each func(*sqlite.Stmt)) error {
		for {
			slots = slots[:0]
			err := s.read(ctx, func(conn *sqlite.Conn) error { return query(conn, sql, feedPage, bind, each) })
			if err != nil {
				return err
			}
			s.ids.add(slots...)
			if len(slots) < feedPage {
				return nil
			}
		}
	}
	if s.ids.old {
		history, id := int64(0), ""
		err := pages(oldIDsAfter, func(stmt *sqlite.Stmt) {
			stmt.BindInt64(1, history)
			stmt.BindText(2, id)
		}, func(stmt *sqlite.Stmt) {
			history, id = stmt.ColumnInt64(0), stmt.ColumnText(1)
			slots = append(slots, s.ids.slotOf(ledger.History(stmt.ColumnText(2)), id))
		})
		if err != nil {
			return err
		}
	}
	// An id that lies behind its slot has another one in it, so all slots that ids
	// have are among those in which something lies.
	last := int64(math.MinInt64)
	err := pages(slotsAfter, func(stmt *sqlite.Stmt) { stmt.BindInt64(1, last) },
		func(stmt *sqlite.Stmt) {
			last = stmt.ColumnInt64(0)
			slots = append(slots, last)
		})
	if err == nil {
		s.ids.whole.Store(true)
	}
	return err
}

// A filter tells of most slots that nothing was added with them. It is a Bloom
// filter whose bits of one slot lie in one line of the processor's cache. It grows
// by parts, and takes 10 to 20 bits a slot.
type filter struct {
	// whole tells that all slots of the indexes were added.
	whole atomic.Bool

	mu    sync.Mutex
	parts []part
}

type part struct {
	lines [][8]uint64
	room  int // for so many more
}

const (
	// bitsEach is how many bits of a part there are for each slot.
	bitsEach = 10
	// leastRoom is that of the smallest part, of 160 KiB.
	leastRoom = 1 << 17
)

// grow adds a part with room for n slots.
func (f *filter) grow(n int) {
	n = max(n, leastRoom)
	f.parts = append(f.parts, part{lines: make([][8]uint64, n*bitsEach/512+1), room: n})
}

// add adds slots.
func (f *filter) add(slots ...int64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, s := range slots {
		if len(f.parts) == 0 || f.parts[len(f.parts)-1].room == 0 {
			all := 0
			for _, p := range f.parts {
				all += len(p.lines) * 512 / bitsEach
			}
			f.grow(all)
		}
		p := &f.parts[len(f.parts)-1]
		p.room--
		line, mask := p.bits(s)
		for i := range line {
			line[i] |= mask[i]
		}
	}
}

// lacks reports whether nothing with the slot was added. While not all were, it
// knows nothing.
func (f *filter) lacks(slot int64) bool {
	if !f.whole.Load() {
		return false
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	for i := range f.parts {
		line, mask := f.parts[i].bits(slot)
		missing := uint64(0)
		for i := range line {
			missing |= mask[i] &^ line[i]
		}
		if missing == 0 {
			return false
		}
	}
	return true
}

// bits returns the line of a slot, and which bits of it are the slot's.
func (p *part) bits(slot int64) (line *[8]uint64, mask [8]uint64) {
	h := uint64(slot) * 0x9e3779b97f4a7c15 // its upper bits depend on all of the slot's
	at, _ := bits.Mul64(h, uint64(len(p.lines)))
	for range 6 {
		mask[h>>6&7] |= 1 << (h & 63)
		h >>= 9
	}
	return &p.lines[at], mask
}
