package inspections_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"xuncha/inspections"
	"xuncha/inspections/coverage"
	"xuncha/sites"
)

// manySites imports so many sites that a question about them has several steps.
func (w *world) manySites(t *testing.T, n int) {
	t.Helper()
	rows := make([]sites.SiteRow, n)
	for i := range rows {
		rows[i] = sites.SiteRow{Row: i + 1, RegistrationNo: fmt.Sprintf("M%05d", i), Name: "样例", Division: string(village), RegisteredOn: "2019-12-01"}
	}
	_, err := w.Roster.ImportSites(t.Context(), sites.By{Account: "test"}, sites.Import{}, rows)
	must(t, err)
}

// Ensure that a check-in is taken, and a question of another window begun, while each
// kind of question is held in the middle.
func TestQuestionsHoldUpNobody(t *testing.T) {
	for name, ask := range map[string]func(context.Context, *world, inspections.Question) error{
		"report": func(ctx context.Context, w *world, q inspections.Question) error {
			q.Depth = 3
			_, err := w.Coverage(ctx, q)
			return err
		},
		"due sites": func(ctx context.Context, w *world, q inspections.Question) error {
			_, err := w.DueSites(ctx, q, coverage.Overdue, coverage.SiteRef{}, 1000)
			return err
		},
		"check-ins": func(ctx context.Context, w *world, q inspections.Question) error {
			_, err := w.List(ctx, q, coverage.VisitFilter{}, coverage.VisitRef{}, 1000)
			return err
		},
		"as known before": func(ctx context.Context, w *world, q inspections.Question) error {
			q.Known = w.Now.Add(-time.Minute)
			_, err := w.Coverage(ctx, q)
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.manySites(t, 2000)
			w.Now = w.Now.Add(time.Hour)
			w.submit(t, w.checkIn(1))
			held, release := make(chan struct{}, 1), make(chan struct{})
			w.Service = inspections.New(inspections.Config{Ledger: w.Ledger, Claims: w.claims, Roster: w.Roster, Now: w.Clock, OnStep: func() {
				select {
				case held <- struct{}{}:
				default:
				}
				<-release
			}})
			q := inspections.Question{Division: city, Start: w.Now.Truncate(day), End: w.Now.Truncate(day).Add(day)}
			answered := make(chan error, 1)
			go func() { answered <- ask(t.Context(), w, q) }()
			<-held
			w.submit(t, w.checkIn(2))
			_, duplicate, err := w.Submit(t.Context(), inspections.By{Account: "test"}, w.checkIn(2), time.Time{})
			if err != nil || !duplicate {
				t.Errorf("again: got duplicate %t, %v", duplicate, err)
			}
			close(release)
			must(t, <-answered)
			if r, err := w.Coverage(t.Context(), q); err != nil || r.CheckIns != 1 { // the first was not fed to this service
				t.Errorf("afterwards: got %d check-ins, %v; want the one that came in meanwhile", r.CheckIns, err)
			}
		})
	}
}

// Ensure that whoever does not wait any longer leaves, and that the question can be
// asked again.
func TestQuestionGivenUp(t *testing.T) {
	w := newWorld(t)
	w.manySites(t, 2000)
	ctx, cancel := context.WithCancel(t.Context())
	w.Service = inspections.New(inspections.Config{Ledger: w.Ledger, Claims: w.claims, Roster: w.Roster, Now: w.Clock, OnStep: cancel})
	q := inspections.Question{Division: city, Start: w.Now.Truncate(day), End: w.Now.Truncate(day).Add(day)}
	if a, err := w.Coverage(ctx, q); !errors.Is(err, context.Canceled) || a.Cost == 0 {
		t.Errorf("got %v at a cost of %d, want %v and what it has cost", err, a.Cost, context.Canceled)
	}
	w.submit(t, w.checkIn(1))
	if r, err := w.Coverage(t.Context(), q); err != nil || r.CheckIns != 1 || r.SitesDue != 2001 {
		t.Errorf("got %+v, %v", r.Figures, err)
	}
}

// Ensure that windows and reports have their bounds, which name the way out.
func TestQuestionBounds(t *testing.T) {
	w := newWorld(t)
	q := inspections.Question{Division: city, Start: start, End: start.Add(coverage.MaxWindow), Depth: 3}
	a, err := w.Coverage(t.Context(), q)
	must(t, err)
	rows := 1
	for r := a.Report; len(r.Children) > 0; r = r.Children[0] {
		rows += len(r.Children)
	}
	for most := 1; most <= rows; most++ {
		q.MaxRows = most
		_, err := w.Coverage(t.Context(), q)
		var many *coverage.TooManyRowsError
		switch {
		case most == rows:
			must(t, err)
		case !errors.As(err, &many) || many.MaxRows != most:
			t.Errorf("at most %d rows: got %v", most, err)
		default:
			q := q
			q.Depth = many.Fits
			_, err := w.Coverage(t.Context(), q)
			must(t, err)
			if q.Depth++; q.Depth < 3 {
				if _, err := w.Coverage(t.Context(), q); !errors.Is(err, coverage.ErrTooManyRows) {
					t.Errorf("at most %d rows: depth %d is said to be too much, and gives %v", most, q.Depth, err)
				}
			}
		}
	}
	q = inspections.Question{Division: city, Start: start, End: start.Add(coverage.MaxWindow + 1)}
	_, err = w.Coverage(t.Context(), q)
	var field *sites.FieldError
	if !errors.Is(err, coverage.ErrWindowTooLong) || !errors.As(err, &field) || field.Field != "end_time" {
		t.Errorf("a window that is too long: got %v", err)
	}
	if _, err := w.DueSites(t.Context(), q, coverage.Due, coverage.SiteRef{}, 1); !errors.Is(err, coverage.ErrWindowTooLong) {
		t.Errorf("due sites of a window that is too long: got %v", err)
	}
	if _, err := w.List(t.Context(), q, coverage.VisitFilter{Site: w.Site.ID}, coverage.VisitRef{}, 1); !errors.Is(err, coverage.ErrWindowTooLong) {
		t.Errorf("check-ins of a window that is too long: got %v", err)
	}
}
