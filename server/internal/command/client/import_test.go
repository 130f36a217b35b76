package client

import (
	"context"
	"errors"
	"io"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	xunchav1 "xuncha/proto/xuncha/v1"
	"xuncha/server/internal/table"
)

// refusal is an import's stream that the server answers with an error.
type refusal struct {
	grpc.ClientStreamingClient[xunchav1.ImportSitesRequest, xunchav1.ImportSitesResponse]
}

func (refusal) Send(*xunchav1.ImportSitesRequest) error { return io.EOF }

func (refusal) CloseAndRecv() (*xunchav1.ImportSitesResponse, error) {
	return nil, status.Error(codes.InvalidArgument, "header.effective_date: lies too early")
}

// TestRefusedImport ensures that an administrator reads what the server says,
// without the words of the transport.
func TestRefusedImport(t *testing.T) {
	type message = xunchav1.ImportSitesRequest
	refused := tableImport[message, xunchav1.ImportSitesResponse, *xunchav1.ImportSitesResponse]{
		columns: table.Sites,
		begin: func(context.Context, ...grpc.CallOption) (grpc.ClientStreamingClient[message, xunchav1.ImportSitesResponse], error) {
			return refusal{}, nil
		},
		header: func(*xunchav1.ImportHeader) *message { return &message{} },
		row:    func(table.Row) *message { return &message{} },
	}
	data := []byte("registration_no,name,division_code,registered_on\n1,a,511602001003,2020-01-01\n")
	_, err := refused.run(t.Context(), io.Discard, "sites.csv", data, "2019-10-31", false)
	if err = Readable(errors.Join(err, nil)); err == nil || err.Error() != "header.effective_date: lies too early" {
		t.Errorf("got %q", err)
	}
}
