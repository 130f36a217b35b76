package client

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/timestamppb"

	"xuncha/internal/texts"
	xunchav1 "xuncha/proto/xuncha/v1"
)

// TestPrintAltered ensures that what does not verify shows in every table that has
// anything to do with it, and that nothing of it shows where all is well.
func TestPrintAltered(t *testing.T) {
	print := func(f func(*bytes.Buffer) error) string {
		t.Helper()
		var out bytes.Buffer
		if err := f(&out); err != nil {
			t.Fatal(err)
		}
		return out.String()
	}
	report := &xunchav1.GetCoverageResponse{
		Row:      &xunchav1.CoverageRow{DivisionCode: "511600", DivisionName: "广安市", SitesDue: 9, SitesAltered: 2},
		Children: []*xunchav1.GetCoverageResponse{{Row: &xunchav1.CoverageRow{DivisionCode: "511602", SitesAltered: 1}}},
	}
	coverage := func() string { return print(func(b *bytes.Buffer) error { return PrintCoverage(b, report) }) }
	got := strings.Split(coverage(), "\n")
	if len(got) != 5 || !strings.HasSuffix(got[0], "altered") || !strings.HasSuffix(got[1], " 2") || !strings.HasSuffix(got[2], " 1") ||
		!strings.HasPrefix(got[3], "The histories of 2 sites do not verify") {
		t.Errorf("got %q", got)
	}
	report.Row.SitesAltered, report.Children[0].Row.SitesAltered, report.RosterAltered = 0, 0, true
	if got := coverage(); strings.Contains(got, "altered") || !strings.Contains(got, "The roster's history does not verify") {
		t.Errorf("the roster: got %q", got)
	}
	report.RosterAltered = false
	if got := coverage(); strings.Contains(got, "verify") || strings.Count(got, "\n") != 3 {
		t.Errorf("where all is well: got %q", got)
	}

	hash := make([]byte, 32)
	entries := []*xunchav1.HistoryEntry{
		{History: "site/a", Sequence: 4, EntryHash: hash, Content: &xunchav1.HistoryEntry_RepairEvent{RepairEvent: &xunchav1.RepairEvent{Sequences: []int64{2, 3}, Reason: "a bad disk"}}},
		{History: "site/a", Sequence: 3, EntryHash: hash, SetAside: true, Content: &xunchav1.HistoryEntry_Site{Site: &xunchav1.Site{Name: "样例"}}},
		{History: "site/a", Sequence: 2, EntryHash: hash, Altered: true},
		{History: "site/a", Sequence: 1, EntryHash: hash, Content: &xunchav1.HistoryEntry_Site{Site: &xunchav1.Site{Name: "样例"}}},
	}
	lines := strings.Split(print(func(b *bytes.Buffer) error { return PrintHistory(b, entries) }), "\n")
	for i, want := range []string{"set aside 2, 3: a bad disk", "SET ASIDE:  样例 in", "DOES NOT VERIFY", " 样例 in"} {
		if !strings.Contains(lines[i+1], want) {
			t.Errorf("got %q, want %q in it", lines[i+1], want)
		}
	}

	status := &xunchav1.GetServerStatusResponse{ServerTime: timestamppb.New(time.Unix(0, 0)), Problems: []*xunchav1.ServerProblem{
		{Kind: xunchav1.ProblemKind_PROBLEM_KIND_HISTORY_ALTERED, SinceTime: timestamppb.New(time.Unix(0, 0)), History: "site/a", Sequence: 7, SiteId: "a", Message: "it is missing"},
	}}
	printed := func() string { return print(func(b *bytes.Buffer) error { return printStatus(b, status) }) }
	for _, want := range []string{"history_altered", "site/a", " 7 ", "it is missing"} {
		if got := printed(); !strings.Contains(got, want) {
			t.Errorf("got %q, want %q in it", got, want)
		}
	}
	status.Problems = nil
	if got := printed(); !strings.HasPrefix(got, "All is well.") || !strings.Contains(got, "not yet") {
		t.Errorf("got %q", got)
	}
}

// TestPrintOrphanedAccounts ensures that whoever imports divisions reads whose accounts are
// bound to what ends, as nothing else tells their officers.
func TestPrintOrphanedAccounts(t *testing.T) {
	var out bytes.Buffer
	answer := &xunchav1.ImportDivisionsResponse{Ended: 1, OrphanedAccounts: []*xunchav1.Account{{Username: "li.wei"}}, OrphanedAccountCount: 3}
	if err := printDivisionImport(&out, answer, true); err != nil {
		t.Fatal(err)
	}
	if got := out.String(); !strings.Contains(got, "account li.wei is bound to a division that ends") || !strings.Contains(got, "and 2 more accounts") {
		t.Errorf("got %q", got)
	}
}

// TestPrintNames ensures that a name of earlier times that has an escape sequence or a line
// end is shown and does nothing to the terminal, nor to the row that it stands in.
func TestPrintNames(t *testing.T) {
	var out bytes.Buffer
	if err := PrintHistory(&out, []*xunchav1.HistoryEntry{{
		History: "site/a", Sequence: 1, EntryHash: make([]byte, 32),
		Content: &xunchav1.HistoryEntry_Site{Site: &xunchav1.Site{Name: "样\x1b[2J例\u202e馆\nsite  9", DivisionCode: "511602"}},
	}}); err != nil {
		t.Fatal(err)
	}
	got := out.String()
	if !strings.Contains(got, `样\u001b[2J例\u202e馆\nsite  9`) || strings.Count(got, "\n") != 2 || texts.Clean(got) != got {
		t.Errorf("got %q", got)
	}
}

// TestReadable ensures that an error names every field in a line of its own, and none twice,
// and shows what the server says without letting it act on the terminal.
func TestReadable(t *testing.T) {
	st, err := status.New(codes.InvalidArgument, "title: must not be empty (and 21 more)").WithDetails(
		&errdetails.ErrorInfo{Reason: "MISSING_FIELD", Domain: "xuncha", Metadata: map[string]string{"problem_count": "22"}},
		&errdetails.BadRequest{FieldViolations: []*errdetails.BadRequest_FieldViolation{
			{Field: "title", Description: "must not be empty", Reason: "MISSING_FIELD"},
			{Field: "division_codes[0]", Description: "区\x1b[2J: no such division", Reason: "DIVISION_NOT_FOUND"},
		}})
	if err != nil {
		t.Fatal(err)
	}
	want := `title: must not be empty (and 21 more) (MISSING_FIELD)
  title: must not be empty (MISSING_FIELD)
  division_codes[0]: 区\u001b[2J: no such division (DIVISION_NOT_FOUND)
  and 20 more`
	if got := Readable(st.Err()).Error(); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	st, err = status.New(codes.NotFound, "revision: 99: no such change").WithDetails(
		&errdetails.ErrorInfo{Reason: "CHANGE_NOT_FOUND", Domain: "xuncha"},
		&errdetails.BadRequest{FieldViolations: []*errdetails.BadRequest_FieldViolation{
			{Field: "revision", Description: "99: no such change", Reason: "CHANGE_NOT_FOUND"},
		}})
	if err != nil {
		t.Fatal(err)
	}
	if got, want := Readable(st.Err()).Error(), "revision: 99: no such change (CHANGE_NOT_FOUND)"; got != want {
		t.Errorf("got %q, want one line: %q", got, want)
	}
}
