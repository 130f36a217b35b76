package wire

import "encoding/binary"

// Frames of HTTP/2, as far as they matter here (RFC 9113, sections 4.1 and 6).
const (
	frameData         = 0x0
	frameHeaders      = 0x1
	frameReset        = 0x3
	frameSettings     = 0x4
	framePing         = 0x6
	frameGoAway       = 0x7
	frameContinuation = 0x9

	flagEndStream = 0x1 // of DATA and HEADERS
	flagAck       = 0x1 // of SETTINGS and PING

	settingInitialWindow = 0x4
	settingLen           = 6 // an id and a value

	headLen    = 9
	prefaceLen = 24 // what a client sends before its first frame
	lastStream = 1<<31 - 1
)

// A frame is the head of a frame.
type frame struct {
	length int
	kind   byte
	flags  byte
	stream uint32
}

func parseFrame(b *[headLen]byte) frame {
	return frame{
		length: int(b[0])<<16 | int(b[1])<<8 | int(b[2]), kind: b[3], flags: b[4],
		stream: binary.BigEndian.Uint32(b[5:]) & lastStream, // the first bit is reserved
	}
}

// ends reports whether nothing comes on the frame's stream after it, in its direction.
func (f frame) ends() bool {
	return f.kind == frameReset || f.flags&flagEndStream != 0 && (f.kind == frameData || f.kind == frameHeaders)
}

// A follower finds the frames in a stream of bytes, in whatever pieces it comes.
type follower struct {
	// skip is how many bytes come before the next head: of the preface, or of a payload.
	skip int
	head [headLen]byte
	have int // bytes of head
}

// next is how many bytes are left of the part that the stream is in: the preface, a head
// or a payload.
func (f *follower) next() int {
	if f.skip > 0 {
		return f.skip
	}
	return headLen - f.have
}

// between reports whether the stream is at the end of a frame.
func (f *follower) between() bool { return f.skip == 0 && f.have == 0 }

// follow goes on by the bytes, and calls each with every head that is complete.
func (f *follower) follow(b []byte, each func(frame)) {
	for len(b) > 0 {
		if f.skip > 0 {
			n := min(f.skip, len(b))
			f.skip -= n
			b = b[n:]
			continue
		}
		n := copy(f.head[f.have:], b)
		f.have += n
		b = b[n:]
		if f.have == headLen {
			head := parseFrame(&f.head)
			f.have, f.skip = 0, head.length
			each(head)
		}
	}
}

// appendWindow appends a SETTINGS frame with the window of streams (RFC 9113, section 6.5).
func appendWindow(b []byte, size uint32) []byte {
	b = append(b, 0, 0, settingLen, frameSettings, 0, 0, 0, 0, 0, 0, settingInitialWindow)
	return binary.BigEndian.AppendUint32(b, size)
}

// appendGoAway appends a GOAWAY frame that asks for another connection and takes all
// streams that are under way (section 6.8).
func appendGoAway(b []byte) []byte {
	b = append(b, 0, 0, 8, frameGoAway, 0, 0, 0, 0, 0)
	b = binary.BigEndian.AppendUint32(b, lastStream)
	return binary.BigEndian.AppendUint32(b, 0) // NO_ERROR
}

// withWindow returns a server's first frames with another window of streams, where they
// set one: b must begin with the SETTINGS frame.
func withWindow(b []byte, size uint32) []byte {
	if len(b) < headLen {
		return b
	}
	head := parseFrame((*[headLen]byte)(b))
	if head.kind != frameSettings || len(b) < headLen+head.length {
		return b
	}
	out := append([]byte(nil), b...)
	for at := headLen; at+settingLen <= headLen+head.length; at += settingLen {
		if binary.BigEndian.Uint16(out[at:]) == settingInitialWindow {
			binary.BigEndian.PutUint32(out[at+2:], size)
		}
	}
	return out
}
