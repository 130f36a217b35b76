package main

import (
	"context"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	xunchav1 "xuncha/proto/xuncha/v1"
)

// callTimeout is how long a call may take before it counts as lost.
const callTimeout = 30 * time.Second

// as returns the context of a call with an access token, or of nobody's without one.
func as(ctx context.Context, token string) context.Context {
	if token == "" {
		return ctx
	}
	return metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+token)
}

// unanswered reports whether a call had no answer, so that the same may be sent again.
func unanswered(err error) bool {
	switch status.Code(err) {
	case codes.Unavailable, codes.Canceled, codes.DeadlineExceeded:
		return true
	}
	return false
}

// The services of a server.
type services struct {
	roster      xunchav1.RosterServiceClient
	inspections xunchav1.InspectionServiceClient
	photos      xunchav1.PhotoServiceClient
	coverage    xunchav1.CoverageServiceClient
	audit       xunchav1.AuditServiceClient
	accounts    xunchav1.AccountServiceClient
}

func servicesOf(conn *grpc.ClientConn) services {
	return services{
		roster: xunchav1.NewRosterServiceClient(conn), inspections: xunchav1.NewInspectionServiceClient(conn),
		photos: xunchav1.NewPhotoServiceClient(conn), coverage: xunchav1.NewCoverageServiceClient(conn),
		audit: xunchav1.NewAuditServiceClient(conn), accounts: xunchav1.NewAccountServiceClient(conn),
	}
}

// once makes a call that has to be answered in time.
func once[Q, A any](ctx context.Context, token string, call func(context.Context, Q, ...grpc.CallOption) (A, error), request Q) (A, error) {
	ctx, cancel := context.WithTimeout(as(ctx, token), callTimeout)
	defer cancel()
	return call(ctx, request)
}
