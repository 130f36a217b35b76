package client

import (
	"errors"
	"fmt"
	"io"

	"google.golang.org/grpc"

	xunchav1 "xuncha/proto/xuncha/v1"
)

// importConfig holds the flags that both imports share.
type importConfig struct {
	File   string `arg:"" type:"existingfile" help:"CSV (UTF-8 or GB18030) or XLSX file."`
	DryRun bool   `help:"Check everything and change nothing."`
	clientConfig
}

func done(changed, dryRun bool) string {
	switch {
	case dryRun:
		return "checked, nothing changed"
	case changed:
		return "imported"
	}
	return "were so already, nothing changed"
}

// sendAll sends the messages and returns the answer. The error is for people to read.
func sendAll[Req, Resp any](stream grpc.ClientStreamingClient[Req, Resp], messages []*Req) (*Resp, error) {
	for _, m := range messages {
		if stream.Send(m) != nil {
			break // CloseAndRecv has the error
		}
	}
	answer, err := stream.CloseAndRecv()
	return answer, Readable(err)
}

// checkedImport sends a table as a dry run and prints the problems that come back. If
// there are none, and dryRun is false, it sends the table again to import it.
func checkedImport[Resp interface {
	GetProblems() []*xunchav1.ImportProblem
	GetProblemCount() int32
}](stderr io.Writer, file string, dryRun bool, send func(dryRun bool) (Resp, error)) (Resp, error) {
	answer, err := send(true)
	if err != nil {
		return answer, err
	}
	if n := answer.GetProblemCount(); n > 0 {
		t := newTable("row", "column", "problem")
		t.right(0)
		for _, p := range answer.GetProblems() {
			t.add(count(int64(p.Row)), p.Column, p.Description)
		}
		return answer, errors.Join(t.print(stderr),
			fmt.Errorf("%s: %d problems (%d shown); nothing was changed", file, n, len(answer.GetProblems())))
	}
	if dryRun {
		return answer, nil
	}
	return send(false)
}
