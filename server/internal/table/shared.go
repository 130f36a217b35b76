package table

import (
	"bytes"
	"encoding/xml"
	"errors"
	"regexp"
	"strconv"
	"unicode/utf8"
)

// sharedTexts are the texts of an XLSX file that its cells name by number. They are kept in
// pieces of memory that are not copied as they grow, with 4 bytes beside each text.
type sharedTexts struct {
	pieces [][]byte
	// begins has where each text begins, as a number of pieceSize pieces and bytes in
	// the last; a text is in one piece.
	begins [][]uint32
	count  int
	bytes  int
}

const (
	pieceSize   = 1 << 20
	beginsSize  = 1 << 16
	lengthBytes = 2 // before each text
	// longLength stands for the length of a text that is too long and was not kept.
	longLength = 1<<(8*lengthBytes) - 1
)

// add adds a text, or notes that there was one that is too long.
func (s *sharedTexts) add(text []byte, long bool) {
	length := len(text)
	if long {
		text, length = nil, longLength
	}
	last := len(s.pieces) - 1
	if last < 0 || len(s.pieces[last])+lengthBytes+len(text) > pieceSize {
		s.pieces = append(s.pieces, make([]byte, 0, pieceSize))
		last++
	}
	if s.count%beginsSize == 0 {
		s.begins = append(s.begins, make([]uint32, 0, beginsSize))
	}
	b := &s.begins[len(s.begins)-1]
	*b = append(*b, uint32(last*pieceSize+len(s.pieces[last])))
	s.pieces[last] = append(append(s.pieces[last], byte(length>>8), byte(length)), text...)
	s.count++
	s.bytes += lengthBytes + len(text)
}

// at returns a text.
func (s *sharedTexts) at(i int) (text []byte, ok bool) {
	if i < 0 || i >= s.count {
		return nil, false
	}
	begin := int(s.begins[i/beginsSize][i%beginsSize])
	piece := s.pieces[begin/pieceSize][begin%pieceSize:]
	length := int(piece[0])<<8 | int(piece[1])
	if length == longLength {
		return tooLong, true
	}
	return piece[lengthBytes : lengthBytes+length], true
}

// readShared reads the texts that cells share.
func (w *workbook) readShared() error {
	var text cellText
	err := w.each(w.sharedPart, func(_ *part, token xml.Token) error {
		if item, ended := text.take(token, "si"); item != "si" || !ended {
			return nil
		}
		if w.shared.count == w.most.shared {
			return beyond("has more than %d shared texts%s", w.most.shared, asCSV)
		}
		w.shared.add(text.bytes(), text.long)
		if w.shared.bytes > w.most.sharedText {
			return beyond("has more than %s of shared texts%s", size(int64(w.most.sharedText)), asCSV)
		}
		return nil
	})
	if errors.Is(err, errNoPart) {
		return nil // and a cell that names one of its texts is a problem
	}
	return err
}

// cellText gathers the text of an element that has it in one piece (t) or in several with
// formats of their own (r), as ECMA-376 part 1, 18.4.8, has it. How its characters are
// pronounced (rPh) is no part of it.
type cellText struct {
	text     []byte
	within   bool // in the element
	taking   bool // in a t
	phonetic bool
	long     bool // longer than MaxCellBytes
}

// take takes a token in. Of the first and the last of the element it returns the element's
// name.
func (c *cellText) take(token xml.Token, element string) (name string, ended bool) {
	switch e := token.(type) {
	case xml.StartElement:
		switch {
		case e.Name.Local == element:
			*c = cellText{text: c.text[:0], within: true}
			return element, false
		case e.Name.Local == "rPh":
			c.phonetic = true
		case e.Name.Local == "t":
			c.taking = c.within && !c.phonetic
		}
	case xml.EndElement:
		switch e.Name.Local {
		case element:
			c.within, c.taking = false, false
			return element, true
		case "rPh":
			c.phonetic = false
		case "t":
			c.taking = false
		}
	case xml.CharData:
		if c.taking {
			c.append(e)
		}
	}
	return "", false
}

// append adds to the text, unless it is too long by then.
func (c *cellText) append(more []byte) {
	if c.long = c.long || len(c.text)+len(more) > MaxCellBytes; !c.long {
		c.text = append(c.text, more...)
	}
}

// bytes returns the text, which is valid until the next token.
func (c *cellText) bytes() []byte {
	if c.long {
		return tooLong
	}
	return unescaped(c.text)
}

// tooLong stands for any text that is longer than MaxCellBytes. Such a text is not kept.
var tooLong = bytes.Repeat([]byte("x"), MaxCellBytes+1)

// escape is how a text has a character that XML cannot have (ECMA-376 part 1, 22.9.2.19).
var escape = regexp.MustCompile(`_x[0-9A-Fa-f]{4}_`)

func unescaped(text []byte) []byte {
	if !bytes.Contains(text, []byte("_x")) {
		return text
	}
	return escape.ReplaceAllFunc(text, func(e []byte) []byte {
		n, err := strconv.ParseUint(string(e[2:6]), 16, 16)
		if err != nil {
			return e
		}
		return utf8.AppendRune(nil, rune(n))
	})
}
