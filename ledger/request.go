package ledger

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
)

// ErrRequestConflict means that a request's id was used for a request with other content,
// or by another account.
var ErrRequestConflict = errors.New("request id was used for another request")

// A Request names a request that its caller may send more than once. Its id is that of
// the entry which it makes, so that the history itself knows a repeat, on every server
// and after a crash. The zero Request is one that nobody repeats.
type Request struct {
	// ID is a UUID in lower-case text that the caller has made; empty for none.
	ID string
	// Sum is the digest of what the request says. Whoever makes the change sets it, of
	// the values as it takes them.
	Sum string
}

// Saying returns the request with the digest of what it says: the method, and what texts
// gives, which is not called for a request that nobody repeats.
func (r Request) Saying(method string, texts func(*Digester)) Request {
	if r.ID == "" {
		return Request{}
	}
	d := NewDigester()
	d.Add(method)
	texts(d)
	r.Sum = d.Sum()
	return r
}

// IDOr returns the id of the entry that the request makes: its own, or else what newID
// gives.
func (r Request) IDOr(newID func() string) string {
	if r.ID == "" {
		return newID()
	}
	return r.ID
}

// repeated returns the entry of the history that the request has made before, or nil.
// The error is ErrRequestConflict where the id was used for anything else, also for what
// a repair has set aside: that counts nowhere.
func (r Request) repeated(ctx context.Context, store Store, altered *Alterations, h History, account string) (*Entry, error) {
	if r.ID == "" {
		return nil, nil
	}
	e, err := store.Entry(ctx, h, r.ID)
	if errors.Is(err, ErrNotFound) {
		return nil, r.elsewhere(ctx, store, h)
	}
	if err != nil {
		return nil, err
	}
	_, aside := altered.OfEntry(e)
	if !aside && !e.Whole() {
		return nil, fmt.Errorf("%w: %s at sequence %d: %s", ErrBadRecord, h, e.Sequence, e.differs())
	}
	var said struct {
		Sum string `json:"request_sha256"`
	}
	if !aside && json.Unmarshal(Content(e.Record), &said) != nil {
		return nil, fmt.Errorf("%w: %s at sequence %d", ErrBadRecord, h, e.Sequence)
	}
	if aside || said.Sum != r.Sum || e.Account != account {
		return nil, fmt.Errorf("%s: %w", r.ID, ErrRequestConflict)
	}
	return &e, nil
}

// elsewhere returns ErrRequestConflict where the id was used for a request that is on
// record in another history. It is for callers who mix up their ids; of two such requests
// that come at once it tells neither.
func (r Request) elsewhere(ctx context.Context, store Store, h History) error {
	for _, other := range []History{Roster, Accounts} {
		if other == h {
			continue
		}
		if _, err := store.Entry(ctx, other, r.ID); err == nil {
			return fmt.Errorf("%s: %w", r.ID, ErrRequestConflict)
		}
	}
	return ctx.Err()
}

// Repeated returns the entry of the history that the account's request has made before,
// or nil: the content of such an entry has the request's Sum under the key
// request_sha256. The state need not hold it yet. The error is ErrRequestConflict where
// the request's id was used for anything else. It may be asked while a change is decided.
func (p *Projection[S]) Repeated(ctx context.Context, r Request, account string) (*Entry, error) {
	return r.repeated(ctx, p.store, p.altered, p.history, account)
}

// digestPrefix separates the digest of a request from every other use of SHA-256.
const digestPrefix = "xuncha request v1\n"

// A Digester makes the digest of what a request says: the SHA-256, in hexadecimal, of
// texts one after the other, each behind its length in bytes. No two lists of texts have the
// same.
type Digester struct {
	hash   hash.Hash
	buffer []byte
}

// NewDigester returns one that has no text yet.
func NewDigester() *Digester {
	h := sha256.New()
	h.Write([]byte(digestPrefix))
	return &Digester{hash: h}
}

// Add adds texts.
func (d *Digester) Add(texts ...string) {
	for _, t := range texts {
		d.buffer = binary.AppendUvarint(d.buffer, uint64(len(t)))
		d.buffer = append(d.buffer, t...)
		if len(d.buffer) >= 1<<15 {
			d.hash.Write(d.buffer)
			d.buffer = d.buffer[:0]
		}
	}
}

// Sum returns the digest of what was added.
func (d *Digester) Sum() string {
	d.hash.Write(d.buffer)
	d.buffer = d.buffer[:0]
	return hex.EncodeToString(d.hash.Sum(nil))
}
