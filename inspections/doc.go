// Package inspections holds what officers report of closed premises: the
// check-in, the rules by which one is accepted, and the history of a site that
// it becomes an entry of.
//
// A check-in is an entry. Its idempotency key is the entry's id, its receipt
// is the entry's sequence and hash, and nothing is kept of it that is not in
// the entry's record. The coverage index is derived from the entries and can
// be thrown away.
package inspections
