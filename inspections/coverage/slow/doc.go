// Package slow computes the figures of coverage a second time, slowly and in
// plain view. It is the yardstick of package coverage: tests let things happen
// at random and compare the answers of both. No server uses it.
//
// So that no mistake can be in both, it shares nothing with what it checks. It
// reads the records of the entries by itself, and it asks neither the roster nor
// the coverage index anything. It keeps nothing between two questions.
//
// docs/coverage.md defines each figure. Here is where each definition stands:
//
//   - which entries count for a known time: World.known in known.go;
//   - which divisions lie above a village at a moment: facts.path in known.go;
//   - when a site is closed by which orders: facts.life in life.go;
//   - since when a site is due, and the interval: dutyIn in life.go;
//   - visited late: facts.visitedLate in life.go;
//   - the as-of moment, due, inspected, overdue, never inspected, found open:
//     World.Window and Window.judge in window.go;
//   - rows, their children and their sums, and the lists: answers.go.
package slow
