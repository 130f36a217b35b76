// Package coverage answers how far the sites of a division were inspected in a
// window of time. It is an index in memory, derived from the roster and the
// check-ins, and can be thrown away and made again from them.
//
// What its figures mean, for a window [Start, End):
//
//   - A site is due when some moment of the window lies in one of its closures
//     (sites.Roster.Closures): it was registered, and an order was in force
//     over its division. It is counted once, and where it stood at the last
//     moment of the window at which it was due.
//   - A site that was not due, but has check-ins in the window, as can be after
//     an order was ended or a site struck off in hindsight, adds its check-ins
//     and what they report, and nothing else, where it stood at the last of
//     them.
//   - So each site is counted in one place. A division's row counts the sites
//     that were counted in it or below it, and the rows of its children add up
//     to its own, whatever became of the hierarchy in the window.
//   - A site is inspected when it is due and a visit was captured in the
//     window, and found open when one of those visits found it so.
//   - Check-ins, those visited late and synced late, cancelled events and
//     dispersed people are sums over the visits captured in the window.
//   - A visit is late when its site was due at its capture, and more than the interval
//     had passed since the visit captured before it, or since the site became due, if
//     that was later. Of the intervals of orders that overlap, the shortest counts. All
//     visits count that are known at the time asked about, in whatever order they came.
//
// Two figures depend on the as-of moment: End, or where that lies in the
// future, now (or the time as known at which is asked). What counts is how
// things stood just before it.
//
//   - The duty that counts is the orders in force at the site's last due moment
//     of the window before the as-of moment or, where the site becomes due only
//     later in the window, at its last due moment. The site is due since the
//     earliest of these orders began to close it. Neither a move nor a change
//     of the hierarchy interrupts that while the order stays the same; an order
//     that follows another begins anew.
//   - A site is never inspected when it is due and no visit was captured from
//     that since until the as-of moment.
//   - A site is overdue when the window has begun, the site is still due just
//     before the as-of moment, and more than the interval has passed since the
//     last visit before it, in the window or not, or since the site became due,
//     if that was later. Of the intervals of orders that overlap, the shortest
//     counts.
//
// The children of a row are the divisions in force at the window's last moment
// under that parent, and any other in which a site is counted.
//
// # How it works
//
// Everything that a question looks at never changes once made: the layout, which is
// the roster with its sites put where they are counted; the visits; and the figures of
// a window. The index holds the newest of each in a vector, of which a copy costs
// nothing. A question takes copies and computes beside the visits that come in, so
// that [Index.Add] never waits for one.
//
// A share is what one site adds to the figures of a window. It is computed from the
// site's closures and visits alone, whenever it is needed, and kept nowhere. A view
// keeps the figures of one window. When it is asked for, it takes back the shares that
// the changed sites had, and adds those that they have now. The sites that changed are
// those that were visited, those that a change of the roster touched, and those whose
// state turns as time passes, of which the view knows the moments.
//
// Only places with many sites have figures of their own in a view. Those of the others
// are counted when they are asked for. So a view of a country takes a third of a
// megabyte, and those of some months can be kept.
//
// Lists go through the places in the order of the list and leave out those whose
// figures say that there is nothing to list.
package coverage
