package coverage_test

import (
	"bytes"
	"flag"
	"fmt"
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

	"xuncha/inspections/coverage"
	"xuncha/sites"
)

var update = flag.Bool("update", false, "write what the index answers into the golden files")

// TestGolden runs the cases in testdata. In a case, "given" is what happened,
// one thing a line, each beginning with the moment at which the server heard
// of it:
//
//	01-01 divisions TABLE DAY
//	01-01 site S1 VILLAGE REGISTERED
//	01-01 order A START END INTERVAL DIVISION…
//	01-01 end A MOMENT
//	01-01 move S1 VILLAGE MOMENT
//	01-01 strike S1 MOMENT
//	01-01 visit S1 CAPTURE [open] [synced] [cancelled=2] [dispersed=30]
//
// A "table" lists divisions: code, level, name, parent. Every other section is
// a question with its answer:
//
//	report DIVISION START END NOW [known=MOMENT] [depth=2]
//	sites STATE DIVISION START END NOW [known=MOMENT]
//	visits DIVISION START END NOW [known=MOMENT] [site=S1] [open] [late] [synced]
//
// Moments are of the year 2020 and in UTC.
func TestGolden(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("no cases: %v", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			a, err := txtar.ParseFile(file)
			if err != nil {
				t.Fatal(err)
			}
			g := golden{T: t, w: newWorld(t, day(1)), tables: map[string][]sites.DivisionRow{}}
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
					if *update {
						a.Files[i].Data = []byte(got)
					} else if diff := cmp.Diff(string(f.Data), got); diff != "" {
						t.Errorf("%s: (-want +got)\n%s", f.Name, diff)
					}
				}
			}
			if *update {
				if err := os.WriteFile(file, txtar.Format(a), 0o666); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
}

type golden struct {
	*testing.T
	w      *world
	tables map[string][]sites.DivisionRow
}

func lines(b []byte) []string {
	return strings.FieldsFunc(string(b), func(r rune) bool { return r == '\n' })
}

func (g *golden) check(err error) {
	g.Helper()
	if err != nil {
		g.Fatal(err)
	}
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

func (g *golden) given(line string) {
	g.Helper()
	ctx, w, f := g.Context(), g.w, strings.Fields(line)
	w.now = g.moment(f[0])
	var err error
	switch f[1] {
	case "divisions":
		_, err = w.roster.ImportDivisions(ctx, sites.By{Account: "admin"}, sites.Import{Effective: "2020-" + f[3]}, g.tables[f[2]])
	case "site":
		_, err = w.roster.CreateSite(ctx, sites.By{Account: "admin"}, sites.NewSite{
			RegistrationNo: f[2], Name: f[2], Division: sites.DivisionCode(f[3]), Registered: g.moment(f[4]),
		})
	case "order":
		every, wrong := time.ParseDuration(f[5])
		g.check(wrong)
		var codes []sites.DivisionCode
		for _, c := range f[6:] {
			codes = append(codes, sites.DivisionCode(c))
		}
		_, err = w.roster.CreateOrder(ctx, sites.By{Account: "admin"}, order(f[2], g.moment(f[3]), g.moment(f[4]), every, codes...))
	case "end":
		orders := w.roster.Roster().Orders()
		i := slices.IndexFunc(orders, func(o *sites.ClosureOrder) bool { return o.Number == f[2] })
		_, err = w.roster.EndOrder(ctx, sites.By{Account: "admin"}, orders[i].ID, g.moment(f[3]))
	case "move":
		_, err = w.roster.MoveSite(ctx, sites.By{Account: "admin"}, w.site(g, f[2]).ID, "", sites.Place{Division: sites.DivisionCode(f[3]), From: g.moment(f[4])})
	case "strike":
		_, err = w.roster.DeregisterSite(ctx, sites.By{Account: "admin"}, w.site(g, f[2]).ID, "", g.moment(f[3]))
	case "visit":
		v := coverage.Visit{Site: w.site(g, f[2]).ID, Capture: g.moment(f[3])}
		for _, word := range f[4:] {
			key, value, _ := strings.Cut(word, "=")
			n, _ := strconv.Atoi(value)
			switch key {
			case "open":
				v.Open = true
			case "synced":
				v.SyncedLate = true
			case "cancelled":
				v.CancelledEvents = int32(n)
			case "dispersed":
				v.DispersedPeople = int32(n)
			default:
				g.Fatalf("%s: what is %q?", line, word)
			}
		}
		w.visit(v)
	default:
		g.Fatalf("%s: what is %q?", line, f[1])
	}
	if err != nil {
		g.Fatalf("%s: %v", line, err)
	}
}

var states = map[string]coverage.State{
	"due": coverage.Due, "done": coverage.Done, "overdue": coverage.Overdue,
	"never": coverage.NeverInspected, "open": coverage.FoundOpen,
}

// answer returns the index's answer to a question, as the golden files have it.
func (g *golden) answer(kind string, words []string) string {
	var out bytes.Buffer
	w := tabwriter.NewWriter(&out, 0, 0, 2, ' ', 0)
	state := coverage.Due
	if kind == "sites" {
		state, words = states[words[0]], words[1:]
	}
	q, f := g.question(words)
	switch kind {
	case "report":
		r, _, err := report(g.w.asked(), q)
		if err != nil {
			return err.Error() + "\n"
		}
		fmt.Fprintln(w, "division\tname\tdue\tdone\toverdue\tnever\topen\tvisits\tlate\tsynced\tcancelled\tdispersed\tlast")
		writeReport(w, "", r)
	case "sites":
		list, err := dueSites(g.w.asked(), q, state, 3)
		if err != nil {
			return err.Error() + "\n"
		}
		fmt.Fprintln(w, "site\tvillage\torder\tdone\toverdue\tnever\topen\tdue since\tlast\toverdue since")
		for _, s := range list {
			fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", s.Site.RegistrationNo, s.Path[0], s.Order.Number,
				mark(s.Inspected), mark(s.Overdue), mark(s.NeverInspected), mark(s.FoundOpen),
				short(s.DueSince), short(s.LastCapture), short(s.OverdueSince))
		}
	case "visits":
		list, err := visits(g.w.asked(), q, f, coverage.VisitRef{}, 100)
		if err != nil {
			return err.Error() + "\n"
		}
		fmt.Fprintln(w, "capture\tsite\tsequence")
		for _, v := range list {
			site, err := g.w.roster.Roster().Site(v.Site)
			g.check(err)
			fmt.Fprintf(w, "%s\t%s\t%d\n", short(v.Capture), site.RegistrationNo, v.Sequence)
		}
	default:
		g.Fatalf("what is %q?", kind)
	}
	w.Flush()
	return out.String()
}

// question reads the words of a question.
func (g *golden) question(words []string) (q coverage.Query, f coverage.VisitFilter) {
	q.Division = sites.DivisionCode(words[0])
	q.Start, q.End, q.Now = g.moment(words[1]), g.moment(words[2]), g.moment(words[3])
	for _, word := range words[4:] {
		key, value, _ := strings.Cut(word, "=")
		switch key {
		case "known":
			var err error
			q.Known = g.moment(value)
			q.Roster, err = g.w.roster.RosterKnown(g.Context(), q.Known)
			g.check(err)
		case "depth":
			q.Depth, _ = strconv.Atoi(value)
		case "site":
			f.Site = g.w.site(g, value).ID
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
	return q, f
}

func writeReport(w *tabwriter.Writer, indent string, r coverage.Report) {
	fmt.Fprintf(w, "%s%s\t%s\t%d\t%d\t%d\t%d\t%d\t%d\t%d\t%d\t%d\t%d\t%s\n", indent, r.Division, r.Name,
		r.SitesDue, r.SitesInspected, r.SitesOverdue, r.SitesNeverInspected, r.SitesFoundOpen,
		r.CheckIns, r.VisitedLate, r.SyncedLate, r.CancelledEvents, r.DispersedPeople, short(r.LastCapture))
	for _, c := range r.Children {
		writeReport(w, indent+"  ", c)
	}
}

func short(t time.Time) string {
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
