package ledger

import (
	"bytes"
	"strconv"
	"unicode/utf8"
)

// appendEnvelope appends the record of an entry up to its content.
func appendEnvelope(b []byte, e *Entry) []byte {
	b = append(b, `{"format":`...)
	b = strconv.AppendInt(b, Format, 10)
	b = append(b, `,"history":`...)
	b = appendString(b, string(e.History))
	b = append(b, `,"sequence":`...)
	b = strconv.AppendInt(b, int64(e.Sequence), 10)
	b = append(b, `,"kind":`...)
	b = appendString(b, string(e.Kind))
	b = append(b, `,"id":`...)
	b = appendString(b, e.ID)
	b = append(b, `,"receive_time":`...)
	b = AppendTime(b, e.Time)
	b = append(b, `,"account":`...)
	b = appendString(b, e.Account)
	return append(b, contentKey...)
}

// saysItself reports whether the entry's record says what stands beside it. It writes
// the record's beginning anew and compares the bytes, which is many times faster than
// to parse it. Whether the content is JSON is for whoever reads it.
func (e *Entry) saysItself() bool {
	var room [512]byte
	want := appendEnvelope(room[:0], e)
	r := e.Record
	return len(r) >= len(want)+len(`{}}`) && bytes.Equal(r[:len(want)], want) && r[len(want)] == '{' && r[len(r)-1] == '}' &&
		utf8.ValidString(e.ID) && utf8.ValidString(e.Account) && utf8.ValidString(string(e.History)) && utf8.ValidString(string(e.Kind))
}

// Whole reports whether the entry's record says what stands beside it. Whether it is the
// record that was sealed, only its history tells.
func (e Entry) Whole() bool { return e.saysItself() }

// home returns the sequence that the entry's record says, where that alone is not what
// stands beside it: somebody has moved it.
func (e Entry) home() (q Sequence, moved bool) {
	read, err := Parse(e.Record)
	if err != nil || read.Sequence == e.Sequence {
		return e.Sequence, false
	}
	e.Sequence = read.Sequence
	return read.Sequence, e.saysItself()
}

// differs says what stands beside the record that is not what the record says.
func (e *Entry) differs() string {
	read, err := Parse(e.Record)
	switch {
	case err != nil:
		return err.Error()
	case read.History != e.History:
		return "it is stored in this history, and its record is of " + strconv.Quote(string(read.History))
	case read.Sequence != e.Sequence:
		return "it is stored with the sequence " + strconv.FormatInt(int64(e.Sequence), 10) + ", and its record has " + strconv.FormatInt(int64(read.Sequence), 10)
	case read.ID != e.ID:
		return "the id stored beside its record is not the record's"
	case read.Kind != e.Kind:
		return "the kind stored beside its record is not the record's"
	case !read.Time.Equal(e.Time):
		return "the time stored beside its record is not the record's"
	case read.Account != e.Account:
		return "the account stored beside its record is not the record's"
	}
	return "its record is not in the form of one"
}
