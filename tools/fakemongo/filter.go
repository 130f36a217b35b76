package main

import (
	"bytes"
	"regexp"
	"strings"

	"go.mongodb.org/mongo-driver/v2/bson"
)

// A condition is one on a field.
type condition struct {
	field string
	path  []string // of the field
	op    string   // "$eq", "$gt" …
	key   string   // of what the field is compared with
	value bson.RawValue
	keys  []string        // of $in and $nin
	set   map[string]bool // the same
	regex *regexp.Regexp
	not   *filter
}

// A filter lets documents through that meet all conditions, at least one filter
// of each of anys, and none of nors.
type filter struct {
	conditions []condition
	anys       [][]*filter
	nors       []*filter
}

// newFilter reads a filter as commands have it.
func newFilter(raw bson.Raw) (*filter, error) {
	f := &filter{}
	if len(raw) == 0 {
		return f, nil
	}
	return f, f.add(raw)
}

// add adds what a document demands.
func (f *filter) add(raw bson.Raw) error {
	elements, err := raw.Elements()
	if err != nil {
		return fail(codeBadValue, "a filter: %v", err)
	}
	for _, e := range elements {
		name, value := e.Key(), e.Value()
		switch {
		case name == "$and" || name == "$or" || name == "$nor":
			err = f.addLogic(name, value)
		case name == "$comment":
		case strings.HasPrefix(name, "$"):
			err = fail(codeBadValue, "unknown top level operator: %s", name)
		default:
			err = f.addField(name, value)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (f *filter) addLogic(name string, value bson.RawValue) error {
	documents, err := documentsOf(value)
	if err != nil || len(documents) == 0 {
		return fail(codeBadValue, "%s must be a nonempty array of documents", name)
	}
	var all []*filter
	for _, d := range documents {
		if name == "$and" || name == "$or" && len(documents) == 1 {
			if err := f.add(d); err != nil {
				return err
			}
			continue
		}
		one, err := newFilter(d)
		if err != nil {
			return err
		}
		all = append(all, one)
	}
	switch {
	case name == "$nor":
		f.nors = append(f.nors, all...)
	case len(all) > 0:
		f.anys = append(f.anys, all)
	}
	return nil
}

// addField adds what is demanded of one field.
func (f *filter) addField(name string, value bson.RawValue) error {
	path := strings.Split(name, ".")
	document, isDocument := value.DocumentOK()
	if !isDocument || !isOperators(document) {
		c := condition{field: name, path: path, op: "$eq", value: value, key: keyOf(value)}
		if pattern, options, isRegex := value.RegexOK(); isRegex {
			c.op = "$regex"
			if err := c.compile(pattern, options); err != nil {
				return err
			}
		}
		f.conditions = append(f.conditions, c)
		return nil
	}
	elements, err := document.Elements()
	if err != nil {
		return fail(codeBadValue, "a filter: %v", err)
	}
	for _, e := range elements {
		c := condition{field: name, path: path, op: e.Key(), value: e.Value()}
		switch c.op {
		case "$eq", "$ne", "$gt", "$gte", "$lt", "$lte":
			c.key = keyOf(c.value)
		case "$in", "$nin":
			values, err := valuesOf(c.value)
			if err != nil {
				return fail(codeBadValue, "%s needs an array", c.op)
			}
			c.set = make(map[string]bool, len(values))
			for _, v := range values {
				if key := keyOf(v); !c.set[key] {
					c.set[key] = true
					c.keys = append(c.keys, key)
				}
			}
		case "$exists":
		case "$options":
			continue // belongs to $regex
		case "$regex":
			pattern, options, isRegex := c.value.RegexOK()
			if !isRegex {
				pattern, _ = c.value.StringValueOK()
				options, _ = document.Lookup("$options").StringValueOK()
			}
			if err := c.compile(pattern, options); err != nil {
				return err
			}
		case "$not":
			c.not = &filter{}
			if err := c.not.addField(name, c.value); err != nil {
				return err
			}
		default:
			return fail(codeBadValue, "unknown operator: %s", c.op)
		}
		f.conditions = append(f.conditions, c)
	}
	return nil
}

// isOperators reports whether a document is one of operators, such as {$gt: 1}.
func isOperators(d bson.Raw) bool {
	first, err := d.IndexErr(0)
	return err == nil && strings.HasPrefix(first.Key(), "$")
}

func (c *condition) compile(pattern, options string) (err error) {
	if options != "" {
		pattern = "(?" + options + ")" + pattern
	}
	if c.regex, err = regexp.Compile(pattern); err != nil {
		return fail(51091, "Regular expression is invalid: %v", err)
	}
	return nil
}

// matches reports whether the filter lets a document through.
func (f *filter) matches(d bson.Raw) bool {
	for i := range f.conditions {
		if !f.conditions[i].met(d) {
			return false
		}
	}
	for _, any := range f.anys {
		found := false
		for _, one := range any {
			if found = one.matches(d); found {
				break
			}
		}
		if !found {
			return false
		}
	}
	for _, one := range f.nors {
		if one.matches(d) {
			return false
		}
	}
	return true
}

// met reports whether a document meets the condition.
func (c *condition) met(d bson.Raw) bool {
	v, err := d.LookupErr(c.path...)
	there := err == nil
	switch c.op {
	case "$exists":
		return there == truthy(c.value)
	case "$not":
		return !c.not.matches(d)
	case "$ne", "$nin":
		return !c.anyMet(v)
	}
	return c.anyMet(v)
}

// anyMet reports whether the value, or one of its elements where it is an array,
// is what the condition asks for or, with $ne and $nin, forbids.
func (c *condition) anyMet(v bson.RawValue) bool {
	if c.oneMet(v) {
		return true
	}
	if v.Type != bson.TypeArray {
		return false
	}
	values, err := valuesOf(v)
	if err != nil {
		return false
	}
	for _, one := range values {
		if c.oneMet(one) {
			return true
		}
	}
	return false
}

func (c *condition) oneMet(v bson.RawValue) bool {
	if c.op == "$regex" {
		return v.Type == bson.TypeString && c.regex.Match(stringBytes(v))
	}
	var room [256]byte // so that most keys need no memory of their own
	key := appendKey(room[:0], v)
	switch c.op {
	case "$eq", "$ne":
		return string(key) == c.key
	case "$in", "$nin":
		return c.set[string(key)]
	}
	if key[0] != c.key[0] {
		return false // values of different types are not compared
	}
	order := bytes.Compare(key, []byte(c.key))
	switch c.op {
	case "$gt":
		return order > 0
	case "$gte":
		return order >= 0
	case "$lt":
		return order < 0
	}
	return order <= 0 // $lte
}

// truthy reports whether MongoDB takes a value for true.
func truthy(v bson.RawValue) bool {
	switch v.Type {
	case 0, bson.TypeNull, bson.TypeUndefined:
		return false
	case bson.TypeBoolean:
		return v.Boolean()
	}
	n, ok := v.AsFloat64OK()
	return !ok || n != 0
}

// valuesOf returns the elements of an array.
func valuesOf(v bson.RawValue) ([]bson.RawValue, error) {
	array, ok := v.ArrayOK()
	if !ok {
		return nil, fail(codeTypeMismatch, "an array is needed")
	}
	return array.Values()
}

// documentsOf returns the documents of an array.
func documentsOf(v bson.RawValue) (out []bson.Raw, err error) {
	values, err := valuesOf(v)
	if err != nil {
		return nil, err
	}
	for _, one := range values {
		d, ok := one.DocumentOK()
		if !ok {
			return nil, fail(codeTypeMismatch, "a document is needed")
		}
		out = append(out, d)
	}
	return out, nil
}
