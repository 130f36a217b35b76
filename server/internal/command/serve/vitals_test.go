package serve

import (
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"

	xunchav1 "xuncha/proto/xuncha/v1"
	"xuncha/server/internal/rpc"
)

// Each problem shows under its name alone, and neither a database that goes away and comes
// back nor another problem changes that.
func TestVitals(t *testing.T) {
	h := health.NewServer()
	v := newVitals(h, map[string]grpc.ServiceInfo{"xuncha.v1.RosterService": {}})
	names := []string{"", "xuncha.v1.RosterService", "xuncha.clock", "xuncha.histories", "xuncha.disk", "xuncha.photos", "xuncha.certificate"}
	want := func(step string, not ...string) {
		t.Helper()
		for _, name := range names {
			wanted := healthv1.HealthCheckResponse_SERVING
			for _, n := range not {
				if n == name {
					wanted = healthv1.HealthCheckResponse_NOT_SERVING
				}
			}
			got, err := h.Check(t.Context(), &healthv1.HealthCheckRequest{Service: name})
			if err != nil || got.Status != wanted {
				t.Errorf("%s: %q: got %v, %v, want %v", step, name, got, err, wanted)
			}
		}
	}
	of := func(kinds ...xunchav1.ProblemKind) (out []rpc.Problem) {
		for _, k := range kinds {
			out = append(out, rpc.Problem{Kind: k})
		}
		return out
	}
	v.serve(true)
	want("at first")
	v.note(of(xunchav1.ProblemKind_PROBLEM_KIND_CLOCK_JUMPED, xunchav1.ProblemKind_PROBLEM_KIND_STORE_UNAVAILABLE), true)
	want("with problems", "xuncha.clock", "xuncha.histories", "xuncha.disk")
	v.serve(false)
	want("away", "", "xuncha.v1.RosterService", "xuncha.clock", "xuncha.histories", "xuncha.disk")
	v.note(of(xunchav1.ProblemKind_PROBLEM_KIND_PHOTO_LOST), false)
	v.serve(true)
	want("back", "xuncha.photos")
	v.note(of(xunchav1.ProblemKind_PROBLEM_KIND_CERTIFICATE), false)
	want("with a certificate that clients refuse", "xuncha.certificate")
	v.note(nil, false)
	want("all well")
	v.shutdown()
	v.note(nil, true)
	v.serve(true)
	want("at the end", names...)
}
