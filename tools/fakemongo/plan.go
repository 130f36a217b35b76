package main

import (
	"cmp"
	"slices"
	"strings"

	"go.mongodb.org/mongo-driver/v2/bson"
)

// A query is what is to be found.
type query struct {
	filter *filter
	order  []orderBy
	limit  int // 0 is none
}

// An orderBy is a field to sort by.
type orderBy struct {
	field      string
	descending bool
}

// newOrder reads what to sort by.
func newOrder(raw bson.Raw) (out []orderBy, err error) {
	if len(raw) == 0 {
		return nil, nil
	}
	elements, err := raw.Elements()
	if err != nil {
		return nil, err
	}
	for _, e := range elements {
		direction, ok := e.Value().AsFloat64OK()
		if !ok || direction == 0 {
			return nil, fail(codeBadValue, "cannot sort by %s", e)
		}
		out = append(out, orderBy{e.Key(), direction < 0})
	}
	return out, nil
}

// A span is a range of keys, the end excluded.
type span struct{ begin, end string }

// A plan is which keys of which index to look at.
type plan struct {
	index      int
	spans      []span
	descending bool
	// sorted tells that documents come in the order that was asked for.
	sorted bool
	// worth is higher where fewer documents are looked at.
	worth int
}

// maxPoints bounds how many spans the values of $in come to.
const maxPoints = 10_000

// planFor returns the best plan for conditions that must all be met.
func (c *collection) planFor(conditions []condition, order []orderBy) (best plan) {
	for i, x := range c.indexes {
		p := planIn(x, conditions, order)
		p.index = i
		if i == 0 || p.worth > best.worth {
			best = p
		}
	}
	return best
}

// planIn returns the plan that goes by an index: over single values of its first
// fields, and over a range of the next.
func planIn(x *index, conditions []condition, order []orderBy) plan {
	points := []string{""}
	at := 0
	for ; at < len(x.fields); at++ {
		values := pointsOf(x.fields[at], conditions)
		if values == nil || len(points)*len(values) > maxPoints {
			break
		}
		next := make([]string, 0, len(points)*len(values))
		for _, p := range points {
			for _, v := range values {
				next = append(next, p+v)
			}
		}
		points = next
	}
	p := plan{worth: 4 * at}
	low, high := "", ""
	if at < len(x.fields) {
		low, high = rangeOf(x.fields[at], conditions)
		if low != "" || high != "" {
			p.worth += 2
		}
	}
	for _, point := range points {
		s := span{point + low, behind(point)}
		if high != "" {
			s.end = point + high
		}
		p.spans = append(p.spans, s)
	}
	slices.SortFunc(p.spans, func(a, b span) int { return cmp.Compare(a.begin, b.begin) })
	p.sorted, p.descending = ordered(x.fields, at, len(points), order)
	if p.sorted && len(order) > 0 {
		p.worth++
	}
	return p
}

// pointsOf returns the keys of the only values that a field may have; nil where it
// may have others.
func pointsOf(field string, conditions []condition) []string {
	for _, c := range conditions {
		switch {
		case c.field != field:
		case c.op == "$eq":
			return []string{c.key}
		case c.op == "$in" && len(c.keys) > 0:
			return c.keys
		}
	}
	return nil
}

// rangeOf returns between which keys the values of a field lie; both are empty where
// they may lie anywhere.
func rangeOf(field string, conditions []condition) (low, high string) {
	for _, c := range conditions {
		if c.field != field {
			continue
		}
		switch c.op {
		case "$gt":
			low = max(low, behind(c.key))
		case "$gte":
			low = max(low, c.key)
		case "$lt":
			high = least(high, c.key)
		case "$lte":
			high = least(high, behind(c.key))
		default:
			continue
		}
		// Values of other types are not compared.
		low, high = max(low, c.key[:1]), least(high, behind(c.key[:1]))
	}
	return low, high
}

// least returns the lower of two ends, of which an empty one is none.
func least(a, b string) string {
	if a == "" || b < a {
		return b
	}
	return a
}

// ordered reports whether an index gives documents in an order, and whether one has
// to go backwards for it. Its first fields are fixed to some points; where that is
// one, they have a single value each and count for nothing in the order.
func ordered(fields []string, fixed, points int, order []orderBy) (sorted, descending bool) {
	if len(order) == 0 {
		return true, false
	}
	if points != 1 {
		return false, false
	}
	at := fixed
	for _, o := range order {
		if slices.Contains(fields[:fixed], o.field) {
			continue
		}
		if at == len(fields) || fields[at] != o.field || at > fixed && o.descending != descending {
			return false, false
		}
		descending = o.descending
		at++
	}
	return true, descending
}

// run passes what a plan finds of a part at a time, until each returns false.
func (p *part) run(by plan, at int64, each func(*version) bool) {
	tree := p.trees[by.index]
	more := true
	for _, s := range by.spans {
		if !more {
			return
		}
		look := func(key string, v *version) bool {
			if key < s.begin || s.end != "" && key >= s.end {
				// Backwards, the first one may lie just behind the span.
				return by.descending && key >= s.begin
			}
			if v.seen(at) {
				more = each(v)
			}
			return more
		}
		switch {
		case !by.descending:
			tree.Ascend(s.begin, look)
		case s.end == "":
			tree.Reverse(look)
		default:
			tree.Descend(s.end, look)
		}
	}
}

// find returns what a part has of a query at a time, in its order.
func (c *collection) find(p *part, q query, at int64) []*version {
	base := c.planFor(q.filter.conditions, q.order)
	branches := c.branches(q, base)
	if branches == nil {
		return p.collect(branch{base, q.filter}, q, at)
	}
	var out []*version
	known := map[*version]bool{}
	for _, b := range branches {
		for _, v := range p.collect(b, q, at) {
			if !known[v] {
				known[v] = true
				out = append(out, v)
			}
		}
	}
	return cut(q, out, true)
}

// A branch is a filter and the plan for it.
type branch struct {
	plan   plan
	filter *filter
}

// branches returns a branch for each alternative of $or, where each of them is
// better than one plan for all.
func (c *collection) branches(q query, base plan) (out []branch) {
	if len(q.filter.anys) != 1 {
		return nil
	}
	for _, one := range q.filter.anys[0] {
		f := &filter{
			conditions: append(slices.Clip(q.filter.conditions), one.conditions...),
			anys:       one.anys,
			nors:       append(slices.Clip(q.filter.nors), one.nors...),
		}
		b := branch{c.planFor(f.conditions, q.order), f}
		if b.plan.worth <= base.worth {
			return nil
		}
		out = append(out, b)
	}
	return out
}

// collect returns what a branch finds, up to the limit.
func (p *part) collect(b branch, q query, at int64) (out []*version) {
	p.run(b.plan, at, func(v *version) bool {
		if b.filter.matches(v.raw) {
			out = append(out, v)
		}
		return !b.plan.sorted || q.limit == 0 || len(out) < q.limit
	})
	return cut(q, out, !b.plan.sorted)
}

// cut sorts versions where they are not, and leaves as many as were asked for.
func cut(q query, all []*version, sort bool) []*version {
	if sort && len(q.order) > 0 {
		type keyed struct {
			key string
			v   *version
		}
		keys := make([]keyed, len(all))
		for i, v := range all {
			keys[i] = keyed{sortKey(v.raw, q.order), v}
		}
		slices.SortStableFunc(keys, func(a, b keyed) int { return strings.Compare(a.key, b.key) })
		for i, k := range keys {
			all[i] = k.v
		}
	}
	if q.limit > 0 && len(all) > q.limit {
		all = all[:q.limit]
	}
	return all
}

// sortKey returns what documents are sorted by. The bytes of what descends are
// turned round.
func sortKey(d bson.Raw, order []orderBy) string {
	var b []byte
	for _, o := range order {
		begin := len(b)
		b = appendKey(b, d.Lookup(o.field))
		if o.descending {
			for i := begin; i < len(b); i++ {
				b[i] = ^b[i]
			}
		}
	}
	return string(b)
}
