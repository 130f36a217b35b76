package sites

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"time"
	"unicode/utf8"

	"xuncha/ledger"
)

// The kinds of entry in the roster's history, with the content of each.
const (
	// KindDivisionsImported: divisionsImported, its rows beside it.
	KindDivisionsImported ledger.Kind = "divisions_imported"
	// KindSitesImported: sitesImported, its rows beside it.
	KindSitesImported ledger.Kind = "sites_imported"
	// KindSiteRegistered, KindSiteUpdated, KindSiteMoved and
	// KindSiteDeregistered: {"site":{…}}, the site as it is afterwards.
	KindSiteRegistered   ledger.Kind = "site_registered"
	KindSiteUpdated      ledger.Kind = "site_updated"
	KindSiteMoved        ledger.Kind = "site_moved"
	KindSiteDeregistered ledger.Kind = "site_deregistered"
	// KindOrderIssued and KindOrderEnded: {"closure_order":{…}}, the order as
	// it is afterwards.
	KindOrderIssued ledger.Kind = "closure_order_issued"
	KindOrderEnded  ledger.Kind = "closure_order_ended"
	// KindChangeRevoked: {"revoked":{…}}. From then on, the change that it names is as if
	// it had never been.
	KindChangeRevoked ledger.Kind = "change_revoked"
)

// Content is what an entry of the roster's history says. Exactly one field,
// the one of its kind, is set, and perhaps Request.
type Content struct {
	Site      *Site              `json:"site,omitempty"`
	Order     *ClosureOrder      `json:"closure_order,omitempty"`
	Divisions *DivisionsImported `json:"divisions,omitempty"`
	Sites     *SitesImported     `json:"sites,omitempty"`
	Revoked   *Revoked           `json:"revoked,omitempty"`
	// Request is the SHA-256, in hexadecimal, of what the request says that made the entry,
	// and whose id is the entry's. It is empty where the request had no id.
	Request string `json:"request_sha256,omitempty"`
}

// Revoked is the content of an entry that takes a change back.
type Revoked struct {
	// Revision is the sequence of that change's entry.
	Revision ledger.Sequence `json:"revision"`
	// Reason is why, in the words of who did it.
	Reason string `json:"reason"`
}

// DivisionsImported is the content of a division import's entry.
type DivisionsImported struct {
	// Source is what the importer called the table, such as a file's name.
	Source    string    `json:"source"`
	Effective time.Time `json:"effective_time"`
	Created   int       `json:"created"`
	Ended     int       `json:"ended"`
	Renamed   int       `json:"renamed"`
	// Regrouped counts the divisions that got another parent.
	Regrouped int `json:"regrouped"`
	// Rows is the SHA-256, in hexadecimal, of the changes: JSON lines of
	// {"op":"begin"|"end","code":…,"name":…,"level":…,"parent_code":…}.
	Rows string `json:"rows_sha256"`
}

// SitesImported is the content of a site import's entry.
type SitesImported struct {
	// Source is what the importer called the table, such as a file's name.
	Source       string    `json:"source"`
	Effective    time.Time `json:"effective_time"`
	Registered   int       `json:"registered"`
	Updated      int       `json:"updated"`
	Moved        int       `json:"moved"`
	Deregistered int       `json:"deregistered"`
	// Rows is the SHA-256, in hexadecimal, of the sites that changed, as they
	// are afterwards: JSON lines.
	Rows string `json:"rows_sha256"`
}

// The two things that can happen to a division at an import.
const (
	beginDivision = "begin"
	endDivision   = "end"
)

// A divisionChange begins or ends a version of a division. Beginning one ends
// the version in force.
type divisionChange struct {
	Op     string       `json:"op"`
	Code   DivisionCode `json:"code"`
	Name   string       `json:"name"`
	Level  Level        `json:"level"`
	Parent DivisionCode `json:"parent_code"`
}

// marshalRows returns rows as JSON lines, with the SHA-256 of them all.
func marshalRows[T any](rows []T) (lines []byte, sum string, err error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	const first = 1000
	for i, r := range rows {
		if i == first {
			// A country's rows have hundreds of megabytes, which are copied as few times
			// as can be.
			b.Grow(b.Len() / first * (len(rows) - first) / 10 * 11)
		}
		if err := enc.Encode(r); err != nil {
			return nil, "", err
		}
	}
	h := sha256.Sum256(b.Bytes())
	return b.Bytes(), hex.EncodeToString(h[:]), nil
}

// CopyRows brings the rows that an entry of the roster's history names, if any,
// from one store to another, after checking that they are the ones it names.
func CopyRows(ctx context.Context, from, to Rows, e ledger.Entry) error {
	if e.Kind == ledger.KindRepaired {
		return nil
	}
	c, err := ParseContent(e)
	if err != nil {
		return err
	}
	var sum string
	switch {
	case c.Divisions != nil:
		sum = c.Divisions.Rows
	case c.Sites != nil:
		sum = c.Sites.Rows
	default:
		return nil
	}
	lines, err := wholeRows(ctx, from, sum)
	if err != nil {
		return err
	}
	return to.PutRows(ctx, sum, lines)
}

// wholeRows returns the rows stored under the sum after checking that it is
// theirs.
func wholeRows(ctx context.Context, rows Rows, sum string) ([]byte, error) {
	lines, err := rows.Rows(ctx, sum)
	if err != nil {
		return nil, fmt.Errorf("rows %s: %w", sum, err)
	}
	if h := sha256.Sum256(lines); hex.EncodeToString(h[:]) != sum {
		return nil, fmt.Errorf("rows %s: %w: their SHA-256 is %x", sum, ledger.ErrBroken, h)
	}
	return lines, nil
}

// readRows reads the JSON lines that an entry names, after checking that they
// are the ones it names. One that is not whole is ledger.ErrBadRecord. What it
// returns shares memory with other lines.
func readRows[T any](ctx context.Context, rows Rows, sum string, whole func(T) bool) ([]T, error) {
	stored, err := wholeRows(ctx, rows, sum)
	if err != nil {
		return nil, err
	}
	// Parts of the lines are read side by side.
	var parts [][]byte
	for lines := stored; len(lines) > 0; {
		end := min(len(lines), 1<<20)
		if line := bytes.IndexByte(lines[end-1:], '\n'); line >= 0 {
			end += line
		} else {
			end = len(lines)
		}
		parts = append(parts, lines[:end])
		lines = lines[end:]
	}
	read := make([][]T, len(parts))
	errs := make([]error, len(parts))
	var next atomic.Int32
	var wg sync.WaitGroup
	for range min(len(parts), runtime.GOMAXPROCS(0)) {
		wg.Go(func() {
			for {
				i := int(next.Add(1)) - 1
				if i >= len(parts) || ctx.Err() != nil {
					return
				}
				read[i], errs[i] = readLines(string(parts[i]), whole)
			}
		})
	}
	wg.Wait()
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	n := 0
	for _, part := range read {
		n += len(part)
	}
	out := make([]T, 0, n)
	for i, part := range read {
		out = append(out, part...)
		if errs[i] != nil {
			return nil, fmt.Errorf("rows %s: %w: row %d %v", sum, ledger.ErrBadRecord, len(out)+1, errs[i])
		}
	}
	return out, nil
}

// readLines reads rows until one that is wrong.
func readLines[T any](lines string, whole func(T) bool) (out []T, err error) {
	out = make([]T, 0, strings.Count(lines, "\n")+1)
	for line := range strings.Lines(lines) {
		var v T
		if c, ok := any(&v).(*divisionChange); !ok || !c.readLine(line) {
			if err := json.Unmarshal([]byte(line), &v); err != nil {
				return out, fmt.Errorf("cannot be read: %v", err)
			}
		}
		if !whole(v) {
			return out, errors.New("lacks what it must have")
		}
		out = append(out, v)
	}
	return out, nil
}

// readLine reads a line that is spelled as marshalRows spells it, without an
// escape, many times faster than package json. It reports whether the line is one.
func (d *divisionChange) readLine(line string) bool {
	if strings.ContainsFunc(line, func(r rune) bool { return r < ' ' && r != '\n' || r == '\\' || r == utf8.RuneError }) {
		return false
	}
	var op, code, name, level, parent string
	for _, f := range []struct {
		key string
		to  *string
	}{{`{"op":"`, &op}, {`,"code":"`, &code}, {`,"name":"`, &name}, {`,"level":"`, &level}, {`,"parent_code":"`, &parent}} {
		rest, ok := strings.CutPrefix(line, f.key)
		if !ok {
			return false
		}
		if *f.to, line, ok = strings.Cut(rest, `"`); !ok {
			return false
		}
	}
	known, ok := levelWords[level]
	if line != "}\n" || !ok {
		return false
	}
	*d = divisionChange{op, DivisionCode(code), name, known, DivisionCode(parent)}
	return true
}

// ParseContent reads what an entry of the roster's history says. Kinds that
// this version does not know give an error that wraps ledger.ErrBadRecord.
func ParseContent(e ledger.Entry) (Content, error) {
	var c Content
	if err := json.Unmarshal(ledger.Content(e.Record), &c); err != nil {
		return c, fmt.Errorf("%w: %s at sequence %d: %v", ledger.ErrBadRecord, e.History, e.Sequence, err)
	}
	own := Content{Request: c.Request} // what an entry of the kind can say
	switch e.Kind {
	case KindDivisionsImported:
		own.Divisions = c.Divisions
	case KindSitesImported:
		own.Sites = c.Sites
	case KindSiteRegistered, KindSiteUpdated, KindSiteMoved, KindSiteDeregistered:
		own.Site = c.Site
	case KindOrderIssued, KindOrderEnded:
		own.Order = c.Order
	case KindChangeRevoked:
		own.Revoked = c.Revoked
	}
	if c != own || own == (Content{Request: c.Request}) || own.Site != nil && !own.Site.whole() {
		return c, fmt.Errorf("%w: %s at sequence %d: kind %q", ledger.ErrBadRecord, e.History, e.Sequence, e.Kind)
	}
	return c, nil
}

// whole reports whether the site has what a site of the roster cannot be without.
func (s *Site) whole() bool { return s != nil && len(s.Places) > 0 }

// whole reports whether the change says what happens to which kind of division.
func (d divisionChange) whole() bool {
	return (d.Op == beginDivision || d.Op == endDivision) && d.Level != 0
}

// readChange turns an entry into what it does to the roster, fetching the rows
// of an import. A repair, and what one has set aside, does nothing. What an entry does
// that takes another back, Service.undo finds out.
func readChange(ctx context.Context, rows Rows, e ledger.Entry) (change, error) {
	c := change{event: Event{Sequence: e.Sequence, ID: e.ID, Kind: e.Kind, Time: e.Time}}
	if e.Kind == ledger.KindRepaired || e.Kind == ledger.KindSetAside {
		return c, nil
	}
	content, err := ParseContent(e)
	if err != nil {
		return c, err
	}
	switch {
	case content.Divisions != nil:
		c.effective = content.Divisions.Effective
		c.divisions, err = readRows(ctx, rows, content.Divisions.Rows, divisionChange.whole)
	case content.Sites != nil:
		c.sites, err = readRows(ctx, rows, content.Sites.Rows, (*Site).whole)
	case content.Site != nil:
		c.sites = []*Site{content.Site}
	case content.Order != nil:
		c.order = content.Order
	case content.Revoked != nil:
		c.revoked = content.Revoked.Revision
	}
	return c, err
}

// CheckEntry returns an error where an entry of the roster's history, or the rows that
// it names, cannot be read.
func CheckEntry(ctx context.Context, rows Rows, e ledger.Entry) error {
	_, err := readChange(ctx, rows, e)
	return err
}

// NamesRows reports whether an entry of the roster's history names rows.
func NamesRows(e ledger.Entry) bool {
	return e.Kind == KindDivisionsImported || e.Kind == KindSitesImported
}
