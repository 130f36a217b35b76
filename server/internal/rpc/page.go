package rpc

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"time"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/timestamppb"

	"xuncha/inspections"
	"xuncha/ledger"
	xunchav1 "xuncha/proto/xuncha/v1"
	"xuncha/sites"
)

// A page token is the base64url of 8 bytes that name the query, then the
// cursor as JSON. It is neither a secret nor a permission. The query's name has
// all that the request says; where that leaves a moment open, which then is
// now, the cursor has the one of the first page. So a forged token leads at most
// to another page of the same query, or of the same query asked at another time.

// queryName is how many bytes of its SHA-256 name a query in a token.
const queryName = 8

func nameQuery(query []string) []byte {
	h := sha256.New()
	for _, part := range query {
		fmt.Fprintf(h, "%d:%s", len(part), part)
	}
	return h.Sum(nil)[:queryName]
}

// spell writes a timestamp for a query's name, always in the same way, which
// its own String does not promise.
func spell(t *timestamppb.Timestamp) string {
	if t == nil {
		return ""
	}
	return fmt.Sprintf("%d.%09d", t.Seconds, t.Nanos)
}

// queryOf returns the parts of the name of the query that a list's request asks for: all
// that it says but for the page. It is nil for any other message.
func queryOf(m proto.Message) []string {
	switch m := m.(type) {
	case *xunchav1.ListDivisionsRequest:
		return []string{"ListDivisions", m.ParentCode, spell(m.AsOfTime)}
	case *xunchav1.ListSitesRequest:
		return []string{"ListSites", m.DivisionCode, spell(m.AsOfTime)}
	case *xunchav1.ListClosureOrdersRequest:
		return []string{"ListClosureOrders", spell(m.InForceTime)}
	case *xunchav1.ListChangesRequest:
		return []string{"ListChanges"}
	case *xunchav1.ListCheckInsRequest:
		return []string{"ListCheckIns", m.DivisionCode, lower(m.SiteId), spell(m.StartTime), spell(m.EndTime),
			spell(m.KnownTime), m.Flag.String(), strconv.FormatBool(m.FoundOpen)}
	case *xunchav1.ListDueSitesRequest:
		return []string{"ListDueSites", m.DivisionCode, m.State.String(), spell(m.StartTime), spell(m.EndTime), spell(m.KnownTime)}
	case *xunchav1.ListSiteHistoryRequest:
		return []string{"ListSiteHistory", lower(m.SiteId)}
	case *xunchav1.ListAccessesRequest:
		return []string{"ListAccesses", m.DivisionCode, lower(m.SiteId), m.Account, spell(m.StartTime), spell(m.EndTime)}
	case *xunchav1.ListAccountHistoryRequest:
		return []string{"ListAccountHistory", lower(m.AccountId)}
	case *xunchav1.ListAccountsRequest:
		return []string{"ListAccounts"}
	}
	return nil
}

// checkPageToken returns an error where a token is not one of the query's.
func checkPageToken(token string, query []string) error {
	if query == nil {
		return nil
	}
	var cursor json.RawMessage
	return readPageToken(token, &cursor, query...)
}

// pageToken returns the token for the page of the query that begins at cursor.
func pageToken(cursor any, query ...string) (string, error) {
	b, err := json.Marshal(cursor)
	if err != nil {
		return "", err
	}
	return base64.RawURLEncoding.EncodeToString(append(nameQuery(query), b...)), nil
}

// readPageToken reads the cursor of a token into cursor, which stays as it is
// for an empty token.
func readPageToken(token string, cursor any, query ...string) error {
	if token == "" {
		return nil
	}
	b, err := base64.RawURLEncoding.DecodeString(token)
	if err != nil || len(b) < queryName || !bytes.Equal(b[:queryName], nameQuery(query)) {
		return errBadToken
	}
	dec := json.NewDecoder(bytes.NewReader(b[queryName:]))
	dec.DisallowUnknownFields()
	if dec.Decode(cursor) != nil {
		return errBadToken
	}
	if _, err := dec.Token(); err != io.EOF {
		return errBadToken
	}
	return nil
}

// errBadToken is the error of a token whose cursor cannot be one of the query's.
var errBadToken error = &sites.FieldError{Field: "page_token", Err: errPageToken}

// resumeAt returns the moment that a query is about: at, but where the request
// does not name it, the moment taken by the first page, which is noted in the
// cursor.
func resumeAt(asked *timestamppb.Timestamp, taken *time.Time, at time.Time) (time.Time, error) {
	switch {
	case asked != nil && !taken.IsZero():
		return at, errBadToken
	case asked == nil && !taken.IsZero():
		return *taken, nil
	case asked == nil:
		*taken = at
	}
	return at, nil
}

// resume is resumeAt for the day on which a question begins, so that a list
// asked for across midnight stays that of its first page.
func (c *Config) resume(q *inspections.Question, start, end *timestamppb.Timestamp, taken *time.Time) error {
	at, err := resumeAt(start, taken, q.Start)
	if err != nil || start != nil {
		return err
	}
	q.Start = sites.DayOf(at, c.Zone, 0)
	if end == nil {
		q.End = sites.DayOf(q.Start, c.Zone, 1)
	}
	return nil
}

// pageSizes says of each list how many items a page has where its request does
// not say it, and how many at most.
var pageSizes = map[protoreflect.Name]struct{ standard, most int32 }{
	"ListDivisionsRequest":      {200, 1000},
	"ListSitesRequest":          {100, 1000},
	"ListClosureOrdersRequest":  {50, 200},
	"ListChangesRequest":        {50, 200},
	"ListCheckInsRequest":       {50, 200},
	"ListDueSitesRequest":       {100, 1000},
	"ListSiteHistoryRequest":    {50, 200},
	"ListAccessesRequest":       {100, 1000},
	"ListAccountHistoryRequest": {50, 200},
	"ListAccountsRequest":       {100, 1000},
}

// pageSize returns how many items the page has that a list's request asks for.
func pageSize(req interface {
	proto.Message
	GetPageSize() int32
}) int {
	size := pageSizes[req.ProtoReflect().Descriptor().Name()]
	return int(min(cmp.Or(req.GetPageSize(), size.standard), size.most))
}

const (
	// maxAnswer is the longest message in bytes that a gRPC client takes unless it is
	// told otherwise.
	maxAnswer = 4 << 20
	// maxPageBytes is how many bytes the items of a page have at most. What stands beside
	// them in an answer is far less than the rest.
	maxPageBytes = maxAnswer - maxAnswer/8
	// maxLooked is how many items that are not to be shown are looked at for one page.
	// It takes some milliseconds.
	maxLooked = 5000
)

// A page gathers the items of one answer of a list. It ends where it has as many items
// as were asked for, where one more would make the answer too large for a client, or
// where too many were looked at. Whoever fills it then says where the next page begins.
type page[M proto.Message] struct {
	items []M
	size  int // most items
	used  int // of the maxPageBytes bytes
	// looked is how many were looked at, shown or not.
	looked int
}

// offer adds the item that the function returns, where it is to be shown. It reports
// whether the page goes on; where it does not, the next page begins with this item. The
// first item always goes on a page: none is as large as a page.
func (p *page[M]) offer(shown bool, item func() M) bool {
	if p.looked-len(p.items) == maxLooked {
		return false
	}
	if shown {
		if len(p.items) == p.size {
			return false
		}
		m := item()
		n := itemSize(m)
		if len(p.items) > 0 && p.used+n > maxPageBytes {
			return false
		}
		p.items = append(p.items, m)
		p.used += n
	}
	p.looked++
	return true
}

// itemSize is how many bytes an item takes in the answer of a list, where lists are
// field 1.
func itemSize(m proto.Message) int {
	return protowire.SizeTag(1) + protowire.SizeBytes(proto.Size(m))
}

// A sequenceCursor says before which entry of a history a page begins; 0 is the
// newest.
type sequenceCursor struct {
	Before ledger.Sequence `json:"b"`
}

// read reads the token of a page.
func (c *sequenceCursor) read(token string, query []string) error {
	if err := readPageToken(token, c, query...); err != nil {
		return err
	}
	if c.Before < 0 || token != "" && c.Before == 0 {
		return errBadToken
	}
	return nil
}

// token returns that of the page that begins before the entry, or none at the
// end.
func (c *sequenceCursor) token(before ledger.Sequence, query []string) (string, error) {
	if before == 0 {
		return "", nil
	}
	return pageToken(sequenceCursor{before}, query...)
}
