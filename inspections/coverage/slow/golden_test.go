package slow_test

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"text/tabwriter"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/tools/txtar"

	"xuncha/inspections"
	"xuncha/inspections/coverage/slow"
	"xuncha/ledger"
	"xuncha/ledger/ledgertest"
	"xuncha/sites"
	"xuncha/sites/sitestest"
)

var update = flag.Bool("update", false, "write the slow answers into the cases in testdata")

// TestExamples runs the worked examples of docs/coverage.md, which are in testdata.
// Their form is that of the cases of package coverage, with one more thing that can
// happen: a check-in that the rules for check-ins look at.
//
//	01-15T09:30 submit S1 CAPTURE [open] [cancelled=2] [dispersed=30]
func TestExamples(t *testing.T) {
	doc, err := os.ReadFile("../../../docs/coverage.md")
	if err != nil {
		t.Fatal(err)
	}
	for file := range cases(t, "testdata") {
		if !bytes.Contains(doc, []byte("`"+filepath.Base(file)+"`")) {
			t.Errorf("docs/coverage.md does not name %s", file)
		}
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) { runCase(t, file, *update) })
	}
}

// TestGolden runs the cases of package coverage.
func TestGolden(t *testing.T) {
	for file := range cases(t, "../testdata") {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) { runCase(t, file, false) })
	}
}

func cases(t *testing.T, folder string) func(func(string) bool) {
	files, err := filepath.Glob(filepath.Join(folder, "*.txt"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no cases in %s: %v", folder, err)
	}
	return slices.Values(files)
}

func runCase(t *testing.T, file string, update bool) {
	a, err := txtar.ParseFile(file)
	if err != nil {
		t.Fatal(err)
	}
	g := newGolden(t)
	for i, f := range a.Files {
		kind, rest, _ := strings.Cut(f.Name, " ")
		switch kind {
		case "table":
			g.table(rest, lines(f.Data))
		case "given":
			for _, line := range lines(f.Data) {
				g.given(line)
			}
		default:
			got := g.answer(kind, strings.Fields(rest))
			if update {
				a.Files[i].Data = []byte(got)
			} else if diff := cmp.Diff(string(f.Data), got); diff != "" {
				t.Errorf("%s: (-want +got)\n%s", f.Name, diff)
			}
		}
	}
	if update {
		if err := os.WriteFile(file, txtar.Format(a), 0o666); err != nil {
			t.Fatal(err)
		}
	}
}

// golden is the world of a case.
type golden struct {
	*testing.T
	store  *ledgertest.Memory
	rows   *sitestest.MemoryRows
	now    time.Time
	server *server
	tables map[string][]sites.DivisionRow
}

func newGolden(t *testing.T) *golden {
	g := &golden{
		T: t, store: ledgertest.New(t), rows: new(sitestest.MemoryRows),
		now: time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC), tables: map[string][]sites.DivisionRow{},
	}
	ids := 0
	g.server = newServer(t, "A", g.store, g.rows, func() time.Time { return g.now },
		func() string { ids++; return fmt.Sprintf("id-%06d", ids) })
	return g
}

func lines(b []byte) []string {
	return strings.FieldsFunc(string(b), func(r rune) bool { return r == '\n' })
}

func (g *golden) moment(s string) time.Time {
	g.Helper()
	for _, layout := range []string{"01-02", "01-02T15:04", "01-02T15:04:05.999999999"} {
		if t, err := time.Parse(layout, s); err == nil {
			return t.AddDate(2020, 0, 0)
		}
	}
	g.Fatalf("%q is no moment", s)
	return time.Time{}
}

func (g *golden) table(name string, lines []string) {
	for i, line := range lines {
		f := append(strings.Fields(line), "")
		g.tables[name] = append(g.tables[name], sites.DivisionRow{Row: i + 1, Code: f[0], Level: f[1], Name: f[2], Parent: f[3]})
	}
}

func (g *golden) site(registration string) *sites.Site {
	g.Helper()
	s, err := g.server.roster.Roster().SiteByRegistration(registration)
	if err != nil {
		g.Fatal(err)
	}
	return s
}

func (g *golden) given(line string) {
	g.Helper()
	f := strings.Fields(line)
	ctx, roster := g.Context(), g.server.roster
	g.now = g.moment(f[0])
	var err error
	switch f[1] {
	case "divisions":
		_, err = roster.ImportDivisions(ctx, sites.By{Account: "admin"}, sites.Import{Effective: "2020-" + f[3]}, g.tables[f[2]])
	case "site":
		_, err = roster.CreateSite(ctx, sites.By{Account: "admin"}, sites.NewSite{
			RegistrationNo: f[2], Name: f[2], Division: sites.DivisionCode(f[3]), Registered: g.moment(f[4]),
		})
	case "order":
		o := sites.ClosureOrder{
			Number: f[2], Title: "Suspension of opening", IssuingAuthority: "Bureau", LegalBasis: "Article 42",
			Start: g.moment(f[3]), End: g.moment(f[4]),
		}
		if err := o.Interval.UnmarshalText([]byte(f[5])); err != nil {
			g.Fatal(err)
		}
		for _, c := range f[6:] {
			o.Divisions = append(o.Divisions, sites.DivisionCode(c))
		}
		_, err = roster.CreateOrder(ctx, sites.By{Account: "admin"}, o)
	case "end":
		orders := roster.Roster().Orders()
		i := slices.IndexFunc(orders, func(o *sites.ClosureOrder) bool { return o.Number == f[2] })
		_, err = roster.EndOrder(ctx, sites.By{Account: "admin"}, orders[i].ID, g.moment(f[3]))
	case "move":
		_, err = roster.MoveSite(ctx, sites.By{Account: "admin"}, g.site(f[2]).ID, "", sites.Place{Division: sites.DivisionCode(f[3]), From: g.moment(f[4])})
	case "strike":
		_, err = roster.DeregisterSite(ctx, sites.By{Account: "admin"}, g.site(f[2]).ID, "", g.moment(f[3]))
	case "visit", "submit":
		err = g.visit(f[1], inspections.CheckIn{
			ID: inspections.CheckInID(fmt.Sprintf("c-%03d", g.store.Count(g.site(f[2]).ID.History()))), Site: g.site(f[2]).ID,
			Captured: g.moment(f[3]), Finding: inspections.FoundClosed,
		}, f[4:])
	default:
		g.Fatalf("%s: what is %q?", line, f[1])
	}
	if err != nil {
		g.Fatalf("%s: %v", line, err)
	}
}

// visit submits a check-in, or stores one as it is.
func (g *golden) visit(how string, c inspections.CheckIn, words []string) error {
	var flags []string
	for _, word := range words {
		key, value, _ := strings.Cut(word, "=")
		n, _ := strconv.Atoi(value)
		switch {
		case key == "open":
			c.Finding = inspections.FoundOpen
		case key == "cancelled":
			c.CancelledEvents = int32(n)
		case key == "dispersed":
			c.DispersedPeople = int32(n)
		case key == "late" && how == "visit":
			flags = append(flags, "visited_late")
		case key == "synced" && how == "visit":
			flags = append(flags, "synced_late")
		default:
			g.Fatalf("what is %q?", word)
		}
	}
	if how == "submit" {
		_, _, err := g.server.visits.Submit(g.Context(), inspections.By{Account: "officer"}, c, time.Time{})
		return err
	}
	_, _, err := g.store.Append(g.Context(), ledger.Draft{
		History: c.Site.History(), ID: string(c.ID), Kind: inspections.KindCheckIn, Time: g.now, Account: "officer",
		Content: checkInContent(c.Captured, string(c.Finding), flags, int(c.CancelledEvents), int(c.DispersedPeople)),
	})
	return err
}

// answer returns the slow answer to a question.
func (g *golden) answer(kind string, words []string) string {
	g.Helper()
	state := slow.Due
	if kind == "sites" {
		state = slow.State(words[0])
		if state == "done" {
			state = slow.Inspected
		}
		words = words[1:]
	}
	division, start, end, now := words[0], g.moment(words[1]), g.moment(words[2]), g.moment(words[3])
	var known time.Time
	var depth int
	var f slow.Filter
	for _, word := range words[4:] {
		key, value, _ := strings.Cut(word, "=")
		switch key {
		case "known":
			known = g.moment(value)
		case "depth":
			depth, _ = strconv.Atoi(value)
		case "site":
			f.Site = string(g.site(value).ID)
		case "open":
			f.Open = true
		case "late":
			f.VisitedLate = true
		case "synced":
			f.SyncedLate = true
		default:
			g.Fatalf("what is %q?", word)
		}
	}
	w, err := slow.Read(g.Context(), g.store, g.rows)
	if err != nil {
		g.Fatal(err)
	}
	window, err := w.Window(start, end, now, known)
	if err != nil {
		// The message of the index also has the window.
		return fmt.Sprintf("%v: %s to %s\n", err, start.Format(time.RFC3339), end.Format(time.RFC3339))
	}
	var b bytes.Buffer
	out := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	switch kind {
	case "report":
		r, wrong := window.Report(division, depth)
		err = wrong
		fmt.Fprintln(out, "division\tname\tdue\tdone\toverdue\tnever\topen\tvisits\tlate\tsynced\tcancelled\tdispersed\tlast")
		writeReport(out, "", r)
	case "sites":
		list, wrong := window.DueSites(division, state)
		err = wrong
		fmt.Fprintln(out, "site\tvillage\torder\tdone\toverdue\tnever\topen\tdue since\tlast\toverdue since")
		for _, s := range list {
			fmt.Fprintf(out, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", s.Site.RegistrationNo, s.Path[0], s.Order.Number,
				mark(s.Inspected), mark(s.Overdue), mark(s.NeverInspected), mark(s.FoundOpen),
				inCase(s.DueSince), inCase(s.LastCapture), inCase(s.OverdueSince))
		}
	case "visits":
		list, wrong := window.CheckIns(division, f)
		err = wrong
		fmt.Fprintln(out, "capture\tsite\tsequence")
		for _, c := range list {
			site, err := g.server.roster.Roster().Site(sites.SiteID(c.Site))
			if err != nil {
				g.Fatal(err)
			}
			fmt.Fprintf(out, "%s\t%s\t%d\n", inCase(c.Captured), site.RegistrationNo, c.Sequence)
		}
	default:
		g.Fatalf("what is %q?", kind)
	}
	if errors.Is(err, slow.ErrDivisionUnknown) {
		return fmt.Sprintf("division %s: %v\n", division, sites.ErrDivisionUnknown) // as the index says it
	} else if err != nil {
		g.Fatal(err)
	}
	out.Flush()
	return b.String()
}

func writeReport(w io.Writer, indent string, r slow.Report) {
	fmt.Fprintf(w, "%s%s\t%s\t%d\t%d\t%d\t%d\t%d\t%d\t%d\t%d\t%d\t%d\t%s\n", indent, r.Division, r.Name,
		r.SitesDue, r.SitesInspected, r.SitesOverdue, r.SitesNeverInspected, r.SitesFoundOpen,
		r.CheckIns, r.VisitedLate, r.SyncedLate, r.CancelledEvents, r.DispersedPeople, inCase(r.LastCapture))
	for _, c := range r.Children {
		writeReport(w, indent+"  ", c)
	}
}

// inCase writes a moment as the cases have it.
func inCase(t time.Time) string {
	switch {
	case t.IsZero():
		return "-"
	case t.Equal(t.Truncate(time.Minute)):
		return t.Format("01-02T15:04")
	}
	return t.Format("01-02T15:04:05.999999999")
}

func mark(b bool) string {
	if b {
		return "x"
	}
	return "-"
}
