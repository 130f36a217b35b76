package mongostore

import (
	"context"
	"fmt"

	"xuncha/ledger"
)

// settleFirst finds out what has become of what was tried before, without a turn: it
// may take long. Where that is not known then, all that wait are given up.
func (l *lane) settleFirst() {
	ctx, done, ok := l.writer.turns.takeSlow()
	if !ok {
		l.giveUp(context.Background(), nil, fmt.Errorf("%w: too much waits for the part of it that has %s", ledger.ErrUnavailable, l.history))
		return
	}
	defer done()
	if err := l.settle(ctx); err != nil {
		l.giveUp(ctx, nil, err)
	}
}

// settle finds out what has become of the documents that may or may not be stored,
// by storing them once more: then each is there, or its place is taken and it will
// never be. That is the only way to know, since what was sent may still arrive. It
// is done before anything else of the history is stored.
func (l *lane) settle(ctx context.Context) error {
	broken := false
	for len(l.unsure) > 0 {
		doc := l.unsure[0]
		_, n, err := readMark(doc.Mark)
		if err != nil {
			return err
		}
		// What follows from an entry that is not there can never be stored either.
		if !broken {
			stored, err := l.writer.store.isStored(ctx, doc)
			if err != nil {
				return err
			}
			broken = !stored
		}
		if broken {
			l.writer.series.giveBack(n)
		} else {
			l.writer.stored([]int64{n})
		}
		l.mu.Lock()
		l.unsure = l.unsure[1:]
		l.mu.Unlock()
		l.writer.heads.forget(l.history)
	}
	return nil
}

// isStored stores a document unless it is stored already, or its place or id is
// taken by another. The error is ledger.ErrUnavailable as long as a majority has
// neither.
func (s *Store) isStored(ctx context.Context, doc entryDoc) (bool, error) {
	_, err := s.entries.InsertOne(ctx, doc)
	if err == nil {
		return true, nil
	}
	if !isTaken(err) {
		return false, err
	}
	there, err := s.at(ctx, doc)
	if err == nil && there.place == "" && there.sameID == nil {
		err = fmt.Errorf("%w: no majority has entry %d of %s yet", ledger.ErrUnavailable, doc.Sequence, doc.History)
	}
	return err == nil && there.place == doc.Mark, err
}
