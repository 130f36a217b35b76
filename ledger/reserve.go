package ledger

import "context"

type reserveKey struct{}

// WithReserve returns a context whose writes may use the room that a store keeps in
// reserve for when it is full. It is for what must go on then: signing in and out,
// ending closure orders, disabling accounts, the record of who looked at what, what an
// operator decides of histories that do not verify, and deletions, which make room.
func WithReserve(ctx context.Context) context.Context {
	return context.WithValue(ctx, reserveKey{}, true)
}

// MayUseReserve reports whether WithReserve made the context, or one that it comes from.
func MayUseReserve(ctx context.Context) bool { return ctx.Value(reserveKey{}) != nil }
