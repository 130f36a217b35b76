package snapshot

import (
	"bufio"
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"

	"xuncha/ledger"
)

// A standing is how far a history is known.
type standing struct {
	name ledger.History
	ledger.Sequence
	hash ledger.Hash
	// stored is the sequence of the newest entry in the database.
	stored ledger.Sequence
}

// Fits returns nil where the database has every entry that the snapshot was made from,
// and its feed leads from the cursor to all others. Otherwise the error wraps ErrUnfit:
// the database may be another one, or may have been restored from a backup.
//
// An entry's hash stands for all entries before it in its history. So the database has
// them all where, for each history, it has the entry that the snapshot knows as the
// newest. That is either its newest entry too, or the feed gives the one that follows
// from it.
//
// It calls seen with the head of every history of the database.
func (s *Snapshot) Fits(ctx context.Context, store ledger.Store, seen func(ledger.History, ledger.Head)) error {
	known, err := s.heads(ctx)
	if err != nil {
		return err
	}
	fresh := map[ledger.History]*standing{} // histories that the snapshot does not know
	next := 0
	err = store.Heads(ctx, func(h ledger.History, head ledger.Head) error {
		seen(h, head)
		if next == len(known) || h < known[next].name {
			fresh[h] = &standing{name: h, stored: head.Sequence}
			return nil
		}
		k := &known[next]
		next++
		if k.name != h || head.Sequence < k.Sequence || head.Sequence == k.Sequence && head.Hash != k.hash {
			return k.missing()
		}
		k.stored = head.Sequence
		return nil
	})
	if err != nil {
		return err
	}
	if next < len(known) {
		return known[next].missing()
	}
	for e, err := range store.Feed(ctx, s.index.Cursor) {
		switch {
		case errors.Is(err, ledger.ErrWaiting):
			continue // all that there is was given
		case errors.Is(err, ledger.ErrCursor):
			return fmt.Errorf("%w: %w", ErrUnfit, err)
		case err != nil:
			return err
		}
		k := fresh[e.History]
		if i, ok := slices.BinarySearchFunc(known, e.History, func(k standing, h ledger.History) int { return cmp.Compare(k.name, h) }); ok {
			k = &known[i]
		} else if k == nil { // another server has just begun it
			k = &standing{name: e.History}
			fresh[e.History] = k
		}
		switch {
		case e.Kind == ledger.KindRepaired && e.Sequence > k.Sequence:
			return fmt.Errorf("%w: %s was repaired, and it may hold what was set aside", ErrUnfit, e.History)
		case e.Sequence < k.Sequence:
		case e.Sequence == k.Sequence && e.Hash == k.hash:
		case e.Sequence == k.Sequence+1 && ledger.Chain(k.hash, e.Record) == e.Hash:
			k.Sequence, k.hash = e.Sequence, e.Hash
		default:
			return k.missing()
		}
	}
	for _, k := range fresh {
		known = append(known, *k)
	}
	for _, k := range known {
		if k.Sequence < k.stored {
			return fmt.Errorf("%w: the feed leads past entries of %s after sequence %d", ErrUnfit, k.name, k.Sequence)
		}
	}
	return nil
}

// missing says that the database lacks what the snapshot knows.
func (k *standing) missing() error {
	return fmt.Errorf("%w: the database lacks an entry of %s at sequence %d that it knows", ErrUnfit, k.name, k.Sequence)
}

// writeHeads writes how far each history has come.
func writeHeads(ctx context.Context, w io.Writer, store ledger.Store) error {
	var b []byte
	return store.Heads(ctx, func(h ledger.History, head ledger.Head) error {
		b = binary.AppendUvarint(b[:0], uint64(len(h)))
		b = append(b, h...)
		b = binary.AppendUvarint(b, uint64(head.Sequence))
		b = append(b, head.Hash[:]...)
		_, err := w.Write(b)
		return err
	})
}

// Heads calls each with the histories that the snapshot knows and their newest entries
// there, without their times.
func (s *Snapshot) Heads(ctx context.Context, each func(ledger.History, ledger.Head)) error {
	known, err := s.heads(ctx)
	for _, k := range known {
		each(k.name, ledger.Head{Sequence: k.Sequence, Hash: k.hash})
	}
	return err
}

// heads reads what writeHeads wrote.
func (s *Snapshot) heads(ctx context.Context) (out []standing, err error) {
	section, err := s.section(ctx, headsName)
	if err != nil {
		return nil, err
	}
	r := bufio.NewReader(section)
	for {
		n, err := binary.ReadUvarint(r)
		if err == io.EOF {
			return out, nil
		}
		if err != nil {
			return nil, err
		}
		name := make([]byte, n)
		if _, err := io.ReadFull(r, name); err != nil {
			return nil, err
		}
		k := standing{name: ledger.History(name)}
		q, err := binary.ReadUvarint(r)
		if err != nil {
			return nil, err
		}
		k.Sequence = ledger.Sequence(q)
		if _, err := io.ReadFull(r, k.hash[:]); err != nil {
			return nil, err
		}
		out = append(out, k)
	}
}
