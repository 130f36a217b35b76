package accounts

import (
	"hash/maphash"
	"math"
	"strings"
	"time"
)

// sweepFrom is how many failures a table has at least before it looks for those that no
// longer count.
const sweepFrom = 1000

// A failureTable counts exactly, for keys that are as few as accounts.
type failureTable struct {
	all   map[string]failures
	sweep int
}

func newFailureTable() *failureTable {
	return &failureTable{all: map[string]failures{}, sweep: sweepFrom}
}

func (t *failureTable) get(key string, now time.Time) failures {
	if f := t.all[key]; !f.over(now) {
		return f
	}
	return failures{}
}

func (t *failureTable) put(key string, f failures, now time.Time) {
	if f.n == 0 {
		delete(t.all, key)
		return
	}
	t.all[key] = f
	if len(t.all) < t.sweep {
		return
	}
	t.drop(now)
	t.sweep = max(sweepFrom, 2*len(t.all))
}

// drop forgets those that no longer count.
func (t *failureTable) drop(now time.Time) {
	for key, f := range t.all {
		if f.over(now) {
			delete(t.all, key)
		}
	}
}

// maxDevicesFailing is how many devices of one account are counted apart. Those beyond are
// counted as one, so that whoever signs in again and again only ever keeps the account's own
// devices waiting.
const maxDevicesFailing = 32

// A deviceTable counts failures by account and device.
type deviceTable struct {
	all   map[string]*failureTable
	sweep int
}

func newDeviceTable() *deviceTable {
	return &deviceTable{all: map[string]*failureTable{}, sweep: sweepFrom}
}

// deviceKey returns the key of a device. No account's id has a slash.
func deviceKey(account, device string) string { return "device/" + account + "/" + device }

// find returns the table of the key's account, or nil, and what the device is counted as.
func (t *deviceTable) find(key string) (of *failureTable, account, device string) {
	account, device, _ = strings.Cut(strings.TrimPrefix(key, "device/"), "/")
	of = t.all[account]
	if of != nil && len(of.all) >= maxDevicesFailing {
		if _, ok := of.all[device]; !ok {
			device = "" // all others
		}
	}
	return of, account, device
}

func (t *deviceTable) get(key string, now time.Time) failures {
	of, _, device := t.find(key)
	if of == nil {
		return failures{}
	}
	return of.get(device, now)
}

func (t *deviceTable) put(key string, f failures, now time.Time) {
	of, account, device := t.find(key)
	if of == nil && f.n == 0 {
		return
	}
	if of == nil {
		of = newFailureTable()
		t.all[account] = of
	}
	of.put(device, f, now)
	if len(of.all) >= maxDevicesFailing {
		of.drop(now)
	}
	if len(of.all) == 0 {
		delete(t.all, account)
	}
	if len(t.all) < t.sweep {
		return
	}
	for account, of := range t.all {
		if of.drop(now); len(of.all) == 0 {
			delete(t.all, account)
		}
	}
	t.sweep = max(sweepFrom, 2*len(t.all))
}

// A sketch counts failures of any number of keys in a fixed amount of memory, never too
// few: a count-min sketch with conservative updates (Estan and Varghese, 2002). Keys that
// share a cell with others in every row count those with them. The seeds are the process's
// own, so nobody can choose such keys.
type sketch struct {
	seeds [sketchRows]maphash.Seed
	// A cell has milliseconds since 1970 in its upper 48 bits, and how many failures in the
	// lower 16.
	rows [sketchRows][]uint64
}

// A sketch has 2 MiB. It counts exactly as long as fewer than some ten thousand keys fail
// within half an hour; each failure takes a password's turn, or a call that is cut off.
const (
	sketchRows  = 4
	sketchCells = 1 << 16
)

func newSketch() *sketch {
	s := new(sketch)
	for i := range s.rows {
		s.seeds[i], s.rows[i] = maphash.MakeSeed(), make([]uint64, sketchCells)
	}
	return s
}

// cell returns the cell of the key in a row.
func (s *sketch) cell(row int, key string) *uint64 {
	return &s.rows[row][maphash.String(s.seeds[row], key)%sketchCells]
}

// failuresOf reads a cell.
func failuresOf(cell uint64, now time.Time) failures {
	f := failures{int(cell & math.MaxUint16), time.UnixMilli(int64(cell >> 16))}
	if f.over(now) {
		return failures{}
	}
	return f
}

// cellOf writes a cell.
func cellOf(f failures) uint64 {
	return uint64(max(0, f.last.UnixMilli()))<<16 | uint64(min(f.n, math.MaxUint16))
}

func (s *sketch) get(key string, now time.Time) failures {
	least := failures{n: math.MaxInt}
	for row := range s.rows {
		f := failuresOf(*s.cell(row, key), now)
		if f.n < least.n || f.n == least.n && f.last.Before(least.last) {
			least = f
		}
	}
	return least
}

// forgive takes back up to n failures of the key, and reports whether there were any. Keys
// that share a cell with it may count too few by as many, where they have as many as it has;
// nobody can choose such keys.
func (s *sketch) forgive(key string, n int, now time.Time) bool {
	least := s.get(key, now)
	if least.n == 0 {
		return false
	}
	for row := range s.rows {
		cell := s.cell(row, key)
		if f := failuresOf(*cell, now); f.n == least.n {
			*cell = cellOf(failures{max(0, f.n-n), f.last})
		}
	}
	return true
}

func (s *sketch) put(key string, f failures, now time.Time) {
	for row := range s.rows {
		cell := s.cell(row, key)
		old := failuresOf(*cell, now)
		// Another key may have more in this cell, which is kept.
		*cell = cellOf(failures{max(old.n, f.n), f.last})
	}
}
