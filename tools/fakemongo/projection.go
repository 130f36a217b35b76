package main

import "go.mongodb.org/mongo-driver/v2/bson"

// A projection is which fields are answered with; nil is all of them.
type projection struct {
	fields map[string]bool
	// only tells that the fields are those to keep, not those to leave out.
	only bool
	id   bool // whether _id is among what is kept
}

func newProjection(raw bson.Raw) (*projection, error) {
	if len(raw) <= 5 {
		return nil, nil // there is none, or it is empty
	}
	elements, err := raw.Elements()
	if err != nil {
		return nil, err
	}
	p := &projection{fields: map[string]bool{}, id: true}
	for i, e := range elements {
		v := e.Value()
		if _, isNumber := v.AsInt64OK(); !isNumber && v.Type != bson.TypeBoolean {
			return nil, fail(codeFailedToParse, "a projection can only be true or false here: %s", e)
		}
		keep := truthy(v)
		if e.Key() == "_id" {
			p.id = keep
			if i == 0 && keep && len(elements) == 1 {
				p.only = true
			}
			continue
		}
		if len(p.fields) > 0 && keep != p.only {
			return nil, fail(codeFailedToParse, "a projection cannot both keep and leave out")
		}
		p.fields[e.Key()], p.only = true, keep
	}
	return p, nil
}

// of returns a document with the fields that are wanted.
func (p *projection) of(d bson.Raw) (bson.Raw, error) {
	if p == nil {
		return d, nil
	}
	elements, err := d.Elements()
	if err != nil {
		return nil, err
	}
	out := make(bson.Raw, 4, len(d))
	for _, e := range elements {
		name := e.Key()
		if name == "_id" && p.id || name != "_id" && p.fields[name] == p.only {
			out = append(out, e...)
		}
	}
	return closed(out), nil
}

// closed ends a document that was begun with room for its size.
func closed(d bson.Raw) bson.Raw {
	d = append(d, 0)
	n := len(d)
	d[0], d[1], d[2], d[3] = byte(n), byte(n>>8), byte(n>>16), byte(n>>24)
	return d
}
