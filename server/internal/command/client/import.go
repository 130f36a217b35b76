package client

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	xunchav1 "xuncha/proto/xuncha/v1"
	"xuncha/server/internal/table"
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

// An importAnswer is what the server answers to a table.
type importAnswer[Answer any] interface {
	*Answer
	GetProblems() []*xunchav1.ImportProblem
	GetProblemCount() int32
}

// An importMessage is a part of a table, as it is sent.
type importMessage[Message any] interface {
	*Message
	proto.Message
}

// A tableImport is how a kind of table is sent.
type tableImport[Message, Answer any, M importMessage[Message], A importAnswer[Answer]] struct {
	columns []table.Column
	begin   func(context.Context, ...grpc.CallOption) (grpc.ClientStreamingClient[Message, Answer], error)
	header  func(*xunchav1.ImportHeader) M
	row     func(table.Row) M
}

// run sends the table as a dry run and prints the problems that come back to stderr. If
// there are none, and dryRun is false, it sends the table again to import it, by change,
// until an answer comes. file is the name that the server puts on record. The error is for
// people to read.
func (i tableImport[Message, Answer, M, A]) run(ctx context.Context, change changer, stderr io.Writer, file string, data *io.SectionReader, effective string, dryRun bool) (A, error) {
	var rows packedRows
	err := table.Read(ctx, filepath.Base(file), data, i.columns, func(r table.Row) error {
		return rows.add(i.row(r))
	})
	if err != nil {
		return nil, err
	}
	header := xunchav1.ImportHeader{EffectiveDate: effective, DryRun: true, Source: filepath.Base(file)}
	answer, err := i.send(ctx, i.header(&header), &rows)
	if err != nil {
		return nil, Readable(err)
	}
	if n := answer.GetProblemCount(); n > 0 {
		t := newTable("row", "column", "problem")
		t.right(0)
		for _, p := range answer.GetProblems() {
			t.add(count(int64(p.Row)), p.Column, p.Description)
		}
		return nil, errors.Join(t.print(stderr),
			fmt.Errorf("%s: %d problems (%d shown); nothing was changed", file, n, len(answer.GetProblems())))
	}
	if dryRun {
		return answer, nil
	}
	err = change(ctx, func(ctx context.Context, id string) (err error) {
		header := xunchav1.ImportHeader{EffectiveDate: effective, Source: filepath.Base(file), RequestId: id}
		answer, err = i.send(ctx, i.header(&header), &rows)
		return err
	})
	return answer, Readable(err)
}

// A changer is Change of a client.
type changer func(ctx context.Context, call func(ctx context.Context, requestID string) error) error

// send sends the messages and returns the answer.
func (i tableImport[Message, Answer, M, A]) send(ctx context.Context, header M, rows *packedRows) (A, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel() // of a stream that is given up
	stream, err := i.begin(ctx)
	if err != nil {
		return nil, err
	}
	if stream.Send(header) == nil {
		rows.each(func(row []byte) bool {
			m := M(new(Message))
			err = proto.Unmarshal(row, m)
			return err == nil && stream.Send(m) == nil
		})
	}
	if err != nil {
		return nil, err
	}
	return stream.CloseAndRecv() // and, after an error of Send, why
}
