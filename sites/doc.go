// Package sites holds the roster: the divisions of a city, the premises
// registered in them, and the closure orders that close them for a time.
//
// Everything here has dates. A division, the place where a site stands, a registration
// and an order each begin and may end, so that a question about a past day is
// answered with what was in force on that day. The roster is a projection of
// its own history: a [Service] appends an entry for each change and derives
// the next [Roster] from it, so the same entries, replayed to an earlier one,
// give the roster as it was known then.
package sites
