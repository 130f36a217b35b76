package client

import (
	"errors"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	xunchav1 "xuncha/proto/xuncha/v1"
)

// refusal is an import's stream that the server answers with an error.
type refusal struct {
	grpc.ClientStreamingClient[xunchav1.ImportSitesRequest, xunchav1.ImportSitesResponse]
}

func (refusal) CloseAndRecv() (*xunchav1.ImportSitesResponse, error) {
	return nil, status.Error(codes.InvalidArgument, "header.effective_date: lies too early")
}

// TestRefusedImport ensures that an administrator reads what the server says,
// without the words of the transport.
func TestRefusedImport(t *testing.T) {
	_, err := sendAll(refusal{}, nil)
	if err = Readable(errors.Join(err, nil)); err == nil || err.Error() != "header.effective_date: lies too early" {
		t.Errorf("got %q", err)
	}
}
