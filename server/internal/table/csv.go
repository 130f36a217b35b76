package table

import (
	"bufio"
	"bytes"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"unicode/utf8"

	"golang.org/x/text/encoding/simplifiedchinese"
	"golang.org/x/text/encoding/unicode"
	"golang.org/x/text/transform"
)

// readCSV reads a CSV file.
func (t *reader) readCSV() error {
	text, err := t.decode()
	if err != nil {
		if isStop(err) {
			return err
		}
		t.problem(0, "", err)
		return nil
	}
	buffered := bufio.NewReaderSize(text, 64<<10)
	head, err := buffered.Peek(64 << 10)
	if err != nil && err != io.EOF && isStop(err) {
		return err
	}
	lines := &lines{r: buffered, comma: separator(head), most: &t.most, line: 1, began: 1}
	r := csv.NewReader(lines)
	r.FieldsPerRecord = -1
	r.ReuseRecord = true
	r.Comma = rune(lines.comma)
	for {
		cells, err := r.Read()
		if errors.Is(err, io.EOF) {
			return nil
		}
		var bad *csv.ParseError
		var large *limitError
		switch {
		case errors.As(err, &large):
			t.problem(lines.began, "", err)
			return nil
		case errors.As(err, &bad):
			t.problem(bad.Line, fmt.Sprintf("character %d", bad.Column), bad.Err)
			return nil
		case err != nil:
			return err
		}
		number, _ := r.FieldPos(0)
		if err := t.record(number, cells); err != nil {
			return ended(err)
		}
	}
}

// lines passes a CSV file on, and ends at a row that is too long: a parser keeps a whole
// row in memory.
type lines struct {
	r     io.Reader
	comma byte
	most  *limits

	line, began int  // the present line, and that on which its row began
	length      int  // of the row so far
	separators  int  // in it
	quoted      bool // amid a quoted cell, in which a line's end ends no row
}

func (l *lines) Read(p []byte) (int, error) {
	n, err := l.r.Read(p)
	for _, c := range p[:n] {
		l.length++
		switch c {
		case '"':
			l.quoted = !l.quoted
		case '\n':
			if l.line++; !l.quoted {
				l.began, l.length, l.separators = l.line, 0, 0
			}
		case l.comma:
			if !l.quoted {
				l.separators++
			}
		}
		if l.length > l.most.line {
			return 0, beyond("the row is longer than %s; see whether a quotation mark is missing", size(int64(l.most.line)))
		}
		if l.separators > l.most.separators {
			return 0, errColumns
		}
	}
	return n, err
}

// decode returns the text in UTF-8, once it is known in which encoding the file is.
func (t *reader) decode() (io.Reader, error) {
	head := make([]byte, 3)
	n, _ := t.file.ReadAt(head, 0)
	switch head = head[:n]; {
	case bytes.HasPrefix(head, []byte("\xFE\xFF")), bytes.HasPrefix(head, []byte("\xFF\xFE")):
		return transform.NewReader(t.from(0), unicode.UTF16(unicode.LittleEndian, unicode.UseBOM).NewDecoder()), nil
	}
	is, err := surveyOf(t.from(0))
	if err != nil {
		return nil, err
	}
	if is.bad == 0 {
		if bytes.HasPrefix(head, []byte("\uFEFF")) {
			return t.from(3), nil
		}
		return t.from(0), nil
	}
	// In GB18030 hardly ever do three bytes in a row look like a Chinese character of
	// UTF-8, so such a text is not mistaken for a UTF-8 with a few broken bytes.
	if is.good > is.bad {
		return nil, fmt.Errorf("is UTF-8, but line %d has bytes that are not", is.badLine)
	}
	decoded := func() io.Reader { return transform.NewReader(t.from(0), simplifiedchinese.GB18030.NewDecoder()) }
	if is, err = surveyOf(decoded()); err != nil {
		return nil, err
	}
	// The decoder writes U+FFFD for what it cannot read.
	if is.replacedLine > 0 {
		return nil, fmt.Errorf("is neither UTF-8 nor GB18030: line %d cannot be read", is.replacedLine)
	}
	return decoded(), nil
}

// A survey says what a text has in it.
type survey struct {
	// good counts characters of three bytes and more, and bad bytes that are not UTF-8.
	good, bad int
	// badLine is the first line with such bytes, and replacedLine that with U+FFFD; 0
	// for none.
	badLine, replacedLine int
}

// surveyOf reads a text that should be UTF-8.
func surveyOf(r io.Reader) (survey, error) {
	var s survey
	line, rest, buffer := 1, 0, make([]byte, 64<<10)
	for {
		n, err := r.Read(buffer[rest:])
		text := buffer[:rest+n]
		for len(text) > 0 && (err != nil || utf8.FullRune(text)) {
			if c := text[0]; c < utf8.RuneSelf {
				if c == '\n' {
					line++
				}
				text = text[1:]
				continue
			}
			c, n := utf8.DecodeRune(text)
			switch {
			case c != utf8.RuneError && n > 2:
				s.good++
			case c == utf8.RuneError && n == 1:
				if s.bad++; s.bad == 1 {
					s.badLine = line
				}
			case c == utf8.RuneError && s.replacedLine == 0:
				s.replacedLine = line
			}
			text = text[n:]
		}
		rest = copy(buffer, text)
		if err == io.EOF {
			return s, nil
		}
		if err != nil {
			return s, err
		}
	}
}

// separator returns the one that the first line has most of, as far as it is looked at.
func separator(text []byte) byte {
	line, _, _ := bytes.Cut(text, []byte("\n"))
	best := byte(',')
	for _, c := range []byte(";\t") {
		if bytes.Count(line, []byte{c}) > bytes.Count(line, []byte{best}) {
			best = c
		}
	}
	return best
}
