package serve

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/types/known/timestamppb"

	xunchav1 "xuncha/proto/xuncha/v1"
	"xuncha/server/internal/clock"
	"xuncha/server/internal/mongostore/mongotest"
	"xuncha/sites"
)

// A machine has clocks that a test drives: the true time, and by how much the wall clock
// is off.
type machine struct {
	mu    sync.Mutex
	begun time.Time
	truth time.Time
	off   time.Duration
}

func newMachine() *machine {
	now := time.Now().Round(0)
	return &machine{begun: now, truth: now}
}

func (m *machine) read() (time.Time, time.Duration) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.truth.Add(m.off), m.truth.Sub(m.begun)
}

// pass lets time pass, and returns the true one.
func (m *machine) pass(d time.Duration) time.Time {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.truth = m.truth.Add(d)
	return m.truth
}

// set makes the wall clock show another time.
func (m *machine) set(off time.Duration) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.off = off
}

// tryServe starts a server on the store with the machine's clocks. The error is that of a
// server that does not come to serve.
func (m *machine) tryServe(t *testing.T, stored StoreConfig) (r *Running, log *lines, err error) {
	t.Helper()
	log = &lines{}
	r, err = Start(t.Context(), stored, Config{
		Listen: "127.0.0.1:0", TimeZone: "UTC", LogLevel: "info", MaxMessageBytes: 1 << 20,
		photoConfig: photoConfig{PhotoRetentionDays: 30}, ShutdownTimeout: time.Minute, readClock: m.read,
	}, log)
	if err != nil {
		return nil, log, err
	}
	select {
	case <-r.Ready:
		return r, log, nil
	case err := <-r.Failed:
		return nil, log, errors.Join(err, r.Stop())
	}
}

func (m *machine) serve(t *testing.T, stored StoreConfig) (*Running, *lines) {
	t.Helper()
	r, log, err := m.tryServe(t, stored)
	if err != nil {
		t.Fatal(err)
	}
	return r, log
}

func mustStop(t *testing.T, r *Running) {
	t.Helper()
	if err := r.Stop(); err != nil {
		t.Error(err)
	}
}

// fillRoster gives a server a site under an order, and returns the site.
func fillRoster(t *testing.T, r *Running, now time.Time) sites.SiteID {
	t.Helper()
	rows := []sites.DivisionRow{
		{Row: 2, Code: "511600", Name: "a", Level: "city"}, {Row: 3, Code: "511602", Name: "b", Level: "county", Parent: "511600"},
		{Row: 4, Code: "511602001", Name: "c", Level: "township", Parent: "511602"},
		{Row: 5, Code: "511602001001", Name: "d", Level: "village", Parent: "511602001"},
	}
	_, err := r.roster.ImportDivisions(t.Context(), sites.By{Account: "a"}, sites.Import{Effective: "2019-10-31"}, rows)
	if err == nil {
		_, err = r.roster.CreateOrder(t.Context(), sites.By{Account: "a"}, sites.ClosureOrder{
			Number: "1", Title: "t", IssuingAuthority: "a", LegalBasis: "b", Divisions: []sites.DivisionCode{"511600"},
			Start: now.Add(-time.Hour), End: now.Add(48 * time.Hour), Interval: sites.Duration(24 * time.Hour),
		})
	}
	if err != nil {
		t.Fatal(err)
	}
	site, err := r.roster.CreateSite(t.Context(), sites.By{Account: "a"}, sites.NewSite{
		RegistrationNo: "1", Name: "n", Division: "511602001001", Registered: now.Add(-72 * time.Hour),
	})
	if err != nil {
		t.Fatal(err)
	}
	return site.ID
}

// Check-ins of honest phones have the right time while the clock has jumped, whatever it
// shows, and reports of what was known at a time stay right. Before, 18 of these 22
// check-ins had a wrong time after a jump of 6 hours, and none was taken after one of a
// year.
func TestServesWhileClockHasJumped(t *testing.T) {
	for _, by := range []time.Duration{6 * time.Hour, -6 * time.Hour, 366 * 24 * time.Hour, -366 * 24 * time.Hour} {
		t.Run(by.String(), func(t *testing.T) {
			m := newMachine()
			r, log := m.serve(t, StoreConfig{Data: t.TempDir()})
			stop := sync.OnceFunc(func() { mustStop(t, r) })
			defer stop()
			site := fillRoster(t, r, m.truth)
			conn, err := grpc.NewClient(r.Address, grpc.WithTransportCredentials(insecure.NewCredentials()))
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			var times []time.Time
			submit := func() {
				t.Helper()
				now := m.pass(time.Minute)
				times = append(times, now)
				got, err := xunchav1.NewInspectionServiceClient(conn).SubmitCheckIn(t.Context(), &xunchav1.SubmitCheckInRequest{
					CheckIn: &xunchav1.CheckIn{
						CheckInId: uuid.NewString(), SiteId: string(site), CaptureTime: timestamppb.New(now.Add(-10 * time.Second)),
						Finding: xunchav1.Finding_FINDING_CLOSED,
					},
					ClientTime: timestamppb.New(now),
				})
				if err != nil {
					t.Fatalf("check-in %d: %v", len(times), err)
				}
				if at := got.Receipt.ReceiveTime.AsTime(); at.Sub(now).Abs() > time.Second || len(got.Receipt.Flags) > 0 {
					t.Errorf("check-in %d: received at %v with %v, want %v and no flags", len(times), at, got.Receipt.Flags, now)
				}
			}
			for i := range 22 {
				switch i {
				case 4:
					m.set(by)
				case 12:
					if list := r.time.problems.All(); len(list) != 1 || list[0].Kind != xunchav1.ProblemKind_PROBLEM_KIND_CLOCK_JUMPED || list[0].Message == "" {
						t.Errorf("got the problems %v, want that the clock has jumped", list)
					}
					m.set(0)
				}
				submit()
			}
			if list := r.time.problems.All(); len(list) > 0 {
				t.Errorf("got the problems %v, want none any more", list)
			}
			for i, at := range times {
				got, err := xunchav1.NewCoverageServiceClient(conn).GetCoverage(t.Context(), &xunchav1.GetCoverageRequest{
					DivisionCode: "511600", StartTime: timestamppb.New(times[0].Add(-time.Hour)), EndTime: timestamppb.New(times[21].Add(time.Hour)),
					KnownTime: timestamppb.New(at),
				})
				if err != nil || got.Row.CheckIns != int64(i+1) {
					t.Errorf("as known at check-in %d: got %v, %v", i+1, got, err)
				}
			}
			stop()
			if got := log.String(); strings.Count(got, "the clock has jumped;") != 1 || !strings.Contains(got, "the clock is back") {
				t.Errorf("the log has %s", got)
			}
		})
	}
}

// Once a clock has been steady for ten minutes it is taken for right, and at once where
// somebody confirms it.
func TestJumpEnds(t *testing.T) {
	m := newMachine()
	r, log := m.serve(t, StoreConfig{Data: t.TempDir()})
	stop := sync.OnceFunc(func() { mustStop(t, r) })
	defer stop()
	m.set(24 * time.Hour)
	if got := r.time.Now(); !got.Equal(m.truth) {
		t.Errorf("got %v, want %v", got, m.truth)
	}
	m.pass(clock.SteadyFor)
	for deadline := time.Now().Add(time.Minute); len(r.time.problems.All()) > 0; { // it looks each second
		if time.Now().After(deadline) {
			t.Fatal("it still has a problem")
		}
		<-time.After(10 * time.Millisecond)
	}
	if got, want := r.time.Now(), m.truth.Add(24*time.Hour); !got.Equal(want) {
		t.Errorf("got %v, want %v", got, want)
	}
	m.set(0)
	if got, want := r.time.Now(), m.truth.Add(24*time.Hour); !got.Equal(want) {
		t.Errorf("got %v, want %v", got, want)
	}
	conn, err := grpc.NewClient(r.Address, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	got, err := xunchav1.NewOperationServiceClient(conn).ConfirmClock(t.Context(), &xunchav1.ConfirmClockRequest{})
	if err != nil || !got.ServerTime.AsTime().Equal(m.truth) || !r.time.Now().Equal(m.truth) || len(r.time.problems.All()) > 0 {
		t.Errorf("confirmed %v, %v with %v, want %v", got, err, r.time.problems.All(), m.truth)
	}
	stop()
	for _, want := range []string{"the clock has been steady since it jumped", "somebody has confirmed the clock"} {
		if !strings.Contains(log.String(), want) {
			t.Errorf("the log lacks %q", want)
		}
	}
}

// A server that has run ahead starts again as soon as its clock was set right and confirmed,
// though its newest heartbeat lay ahead.
func TestStartsAfterConfirming(t *testing.T) {
	onBothEngines(t, func(t *testing.T, stored StoreConfig) {
		m := newMachine()
		m.set(366 * 24 * time.Hour)
		accept := stored
		accept.AcceptClock = true // MongoDB's clock is right
		r, _ := m.serve(t, accept)
		fillRoster(t, r, m.truth.Add(m.off))
		beat(t, r)
		m.set(0)
		r.time.Now()
		r.time.Confirm()
		for deadline := time.Now().Add(20 * time.Second); ; {
			stored, err := clock.OpenHeartbeats(t.Context(), clock.HeartbeatsConfig{Notes: r.store, Read: m.read, Now: r.time.Now})
			if err != nil {
				t.Fatal(err)
			}
			if !stored.Accepted().IsZero() && stored.Last().Before(m.truth.Add(time.Hour)) {
				break
			}
			if time.Now().After(deadline) {
				t.Fatalf("the newest heartbeat is still of %v, and up to %v was accepted", stored.Last(), stored.Accepted())
			}
			<-time.After(10 * time.Millisecond)
		}
		mustStop(t, r)
		r, _ = m.serve(t, stored)
		mustStop(t, r)
	})
}

// So it does where nobody has confirmed the clock, and the server has taken it for right.
func TestStartsAfterSteadying(t *testing.T) {
	stored := StoreConfig{Data: t.TempDir()}
	m := newMachine()
	m.set(366 * 24 * time.Hour)
	r, _ := m.serve(t, stored)
	fillRoster(t, r, m.truth.Add(m.off))
	m.set(0)
	r.time.Now()
	for m.pass(clock.SteadyFor); len(r.time.problems.All()) > 0; r.time.Now() {
		<-time.After(10 * time.Millisecond) // it looks each second
	}
	beat(t, r)
	mustStop(t, r)
	r, _ = m.serve(t, stored)
	mustStop(t, r)
}

// On MongoDB the database's clock is asked too. A server whose clock is another does not
// start: its entries would be counted at wrong times, also by other servers, and would keep
// those from starting. One that goes on with it says so, and believes nothing that the
// database does not show.
func TestDatabaseHasAnotherClock(t *testing.T) {
	s, err := mongotest.StartStandIn("-commit=0s")
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := s.Stop(); err != nil {
			t.Error(err)
		}
	}()
	for _, off := range []time.Duration{2 * 365 * 24 * time.Hour, clock.Tolerance + time.Minute, -clock.Tolerance - time.Minute} {
		t.Run(off.String(), func(t *testing.T) {
			stored := StoreConfig{Store: s.Database(t)}
			m := newMachine()
			m.set(off)
			_, _, err := m.tryServe(t, stored)
			wantRefused(t, err, stamp(m.truth.Add(off)), "that of the database shows")
			stored.AcceptClock = true
			r, log := m.serve(t, stored)
			beat(t, r)
			if list := r.time.problems.All(); len(list) != 1 || list[0].Kind != xunchav1.ProblemKind_PROBLEM_KIND_CLOCK_JUMPED {
				t.Errorf("got the problems %v, want that the clocks differ", list)
			}
			if off > time.Hour {
				for range 25 * 30 {
					m.pass(2 * time.Minute)
					beat(t, r)
				}
				if got, ok := r.time.hearts.Believed(); !ok || got.After(time.Now()) {
					t.Errorf("believed %v, %v, want what the database has shown", got, ok)
				}
			}
			mustStop(t, r)
			if n := strings.Count(log.String(), "the clock of the database is another than this server's"); n != 1 {
				t.Errorf("it was said %d times that the clocks differ, want once", n)
			}
		})
	}
}

// Where the heartbeats cannot be read, the server serves all the same, and believes nothing.
func TestNoHeartbeats(t *testing.T) {
	m, log := newMachine(), &lines{}
	broken := errors.New("a page is damaged")
	r, err := start(t.Context(), StoreConfig{Data: t.TempDir()}, Config{
		Listen: "127.0.0.1:0", TimeZone: "UTC", LogLevel: "info", MaxMessageBytes: 1 << 20,
		photoConfig: photoConfig{PhotoRetentionDays: 30}, ShutdownTimeout: time.Minute, readClock: m.read,
	}, log, func(ctx context.Context, name string, o EngineOptions) (Engine, string, error) {
		store, where, err := OpenEngine(ctx, name, o)
		return noNotes{store, broken}, where, err
	})
	if err != nil {
		t.Fatal(err)
	}
	<-r.Ready
	mustStop(t, r)
	if got := log.String(); !strings.Contains(got, "the heartbeats cannot be read") || !strings.Contains(got, broken.Error()) {
		t.Errorf("the log has %s", got)
	}
}

// What the store remembers of the clock may be damaged: that is told once, and the next
// heartbeat replaces it.
func TestDamagedHeartbeats(t *testing.T) {
	stored := StoreConfig{Data: t.TempDir()}
	store, _, err := OpenEngine(t.Context(), stored.name(), EngineOptions{})
	if err == nil {
		err = errors.Join(store.PutNote(t.Context(), "clock", 0, []byte("junk")), store.Close())
	}
	if err != nil {
		t.Fatal(err)
	}
	m := newMachine()
	for _, want := range []int{1, 0} {
		r, log := m.serve(t, stored)
		beat(t, r)
		mustStop(t, r)
		if got := strings.Count(log.String(), "the heartbeats cannot be read"); got != want {
			t.Errorf("it was said %d times that they cannot be read, want %d: %s", got, want, log)
		}
	}
}

// A noNotes is a store whose notes are damaged.
type noNotes struct {
	Engine
	err error
}

func (s noNotes) Note(context.Context, string) ([]byte, int64, error) {
	return nil, 0, fmt.Errorf("reading: %w", s.err)
}

func (s noNotes) PutNote(context.Context, string, int64, []byte) error { return s.err }
