package serve

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"maps"
	"slices"

	"xuncha/ledger"
)

// A salvaged store is read as it is stored, going on behind what cannot be read. It is
// for whoever copies it.
type salvaged struct {
	examinable
	stderr io.Writer
}

// errLeft ends a reading whose caller has left.
var errLeft = errors.New("the reader has left")

// Feed gives all that can be read, whatever the cursor.
func (s salvaged) Feed(ctx context.Context, _ ledger.Cursor) iter.Seq2[ledger.FeedEntry, error] {
	return func(yield func(ledger.FeedEntry, error) bool) {
		err := s.Stored(ctx, func(e ledger.Entry) error {
			if !yield(ledger.FeedEntry{Entry: e, After: func() ledger.Cursor { return "" }}, nil) {
				return errLeft
			}
			return nil
		}, func(why string) { fmt.Fprintln(s.stderr, why) })
		if err != nil && !errors.Is(err, errLeft) {
			yield(ledger.FeedEntry{}, err)
		}
	}
}

// Heads gives the entries with the greatest sequences that can be read.
func (s salvaged) Heads(ctx context.Context, each func(ledger.History, ledger.Head) error) error {
	heads := map[ledger.History]ledger.Head{}
	err := s.Stored(ctx, func(e ledger.Entry) error {
		if e.Sequence > heads[e.History].Sequence {
			heads[e.History] = e.Head()
		}
		return nil
	}, func(string) {})
	if err != nil {
		return err
	}
	for _, h := range slices.Sorted(maps.Keys(heads)) {
		if err := each(h, heads[h]); err != nil {
			return err
		}
	}
	return nil
}
