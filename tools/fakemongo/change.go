package main

import (
	"strings"

	"go.mongodb.org/mongo-driver/v2/bson"
)

// An update is what is to be changed in a document.
type update struct {
	replacement bson.D // nil where there are operators
	operators   []operator
}

// An operator changes one field.
type operator struct {
	name, field string
	value       bson.RawValue
}

// operators are those that are known.
var operators = map[string]func(old, with bson.RawValue) (any, error){
	"$set":         func(_, with bson.RawValue) (any, error) { return with, nil },
	"$setOnInsert": func(_, with bson.RawValue) (any, error) { return with, nil },
	"$unset":       nil, // is done by itself
	"$inc":         increase,
	"$min": func(old, with bson.RawValue) (any, error) {
		if old.IsZero() || keyOf(with) < keyOf(old) {
			return with, nil
		}
		return old, nil
	},
	"$max": func(old, with bson.RawValue) (any, error) {
		if old.IsZero() || keyOf(with) > keyOf(old) {
			return with, nil
		}
		return old, nil
	},
	"$addToSet": func(old, with bson.RawValue) (any, error) { return appended(old, with, true) },
	"$push":     func(old, with bson.RawValue) (any, error) { return appended(old, with, false) },
	"$pull":     pulled,
}

func newUpdate(v bson.RawValue) (*update, error) {
	d, ok := v.DocumentOK()
	if !ok {
		return nil, fail(codeFailedToParse, "an update must be a document here")
	}
	u := &update{}
	if !isOperators(d) {
		u.replacement = bson.D{}
		return u, bson.Unmarshal(d, &u.replacement)
	}
	elements, err := d.Elements()
	if err != nil {
		return nil, err
	}
	for _, e := range elements {
		if _, known := operators[e.Key()]; !known {
			return nil, fail(codeFailedToParse, "Unknown modifier: %s", e.Key())
		}
		fields, ok := e.Value().DocumentOK()
		if !ok {
			return nil, fail(codeFailedToParse, "Modifiers operate on fields: %s", e)
		}
		list, err := fields.Elements()
		if err != nil {
			return nil, err
		}
		for _, f := range list {
			if strings.Contains(f.Key(), ".") {
				return nil, fail(codeFailedToParse, "the stand-in changes no fields of fields: %s", f.Key())
			}
			u.operators = append(u.operators, operator{e.Key(), f.Key(), f.Value()})
		}
	}
	return u, nil
}

// apply returns what the update makes of a document.
func (u *update) apply(d bson.Raw, isNew bool) (bson.Raw, error) {
	var fields bson.D
	if u.replacement != nil {
		if id := d.Lookup("_id"); !id.IsZero() {
			fields = bson.D{{Key: "_id", Value: id}}
		}
		for _, e := range u.replacement {
			if e.Key != "_id" || len(fields) == 0 {
				fields = append(fields, e)
			}
		}
		return bson.Marshal(fields)
	}
	elements, err := d.Elements()
	if err != nil {
		return nil, err
	}
	for _, e := range elements {
		fields = append(fields, bson.E{Key: e.Key(), Value: e.Value()})
	}
	for _, o := range u.operators {
		if o.name == "$setOnInsert" && !isNew {
			continue
		}
		if fields, err = o.apply(fields); err != nil {
			return nil, err
		}
	}
	return bson.Marshal(fields)
}

func (o *operator) apply(fields bson.D) (bson.D, error) {
	at := -1
	for i, e := range fields {
		if e.Key == o.field {
			at = i
		}
	}
	if o.name == "$unset" {
		if at >= 0 {
			fields = append(fields[:at], fields[at+1:]...)
		}
		return fields, nil
	}
	var old bson.RawValue
	if at >= 0 {
		var err error
		if old, err = rawOf(fields[at].Value); err != nil {
			return nil, err
		}
	}
	value, err := operators[o.name](old, o.value)
	if err != nil || value == nil {
		return fields, err
	}
	if at < 0 {
		return append(fields, bson.E{Key: o.field, Value: value}), nil
	}
	fields[at].Value = value
	return fields, nil
}

// rawOf returns a value as it is written.
func rawOf(v any) (bson.RawValue, error) {
	if raw, ok := v.(bson.RawValue); ok {
		return raw, nil
	}
	kind, b, err := bson.MarshalValue(v)
	return bson.RawValue{Type: kind, Value: b}, err
}

// seed returns the document that an upsert begins with.
func (u *update) seed(f *filter) (bson.Raw, error) {
	fields := bson.D{}
	for _, c := range f.conditions {
		if c.op == "$eq" && (u.replacement == nil || c.field == "_id") {
			fields = append(fields, bson.E{Key: c.field, Value: c.value})
		}
	}
	d, err := bson.Marshal(fields)
	if err != nil {
		return nil, err
	}
	out, err := u.apply(d, true)
	if err != nil {
		return nil, err
	}
	return withID(out), nil
}

// increase adds whole numbers, or numbers where one is not whole.
func increase(old, by bson.RawValue) (any, error) {
	if old.IsZero() {
		return by, nil
	}
	if _, ok := old.AsFloat64OK(); !ok {
		return nil, fail(codeTypeMismatch, "Cannot apply $inc to a value of non-numeric type")
	}
	return sum(old, by), nil
}

// sum adds two numbers; what is none counts as 0.
func sum(a, b bson.RawValue) any {
	if a.Type == bson.TypeDouble || b.Type == bson.TypeDouble {
		x, _ := a.AsFloat64OK()
		y, _ := b.AsFloat64OK()
		return x + y
	}
	x, _ := a.AsInt64OK()
	y, _ := b.AsInt64OK()
	n := x + y
	if a.Type != bson.TypeInt64 && b.Type != bson.TypeInt64 && int64(int32(n)) == n {
		return int32(n)
	}
	return n
}

// appended returns an array with one more value, or those that $each names.
func appended(old, with bson.RawValue, set bool) (any, error) {
	var all []bson.RawValue
	if !old.IsZero() {
		values, err := valuesOf(old)
		if err != nil {
			return nil, err
		}
		all = values
	}
	more := []bson.RawValue{with}
	if d, ok := with.DocumentOK(); ok && isOperators(d) {
		each, err := valuesOf(d.Lookup("$each"))
		if err != nil {
			return nil, err
		}
		more = each
	}
	known := map[string]bool{}
	for _, v := range all {
		known[keyOf(v)] = true
	}
	for _, v := range more {
		if key := keyOf(v); !set || !known[key] {
			known[key] = true
			all = append(all, v)
		}
	}
	return all, nil
}

// pulled returns an array without the values that a condition or a value names; nil
// where there is no array.
func pulled(old, which bson.RawValue) (any, error) {
	if old.IsZero() {
		return nil, nil
	}
	values, err := valuesOf(old)
	if err != nil {
		return nil, err
	}
	f := &filter{}
	if err := f.addField("", which); err != nil {
		return nil, err
	}
	left := []bson.RawValue{}
	for _, v := range values {
		gone := true
		for _, c := range f.conditions {
			gone = gone && c.oneMet(v)
		}
		if !gone {
			left = append(left, v)
		}
	}
	return left, nil
}
