package picture

import (
	"bufio"
	"bytes"
	"compress/zlib"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"slices"
)

var pngSignature = []byte("\x89PNG\r\n\x1a\n")

// pngKept has the chunks that are kept as they are, beside the colour profile,
// and the length that each must have; 0 where that is checked elsewhere.
var pngKept = map[string]int64{
	"cHRM": 32, "gAMA": 4, "sRGB": 1, "cICP": 4, "mDCV": 24, "cLLI": 8, // of the whole picture's colours
	"sBIT": 0, "tRNS": 0, "PLTE": 0,
}

// sBITs is the length of an sBIT chunk by colour type (W3C PNG, 11.3.2.5).
var sBITs = map[byte]int64{0: 1, 2: 3, 3: 3, 4: 2, 6: 4}

// plausible reports whether the numbers of a chunk that is kept can be of a picture. Those that
// letters make are far beyond (W3C PNG, 11.3.2).
func plausible(kind string, b []byte) bool {
	const (
		chromaticity = 200_000     // of 100,000 parts; those of real colours are below one
		gamma        = 10_000_000  // of 100,000 parts
		luminance    = 100_000_000 // of 10,000 parts of a candela per square metre
	)
	largest := func(b []byte) (most uint32) {
		for ; len(b) > 0; b = b[4:] {
			most = max(most, binary.BigEndian.Uint32(b))
		}
		return most
	}
	switch kind {
	case "sBIT":
		return slices.Min(b) >= 1 && slices.Max(b) <= 16
	case "cHRM":
		return largest(b) <= chromaticity
	case "gAMA":
		return largest(b) <= gamma
	case "sRGB":
		return b[0] <= 3
	case "cICP":
		return b[2] == 0 && b[3] <= 1
	case "mDCV":
		return largest(b[16:]) <= luminance
	case "cLLI":
		return largest(b) <= luminance
	}
	return true
}

// bitsOf has, for each colour type, how many bits a pixel has for each bit of
// depth, and which depths there are (W3C PNG, table 8).
var bitsOf = map[byte]struct {
	channels int64
	depths   string
}{
	0: {1, "\x01\x02\x04\x08\x10"},
	2: {3, "\x08\x10"},
	3: {1, "\x01\x02\x04\x08"},
	4: {2, "\x08\x10"},
	6: {4, "\x08\x10"},
}

func (p *Picture) readPNG(r *reader) error {
	if err := p.add(pngSignature); err != nil {
		return err
	}
	var (
		data           []piece // the image's stream
		behind         bool    // whether something has followed it
		late           bool    // whether the orientation was only found there
		seen           = map[string]bool{}
		want           []pngRows
		depth, colours byte  // as its header says
		palette        int64 // how many colours it names
	)
	for r.at = int64(len(pngSignature)); ; {
		start := r.at
		head, err := r.next(8)
		if err != nil {
			return err
		}
		n, kind := int64(binary.BigEndian.Uint32(head)), string(head[4:])
		wrong := func(what string) error {
			return fmt.Errorf("%w: PNG, chunk %q at byte %d: %s", ErrNotPicture, kind, start, what)
		}
		if !seen["IHDR"] && kind != "IHDR" || seen["IHDR"] && kind == "IHDR" {
			return wrong("does not belong there")
		}
		small, err := checkedChunk(r, kind, n, 64<<10)
		if errors.Is(err, errSum) {
			return wrong(err.Error())
		}
		if err != nil {
			return err
		}
		keep := false
		kept, known := pngKept[kind]
		switch {
		case kind == "IHDR":
			if want, err = p.pngHeader(small); err != nil {
				return err
			}
			depth, colours = small[8], small[9]
			keep = true
		case kind == "IDAT":
			if behind {
				return wrong("does not belong there")
			}
			if len(data) == 0 {
				if err := p.turnPNG(); err != nil {
					return err
				}
			}
			keep = true
			data = append(data, piece{at: start + 8, n: n})
			if len(data) > maxPieces {
				return wrong("is one of too many")
			}
		case kind == "IEND":
			if len(data) == 0 || n != 0 {
				return wrong("does not belong there")
			}
			if err := p.wholeStream(data, want); err != nil {
				return err
			}
			if late {
				if err := p.turnPNG(); err != nil {
					return err
				}
			}
			return p.add(chunk("IEND", nil))
		case kind == "PLTE":
			if len(data) > 0 || seen[kind] || n > 768 || n%3 != 0 {
				return wrong("does not belong there")
			}
			palette = n / 3
			if keep = colours == 3; keep && palette > 1<<depth && !p.limits.Kept {
				return wrong("has more colours than a pixel can tell apart")
			}
		case seen[kind] || len(data) > 0 && kind != "eXIf":
			// None of those that are kept comes twice or behind the image.
		case kind == "eXIf":
			p.Orientation = orientationOf(small)
			late = len(data) > 0
		case kind == "iCCP":
			profile, err := pngProfile(small, r, start+8, n)
			if err != nil {
				return err
			}
			if profile != nil {
				if err := p.add(profile); err != nil {
					return err
				}
			}
		case kind == "tRNS":
			keep = colours == 0 && n == 2 || colours == 2 && n == 6 || colours == 3 && n >= 1 && n <= palette
		case known:
			keep = (kept > 0 && n == kept || kind == "sBIT" && n == sBITs[colours]) && plausible(kind, small)
		case kind[0]&0x20 == 0:
			return wrong("is of a kind that is not supported")
		}
		if known || kind == "IHDR" || kind == "iCCP" || kind == "eXIf" {
			seen[kind] = true // a file can have a million kinds that nobody knows
		}
		behind = behind || len(data) > 0 && kind != "IDAT"
		if keep {
			if err := p.keep(start, 12+n); err != nil {
				return err
			}
		}
	}
}

// turnPNG adds the chunk that says which side is up, where that is not plain.
func (p *Picture) turnPNG() error {
	if p.Orientation == 1 {
		return nil
	}
	return p.add(chunk("eXIf", exifOf(p.Orientation)))
}

// errSum means that a chunk is damaged.
var errSum = errors.New("its checksum is not that of its content")

// checkedChunk goes behind the content of a chunk and its checksum, and checks
// the latter. It returns the content where it is at most limit bytes.
func checkedChunk(r *reader, kind string, n, limit int64) ([]byte, error) {
	if n > 1<<31-1 || r.end-r.at < n+4 {
		return nil, errShort
	}
	sum := crc32.ChecksumIEEE([]byte(kind))
	var content []byte
	if n <= limit {
		content = make([]byte, 0, n)
	}
	for left := n; left > 0; {
		b, err := r.rest()
		if err != nil {
			return nil, err
		}
		b = b[:min(int64(len(b)), left)]
		sum = crc32.Update(sum, crc32.IEEETable, b)
		if n <= limit {
			content = append(content, b...)
		}
		left -= int64(len(b))
		r.at += int64(len(b))
	}
	b, err := r.next(4)
	if err != nil {
		return nil, err
	}
	if binary.BigEndian.Uint32(b) != sum {
		return nil, errSum
	}
	return content, nil
}

// pngRows are rows of the same length in bytes, with the one that says how a row was filtered.
type pngRows struct{ length, n int64 }

// pngHeader reads the header and returns the rows of the image's stream once it is unpacked.
func (p *Picture) pngHeader(b []byte) ([]pngRows, error) {
	wrong := func(what string) error { return fmt.Errorf("%w: PNG, chunk \"IHDR\": %s", ErrNotPicture, what) }
	if len(b) != 13 {
		return nil, wrong("has a wrong length")
	}
	width, height := binary.BigEndian.Uint32(b), binary.BigEndian.Uint32(b[4:])
	if width > 1<<31-1 || height > 1<<31-1 {
		return nil, wrong("is out of range")
	}
	if err := p.measure(int(width), int(height)); err != nil {
		return nil, err
	}
	colour, ok := bitsOf[b[9]]
	if !ok || !bytes.Contains([]byte(colour.depths), b[8:9]) || b[10] != 0 || b[11] != 0 || b[12] > 1 {
		return nil, wrong("is of a kind that is not supported")
	}
	bits := colour.channels * int64(b[8])
	pixel := max(4, (bits+7)/8) // image/png makes four or eight bytes of one with transparency
	p.decoding = int64(width) * int64(height) * pixel
	rows := func(w, h int64) pngRows {
		if w == 0 {
			return pngRows{}
		}
		return pngRows{1 + (w*bits+7)/8, h}
	}
	w, h := int64(width), int64(height)
	if b[12] == 0 {
		return []pngRows{rows(w, h)}, nil
	}
	p.decoding *= 2
	var all []pngRows
	// The seven passes of Adam7: where each begins and its steps.
	for _, pass := range [][4]int64{{0, 0, 8, 8}, {4, 0, 8, 8}, {0, 4, 4, 8}, {2, 0, 4, 4}, {0, 2, 2, 4}, {1, 0, 2, 2}, {0, 1, 1, 2}} {
		all = append(all, rows((w-pass[0]+pass[2]-1)/pass[2], (h-pass[1]+pass[3]-1)/pass[3]))
	}
	return all, nil
}

// wholeStream checks that the pieces are one zlib stream that unpacks to the rows, and
// nothing else. Never more than those are unpacked, and they are not kept.
func (p *Picture) wholeStream(pieces []piece, rows []pngRows) error {
	if p.limits.Kept {
		return nil
	}
	src := p.src
	wrong := func(what any) error { return fmt.Errorf("%w: PNG, the image: %v", ErrNotPicture, what) }
	readers := make([]io.Reader, len(pieces))
	for i, q := range pieces {
		readers[i] = io.NewSectionReader(src, q.at, q.n)
	}
	// Of what can be read byte by byte, no more is read than there is in the stream.
	packed := bufio.NewReaderSize(io.MultiReader(readers...), windowSize)
	z, err := zlib.NewReader(packed)
	if err != nil {
		return wrong(err)
	}
	filters := &pngFilters{rows: rows, enough: p.limits.Enough}
	var want int64
	for _, r := range rows {
		want += r.length * r.n
	}
	n, err := io.CopyBuffer(filters, io.LimitReader(z, want), make([]byte, windowSize))
	switch {
	case err == errEnough:
		return nil
	case err == errFilter:
		return wrong(err)
	case err != nil && err != io.EOF:
		return wrong(err)
	case n < want:
		return wrong(fmt.Sprintf("it has %d bytes of %d", n, want))
	}
	switch n, err := z.Read(make([]byte, 1)); {
	case n > 0:
		return wrong(fmt.Sprintf("it has more than %d bytes", want))
	case err != io.EOF:
		return wrong(err)
	}
	if _, err := packed.ReadByte(); err != io.EOF {
		return wrong("something follows its end")
	}
	return nil
}

// errFilter means that what is unpacked is no row of pixels.
var errFilter = errors.New("a row was filtered in a way that does not exist")

// pngFilters goes over rows and checks how each was filtered (W3C PNG, 9.2).
type pngFilters struct {
	rows   []pngRows // those that are still to come
	left   int64     // of the row that has begun
	enough func() bool
}

// Write implements io.Writer.
func (f *pngFilters) Write(b []byte) (int, error) {
	if f.enough != nil && f.enough() {
		return 0, errEnough
	}
	for at := int64(0); at < int64(len(b)); {
		if f.left == 0 {
			for f.rows[0].n == 0 {
				f.rows = f.rows[1:]
			}
			f.rows[0].n--
			f.left = f.rows[0].length
			if b[at] > 4 {
				return 0, errFilter
			}
		}
		n := min(f.left, int64(len(b))-at)
		f.left -= n
		at += n
	}
	return len(b), nil
}

// pngProfile returns a chunk with the colours of the profile of the one that has its
// content at the place, packed anew and under a name that says nothing, or nil
// where it has none.
func pngProfile(content []byte, r *reader, at, n int64) ([]byte, error) {
	if content == nil {
		if n > maxProfile {
			return nil, nil
		}
		content = make([]byte, n)
		if _, err := r.src.ReadAt(content, at); err != nil {
			return nil, err
		}
	}
	_, packed, ok := bytes.Cut(content, []byte{0})
	if !ok || len(packed) < 1 || packed[0] != 0 {
		return nil, nil
	}
	z, err := zlib.NewReader(bytes.NewReader(packed[1:]))
	if err != nil {
		return nil, nil // a profile that cannot be read is of no use
	}
	profile, err := io.ReadAll(io.LimitReader(z, maxProfile+1))
	if err != nil || len(profile) > maxProfile {
		return nil, nil
	}
	if profile = reduced(profile); profile == nil {
		return nil, nil
	}
	b := bytes.NewBufferString("profile\x00\x00")
	w := zlib.NewWriter(b)
	if _, err := w.Write(profile); err != nil {
		return nil, err
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return chunk("iCCP", b.Bytes()), nil
}

// chunk returns a PNG chunk.
func chunk(kind string, content []byte) []byte {
	b := binary.BigEndian.AppendUint32(nil, uint32(len(content)))
	b = append(append(b, kind...), content...)
	return binary.BigEndian.AppendUint32(b, crc32.ChecksumIEEE(b[4:]))
}
