// Package ledger holds the form of a history: its entries, the record that an
// entry is stored as, and the hash chain that makes a later change visible.
//
// Engines keep histories: [Store] is all that they are asked about them. A
// [Follower] reads a store's feed and gives every entry to those that want to know
// of it. A [Projection] is what the entries of one history add up to, and the way
// to change it.
//
// A history is a list of entries numbered 1, 2, 3 … without gaps. There is one
// for each site ("site/" and the site's id), one of the roster ("roster") and one of
// accounts ("accounts"). Those of who looked at what are "accesses/0" to "accesses/f".
// The record of an entry is one line of JSON, UTF-8, with no space between
// tokens and its keys in this order:
//
//	{"format":1,"history":"roster","sequence":1,"kind":"site_deregistered","id":"6f1c…","receive_time":"2020-02-01T08:30:00.5Z","account":"local","content":{…}}
//
// The record is stored as the exact bytes that were hashed:
//
//	entry hash = SHA-256("xuncha entry v1\n" ‖ hash of the entry before ‖ record)
//
// where the entry before the first has a hash of 32 zero bytes. So a file of
// records, one on a line, and any SHA-256 program check a whole history.
package ledger

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"time"
)

// Format is the value of "format" in the records that this version writes.
// A reader accepts this format and every earlier one.
const Format = 1

// hashPrefix separates an entry's hash from every other use of SHA-256.
const hashPrefix = "xuncha entry v1\n"

// MaxContent is the greatest length of a draft's content in bytes. What is
// larger is stored beside the record and named in it by SHA-256.
const MaxContent = 64 << 10

var (
	// ErrBadRecord means that bytes are not a record in the form described above.
	ErrBadRecord = errors.New("not a ledger record")
	// ErrMoved means that another writer has appended to the history since its
	// head was read: read it again.
	ErrMoved = errors.New("history has moved on")
	// ErrUnavailable means that the store cannot be reached or cannot write just
	// now, and that the same call may succeed later.
	ErrUnavailable = errors.New("store is unavailable")
	// ErrDamaged means that the store holds bytes that cannot be right, as a disk makes
	// that goes bad. It comes with ErrUnavailable, and does not pass by waiting.
	ErrDamaged = errors.New("the database is damaged")
	// ErrFull means that the store has no room left. Nothing was stored.
	ErrFull = errors.New("store is full")
	// ErrBroken means that an entry does not follow from the one before it.
	ErrBroken = errors.New("history is broken")
)

// A History names one history.
type History string

// Roster is the history of divisions, sites and closure orders.
const Roster History = "roster"

// Accounts is the history of the accounts that may use the server.
const Accounts History = "accounts"

// Accesses is the history of who looked at what in earlier versions. By now there are
// several, whose names begin with it and a slash.
const Accesses History = "accesses"

// A Sequence is an entry's place in its history; the first is 1.
type Sequence int64

// A Hash is the SHA-256 of an entry chained to the one before it.
type Hash [sha256.Size]byte

// A Kind says what an entry's content is.
type Kind string

// A Head is the state of a history: its newest entry. The zero Head is that
// of a history without entries.
type Head struct {
	Sequence Sequence
	Hash     Hash
	Time     time.Time
}

// A Draft is an entry before it has a place in its history.
type Draft struct {
	History History
	// ID is unique within the history and is the writer's key for retries.
	ID   string
	Kind Kind
	// Time is when the server received what the entry says.
	Time time.Time
	// Account is who made the entry.
	Account string
	// Content is one JSON object in the kind's own fixed form,
	// of at most MaxContent bytes.
	Content []byte
	// Stored, where it is not nil, is called by Projection.Change once the entry is in the
	// store and before it is applied: what only another decision would need can go then.
	Stored func()
}

// An Entry is one record of a history, in its place.
type Entry struct {
	History  History
	Sequence Sequence
	ID       string
	Kind     Kind
	// Time is when the server received what the entry says, in UTC, to the
	// nanosecond, and never before the Time of the entry before.
	Time    time.Time
	Account string
	// Record is the exact bytes that Hash covers.
	Record []byte
	Hash   Hash
}

// Seal gives the draft the place after h. Its time is moved forward to that of
// h where it lies before, so that a history's times never run backwards, even
// when two servers with different clocks write it.
func (h Head) Seal(d Draft) Entry {
	e := Entry{
		History:  d.History,
		Sequence: h.Sequence + 1,
		ID:       d.ID,
		Kind:     d.Kind,
		Time:     d.Time.UTC().Round(0),
		Account:  d.Account,
	}
	if e.Time.Before(h.Time) {
		e.Time = h.Time
	}
	b := make([]byte, 0, 192+len(d.History)+len(d.ID)+len(d.Account)+len(d.Content))
	b = appendEnvelope(b, &e)
	b = append(b, d.Content...)
	b = append(b, '}')
	e.Record = b
	e.Hash = Chain(h.Hash, b)
	return e
}

// Head returns the state of the entry's history when e is its newest entry.
func (e Entry) Head() Head {
	return Head{Sequence: e.Sequence, Hash: e.Hash, Time: e.Time}
}

// Chain returns the hash of the entry with this record that follows the entry
// with the hash before.
func Chain(before Hash, record []byte) Hash {
	// Most records fit here, and are hashed at once.
	var room [1024]byte
	b := append(append(append(room[:0], hashPrefix...), before[:]...), record...)
	return sha256.Sum256(b)
}

// Follow checks that e is the entry after h and returns the head that it
// makes. The error wraps ErrBroken and names the history and the sequence.
func (h Head) Follow(e Entry) (Head, error) {
	at := func(what string) error {
		return fmt.Errorf("%w: %s at sequence %d: %s", ErrBroken, e.History, h.Sequence+1, what)
	}
	if e.Sequence != h.Sequence+1 {
		return h, at(fmt.Sprintf("found sequence %d", e.Sequence))
	}
	if Chain(h.Hash, e.Record) != e.Hash {
		return h, at("its hash does not follow from its record and the entry before")
	}
	if !e.saysItself() {
		return h, at(e.differs())
	}
	if e.Time.Before(h.Time) {
		return h, at("its time lies before that of the entry before")
	}
	return e.Head(), nil
}

// envelope is the outer object of a record.
type envelope struct {
	Format      int             `json:"format"`
	History     History         `json:"history"`
	Sequence    Sequence        `json:"sequence"`
	Kind        Kind            `json:"kind"`
	ID          string          `json:"id"`
	ReceiveTime time.Time       `json:"receive_time"`
	Account     string          `json:"account"`
	Content     json.RawMessage `json:"content"`
}

// Parse reads a record back into the entry that it is of, without its hash,
// which the record does not hold. Bytes that differ in any way from what Seal
// would have written, up to the content, are ErrBadRecord.
func Parse(record []byte) (Entry, error) {
	var v envelope
	if err := json.Unmarshal(record, &v); err != nil {
		return Entry{}, fmt.Errorf("%w: %v", ErrBadRecord, err)
	}
	if v.Format < 1 || v.Format > Format {
		return Entry{}, fmt.Errorf("%w: format %d; this version reads 1 to %d", ErrBadRecord, v.Format, Format)
	}
	if v.Sequence < 1 || len(v.Content) == 0 {
		return Entry{}, fmt.Errorf("%w: no sequence or no content", ErrBadRecord)
	}
	d := Draft{History: v.History, ID: v.ID, Kind: v.Kind, Time: v.ReceiveTime, Account: v.Account, Content: v.Content}
	e := Head{Sequence: v.Sequence - 1}.Seal(d)
	if !bytes.Equal(e.Record, record) {
		return Entry{}, fmt.Errorf("%w: its keys or its spelling differ from the fixed form", ErrBadRecord)
	}
	e.Hash = Hash{}
	return e, nil
}

// contentKey begins the last member of a record.
var contentKey = []byte(`,"content":`)

// Content returns the part of a sealed record that its kind defines, sharing
// the record's memory, or nil where the bytes are no record. It looks for the
// first such key, which no string before it can hold unescaped.
func Content(record []byte) []byte {
	i := bytes.Index(record, contentKey)
	if i < 0 || record[len(record)-1] != '}' {
		return nil
	}
	return record[i+len(contentKey) : len(record)-1]
}
