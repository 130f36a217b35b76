package coverage

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"

	"github.com/tidwall/btree"

	"xuncha/sites"
)

// A snapshot of the index has its visits, and nothing that follows from them and the
// roster. All numbers are little endian:
//
//	"xuncha visits 1\n"
//	for each site, by its number: the length of its id as a byte, which is never 0, the
//	    id, how many visits it has as 4 bytes, and the visits in their order, of 24
//	    bytes each: capture and receive in nanoseconds since 1970, the sequence, and
//	    what the check-in says, packed as in report
//	a zero byte
//	for each minute since 1970 in which a site was visited, in their order: how many
//	    visits it has as 4 bytes, which are never 0, the minute as 8, and the visits as
//	    they came, of 4 bytes each, packed as in passing
//	4 zero bytes
//
// It is only read by the version that wrote it.
const snapshotHead = "xuncha visits 1\n"

// visitBytes is the length of a visit in a snapshot.
const visitBytes = 24

// ErrSnapshot means that what was read is not a snapshot of this version's.
var ErrSnapshot = errors.New("not a snapshot of the visits")

// Snapshot writes the visits as they are now. More may be added meanwhile.
func (x *Index) Snapshot(w io.Writer) error {
	x.mu.Lock()
	ids, visits, minutes := x.ids, x.visits.share(), x.minutes.Copy()
	x.mu.Unlock()
	b := bufio.NewWriterSize(w, 1<<16)
	b.WriteString(snapshotHead) // what fails is told by Flush
	var buf []byte
	for i, id := range ids {
		h := visits.at(int32(i))
		if len(id) == 0 || len(id) > 255 { // no site has such an id
			return fmt.Errorf("a site's id has %d bytes, and a snapshot has room for 1 to 255", len(id))
		}
		buf = append(buf[:0], byte(len(id)))
		buf = append(buf, id...)
		buf = binary.LittleEndian.AppendUint32(buf, uint32(len(h)))
		for _, v := range h {
			buf = binary.LittleEndian.AppendUint64(buf, uint64(v.capture))
			buf = binary.LittleEndian.AppendUint64(buf, uint64(v.receive))
			buf = binary.LittleEndian.AppendUint32(buf, v.sequence)
			buf = binary.LittleEndian.AppendUint32(buf, uint32(v.report))
		}
		if _, err := b.Write(buf); err != nil {
			return err
		}
	}
	b.WriteByte(0)
	minutes.Scan(func(in int64, visited []passing) bool {
		buf = binary.LittleEndian.AppendUint32(buf[:0], uint32(len(visited)))
		buf = binary.LittleEndian.AppendUint64(buf, uint64(in))
		for _, i := range visited {
			buf = binary.LittleEndian.AppendUint32(buf, uint32(i))
		}
		_, err := b.Write(buf)
		return err == nil
	})
	b.Write(make([]byte, 4))
	return b.Flush()
}

// Restore reads what Snapshot has written into an index that has no visits yet. Where
// there is an error, it has none afterwards either. The error wraps ErrSnapshot where
// the bytes are no snapshot; that a snapshot's bytes are the ones that were written is
// for the caller to check.
func (x *Index) Restore(r io.Reader) error {
	x.mu.Lock()
	defer x.mu.Unlock()
	if len(x.ids) > 0 {
		return errors.New("the index has visits already")
	}
	read := restored{r: bufio.NewReaderSize(r, 1<<16), numbers: map[sites.SiteID]int32{}}
	if err := read.all(); err != nil {
		return err
	}
	x.numbers, x.ids, x.visits, x.minutes = read.numbers, read.ids, read.visits, read.minutes
	return nil
}

// A restored is a snapshot that is being read.
type restored struct {
	r       *bufio.Reader
	buf     [512 * visitBytes]byte
	numbers map[sites.SiteID]int32
	ids     []sites.SiteID
	visits  vector[history]
	total   int // of the visits
	minutes btree.Map[int64, []passing]
}

// short turns the end of the bytes into the error that it is in the middle of them.
func short(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return fmt.Errorf("%w: it is cut short", ErrSnapshot)
	}
	return err
}

// next reads the next n bytes, of which buf is the room.
func (s *restored) next(n int) ([]byte, error) {
	_, err := io.ReadFull(s.r, s.buf[:n])
	return s.buf[:n], short(err)
}

func (s *restored) all() error {
	head, err := s.next(len(snapshotHead))
	if err != nil {
		return err
	}
	if string(head) != snapshotHead {
		return fmt.Errorf("%w: it begins otherwise", ErrSnapshot)
	}
	for {
		size, err := s.next(1)
		if err != nil {
			return err
		}
		if size[0] == 0 {
			return s.allMinutes()
		}
		if err := s.site(int(size[0])); err != nil {
			return err
		}
	}
}

func (s *restored) site(size int) error {
	b, err := s.next(size)
	if err != nil {
		return err
	}
	id := sites.SiteID(b)
	if _, twice := s.numbers[id]; twice {
		return fmt.Errorf("%w: site %s comes twice", ErrSnapshot, id)
	}
	if b, err = s.next(4); err != nil {
		return err
	}
	var h history
	for left := int(binary.LittleEndian.Uint32(b)); left > 0; {
		n := min(left, len(s.buf)/visitBytes)
		if b, err = s.next(n * visitBytes); err != nil {
			return err
		}
		if h == nil {
			h = make(history, 0, n) // and not left, which may be anything
		}
		for ; len(b) > 0; b = b[visitBytes:] {
			v := visit{
				capture: int64(binary.LittleEndian.Uint64(b)), receive: int64(binary.LittleEndian.Uint64(b[8:])),
				sequence: binary.LittleEndian.Uint32(b[16:]), report: report(binary.LittleEndian.Uint32(b[20:])),
			}
			if len(h) > 0 && h[len(h)-1].compare(v) >= 0 {
				return fmt.Errorf("%w: the visits of site %s are not in order", ErrSnapshot, id)
			}
			h = append(h, v)
		}
		left -= n
		s.total += n
	}
	i := int32(len(s.ids))
	s.numbers[id] = i
	s.ids = append(s.ids, id)
	s.visits.set(i, h)
	return nil
}

// allMinutes reads which sites were visited in which minute.
func (s *restored) allMinutes() error {
	last := int64(math.MinInt64)
	for {
		b, err := s.next(4)
		if err != nil {
			return err
		}
		n := int(binary.LittleEndian.Uint32(b))
		if s.total -= n; n == 0 || s.total < 0 {
			break
		}
		if b, err = s.next(8); err != nil {
			return err
		}
		in := int64(binary.LittleEndian.Uint64(b))
		if in <= last {
			return fmt.Errorf("%w: the minutes are not in order", ErrSnapshot)
		}
		last = in
		visited := make([]passing, 0, n) // no more than there are visits
		for n > 0 {
			if b, err = s.next(4 * min(n, len(s.buf)/4)); err != nil {
				return err
			}
			n -= len(b) / 4
			for ; len(b) > 0; b = b[4:] {
				p := passing(binary.LittleEndian.Uint32(b))
				if int(p.site()) >= len(s.ids) {
					return fmt.Errorf("%w: a minute has a site that does not exist", ErrSnapshot)
				}
				visited = append(visited, p)
			}
		}
		s.minutes.Load(in, visited)
	}
	if s.total != 0 {
		return fmt.Errorf("%w: the minutes have other visits than the sites", ErrSnapshot)
	}
	return nil
}
