package coverage_test

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"xuncha/inspections/coverage"
)

// busyTown returns a town with some visits, and the questions that show them all.
func busyTown(t testing.TB) (*world, []coverage.Query) {
	w := newTown(t, 20)
	random := rand.New(rand.NewPCG(1, 2))
	for range 500 {
		w.visit(coverage.Visit{
			Site: w.sites()[random.IntN(20)].ID, Capture: day(10).Add(time.Duration(random.IntN(5*24*60)) * time.Minute),
			Open: random.IntN(5) == 0, SyncedLate: random.IntN(3) == 0,
			CancelledEvents: random.Int32N(3), DispersedPeople: random.Int32N(100),
		})
	}
	w.visit(coverage.Visit{Site: "elsewhere", Capture: w.now})
	day, month := w.today(), w.today()
	day.Depth, month.Depth = 3, 3
	month.Start = month.Start.AddDate(0, 0, -14)
	return w, []coverage.Query{day, month}
}

// everything returns all that the index answers to the questions.
func everything(t testing.TB, x *coverage.Index, questions []coverage.Query) (out []any) {
	t.Helper()
	for _, q := range questions {
		r, _, err := report(x, q)
		if err != nil {
			t.Fatal(err)
		}
		due, err := dueSites(x, q, coverage.Due, 7)
		if err != nil {
			t.Fatal(err)
		}
		all, err := visits(x, q, coverage.VisitFilter{}, coverage.VisitRef{}, 1000)
		if err != nil {
			t.Fatal(err)
		}
		for i := range due {
			due[i].Site, due[i].Order = nil, nil // pointers into the roster
		}
		out = append(out, r, due, all)
	}
	return out
}

func TestSnapshot(t *testing.T) {
	w, questions := busyTown(t)
	var b bytes.Buffer
	if err := w.index.Snapshot(&b); err != nil {
		t.Fatal(err)
	}
	restore := func() *coverage.Index {
		x := coverage.New()
		if err := x.Restore(bytes.NewReader(b.Bytes())); err != nil {
			t.Fatal(err)
		}
		x.SetRoster(w.roster.Roster())
		return x
	}
	x := restore()
	if diff := cmp.Diff(everything(t, w.asked(), questions), everything(t, x, questions)); diff != "" {
		t.Errorf("restored (-want +got)\n%s", diff)
	}
	// What comes in afterwards counts, and what comes again does not.
	late := coverage.Visit{Site: w.sites()[3].ID, Capture: w.now}
	w.visit(late)
	for _, v := range w.visits {
		x.Add(v)
	}
	if diff := cmp.Diff(everything(t, w.asked(), questions), everything(t, x, questions)); diff != "" {
		t.Errorf("restored, and fed everything (-want +got)\n%s", diff)
	}
	if err := x.Restore(bytes.NewReader(b.Bytes())); err == nil {
		t.Error("an index with visits is restored")
	}
	for n := 0; n < b.Len(); n += 13 {
		x := coverage.New()
		if err := x.Restore(bytes.NewReader(b.Bytes()[:n])); !errors.Is(err, coverage.ErrSnapshot) {
			t.Fatalf("cut after %d bytes: got %v", n, err)
		}
		if _, ok := x.Last(w.sites()[0].ID, w.now); ok {
			t.Fatalf("cut after %d bytes: it has visits", n)
		}
	}
	if err := coverage.New().Restore(strings.NewReader("something else that is long enough")); !errors.Is(err, coverage.ErrSnapshot) {
		t.Errorf("something else: got %v", err)
	}
}

// FuzzRestore ensures that no bytes do harm, and that what is taken can be written
// again as it was.
func FuzzRestore(f *testing.F) {
	w, _ := busyTown(f)
	var b bytes.Buffer
	if err := w.index.Snapshot(&b); err != nil {
		f.Fatal(err)
	}
	f.Add(b.Bytes())
	f.Add(b.Bytes()[:200])
	f.Add([]byte("xuncha visits 1\n\x00"))
	f.Add([]byte("xuncha visits 1\n\x01a\xff\xff\xff\xff"))
	f.Fuzz(func(t *testing.T, data []byte) {
		x := coverage.New()
		if x.Restore(bytes.NewReader(data)) != nil {
			return
		}
		var again bytes.Buffer
		if err := x.Snapshot(&again); err != nil {
			t.Fatal(err)
		}
		if !bytes.HasPrefix(data, again.Bytes()) {
			t.Errorf("got %q, want %q", again.Bytes(), data)
		}
	})
}
