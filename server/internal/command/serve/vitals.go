package serve

import (
	"context"
	"maps"
	"slices"
	"sync"

	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"

	xunchav1 "xuncha/proto/xuncha/v1"
	"xuncha/server/internal/rpc"
)

// The names under which the standard health service tells what is wrong. They are
// NOT_SERVING while there is such a problem. A server that has one still serves, so the
// name of the server as a whole, which is empty, is not among them.
const (
	healthOfClock     = "xuncha.clock"
	healthOfHistories = "xuncha.histories"
	healthOfDisk      = "xuncha.disk"
	healthOfPhotos    = "xuncha.photos"
	healthOfTLS       = "xuncha.certificate"
)

// healthOf has the name under which each kind of problem shows.
var healthOf = map[xunchav1.ProblemKind]string{
	xunchav1.ProblemKind_PROBLEM_KIND_CLOCK_JUMPED:      healthOfClock,
	xunchav1.ProblemKind_PROBLEM_KIND_HISTORY_ALTERED:   healthOfHistories,
	xunchav1.ProblemKind_PROBLEM_KIND_STORE_FULL:        healthOfDisk,
	xunchav1.ProblemKind_PROBLEM_KIND_STORE_UNAVAILABLE: healthOfDisk,
	xunchav1.ProblemKind_PROBLEM_KIND_PHOTO_LOST:        healthOfPhotos,
	xunchav1.ProblemKind_PROBLEM_KIND_CERTIFICATE:       healthOfTLS,
}

// vitals is what the standard health service says: whether the server serves, and what is
// wrong with it beside. Neither changes what the other says.
type vitals struct {
	health   *health.Server
	services []string // and the empty name

	mu   sync.Mutex
	said map[string]bool // whether each of healthOf is well
}

// newVitals returns the vitals of a server with the services, in which nothing is wrong.
// Whether it serves stays as it is.
func newVitals(h *health.Server, services map[string]grpc.ServiceInfo) *vitals {
	v := &vitals{health: h, services: append(slices.Collect(maps.Keys(services)), ""), said: map[string]bool{}}
	v.note(nil, false)
	return v
}

// serve says whether the server serves.
func (v *vitals) serve(serves bool) {
	for _, name := range v.services {
		v.health.SetServingStatus(name, statusOf(serves))
	}
}

// note says what is wrong.
func (v *vitals) note(problems []rpc.Problem, altered bool) {
	well := map[string]bool{}
	for _, name := range healthOf {
		well[name] = true
	}
	for _, p := range problems {
		if name, ok := healthOf[p.Kind]; ok {
			well[name] = false
		}
	}
	well[healthOfHistories] = well[healthOfHistories] && !altered
	v.mu.Lock()
	defer v.mu.Unlock()
	for name, is := range well {
		if said, known := v.said[name]; !known || said != is {
			v.health.SetServingStatus(name, statusOf(is))
			v.said[name] = is
		}
	}
}

// shutdown says for good that the server does not serve.
func (v *vitals) shutdown() { v.health.Shutdown() }

func statusOf(well bool) healthv1.HealthCheckResponse_ServingStatus {
	if well {
		return healthv1.HealthCheckResponse_SERVING
	}
	return healthv1.HealthCheckResponse_NOT_SERVING
}

// watchVitals says what is wrong, and again whenever that changes, until r.beside ends.
func (r *Running) watchVitals() {
	look := func(context.Context) { r.vitals.note(r.problems.All(), len(r.Altered().Histories()) > 0) }
	look(r.beside)
	r.every(look, 0)
}
