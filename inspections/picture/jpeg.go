package picture

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
)

// Markers of ITU-T T.81, table B.1, each behind a byte of 0xff.
const (
	sof0, sof1, sof2 = 0xc0, 0xc1, 0xc2
	dht              = 0xc4
	rst0, rst7       = 0xd0, 0xd7
	soi              = 0xd8
	eoi              = 0xd9
	sos              = 0xda
	dqt              = 0xdb
	dri              = 0xdd
	app0             = 0xe0
	app1             = 0xe1
	app2             = 0xe2
	app14            = 0xee
	app15            = 0xef
	com              = 0xfe
)

var (
	jfifPrefix  = []byte("JFIF\x00")
	iccPrefix   = []byte("ICC_PROFILE\x00")
	adobePrefix = []byte("Adobe")
)

// A jpegFile is what is found in one.
type jpegFile struct {
	jfif, adobe []byte
	oriented    bool
	profile     []profilePart
	parts       []jpegPart // all that is kept in its place
	latest      map[jpegTable]int
	components  int
	areas       map[byte]int64 // of each component's blocks, by its id
	scans       int
	walk        jpegWalk
	walked      bool     // whether all scans so far were gone over
	factors     [4]int32 // of DC coefficients, by the table of quantization
}

// A profilePart is a segment's part of the colour profile.
type profilePart struct {
	number, count byte
	at, n         int64 // without what comes before it in the segment
}

func (p *Picture) readJPEG(r *reader) error {
	f := jpegFile{walk: jpegWalk{enough: p.limits.Enough}, walked: !p.limits.Kept}
	return p.readParts(r, &f)
}

// readParts reads a JPEG part by part.
func (p *Picture) readParts(r *reader, f *jpegFile) error {
	r.at = 2
	for {
		start := r.at
		code, err := marker(r, r.end)
		if errors.Is(err, errShort) && f.scans > 0 && f.walked {
			return p.assemble(f) // all of the picture is there but the marker of its end
		}
		if err != nil {
			return err
		}
		wrong := func(what string) error {
			return fmt.Errorf("%w: JPEG, marker %#02x at byte %d: %s", ErrNotPicture, code, start, what)
		}
		if code == eoi {
			if f.scans == 0 {
				return wrong("there is no image before it")
			}
			return p.assemble(f)
		}
		if code >= rst0 && code <= rst7 && f.scans > 0 {
			continue // behind compressed data, where some encoders leave one, and left out
		}
		if code < sof0 || code >= rst0 && code <= soi {
			return wrong("does not belong there")
		}
		segment := r.at - 2
		b, err := r.peek(2)
		if err != nil {
			return err
		}
		n := int64(binary.BigEndian.Uint16(b))
		if n < 2 {
			return wrong("is shorter than its length")
		}
		// The longest segment and what is read of it fit into the window.
		data, err := r.next(int(n))
		if err != nil {
			return err
		}
		data = data[2:]
		keep := false
		switch code {
		case sof0, sof1, sof2:
			if f.components != 0 {
				return wrong("is a second frame")
			}
			if len(data) < 6 || len(data) != 6+3*int(data[5]) {
				return wrong("has a wrong length")
			}
			if data[0] != 8 {
				return wrong("has other than 8 bits a sample")
			}
			if f.components = int(data[5]); f.components != 1 && f.components != 3 && f.components != 4 {
				return wrong("has other than 1, 3 or 4 components")
			}
			if err := p.measure(int(binary.BigEndian.Uint16(data[3:])), int(binary.BigEndian.Uint16(data[1:]))); err != nil {
				return err
			}
			if p.decoding = jpegDecoding(p, code == sof2, data[6:]); p.decoding == 0 {
				return wrong("has a component without samples")
			}
			if err := f.walk.frame(code == sof2, data); err != nil && (!p.limits.Kept || f.walk.small) {
				return err
			}
			f.areas = areasOf(data[6:])
			keep = true
		case dht:
			if keep = wholeHuffman(data); !keep {
				return wrong("has a wrong length")
			}
			f.walk.define(data)
		case dqt:
			if keep = wholeQuantization(data); !keep {
				return wrong("has a wrong length")
			}
			f.quantizations(data)
		case dri:
			if keep = len(data) == 2; !keep {
				return wrong("has a wrong length")
			}
			f.walk.restart = int64(binary.BigEndian.Uint16(data))
		case sos:
			if f.components == 0 {
				return wrong("comes before the frame")
			}
			if len(data) < 1 || len(data) != 4+2*int(data[0]) {
				return wrong("has a wrong length")
			}
			if f.scans++; f.scans > MaxScans && !p.limits.Kept {
				return wrong(fmt.Sprintf("is of more than %d scans", MaxScans))
			}
			p.work += f.samplesOf(p, data)
			if f.scans == 1 && !f.walk.defined() {
				tables, _ := tablesOf(dht, standardCodes[4:])
				if err := f.keep(piece{bytes: standardCodes}, p.limits.Kept, tables...); err != nil {
					return err
				}
				f.walk.define(standardCodes[4:])
			}
			f.uses(data)
			if err := f.keep(piece{at: segment, n: 2 + n, joined: true}, true); err != nil {
				return err
			}
			from := r.at
			if err := f.goOver(r, bytes.Clone(data)); err != nil {
				return err
			}
			if err := f.keep(piece{at: from, n: r.at - from, joined: true}, true); err != nil {
				return err
			}
		case app0, app1, app2, app14:
			f.application(p, code, data, segment, n)
		default:
			if code != com && (code < app0 || code > app15) {
				return wrong("is of a kind that is not supported")
			}
		}
		if keep {
			tables, once := tablesOf(code, data)
			if !once && !p.limits.Kept {
				return wrong("has a table twice")
			}
			if err := f.keep(piece{at: segment, n: 2 + n, joined: true}, p.limits.Kept || len(tables) == 0, tables...); err != nil {
				return err
			}
		}
	}
}

// goOver goes to the marker behind the compressed data of a scan.
func (f *jpegFile) goOver(r *reader, header []byte) error {
	from := r.at
	if f.walk.small {
		f.prepare()
		return f.walk.scan(r, header)
	}
	if f.walked {
		err := f.walk.scan(r, header)
		if !errors.Is(err, errEnough) {
			return err
		}
		f.walked, r.at = false, from
	}
	return scan(r)
}

// marker goes behind the next marker and returns it. Programs leave bytes before markers
// which every viewer passes over; so does marker, up to the place.
func marker(r *reader, upTo int64) (byte, error) {
	at := r.at
	b, err := r.next(2)
	for err == nil && (b[0] != 0xff || b[1] == 0) {
		if r.at > upTo {
			return 0, fmt.Errorf("%w: JPEG, byte %d: there is no marker", ErrNotPicture, at)
		}
		if b[1] == 0xff {
			r.at--
		}
		b, err = r.next(2)
	}
	if err != nil {
		return 0, err
	}
	code := b[1]
	for code == 0xff { // fill bytes, T.81 B.1.1.2
		if b, err = r.next(1); err != nil {
			return 0, err
		}
		code = b[0]
	}
	return code, nil
}

// scan goes to the marker behind the compressed data.
func scan(r *reader) error {
	for {
		b, err := r.rest()
		if err != nil {
			return err
		}
		// One byte in 256 is 0xff, so most of the time goes to what is done with it.
		at := 0
		for {
			i := bytes.IndexByte(b[at:], 0xff)
			if i < 0 {
				at = len(b)
				break
			}
			if at += i; at+1 == len(b) {
				break // the next byte is not at hand
			}
			switch code := b[at+1]; {
			case code == 0 || code >= rst0 && code <= rst7:
				at += 2
			case code == 0xff:
				at++
			default:
				r.at += int64(at)
				return nil
			}
		}
		r.at += int64(at)
		if at < len(b) {
			if _, err := r.peek(2); err != nil {
				return err
			}
		}
	}
}

// application takes in what an application segment says of the picture.
func (f *jpegFile) application(p *Picture, code byte, data []byte, segment, n int64) {
	switch {
	case code == app0 && bytes.HasPrefix(data, jfifPrefix) && len(data) >= 14 && f.jfif == nil:
		f.jfif = append(bytes.Clone(data[:12]), 0, 0) // no thumbnail
	case code == app1 && bytes.HasPrefix(data, exifPrefix) && !f.oriented:
		f.oriented = true
		p.Orientation = orientationOf(data)
	case code == app2 && bytes.HasPrefix(data, iccPrefix) && len(data) >= len(iccPrefix)+2 && len(f.profile) < 255:
		data = data[len(iccPrefix):]
		part := profilePart{number: data[0], count: data[1], n: int64(len(data) - 2)}
		part.at = segment + 2 + n - part.n
		f.profile = append(f.profile, part)
	case code == app14 && bytes.HasPrefix(data, adobePrefix) && len(data) >= 12 && f.adobe == nil:
		f.adobe = bytes.Clone(data[:12])
	}
}

// assemble puts together what is kept, in the order in which cameras write it.
func (p *Picture) assemble(f *jpegFile) error {
	head := []byte{0xff, soi}
	segment := func(code byte, data ...[]byte) {
		all := bytes.Join(data, nil)
		head = append(head, 0xff, code)
		head = binary.BigEndian.AppendUint16(head, uint16(2+len(all)))
		head = append(head, all...)
	}
	if f.jfif != nil {
		segment(app0, f.jfif)
	}
	if p.Orientation != 1 {
		segment(app1, exifPrefix, exifOf(p.Orientation))
	}
	if f.adobe != nil {
		segment(app14, f.adobe)
	}
	if len(f.profile) > 0 {
		profile, err := f.joined(p)
		if err != nil {
			return err
		}
		if profile = reduced(profile); profile != nil {
			segment(app2, iccPrefix, []byte{1, 1}, profile)
		}
	}
	if err := p.add(head); err != nil {
		return err
	}
	for _, q := range f.parts {
		if !q.needed {
			continue
		}
		anew, err := q.assembleTables(p.src)
		switch {
		case err != nil:
		case anew != nil:
			err = p.add(anew)
		case q.joined:
			err = p.keep(q.at, q.n)
		default:
			err = p.add(q.bytes)
		}
		if err != nil {
			return err
		}
	}
	return p.add([]byte{0xff, eoi})
}

// areasOf returns how many blocks of each of a frame's components belong together, by the
// component's id.
func areasOf(components []byte) map[byte]int64 {
	areas := make(map[byte]int64, len(components)/3)
	for i := 0; i+2 < len(components); i += 3 {
		areas[components[i]] = int64(components[i+1]>>4) * int64(components[i+1]&15)
	}
	return areas
}

// samplesOf is how many samples a scan with the header is about. A decoder goes over all of
// them, however few bytes the scan has: those of a progressive JPEG can say of thousands of
// blocks at once that nothing is to be done.
func (f *jpegFile) samplesOf(p *Picture, header []byte) int64 {
	var largest, sum int64
	for _, area := range f.areas {
		largest = max(largest, area)
	}
	for i := range int(header[0]) {
		sum += f.areas[header[1+2*i]]
	}
	return int64(p.Width+64) * int64(p.Height+64) * sum / largest
}

// jpegDecoding is how many bytes image/jpeg needs for the frame: each
// component's samples, and 32-bit coefficients too where the frame is
// progressive; 0 where a component has none.
func jpegDecoding(p *Picture, progressive bool, components []byte) int64 {
	var sum, largest int64
	for i := 1; i < len(components); i += 3 {
		area := int64(components[i]>>4) * int64(components[i]&15)
		if area == 0 {
			return 0
		}
		sum += area
		largest = max(largest, area)
	}
	samples := int64(p.Width+64) * int64(p.Height+64) * sum / largest
	if len(components) == 4*3 {
		samples *= 2 // CMYK is put together from its components
	}
	if progressive {
		return 5 * samples
	}
	return samples
}
