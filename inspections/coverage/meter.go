package coverage

import "context"

// A Cost is how much work an answer took: how many sites and visits were looked at.
// An answer to a question asked before may cost nothing.
type Cost int64

const (
	// stepCost is how much is done between two moments at which others get their turn.
	// It takes some tens of microseconds.
	stepCost = 256
	// freeCost is how much a question may look at before it counts as a heavy one, of
	// which only a few run at once.
	freeCost = 4096
)

// A meter counts what a question costs and gives others their turn between its steps.
type meter struct {
	ctx   context.Context
	index *Index
	cost  Cost
	next  Cost // at which others get their turn
	phase Cost // at which the phase began
	held  bool // one of the places of heavy questions
}

func (x *Index) newMeter(ctx context.Context) *meter {
	return &meter{ctx: ctx, index: x, next: stepCost}
}

// spend notes that so many sites or visits were looked at. The error is that of the
// context.
func (m *meter) spend(n int) error {
	m.cost += Cost(n)
	if m.cost < m.next {
		return nil
	}
	m.next = m.cost + stepCost
	if !m.held && m.cost-m.phase >= freeCost {
		select {
		case m.index.heavy <- struct{}{}:
			m.held = true
		case <-m.ctx.Done():
			return m.ctx.Err()
		}
	}
	m.index.yield()
	return m.ctx.Err()
}

// rest ends a phase of a question. It must be called before the question waits for
// anybody, so that those who do heavy work never wait for one another.
func (m *meter) rest() {
	if m.held {
		<-m.index.heavy
	}
	m.held, m.phase = false, m.cost
}
