package sqlitestore

import (
	"encoding/hex"
	"errors"
	"fmt"
	"hash/crc32"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"xuncha/ledger"
)

const (
	// markFile is the name of the mark in the data folder.
	markFile = "mark"
	// markEvery is the shortest time between two writes of the mark.
	markEvery = time.Second
	// markVersion begins a mark.
	markVersion = "xuncha-mark-1"
)

// A mark says how far a database had come. It lies beside the database and is not part
// of it, so that a database which has lost its end, or is another one, can be told. It
// is written after a commit and never flushed: it may be older than the database, and
// torn after a power cut, but it never names an entry that would not have survived.
//
//	xuncha-mark-1 00000000000000009940 <hash> <hash> <checksum>
//
// These are the number of the newest entry, its hash, the hash of the entry before, and
// the CRC-32C of what stands before it, in hexadecimal. All marks have the same length.
type mark struct {
	// entry is the row of the newest entry, 0 for none. Rows are numbered 1, 2, 3 … and
	// none is ever deleted, so it is also how many entries there were.
	entry int64
	// hash is that of the newest entry, and before that of the one before it; zero where
	// it is not known.
	hash, before ledger.Hash
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func (m mark) String() string {
	text := fmt.Sprintf("%s %020d %x %x ", markVersion, m.entry, m.hash, m.before)
	return fmt.Sprintf("%s%08x\n", text, crc32.Checksum([]byte(text), castagnoli))
}

// errNoMark means that a text is no mark.
var errNoMark = errors.New("no mark")

// parseMark reads what String has written. Anything else is errNoMark.
func parseMark(text string) (m mark, err error) {
	fields := strings.Split(strings.TrimSuffix(text, "\n"), " ")
	if len(fields) != 5 {
		return mark{}, errNoMark
	}
	if m.entry, err = strconv.ParseInt(fields[1], 10, 64); err != nil {
		return mark{}, errNoMark
	}
	for i, h := range []*ledger.Hash{&m.hash, &m.before} {
		b, err := hex.DecodeString(fields[2+i])
		if err != nil || len(b) != len(h) {
			return mark{}, errNoMark
		}
		copy(h[:], b)
	}
	if m.entry < 1 || m.String() != text {
		return mark{}, errNoMark
	}
	return m, nil
}

// readMark returns the mark of a folder. One that is torn or not there is errNoMark,
// because nothing follows from it.
func readMark(dir string) (mark, error) {
	b, err := os.ReadFile(filepath.Join(dir, markFile))
	if err != nil {
		return mark{}, errNoMark
	}
	return parseMark(string(b))
}

// A marker writes the mark. It is safe for concurrent use.
type marker struct {
	path string
	log  *slog.Logger

	mu      sync.Mutex
	file    *os.File // nil until it is first written
	now     mark
	written time.Time
	due     *time.Timer // nil where nothing waits to be written
	closed  bool
	failed  bool
}

// note takes down that the entries with the hashes, of which the last one has the row,
// were committed and would survive a power cut.
func (m *marker) note(row int64, hashes ...ledger.Hash) {
	m.mu.Lock()
	defer m.mu.Unlock()
	before := m.now.hash
	if n := len(hashes); n > 1 {
		before = hashes[n-2]
	}
	m.now = mark{row, hashes[len(hashes)-1], before}
	if m.due != nil {
		return
	}
	if wait := markEvery - time.Since(m.written); wait > 0 {
		m.due = time.AfterFunc(wait, func() {
			m.mu.Lock()
			defer m.mu.Unlock()
			if !m.closed {
				m.due = nil
				m.write()
			}
		})
		return
	}
	m.write()
}

// write writes the mark in place. Where that fails, the older one stays or none counts,
// and the next commit tries again. It needs the lock.
func (m *marker) write() {
	m.written = time.Now()
	var err error
	if m.file == nil {
		m.file, err = os.OpenFile(m.path, os.O_CREATE|os.O_WRONLY, 0o600)
	}
	if err == nil {
		_, err = m.file.WriteAt([]byte(m.now.String()), 0)
	}
	if err != nil && !m.failed {
		m.log.Warn("the mark cannot be written; until it can, entries that get lost may not be noticed", "error", err.Error())
	}
	m.failed = err != nil
}

// close writes what waits to be written. Nothing may be noted any more.
func (m *marker) close() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.closed = true
	if m.due != nil {
		m.due.Stop()
		m.write()
	}
	if m.file == nil {
		return nil
	}
	return m.file.Close()
}
