package mongostore

import (
	"fmt"
	"sync"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"xuncha/ledger"
)

// Somebody may change documents past the servers. What is read of them then is what can
// be read; whoever verifies the histories tells what does not fit.

// UnmarshalBSON reads a document also where somebody has given a field another type: it
// has nothing in that field then.
func (d *entryDoc) UnmarshalBSON(b []byte) error {
	type plain entryDoc
	if bson.Unmarshal(b, (*plain)(d)) == nil {
		return nil
	}
	raw := bson.Raw(b)
	text := func(key string) (s string) {
		s, _ = raw.Lookup(key).StringValueOK()
		return s
	}
	number := func(key string) (n int64) {
		n, _ = raw.Lookup(key).AsInt64OK()
		return n
	}
	bytes := func(key string) (b []byte) {
		_, b, _ = raw.Lookup(key).BinaryOK()
		return b
	}
	*d = entryDoc{
		Mark: text("_id"), History: text("history"), Sequence: number("sequence"), ID: text("id"), Kind: text("kind"),
		Time: number("time"), Account: text("account"), Hash: bytes("hash"), Record: bytes("record"),
	}
	return nil
}

// missingFor is for how long an entry must be missing that another one follows until it
// counts as gone. Until then it may be on its way.
const missingFor = 10 * time.Second

// missing are the entries that were looked for and were not there, with when that was
// noticed first.
type missing struct {
	mu    sync.Mutex
	since map[ledger.Key]time.Time
}

// note takes down that an entry is missing, and reports whether it counts as gone.
func (m *missing) note(k ledger.Key) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	since, known := m.since[k]
	if !known {
		if m.since == nil || len(m.since) > maxHeads {
			m.since = map[ledger.Key]time.Time{}
		}
		since = time.Now()
		m.since[k] = since
	}
	return time.Since(since) >= missingFor
}

// unsureHead is the error of whoever wants to append behind a document that was altered.
func unsureHead(h ledger.History, q ledger.Sequence, why string) error {
	return &ledger.AlteredError{Fault: ledger.Fault{History: h, Sequence: q, Why: why}}
}

// UnmarshalBSON is that of an entryDoc.
func (d *headDoc) UnmarshalBSON(b []byte) error {
	var whole entryDoc
	err := whole.UnmarshalBSON(b)
	*d = headDoc{whole.History, whole.Sequence, whole.Time, whole.Hash}
	return err
}

// headErr says why a document is not one that anything can be appended to.
func (d *headDoc) headErr() error {
	if len(d.Hash) == len(ledger.Hash{}) && d.Sequence > 0 {
		return nil
	}
	return unsureHead(ledger.History(d.History), ledger.Sequence(d.Sequence), fmt.Sprintf("its hash has %d bytes, and its sequence is %d", len(d.Hash), d.Sequence))
}
