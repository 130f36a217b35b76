package rpc

import (
	"testing"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"

	xunchav1 "xuncha/proto/xuncha/v1"
)

// TestNotReady holds that a server that has not read what is stored yet says so, to
// every call and with when to try again, and answers once it has.
func TestNotReady(t *testing.T) {
	ready := make(chan struct{})
	w := newServer(t, func(c *Config) { c.Ready = ready })
	for _, m := range methods() {
		for _, request := range hollow(m) {
			err := w.call(t.Context(), m, request)
			retry := false
			for _, d := range status.Convert(err).Details() {
				if r, ok := d.(*errdetails.RetryInfo); ok {
					retry = r.RetryDelay.AsDuration() > 0
				}
			}
			if status.Code(err) != codes.Unavailable || !retry {
				t.Errorf("%s: got %v, retry %v; want UNAVAILABLE with RetryInfo", m.FullName(), err, retry)
			}
		}
	}
	health, err := healthv1.NewHealthClient(w.conn).Check(t.Context(), &healthv1.HealthCheckRequest{})
	if err != nil || health.Status != healthv1.HealthCheckResponse_NOT_SERVING {
		t.Errorf("got %v, %v, want NOT_SERVING", health, err)
	}
	close(ready)
	if _, err := w.roster.ListSites(t.Context(), &xunchav1.ListSitesRequest{}); err != nil {
		t.Error(err)
	}
}
