package main

import (
	"slices"
	"strings"

	"go.mongodb.org/mongo-driver/v2/bson"
)

// aggregate runs a pipeline. What begins it is looked up by an index, everything
// behind is done document by document.
func (c *call) aggregate() (bson.D, error) {
	if err := c.travel(); err != nil {
		return nil, err
	}
	stages, err := documentsOf(c.cmd.Lookup("pipeline"))
	if err != nil {
		return nil, err
	}
	q := query{filter: &filter{}}
	var all []bson.Raw
	if len(stages) > 0 && first(stages[0]) == "$collStats" {
		n, err := c.size()
		if err != nil {
			return nil, err
		}
		d, err := bson.Marshal(bson.D{{Key: "ns", Value: c.db + "." + c.coll}, {Key: "count", Value: int64(n)}})
		if err != nil {
			return nil, err
		}
		all, stages = []bson.Raw{d}, stages[1:]
	} else {
		for len(stages) > 0 && first(stages[0]) == "$match" {
			if err := q.filter.add(stages[0].Lookup("$match").Document()); err != nil {
				return nil, err
			}
			stages = stages[1:]
		}
		if all, err = c.found(q); err != nil {
			return nil, err
		}
	}
	for _, s := range stages {
		if all, err = stage(s, all); err != nil {
			return nil, err
		}
	}
	return c.begin(all, nil, c.part("cursor").Lookup("batchSize"), false)
}

// first returns the name of a stage.
func first(stage bson.Raw) string {
	e, err := stage.IndexErr(0)
	if err != nil {
		return ""
	}
	return e.Key()
}

// stage does one step with all documents.
func stage(s bson.Raw, all []bson.Raw) ([]bson.Raw, error) {
	name := first(s)
	value := s.Lookup(name)
	d, _ := value.DocumentOK()
	switch name {
	case "$match":
		f, err := newFilter(d)
		if err != nil {
			return nil, err
		}
		return slices.DeleteFunc(all, func(d bson.Raw) bool { return !f.matches(d) }), nil
	case "$sort":
		order, err := newOrder(d)
		if err != nil {
			return nil, err
		}
		slices.SortStableFunc(all, func(a, b bson.Raw) int { return strings.Compare(sortKey(a, order), sortKey(b, order)) })
		return all, nil
	case "$limit", "$skip":
		n64, ok := value.AsInt64OK()
		n := min(int(n64), len(all))
		if !ok || n < 0 {
			return nil, fail(codeBadValue, "%s needs a number", name)
		}
		if name == "$skip" {
			return all[n:], nil
		}
		return all[:n], nil
	case "$project":
		shape, err := newProjection(d)
		for i := 0; err == nil && i < len(all); i++ {
			all[i], err = shape.of(all[i])
		}
		return all, err
	case "$count":
		field, ok := value.StringValueOK()
		if !ok || field == "" {
			return nil, fail(codeBadValue, "$count needs a name")
		}
		if len(all) == 0 {
			return nil, nil
		}
		out, err := bson.Marshal(bson.D{{Key: field, Value: int32(len(all))}})
		return []bson.Raw{out}, err
	case "$group":
		return grouped(d, all)
	}
	return nil, fail(40324, "Unrecognized pipeline stage name: '%s'", name)
}

// grouped does what $group asks for.
func grouped(spec bson.Raw, all []bson.Raw) (out []bson.Raw, err error) {
	elements, err := spec.Elements()
	if err != nil {
		return nil, err
	}
	groups := map[string]bson.D{}
	var keys []string // in the order in which they come
	for _, d := range all {
		id := valueIn(spec.Lookup("_id"), d)
		if id.IsZero() {
			id = bson.RawValue{Type: bson.TypeNull}
		}
		key := keyOf(id)
		fields, known := groups[key]
		if !known {
			keys = append(keys, key)
			fields = bson.D{{Key: "_id", Value: id}}
		}
		at := 1
		for _, e := range elements {
			if e.Key() == "_id" {
				continue
			}
			if !known {
				fields = append(fields, bson.E{Key: e.Key(), Value: bson.RawValue{}})
			}
			if fields[at].Value, err = accumulate(fields[at].Value.(bson.RawValue), e.Value(), d, !known); err != nil {
				return nil, err
			}
			at++
		}
		groups[key] = fields
	}
	for _, key := range keys {
		for i, e := range groups[key] {
			if e.Value.(bson.RawValue).IsZero() {
				groups[key][i].Value = nil
			}
		}
		d, err := bson.Marshal(groups[key])
		if err != nil {
			return nil, err
		}
		out = append(out, d)
	}
	return out, nil
}

// accumulate adds a document to a value of its group.
func accumulate(old, how bson.RawValue, d bson.Raw, isFirst bool) (bson.RawValue, error) {
	spec, _ := how.DocumentOK()
	name := first(spec)
	v := valueIn(spec.Lookup(name), d)
	switch name {
	case "$sum":
		if _, ok := v.AsFloat64OK(); !ok {
			v = bson.RawValue{Type: bson.TypeInt32, Value: make([]byte, 4)}
		}
		if isFirst {
			return v, nil
		}
		return rawOf(sum(old, v))
	case "$count":
		one := bson.RawValue{Type: bson.TypeInt32, Value: []byte{1, 0, 0, 0}}
		if isFirst {
			return one, nil
		}
		return rawOf(sum(old, one))
	case "$first":
		if isFirst {
			return v, nil
		}
		return old, nil
	case "$last":
		return v, nil
	case "$min", "$max":
		if v.IsZero() || !old.IsZero() && (keyOf(v) < keyOf(old)) != (name == "$min") {
			return old, nil
		}
		return v, nil
	}
	return old, fail(15952, "unknown group operator '%s'", name)
}

// valueIn returns what an expression is for a document: the field that it names with
// a dollar, or itself.
func valueIn(expression bson.RawValue, d bson.Raw) bson.RawValue {
	if name, ok := expression.StringValueOK(); ok && strings.HasPrefix(name, "$") {
		return d.Lookup(strings.Split(name[1:], ".")...)
	}
	return expression
}
