package inspections

import (
	"bytes"
	"encoding/hex"
	"math"
	"strconv"
	"time"
	"unicode/utf8"

	"xuncha/inspections/coverage"
	"xuncha/ledger"
	"xuncha/sites"
)

// This file writes and reads the content of check-ins' entries by hand, because
// there are so many of them. What a record looks like is what record says and
// encoding/json makes of it; the tests hold that this gives the same bytes, and that
// what is unusual is left to encoding/json.

// marshalContent returns the content of the check-in's entry.
func marshalContent(s *Stored) ([]byte, error) {
	if unusualYear(s.Captured) || unusualYear(s.Corrected) {
		return ledger.MarshalContent(newRecord(s))
	}
	// As long as most are; a photo takes 130 bytes.
	b := make([]byte, 0, 384+len(s.Note)+144*len(s.Photos)+256*len(s.Reused))
	b = append(b, `{"capture_time":`...)
	b = ledger.AppendTime(b, s.Captured)
	b = append(b, `,"visit_time":`...)
	b = ledger.AppendTime(b, s.Corrected)
	b = append(b, `,"closure_order_id":`...)
	b = ledger.AppendText(b, string(s.Order))
	b = append(b, `,"finding":`...)
	b = ledger.AppendText(b, string(s.Finding))
	b = append(b, `,"duty_staff_present":`...)
	b = strconv.AppendBool(b, s.DutyStaffPresent)
	b = append(b, `,"cancelled_event_count":`...)
	b = strconv.AppendInt(b, int64(s.CancelledEvents), 10)
	b = append(b, `,"dispersed_people_count":`...)
	b = strconv.AppendInt(b, int64(s.DispersedPeople), 10)
	b = append(b, `,"distance_m":`...)
	switch d := s.Distance; {
	case d == nil:
		b = append(b, "null"...)
	case *d >= 0 && *d <= maxWhole && *d == math.Trunc(*d) && !math.Signbit(*d):
		b = strconv.AppendInt(b, int64(*d), 10)
	default:
		return ledger.MarshalContent(newRecord(s))
	}
	b = append(b, `,"note":`...)
	b = ledger.AppendText(b, s.Note)
	b = append(b, `,"photos":[`...)
	for i, p := range s.Photos {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(b, `{"sha256":"`...)
		b = hex.AppendEncode(b, p.SHA256[:])
		b = append(b, `","size_bytes":`...)
		b = strconv.AppendInt(b, p.Size, 10)
		b = append(b, `,"content_type":`...)
		b = ledger.AppendText(b, p.ContentType)
		if p.Width != 0 {
			b = append(b, `,"width":`...)
			b = strconv.AppendInt(b, int64(p.Width), 10)
		}
		if p.Height != 0 {
			b = append(b, `,"height":`...)
			b = strconv.AppendInt(b, int64(p.Height), 10)
		}
		if p.Refused != "" {
			b = append(b, `,"refused":`...)
			b = ledger.AppendText(b, string(p.Refused))
		}
		b = append(b, '}')
	}
	b = append(b, `],"flags":[`...)
	for i, f := range s.Flags {
		if i > 0 {
			b = append(b, ',')
		}
		b = ledger.AppendText(b, string(f))
	}
	b = append(b, ']')
	for i, p := range s.Reused {
		if i == 0 {
			b = append(b, `,"reused":[`...)
		} else {
			b = append(b, ',')
		}
		b = append(b, `{"sha256":"`...)
		b = hex.AppendEncode(b, p.SHA256[:])
		b = append(b, '"')
		if p.Name != (Digest{}) {
			b = append(b, `,"first_sha256":"`...)
			b = hex.AppendEncode(b, p.Name[:])
			b = append(b, `"}`...)
			continue
		}
		if p.First.Site != "" {
			b = append(b, `,"site_id":`...)
			b = ledger.AppendText(b, string(p.First.Site))
		}
		if p.First.CheckIn != "" {
			b = append(b, `,"check_in_id":`...)
			b = ledger.AppendText(b, string(p.First.CheckIn))
		}
		b = append(b, '}')
	}
	if len(s.Reused) > 0 {
		b = append(b, ']')
	}
	return append(b, '}'), nil
}

// maxWhole is the greatest number that is surely written without an exponent or a
// fraction.
const maxWhole = 1 << 53

// unusualYear reports whether the year may be one of which encoding/json makes an
// error.
func unusualYear(t time.Time) bool {
	y := t.UTC().Year()
	return y < 0 || y > 9999
}

// parseVisit reads of a check-in's entry what the coverage index needs. Its errors
// are those of Parse.
func parseVisit(e ledger.Entry) (coverage.Visit, error) {
	if v, ok := scanVisit(e); ok {
		return v, nil
	}
	s, err := Parse(e)
	if err != nil {
		return coverage.Visit{}, err
	}
	return visit(s), nil
}

// scanVisit is parseVisit for the records that marshalContent writes most often. It
// gives up where anything is unusual, also where Parse would not mind.
func scanVisit(e ledger.Entry) (v coverage.Visit, ok bool) {
	site, ok := sites.SiteOf(e.History)
	if !ok || e.Kind != KindCheckIn {
		return v, false
	}
	v = coverage.Visit{Site: site, Sequence: e.Sequence, Receive: e.Time}
	return v, scanContent(ledger.Content(e.Record), &v, nil)
}

// scanStored is Parse for the same records.
func scanStored(e ledger.Entry, site sites.SiteID) (*Stored, bool) {
	c := &Stored{CheckIn: CheckIn{ID: CheckInID(e.ID), Site: site}, Flags: []Flag{}, Entry: e}
	return c, scanContent(ledger.Content(e.Record), &coverage.Visit{Receive: e.Time}, c)
}

// scanContent reads the content of a check-in's entry: what the coverage index needs
// into v, which has the receipt, and all of it into c where that is not nil.
func scanContent(content []byte, v *coverage.Visit, c *Stored) bool {
	s := scanner{rest: content, ok: true, whole: c != nil}
	if c == nil {
		c = &Stored{} // which stays on the stack
	}
	s.literal(`{"capture_time":`)
	c.Captured = s.time()
	s.literal(`,"visit_time":`)
	c.Corrected = s.time()
	s.literal(`,"closure_order_id":`)
	c.Order = sites.OrderID(s.word())
	s.literal(`,"finding":`)
	finding := s.text()
	c.Finding = knownAs(finding, findings, s.whole)
	s.literal(`,"duty_staff_present":`)
	if c.DutyStaffPresent = s.next(`true`); !c.DutyStaffPresent {
		s.literal(`false`)
	}
	s.literal(`,"cancelled_event_count":`)
	c.CancelledEvents = int32(s.count())
	s.literal(`,"dispersed_people_count":`)
	c.DispersedPeople = int32(s.count())
	s.literal(`,"distance_m":`)
	if !s.next(`null`) {
		if metres := s.count(); s.whole {
			d := float64(metres)
			c.Distance = &d
		}
	}
	s.literal(`,"note":`)
	c.Note = s.word()
	s.literal(`,"photos":[`)
	for first := true; s.ok && !s.next(`]`); first = false {
		if !first {
			s.literal(`,`)
		}
		var p Photo
		s.literal(`{"sha256":"`)
		s.digest(&p.SHA256)
		s.literal(`","size_bytes":`)
		p.Size = s.count()
		s.literal(`,"content_type":`)
		p.ContentType = s.word()
		if s.next(`,"width":`) {
			p.Width = int32(s.count())
		}
		if s.next(`,"height":`) {
			p.Height = int32(s.count())
		}
		if s.next(`,"refused":`) {
			p.Refused = knownAs(s.text(), refusals, s.whole)
		}
		s.literal(`}`)
		if s.whole {
			c.Photos = append(c.Photos, p)
		}
	}
	s.literal(`,"flags":[`)
	for first := true; s.ok && !s.next(`]`); first = false {
		if !first {
			s.literal(`,`)
		}
		flag := s.text()
		v.SyncedLate = v.SyncedLate || Flag(flag) == SyncedLate
		if s.whole {
			c.Flags = append(c.Flags, Flag(flag))
		}
	}
	s.literal(`}`)
	v.Capture, v.Open = visitTime(c.Corrected, v.Receive), Finding(finding) == FoundOpen
	v.CancelledEvents, v.DispersedPeople = c.CancelledEvents, c.DispersedPeople
	return s.ok && len(s.rest) == 0
}

// knownAs returns a word without making a new string of one that is known, and nothing
// where it is not asked for.
func knownAs[W ~string](text []byte, known []W, asked bool) W {
	if !asked {
		return ""
	}
	for _, w := range known {
		if string(text) == string(w) {
			return w
		}
	}
	return W(text)
}

// A scanner reads a record from its beginning on. Its ok is false once something was
// not as usual.
type scanner struct {
	rest []byte
	ok   bool
	// whole means that texts are wanted, and not only to be passed over.
	whole bool
}

// next passes over a text, if it is the next one.
func (s *scanner) next(text string) bool {
	if len(s.rest) < len(text) || string(s.rest[:len(text)]) != text {
		return false
	}
	s.rest = s.rest[len(text):]
	return true
}

// literal passes over what must come next.
func (s *scanner) literal(text string) { s.ok = s.ok && s.next(text) }

// take passes over n bytes and returns them.
func (s *scanner) take(n int) []byte {
	if s.ok = s.ok && n <= len(s.rest); !s.ok {
		return nil
	}
	b := s.rest[:n]
	s.rest = s.rest[n:]
	return b
}

// text reads a string in which nothing is escaped.
func (s *scanner) text() []byte {
	s.literal(`"`)
	end := bytes.IndexByte(s.rest, '"')
	if end < 0 {
		s.ok = false
	}
	b := s.take(end)
	for _, c := range b {
		if c < 0x20 || c == '\\' {
			s.ok = false
		}
	}
	if s.whole && !utf8.Valid(b) {
		s.ok = false
	}
	s.literal(`"`)
	return b
}

// word is text as a string; nothing where texts are not wanted.
func (s *scanner) word() string {
	b := s.text()
	if !s.whole {
		return ""
	}
	return string(b)
}

// count reads a number of at most nine digits.
func (s *scanner) count() (n int64) {
	i := 0
	for ; i < len(s.rest) && s.rest[i]-'0' <= 9; i++ {
		if i == 9 {
			s.ok = false
			return 0
		}
		n = 10*n + int64(s.rest[i]-'0')
	}
	if i == 0 || i > 1 && s.rest[0] == '0' {
		s.ok = false
	}
	s.take(i)
	return n
}

// time reads a time in UTC.
func (s *scanner) time() (t time.Time) {
	b := s.text()
	if !s.ok || len(b) == 0 || b[len(b)-1] != 'Z' || t.UnmarshalText(b) != nil {
		s.ok = false
	}
	return t
}

// digest reads a hash in hexadecimal.
func (s *scanner) digest(into *Digest) {
	b := s.take(2 * len(into))
	for _, c := range b {
		if c >= 'A' && c <= 'F' {
			s.ok = false // which is not how one is written
		}
	}
	if n, err := hex.Decode(into[:], b); err != nil || n != len(into) {
		s.ok = false
	}
}
