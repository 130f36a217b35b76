package picture

import (
	"bytes"
	"encoding/binary"
	"slices"
)

const (
	// profileHeader is the length of the header of a colour profile (ICC.1:2022, 7.2).
	profileHeader = 128
	// maxProfile is the size in bytes of the largest colour profile that is read. One of
	// primaries and curves has a few hundred, and some thousands with all that is left out.
	maxProfile = 1 << 20
	// maxTags is how many tags a profile may have.
	maxTags = 100
	// curvePoints is how many points of a curve are kept: one for each value of a sample of
	// 8 bits, which are shown as before.
	curvePoints = 256
)

// A profileTag is a tag of a colour profile: its signature and its data.
type profileTag struct {
	sign string
	data []byte
}

// reduced returns the colours of a profile and nothing else: its primaries and its curves,
// written anew, or nil where it is none or is made of something else. Of tables of colours
// (A2B0 and the like) nobody could tell whether they are colours, so they are never kept.
// The same colours always give the same bytes.
func reduced(profile []byte) []byte {
	tags := tagsOf(profile)
	if tags == nil {
		return nil
	}
	version, class, space, pcs := profile[8], string(profile[12:16]), string(profile[16:20]), string(profile[20:24])
	switch {
	case version != 2 && version != 4:
		return nil
	case class != "mntr" && class != "scnr" && class != "spac" && class != "prtr":
		return nil
	case space == "RGB " && pcs == "XYZ ":
	case space == "GRAY" && (pcs == "XYZ " || pcs == "Lab "):
	default:
		return nil
	}
	out := []profileTag{{"desc", nameIn(version, "desc")}, {"cprt", nameIn(version, "cprt")}, {"wtpt", whitePoint(tags["wtpt"])}}
	if chad := numbers(tags["chad"], "sf32", 9, 4<<16); chad != nil {
		out = append(out, profileTag{"chad", chad})
	}
	if space == "GRAY" {
		out = append(out, profileTag{"kTRC", curve(tags["kTRC"])})
	} else {
		for _, sign := range []string{"rXYZ", "gXYZ", "bXYZ"} {
			out = append(out, profileTag{sign, numbers(tags[sign], "XYZ ", 3, 2<<16)})
		}
		for _, sign := range []string{"rTRC", "gTRC", "bTRC"} {
			out = append(out, profileTag{sign, curve(tags[sign])})
		}
		if c := tags["cicp"]; len(c) >= 12 && string(c[:8]) == "cicp\x00\x00\x00\x00" && c[10] == 0 && c[11] <= 1 {
			out = append(out, profileTag{"cicp", c[:12]})
		}
	}
	for _, tag := range out {
		if tag.data == nil {
			return nil
		}
	}
	// Nothing of the header stays but what the numbers mean.
	head := make([]byte, profileHeader, 1024)
	copy(head[8:], []byte{version, 0x40})
	copy(head[12:], class+space+pcs)
	copy(head[36:], "acsp")
	head[67] = profile[67] & 3 // how colours that cannot be shown are to be treated
	copy(head[68:], d50)
	return assembleProfile(head, out)
}

// tagsOf returns the data of each tag of the profile, or nil where it is none.
func tagsOf(profile []byte) map[string][]byte {
	size := int64(len(profile))
	if size < profileHeader+4 || string(profile[36:40]) != "acsp" || int64(binary.BigEndian.Uint32(profile)) != size {
		return nil
	}
	n := int64(binary.BigEndian.Uint32(profile[profileHeader:]))
	table := profile[profileHeader+4:]
	if n > maxTags || 12*n > int64(len(table)) {
		return nil
	}
	tags := make(map[string][]byte, n)
	for i := range n {
		t := table[12*i:]
		at, length := int64(binary.BigEndian.Uint32(t[4:])), int64(binary.BigEndian.Uint32(t[8:]))
		if at > size || length > size-at {
			return nil
		}
		if _, twice := tags[string(t[:4])]; twice {
			return nil
		}
		tags[string(t[:4])] = profile[at : at+length : at+length]
	}
	return tags
}

// assembleProfile puts a profile together. Tags with the same data share them, as in most
// profiles the curves do.
func assembleProfile(head []byte, tags []profileTag) []byte {
	data := head
	data = binary.BigEndian.AppendUint32(data, uint32(len(tags)))
	at := len(data) + 12*len(tags)
	var all []byte
	places := map[string]int{}
	for _, tag := range tags {
		place, ok := places[string(tag.data)]
		if !ok {
			place = at + len(all)
			places[string(tag.data)] = place
			all = append(all, tag.data...)
			all = append(all, make([]byte, -len(all)&3)...)
		}
		data = append(data, tag.sign...)
		data = binary.BigEndian.AppendUint32(data, uint32(place))
		data = binary.BigEndian.AppendUint32(data, uint32(len(tag.data)))
	}
	data = append(data, all...)
	binary.BigEndian.PutUint32(data, uint32(len(data)))
	return data
}

// d50 is the white that all colours of profiles are relative to (ICC.1:2022, 7.2.16).
const d50 = "\x00\x00\xf6\xd6\x00\x01\x00\x00\x00\x00\xd3\x2d"

// whitePoint is the tag of the medium's white, or that of what it is to be where there is
// none.
func whitePoint(tag []byte) []byte {
	if white := numbers(tag, "XYZ ", 3, 2<<16); white != nil {
		return white
	}
	return []byte("XYZ \x00\x00\x00\x00" + d50)
}

// numbers returns a tag of the type that has n numbers of 15 and 16 bits (s15Fixed16Number)
// and nothing else, none of them larger than the limit, or nil.
func numbers(tag []byte, kind string, n int, limit int32) []byte {
	if len(tag) < 8+4*n || string(tag[:8]) != kind+"\x00\x00\x00\x00" {
		return nil
	}
	for i := range n {
		if v := int32(binary.BigEndian.Uint32(tag[8+4*i:])); v < -limit || v > limit {
			return nil
		}
	}
	return tag[:8+4*n]
}

// parameters is how many numbers a curve of each kind has (ICC.1:2022, 10.18).
var parameters = []int{1, 3, 4, 5, 7}

// curve returns a tag with the curve, or nil where it is none. A table of more points than
// there are values of a sample keeps those of the values. One that falls is no curve of a
// colour.
func curve(tag []byte) []byte {
	if len(tag) < 12 || binary.BigEndian.Uint32(tag[4:]) != 0 {
		return nil
	}
	switch string(tag[:4]) {
	case "para":
		kind := int(binary.BigEndian.Uint16(tag[8:]))
		if kind >= len(parameters) || binary.BigEndian.Uint16(tag[10:]) != 0 {
			return nil
		}
		values := slices.Concat([]byte("para\x00\x00\x00\x00"), tag[12:])
		if numbers(values, "para", parameters[kind], 16<<16) == nil {
			return nil
		}
		return tag[:12+4*parameters[kind]]
	case "curv":
		n := int64(binary.BigEndian.Uint32(tag[8:]))
		if n > int64(len(tag)-12)/2 {
			return nil
		}
		points := make([]uint16, n)
		for i := range points {
			points[i] = binary.BigEndian.Uint16(tag[12+2*i:])
		}
		if n > 1 && !slices.IsSorted(points) {
			return nil
		}
		if n > curvePoints {
			points = thinned(points)
		}
		out := binary.BigEndian.AppendUint32([]byte("curv\x00\x00\x00\x00"), uint32(len(points)))
		for _, p := range points {
			out = binary.BigEndian.AppendUint16(out, p)
		}
		return out
	}
	return nil
}

// thinned returns the points of a curve at each value of a sample of 8 bits.
func thinned(points []uint16) []uint16 {
	out := make([]uint16, curvePoints)
	last := len(points) - 1
	for i := range out {
		at, part := i*last/(curvePoints-1), i*last%(curvePoints-1)
		out[i] = points[at]
		if part > 0 {
			rise := int(points[at+1]) - int(points[at])
			out[i] += uint16((rise*part + (curvePoints-1)/2) / (curvePoints - 1))
		}
	}
	return out
}

// nameIn is a tag with a text that says nothing, of the type that it has in the version.
func nameIn(version byte, sign string) []byte {
	text := map[string]string{"desc": "Colours", "cprt": "CC0"}[sign]
	switch {
	case version == 4: // multiLocalizedUnicodeType, 10.15
		out := []byte("mluc\x00\x00\x00\x00\x00\x00\x00\x01\x00\x00\x00\x0cenUS")
		out = binary.BigEndian.AppendUint32(out, uint32(2*len(text)))
		out = binary.BigEndian.AppendUint32(out, 28)
		for _, c := range []byte(text) {
			out = append(out, 0, c)
		}
		return out
	case sign == "cprt":
		return []byte("text\x00\x00\x00\x00" + text + "\x00")
	}
	out := []byte("desc\x00\x00\x00\x00") // textDescriptionType, ICC.1:2001-04, 6.5.17
	out = binary.BigEndian.AppendUint32(out, uint32(len(text)+1))
	out = append(out, text...)
	return append(out, make([]byte, 1+4+4+2+1+67)...)
}

// joined puts the parts of a profile in a JPEG in order, and returns nil where they are not
// all there, each once.
func (f *jpegFile) joined(p *Picture) ([]byte, error) {
	parts := slices.Clone(f.profile)
	slices.SortFunc(parts, func(a, b profilePart) int { return int(a.number) - int(b.number) })
	var size int64
	for i, part := range parts {
		if int(part.number) != i+1 || int(part.count) != len(parts) {
			return nil, nil
		}
		size += part.n
	}
	if size > maxProfile {
		return nil, nil
	}
	out := new(bytes.Buffer)
	for _, part := range parts {
		b := make([]byte, part.n)
		if n, err := p.src.ReadAt(b, part.at); n < len(b) {
			return nil, err
		}
		out.Write(b)
	}
	return out.Bytes(), nil
}
