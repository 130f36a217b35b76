package main

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// questions are how often the database was asked for what: "find entries", for example.
type questions map[string]int64

// notAsked are commands by which a driver sees that its database is there, and those of
// the bench itself.
var notAsked = []string{"hello", "isMaster", "ismaster", "ping", "buildInfo", "endSessions", "standIn"}

// since returns what was asked after before was.
func (q questions) since(before questions) questions {
	out := questions{}
	for what, n := range q {
		name, _, _ := strings.Cut(what, " ")
		if n -= before[what]; n > 0 && !slices.Contains(notAsked, name) {
			out[what] = n
		}
	}
	return out
}

// total returns how many were asked.
func (q questions) total() (n int64) {
	for _, more := range q {
		n += more
	}
	return n
}

// per returns the questions over n, the most frequent first, as "2.10 find entries, 0.50
// insert entries". What is less than a two hundredth is left out.
func (q questions) per(n float64) string {
	most := slices.SortedFunc(maps.Keys(q), func(a, b string) int {
		if q[a] != q[b] {
			return int(q[b] - q[a])
		}
		return strings.Compare(a, b)
	})
	var parts []string
	for _, what := range most {
		if times := float64(q[what]) / n; times >= 0.005 {
			parts = append(parts, fmt.Sprintf("%.2f %s", times, what))
		}
	}
	if parts == nil {
		return "none"
	}
	return strings.Join(parts, ", ")
}
