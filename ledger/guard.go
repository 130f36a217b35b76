package ledger

import (
	"context"
	"errors"
)

// Guard returns the store as it is used by whoever adds to histories: nothing is added
// to one that does not verify, as an entry that follows what is wrong would make it seem
// right. Append and AppendAfter fail with an *AlteredError then. All else stays as it is,
// and so do all other histories.
func Guard(s Store, a *Alterations) Store { return &guarded{s, a} }

type guarded struct {
	Store
	altered *Alterations
}

// Append implements Store. An entry that is there already, and verifies, is still found.
func (g *guarded) Append(ctx context.Context, d Draft) (Entry, bool, error) {
	altered := g.altered.Of(d.History)
	if altered == nil {
		return g.Store.Append(ctx, d)
	}
	e, err := g.Store.Entry(ctx, d.History, d.ID)
	known, _ := g.altered.OfEntry(e)
	if errors.Is(err, ErrNotFound) || err == nil && known {
		err = altered
	}
	if err != nil {
		return Entry{}, false, err
	}
	return e, true, nil
}

// AppendAfter implements Store.
func (g *guarded) AppendAfter(ctx context.Context, after Sequence, d Draft) (Entry, error) {
	if err := g.altered.Of(d.History); err != nil {
		return Entry{}, err
	}
	return g.Store.AppendAfter(ctx, after, d)
}
