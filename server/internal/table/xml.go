package table

import (
	"archive/zip"
	"bufio"
	"context"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"math"
	"path"
	"strings"

	"golang.org/x/text/encoding/htmlindex"
	"golang.org/x/text/encoding/unicode"
	"golang.org/x/text/transform"
)

// An archive is the parts of an XLSX file. What is read of them is bounded in all.
type archive struct {
	ctx   context.Context
	most  *limits
	parts map[string]*zip.File // by name, in lower case
	left  int64                // how many bytes may still be unpacked
}

// openArchive reads the list of the file's parts.
func (t *reader) openArchive() (*archive, error) {
	// zip makes something of each part before anybody can look at how many there are.
	metered := &meteredAt{ctx: t.ctx, r: t.file, left: t.most.directory + 128<<10}
	z, err := zip.NewReader(metered, t.file.Size())
	if err != nil {
		return nil, err
	}
	metered.left = math.MaxInt64
	a := &archive{
		ctx: t.ctx, most: &t.most, parts: make(map[string]*zip.File, len(z.File)),
		left: min(t.most.unpacked, max(t.most.freely, t.most.ratio*t.file.Size())),
	}
	for _, f := range z.File {
		if name := partName("", f.Name); a.parts[name] == nil {
			a.parts[name] = f
		}
	}
	return a, nil
}

// partName returns the name of a part that another one in the folder calls so.
func partName(folder, target string) string {
	target = strings.ReplaceAll(target, `\`, "/")
	if !strings.HasPrefix(target, "/") {
		target = folder + "/" + target
	}
	return strings.ToLower(strings.TrimPrefix(path.Clean("/"+target), "/"))
}

// A meteredAt reads no more than so many bytes.
type meteredAt struct {
	ctx  context.Context
	r    io.ReaderAt
	left int64
}

func (m *meteredAt) ReadAt(p []byte, offset int64) (int, error) {
	if err := m.ctx.Err(); err != nil {
		return 0, err
	}
	if m.left -= int64(len(p)); m.left < 0 {
		return 0, beyond("has too many parts%s", asCSV)
	}
	return m.r.ReadAt(p, offset)
}

// errNoPart means that an archive lacks a part.
var errNoPart = errors.New("is not there")

// each reads a part and calls f with what it has in it, until f returns errEnough.
func (a *archive) each(name string, f func(*part, xml.Token) error) error {
	file := a.parts[name]
	if file == nil {
		return fmt.Errorf("%s %w", clip(name), errNoPart)
	}
	r, err := file.Open()
	if err != nil {
		return fmt.Errorf("%s: %w", clip(name), err)
	}
	defer r.Close()
	p := newPart(&unpacked{a, stopped{a.ctx, r}}, a.most)
	for {
		token, err := p.next()
		if err == io.EOF {
			return nil
		}
		if err == nil {
			err = f(p, token)
		}
		switch {
		case err == nil:
		case errors.Is(err, errEnough):
			// Whether the part is as it was written is only known at its end.
			if _, err = io.Copy(io.Discard, p.text.r); err == nil {
				return nil
			}
			if isStop(err) {
				return err
			}
			return fmt.Errorf("%s: %w", clip(name), err)
		case errors.Is(err, errStop), isStop(err), errors.As(err, new(*callerError)):
			return err
		default:
			return fmt.Errorf("%s: %w", clip(name), err)
		}
	}
}

// errEnough ends the reading of a part of which no more is needed.
var errEnough = errors.New("enough")

// An unpacked reader counts what is read of an archive's parts.
type unpacked struct {
	archive *archive
	r       io.Reader
}

func (u *unpacked) Read(p []byte) (int, error) {
	n, err := u.r.Read(p)
	if u.archive.left -= int64(n); u.archive.left < 0 {
		return 0, beyond("unpacks to more than %s, or %d times its size%s", size(u.archive.most.unpacked), u.archive.most.ratio, asCSV)
	}
	return n, err
}

// A part is a file of XML that is read token by token. Nothing of it is kept.
type part struct {
	most    *limits
	text    *bounded
	decoder *xml.Decoder
	depth   int
	decoded bool // the encoding that the part names was taken
	isUTF16 bool // and its text was decoded, whatever it says of its encoding
}

// newPart returns the part that r reads. It is in UTF-8 or, with a byte-order mark, in UTF-16
// (ECMA-376 part 2, 8.1.4), unless it says otherwise.
func newPart(r io.Reader, most *limits) *part {
	buffered := bufio.NewReaderSize(r, 32<<10)
	p := &part{most: most}
	if mark, _ := buffered.Peek(2); string(mark) == "\xFE\xFF" || string(mark) == "\xFF\xFE" {
		p.isUTF16 = true
		buffered = bufio.NewReader(transform.NewReader(buffered, unicode.UTF16(unicode.LittleEndian, unicode.UseBOM).NewDecoder()))
	}
	p.text = &bounded{r: buffered, most: most.token}
	p.decoder = xml.NewDecoder(p.text)
	p.decoder.CharsetReader = p.charset
	return p
}

// next returns the next tag or text, which is valid until next is called again.
func (p *part) next() (xml.Token, error) {
	p.text.read = 0
	// RawToken keeps no list of the elements that are open.
	token, err := p.decoder.RawToken()
	if err != nil && p.text.err != nil {
		// Where reading ends amid a character, the decoder says that it is none.
		return nil, p.text.err
	}
	if err == io.EOF && p.depth > 0 { // of a sheet, rows would lack
		return nil, io.ErrUnexpectedEOF
	}
	switch token.(type) {
	case xml.StartElement:
		if p.depth++; p.depth > p.most.depth {
			return nil, beyond("is nested deeper than %d elements%s", p.most.depth, asCSV)
		}
	case xml.EndElement:
		p.depth--
	}
	return token, err
}

// errEncodings means that a part names more than one encoding.
var errEncodings = errors.New("names its encoding twice" + asCSV)

// charset lets the decoder read on in another encoding than UTF-8. The decoder asks for it at
// each declaration, wherever that stands, and each would put one more buffer before the others.
func (p *part) charset(label string, _ io.Reader) (io.Reader, error) {
	if p.decoded {
		return nil, errEncodings
	}
	p.decoded = true
	if p.isUTF16 {
		return p.text, nil
	}
	e, err := htmlindex.Get(label)
	if err != nil {
		return nil, err
	}
	p.text = &bounded{r: bufio.NewReader(transform.NewReader(p.text.r, e.NewDecoder())), most: p.most.token}
	return p.text, nil
}

// bounded bounds the bytes of a token, of which the decoder makes one piece of memory.
type bounded struct {
	r          *bufio.Reader
	read, most int
	err        error // why no more can be read, but for the end
}

var _ io.ByteReader = (*bounded)(nil) // else the decoder would read ahead

func (b *bounded) ReadByte() (byte, error) {
	if b.read++; b.read > b.most {
		b.err = beyond("has a tag or a text of more than %s%s", size(int64(b.most)), asCSV)
		return 0, b.err
	}
	c, err := b.r.ReadByte()
	if err != nil && err != io.EOF {
		b.err = err
	}
	return c, err
}

// Read is there because a decoder asks for it; it does not use it.
func (b *bounded) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	c, err := b.ReadByte()
	if err != nil {
		return 0, err
	}
	p[0] = c
	return 1, nil
}

// attr returns the value of an element's attribute, whatever its prefix, or "".
func attr(e *xml.StartElement, name string) string {
	for i := range e.Attr {
		if e.Attr[i].Name.Local == name {
			return e.Attr[i].Value
		}
	}
	return ""
}
