package serve

import (
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/timestamppb"

	xunchav1 "xuncha/proto/xuncha/v1"
	"xuncha/sites"
)

// visit submits a visit of just now by a phone whose clock is right, and returns the code
// and the reason.
func visit(t *testing.T, r *Running, site sites.SiteID, now time.Time) (codes.Code, string) {
	t.Helper()
	conn, err := grpc.NewClient(r.Address, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_, err = xunchav1.NewInspectionServiceClient(conn).SubmitCheckIn(t.Context(), &xunchav1.SubmitCheckInRequest{
		CheckIn: &xunchav1.CheckIn{
			CheckInId: uuid.NewString(), SiteId: string(site), CaptureTime: timestamppb.New(now.Add(-10 * time.Second)),
			Finding: xunchav1.Finding_FINDING_CLOSED,
		},
		ClientTime: timestamppb.New(now),
	})
	reason := ""
	for _, d := range status.Convert(err).Details() {
		if info, ok := d.(*errdetails.ErrorInfo); ok {
			reason = info.Reason
		}
	}
	return status.Code(err), reason
}

// A server that starts a year ahead refuses no visit for good, also after it was started
// again, until its clock is right.
func TestStartsFarAhead(t *testing.T) {
	m, stored := newMachine(), StoreConfig{Data: t.TempDir()}
	r, _ := m.serve(t, stored)
	site := fillRoster(t, r, m.truth)
	if err := r.time.hearts.Beat(t.Context()); err != nil {
		t.Fatal(err)
	}
	mustStop(t, r)

	m.set(366 * 24 * time.Hour)
	for range 2 {
		r, log := m.serve(t, stored)
		if code, reason := visit(t, r, site, m.truth); code != codes.Unavailable || reason != "CLOCK_UNCONFIRMED" {
			t.Errorf("a year ahead: got %v %s, want that the phone keeps it", code, reason)
		}
		list := r.problems.All()
		if len(list) != 1 || list[0].Kind != xunchav1.ProblemKind_PROBLEM_KIND_CLOCK_JUMPED || !strings.Contains(list[0].Message, "confirm-clock") {
			t.Errorf("got the problems %v, want that the clock waits to be confirmed", list)
		}
		mustStop(t, r)
		if got := log.String(); strings.Count(got, "the clock is far ahead of the last heartbeat") != 1 {
			t.Errorf("the log has %s", got)
		}
	}

	m.set(0)
	r, _ = m.serve(t, stored)
	defer mustStop(t, r)
	if code, reason := visit(t, r, site, m.truth); code != codes.OK {
		t.Errorf("with a right clock: got %v %s", code, reason)
	}
	if list := r.problems.All(); len(list) > 0 {
		t.Errorf("got the problems %v, want none", list)
	}
}

// A server that was off for long goes on once somebody has confirmed its clock, and does
// not ask again.
func TestStartsAfterALongTime(t *testing.T) {
	m, stored := newMachine(), StoreConfig{Data: t.TempDir()}
	r, _ := m.serve(t, stored)
	site := fillRoster(t, r, m.truth)
	if err := r.time.hearts.Beat(t.Context()); err != nil {
		t.Fatal(err)
	}
	mustStop(t, r)

	m.pass(200 * 24 * time.Hour)
	r, _ = m.serve(t, stored)
	if !r.time.doubt.holds() {
		t.Error("the clock is not in doubt")
	}
	r.time.Confirm()
	if code, reason := visit(t, r, site, m.truth); code != codes.FailedPrecondition || reason != "NO_ORDER_IN_FORCE" {
		t.Errorf("confirmed: got %v %s, want that no order is in force", code, reason)
	}
	if list := r.problems.All(); len(list) > 0 {
		t.Errorf("got the problems %v, want none", list)
	}
	// It beats by itself now.
	for deadline := time.Now().Add(time.Minute); r.time.hearts.Last().Before(m.truth.Add(-time.Hour)); {
		if time.Now().After(deadline) {
			t.Fatal("there is no heartbeat")
		}
		<-time.After(10 * time.Millisecond)
	}
	mustStop(t, r)
	r, _ = m.serve(t, stored)
	defer mustStop(t, r)
	if r.time.doubt.holds() {
		t.Error("a clock that was confirmed is in doubt again")
	}
}
