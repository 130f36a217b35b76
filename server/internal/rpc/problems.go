package rpc

import (
	"slices"
	"sync"
	"time"

	"xuncha/ledger"
	xunchav1 "xuncha/proto/xuncha/v1"
	"xuncha/sites"
)

// A Problem is something that is wrong with the server and needs somebody.
type Problem struct {
	Kind xunchav1.ProblemKind
	// Message is a sentence in English for whoever runs the server.
	Message string
	Since   time.Time
	// History and Sequence are those of a history that does not verify, and Site the
	// site whose history or photo it is; empty for none.
	History  ledger.History
	Sequence ledger.Sequence
	Site     sites.SiteID
}

// Problems is what is wrong with the server just now, but for the histories that do
// not verify: those are in a ledger.Alterations. It is safe for concurrent use.
type Problems struct {
	mu   sync.Mutex
	list []named // oldest first
}

// A named problem has a name by which it is cleared.
type named struct {
	name string
	Problem
}

// Set notes a problem under a name, in place of the one that has it.
func (p *Problems) Set(name string, problem Problem) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if i := slices.IndexFunc(p.list, func(n named) bool { return n.name == name }); i >= 0 {
		p.list[i].Problem = problem
		return
	}
	p.list = append(p.list, named{name, problem})
}

// Clear ends the problem with the name, and reports whether there was one.
func (p *Problems) Clear(name string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	before := len(p.list)
	p.list = slices.DeleteFunc(p.list, func(n named) bool { return n.name == name })
	return len(p.list) < before
}

// All returns the problems, oldest first. A nil list has none.
func (p *Problems) All() []Problem {
	if p == nil {
		return nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	out := make([]Problem, len(p.list))
	for i, n := range p.list {
		out[i] = n.Problem
	}
	return out
}
