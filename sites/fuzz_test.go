package sites

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"reflect"
	"testing"
	"time"

	"xuncha/ledger"
)

// realRecords are the contents of entries of the roster's history as a Service
// has written them.
var realRecords = []struct {
	kind    ledger.Kind
	content string
}{
	{KindDivisionsImported, `{"divisions":{"source":"2019.csv","effective_time":"2019-10-30T16:00:00Z","created":4,"ended":0,"renamed":0,"regrouped":0,"rows_sha256":"f011a60c5c48710cf0e17a9fb49ec7fd4b31a11ac4411636d32c09e2f72c9cec"}}`},
	{KindSitesImported, `{"sites":{"source":"","effective_time":"2020-02-01T00:00:00Z","registered":1,"updated":0,"moved":0,"deregistered":0,"rows_sha256":"7a020144eb21accee862e66f99be6de7c90c101707437319e0a91be967f27d56"}}`},
	{KindSiteRegistered, `{"site":{"site_id":"00000000-0000-4000-8000-000000000002","registration_no":"1","name":"样<例>","registered_time":"2020-01-02T00:00:00Z","places":[{"from":"2020-01-02T00:00:00Z","division_code":"511602001003","address":"","position":{"latitude":30.5,"longitude":106.6}}]}}`},
	{KindSiteMoved, `{"site":{"site_id":"00000000-0000-4000-8000-000000000002","registration_no":"1","name":"样例","registered_time":"2020-01-02T00:00:00Z","places":[{"from":"2020-01-02T00:00:00Z","division_code":"511602001003","address":"","position":{"latitude":30.5,"longitude":106.6}},{"from":"2020-02-01T01:00:00Z","division_code":"511602001004","address":"路","position":null}]}}`},
	{KindSiteDeregistered, `{"site":{"site_id":"00000000-0000-4000-8000-000000000002","registration_no":"1","name":"样例","registered_time":"2020-01-02T00:00:00Z","deregistered_time":"2020-02-01T01:00:00Z","places":[{"from":"2020-01-02T00:00:00Z","division_code":"511602001003","address":"","position":null}]}}`},
	{KindOrderIssued, `{"closure_order":{"closure_order_id":"00000000-0000-4000-8000-000000000004","number":"1","title":"t","issuing_authority":"a","legal_basis":"b","division_codes":["511600"],"start_time":"2020-02-01T00:00:00Z","end_time":"2020-03-02T00:00:00Z","planned_end_time":"2020-03-02T00:00:00Z","inspection_interval":"24h0m0s"}}`},
	{KindOrderEnded, `{"closure_order":{"closure_order_id":"00000000-0000-4000-8000-000000000004","number":"1","title":"t","issuing_authority":"a","legal_basis":"b","division_codes":["511600"],"start_time":"2020-02-01T00:00:00Z","end_time":"2020-02-01T01:00:00Z","planned_end_time":"2020-03-02T00:00:00Z","inspection_interval":"24h0m0s"}}`},
}

// The rows of imports as a Service has written them.
const (
	realDivisions = `{"op":"begin","code":"511600","name":"广安市","level":"city","parent_code":""}
{"op":"begin","code":"511602","name":"广安区","level":"county","parent_code":"511600"}
{"op":"begin","code":"511602001","name":"浓洄街道","level":"township","parent_code":"511602"}
{"op":"begin","code":"511602001003","name":"柑子园社区居委会","level":"village","parent_code":"511602001"}
`
	realProvince = `{"op":"begin","code":"100000","name":"中华人民共和国","level":"nation","parent_code":""}
{"op":"begin","code":"510000","name":"四川省","level":"province","parent_code":"100000"}
{"op":"begin","code":"511600","name":"广安市","level":"city","parent_code":"510000"}
`
	realSites = `{"site_id":"00000000-0000-4000-8000-000000000009","registration_no":"9","name":"样<例>","registered_time":"2019-01-01T00:00:00Z","deregistered_time":"2020-03-01T00:00:00Z","places":[{"from":"2019-01-01T00:00:00Z","division_code":"511602001003","address":"路","position":{"latitude":30.1,"longitude":106.25}}]}
`
)

func sealed(kind ledger.Kind, content string) ledger.Entry {
	return ledger.Head{}.Seal(ledger.Draft{History: ledger.Roster, ID: "x", Kind: kind, Content: []byte(content)})
}

// A rowsByName keeps rows in memory.
type rowsByName map[string][]byte

// PutRows implements Rows.
func (r rowsByName) PutRows(_ context.Context, sum string, rows []byte) error {
	r[sum] = rows
	return nil
}

// Rows implements Rows.
func (r rowsByName) Rows(_ context.Context, sum string) ([]byte, error) {
	if rows, ok := r[sum]; ok {
		return rows, nil
	}
	return nil, ErrRowsUnknown
}

// withRows returns the entry of an import and its rows.
func withRows(kind ledger.Kind, rows string) (ledger.Entry, Rows) {
	h := sha256.Sum256([]byte(rows))
	sum := hex.EncodeToString(h[:])
	c := Content{Divisions: &DivisionsImported{Effective: time.Unix(0, 0).UTC(), Rows: sum}}
	if kind == KindSitesImported {
		c = Content{Sites: &SitesImported{Effective: time.Unix(0, 0).UTC(), Rows: sum}}
	}
	content, err := ledger.MarshalContent(c)
	if err != nil {
		panic(err) // of a value that is written out above
	}
	return sealed(kind, string(content)), rowsByName{sum: []byte(rows)}
}

// TestContentWritesBack holds that a record is read for all that it says.
func TestContentWritesBack(t *testing.T) {
	for _, r := range realRecords {
		c, err := ParseContent(sealed(r.kind, r.content))
		if err != nil {
			t.Fatal(err)
		}
		if again, err := ledger.MarshalContent(c); err != nil || string(again) != r.content {
			t.Errorf("got %s, %v; want %s", again, err, r.content)
		}
	}
	for rows, kind := range map[string]ledger.Kind{
		realDivisions: KindDivisionsImported, realProvince: KindDivisionsImported, realSites: KindSitesImported,
	} {
		e, stored := withRows(kind, rows)
		c, err := readChange(t.Context(), stored, e)
		if err != nil {
			t.Fatal(err)
		}
		if again, err := writeRows(c); err != nil || again != rows {
			t.Errorf("got %s, %v; want %s", again, err, rows)
		}
	}
}

// writeRows writes the rows of an import's change.
func writeRows(c change) (string, error) {
	if c.divisions != nil {
		b, _, err := marshalRows(c.divisions)
		return string(b), err
	}
	b, _, err := marshalRows(c.sites)
	return string(b), err
}

// FuzzParseContent ensures that bytes either are refused or say something that
// can be written, that what was written is read as the same, and that the roster
// which follows from it answers.
func FuzzParseContent(f *testing.F) {
	for _, r := range realRecords {
		f.Add(string(r.kind), r.content)
	}
	f.Add(string(KindOrderIssued), `{"site":{},"closure_order":{}}`)
	f.Fuzz(func(t *testing.T, kind, content string) {
		e := sealed(ledger.Kind(kind), content)
		c, err := ParseContent(e)
		if err != nil {
			if !errors.Is(err, ledger.ErrBadRecord) {
				t.Errorf("%q: %v", content, err)
			}
			return
		}
		written, err := ledger.MarshalContent(c)
		if err != nil {
			t.Fatalf("%q is read and cannot be written: %v", content, err)
		}
		again, err := ParseContent(sealed(e.Kind, string(written)))
		if err != nil {
			t.Fatalf("%q is written as %q, which is refused: %v", content, written, err)
		}
		if rewritten, err := ledger.MarshalContent(again); err != nil || string(rewritten) != string(written) {
			t.Errorf("%q is written as %q and then as %q, %v", content, written, rewritten, err)
		}
		if change, err := readChange(t.Context(), rowsByName{}, e); err == nil {
			question(t, change)
		}
	})
}

// FuzzReadChange does the same with the rows of imports.
func FuzzReadChange(f *testing.F) {
	f.Add(true, realDivisions)
	f.Add(true, realProvince)
	f.Add(false, realSites)
	f.Add(true, `{"op":"end","code":"511602001003","name":"柑子园社区居委会","level":"village","parent_code":"511602001"}`)
	f.Add(true, `{"op":"end","code":"511699","level":"county"}`) // which never was
	f.Add(true, `{"op":"begin","code":"511602"}`)
	f.Add(true, `{"op":"rename","code":"511602","level":"county"}`)
	f.Add(true, `null`)
	f.Add(false, `null`)
	f.Add(false, `{"site_id":"a","registration_no":"1"}`)
	f.Fuzz(func(t *testing.T, divisions bool, rows string) {
		kind := KindSitesImported
		if divisions {
			kind = KindDivisionsImported
		}
		e, stored := withRows(kind, rows)
		c, err := readChange(t.Context(), stored, e)
		if err != nil {
			if !errors.Is(err, ledger.ErrBadRecord) {
				t.Errorf("%q: %v", rows, err)
			}
			return
		}
		written, err := writeRows(c)
		if err != nil {
			t.Fatalf("%q is read and cannot be written: %v", rows, err)
		}
		e, stored = withRows(kind, written)
		again, err := readChange(t.Context(), stored, e)
		if err != nil || !reflect.DeepEqual(again.divisions, c.divisions) || len(again.sites) != len(c.sites) {
			t.Fatalf("%q is written as %q, which is read as %+v, %v", rows, written, again, err)
		}
		if rewritten, err := writeRows(again); err != nil || rewritten != written {
			t.Errorf("%q is written as %q and then as %q, %v", rows, written, rewritten, err)
		}
		question(t, c)
	})
}

// question asks the roster after the change what everyone asks.
func question(t *testing.T, c change) {
	r := newRoster()
	for i, before := range []struct {
		kind ledger.Kind
		rows string
	}{{KindDivisionsImported, realDivisions}, {KindSitesImported, realSites}} {
		e, stored := withRows(before.kind, before.rows)
		b, err := readChange(t.Context(), stored, e)
		if err != nil {
			t.Fatal(err)
		}
		b.event.Sequence = ledger.Sequence(i + 1)
		r = r.apply(b)
	}
	c.event.Sequence = 3
	r = r.apply(c)
	now := time.Date(2020, 2, 3, 0, 0, 0, 0, time.UTC)
	for s := range r.Sites() {
		r.Path(s.PlaceAt(now).Division, now)
		r.Closures(s)
		r.OrderAt(s, now)
		r.Concerning(s)
	}
	for _, d := range append(c.divisions, divisionChange{}) {
		_, _ = r.LastDivision(d.Code, now)
		r.Children(d.Code, now)
		r.Versions(d.Code)
	}
	r.displaced(now)
	r.orphaned(now)
}

// FuzzRestore ensures that bytes either are refused or make a roster that answers
// and can be kept once more.
func FuzzRestore(f *testing.F) {
	r := newRoster()
	for _, stored := range []struct {
		kind ledger.Kind
		rows string
	}{{KindDivisionsImported, realDivisions}, {KindSitesImported, realSites}} {
		e, rows := withRows(stored.kind, stored.rows)
		c, err := readChange(f.Context(), rows, e)
		if err != nil {
			f.Fatal(err)
		}
		c.event.Sequence = r.Revision() + 1
		r = r.apply(c)
	}
	for _, real := range realRecords {
		c, err := readChange(f.Context(), rowsByName{}, sealed(real.kind, real.content))
		if err != nil {
			continue // for its rows
		}
		c.event.Sequence = r.Revision() + 1
		r = r.apply(c)
	}
	text, numbers := r.marshal()
	f.Add(string(text), numbers)
	f.Fuzz(func(t *testing.T, text string, numbers []byte) {
		r, err := unmarshalRoster(text, numbers)
		if err != nil {
			return
		}
		now := time.Date(2020, 2, 3, 0, 0, 0, 0, time.UTC)
		for s := range r.Sites() {
			r.OrderAt(s, now)
		}
		for d := range r.divisions.Len() {
			r.Children(r.divisions.At(d).code, now)
			r.descend(r.divisions.At(d).code, func(Division) bool { return true })
		}
		r.displaced(now)
		r.orphaned(now)
		for range r.Touched(0) {
		}
		again, numbersAgain := r.marshal()
		if _, err := unmarshalRoster(string(again), numbersAgain); err != nil {
			t.Errorf("what was restored cannot be restored again: %v", err)
		}
	})
}
