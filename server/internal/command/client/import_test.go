package client

import (
	"context"
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"xuncha/client"
	xunchav1 "xuncha/proto/xuncha/v1"
	"xuncha/server/internal/table"
)

const oneSite = "registration_no,name,division_code,registered_on\n1,a,511602001003,2020-01-01\n"

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
	refused := tableImport[message, xunchav1.ImportSitesResponse, *message, *xunchav1.ImportSitesResponse]{
		columns: table.Sites,
		begin: func(context.Context, ...grpc.CallOption) (grpc.ClientStreamingClient[message, xunchav1.ImportSitesResponse], error) {
			return refusal{}, nil
		},
		header: func(*xunchav1.ImportHeader) *message { return &message{} },
		row:    func(table.Row) *message { return &message{} },
	}
	data := io.NewSectionReader(strings.NewReader(oneSite), 0, int64(len(oneSite)))
	_, err := refused.run(t.Context(), nil, io.Discard, "sites.csv", data, "2019-10-31", false)
	if err = Readable(errors.Join(err, nil)); err == nil || err.Error() != "header.effective_date: lies too early" {
		t.Errorf("got %q", err)
	}
}

// brokenOnce is an import's stream that stores what it is sent, and breaks off before the
// first answer.
type brokenOnce struct {
	grpc.ClientStreamingClient[xunchav1.ImportSitesRequest, xunchav1.ImportSitesResponse]
	headers []*xunchav1.ImportHeader
}

func (b *brokenOnce) Send(m *xunchav1.ImportSitesRequest) error {
	if h := m.GetHeader(); h != nil {
		b.headers = append(b.headers, h)
	}
	return nil
}

func (b *brokenOnce) CloseAndRecv() (*xunchav1.ImportSitesResponse, error) {
	if len(b.headers) == 2 {
		return nil, status.Error(codes.Unavailable, "the connection broke")
	}
	return &xunchav1.ImportSitesResponse{Changed: true}, nil
}

// TestImportSentAgain ensures that an import whose answer is lost is sent again under the
// same id, and that the dry run before it has none.
func TestImportSentAgain(t *testing.T) {
	type message = xunchav1.ImportSitesRequest
	stream := &brokenOnce{}
	imports := tableImport[message, xunchav1.ImportSitesResponse, *message, *xunchav1.ImportSitesResponse]{
		columns: table.Sites,
		begin: func(context.Context, ...grpc.CallOption) (grpc.ClientStreamingClient[message, xunchav1.ImportSitesResponse], error) {
			return stream, nil
		},
		header: func(h *xunchav1.ImportHeader) *message {
			return &message{Part: &xunchav1.ImportSitesRequest_Header{Header: h}}
		},
		row: func(table.Row) *message { return &message{} },
	}
	c, err := client.New(client.Config{Address: "127.0.0.1:1", Plaintext: true, Now: time.Now, NewID: uuid.NewString})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	data := io.NewSectionReader(strings.NewReader(oneSite), 0, int64(len(oneSite)))
	answer, err := imports.run(t.Context(), c.Change, io.Discard, "sites.csv", data, "2019-10-31", false)
	if err != nil || !answer.Changed || len(stream.headers) != 3 {
		t.Fatalf("got %v, %v after %d headers, want an answer to the third", answer, err, len(stream.headers))
	}
	dry, first, again := stream.headers[0], stream.headers[1], stream.headers[2]
	if !dry.DryRun || dry.RequestId != "" || first.RequestId == "" || first.RequestId != again.RequestId || first.DryRun {
		t.Errorf("got the headers %v, %v and %v", dry, first, again)
	}
}
