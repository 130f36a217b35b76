package ledger

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
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
	// Sum is what the request says: that of a Digest.
	Sum string
}

// Repeated returns the entry of the history that the request has made before, and whether
// there is one. What it says of the request, in its content's request_sha256, said gives.
// The error is ErrRequestConflict where the id was used for anything else.
func (r Request) Repeated(ctx context.Context, store Store, h History, account string, said func(Entry) (string, error)) (e Entry, ok bool, err error) {
	if r.ID == "" {
		return Entry{}, false, nil
	}
	e, err = store.Entry(ctx, h, r.ID)
	if errors.Is(err, ErrNotFound) {
		return Entry{}, false, nil
	}
	if err != nil {
		return Entry{}, false, err
	}
	sum, err := said(e)
	if err != nil {
		return Entry{}, false, err
	}
	if sum != r.Sum || e.Account != account {
		return Entry{}, false, fmt.Errorf("%s: %w", r.ID, ErrRequestConflict)
	}
	return e, true, nil
}

// digestPrefix separates the digest of a request from every other use of SHA-256.
const digestPrefix = "xuncha request v1\n"

// Digest returns the SHA-256, in hexadecimal, of what a request says: of the texts one
// after the other, each behind its length in 8 bytes. No two lists of texts have the same.
func Digest(texts ...string) string {
	d := NewDigester()
	d.Add(texts...)
	return d.Sum()
}

// A Digester makes the digest of a long request piece by piece.
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
		d.buffer = binary.BigEndian.AppendUint64(d.buffer, uint64(len(t)))
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
