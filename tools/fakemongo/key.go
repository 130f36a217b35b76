package main

import (
	"encoding/binary"
	"math"

	"go.mongodb.org/mongo-driver/v2/bson"
)

// A key is a value, or several in a row, written so that keys have the order of
// their bytes where MongoDB has that of the values. Each value begins with the tag
// of its type and ends by itself, so no key begins another.
const (
	tagMin      = 0x10
	tagNull     = 0x20 // also of a field that a document does not have
	tagNumber   = 0x30 // whatever its type
	tagString   = 0x40
	tagObject   = 0x50
	tagArray    = 0x60
	tagBinary   = 0x70
	tagObjectID = 0x80
	tagBool     = 0x90
	tagDate     = 0xa0
	tagTime     = 0xb0
	tagOther    = 0xc0 // regular expressions and such, by their bytes
	tagMax      = 0xe0
)

// appendKey writes a value behind b.
func appendKey(b []byte, v bson.RawValue) []byte {
	switch v.Type {
	case 0, bson.TypeNull, bson.TypeUndefined:
		return append(b, tagNull)
	case bson.TypeInt32:
		return appendInteger(b, int64(v.Int32()))
	case bson.TypeInt64:
		return appendInteger(b, v.Int64())
	case bson.TypeDouble:
		return appendNumber(b, v.Double(), 0)
	case bson.TypeString:
		return appendText(append(b, tagString), stringBytes(v))
	case bson.TypeSymbol:
		return appendText(append(b, tagString), stringBytes(v))
	case bson.TypeObjectID:
		return append(append(b, tagObjectID), v.Value...)
	case bson.TypeBoolean:
		return append(append(b, tagBool), v.Value...)
	case bson.TypeDateTime:
		return binary.BigEndian.AppendUint64(append(b, tagDate), uint64(v.DateTime())^1<<63)
	case bson.TypeTimestamp:
		t, i := v.Timestamp()
		return binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint32(append(b, tagTime), t), i)
	case bson.TypeBinary:
		kind, data := v.Binary()
		b = binary.BigEndian.AppendUint32(append(b, tagBinary), uint32(len(data)))
		return append(append(b, kind), data...)
	case bson.TypeEmbeddedDocument, bson.TypeArray:
		return appendNested(b, v)
	case bson.TypeMinKey:
		return append(b, tagMin)
	case bson.TypeMaxKey:
		return append(b, tagMax)
	}
	return appendText(append(b, tagOther, byte(v.Type)), v.Value)
}

// appendNested writes a document or an array, element by element.
func appendNested(b []byte, v bson.RawValue) []byte {
	tag := byte(tagObject)
	if v.Type == bson.TypeArray {
		tag = tagArray
	}
	b = append(b, tag)
	elements, err := bson.Raw(v.Value).Elements()
	if err != nil {
		return append(b, 0)
	}
	for _, e := range elements {
		value := e.Value()
		if tag == tagObject {
			// MongoDB compares the types first, then the names, then the values.
			b = appendText(append(b, appendKey(nil, value)[0]), []byte(e.Key()))
		}
		b = appendKey(b, value)
	}
	return append(b, 0)
}

// appendInteger writes a whole number: the nearest float64, and what is missing
// to it, since not every int64 has one.
func appendInteger(b []byte, n int64) []byte {
	f := float64(n)
	near := int64(math.MinInt64) // of 2^63, which is no int64, the difference wraps
	if f < 1<<63 {
		near = int64(f)
	}
	return appendNumber(b, f, int16(n-near))
}

func appendNumber(b []byte, f float64, rest int16) []byte {
	if f == 0 {
		f = 0 // that of -0 too
	}
	bits := math.Float64bits(f)
	if bits>>63 == 1 {
		bits = ^bits
	} else {
		bits |= 1 << 63
	}
	b = binary.BigEndian.AppendUint64(append(b, tagNumber), bits)
	return binary.BigEndian.AppendUint16(b, uint16(rest)^1<<15)
}

// appendText writes bytes of any length. A zero is followed by 0xff, and the end
// is a zero that is not.
func appendText(b, text []byte) []byte {
	for _, c := range text {
		b = append(b, c)
		if c == 0 {
			b = append(b, 0xff)
		}
	}
	return append(b, 0, 1)
}

// stringBytes returns the bytes of a string without copying them.
func stringBytes(v bson.RawValue) []byte {
	if len(v.Value) < 5 {
		return nil
	}
	return v.Value[4 : len(v.Value)-1]
}

// keyOf returns the key of a value.
func keyOf(v bson.RawValue) string { return string(appendKey(nil, v)) }

// behind returns what comes behind all keys that begin with the prefix.
func behind(prefix string) string {
	b := []byte(prefix)
	for len(b) > 0 && b[len(b)-1] == 0xff {
		b = b[:len(b)-1]
	}
	if len(b) > 0 {
		b[len(b)-1]++
	}
	return string(b)
}
