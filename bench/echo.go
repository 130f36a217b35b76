package main

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"xuncha/client"
)

// echoCommand is the argument by which this program serves the echo.
const echoCommand = "serve-echo"

const (
	echoBytes  = 400
	echoMethod = "/bench.Echo/Echo"
)

// serveEcho serves a service with one method that returns what it gets, with
// nothing around it, and prints its address.
func serveEcho(w io.Writer) error {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	server := grpc.NewServer()
	server.RegisterService(&grpc.ServiceDesc{
		ServiceName: "bench.Echo",
		HandlerType: (*any)(nil),
		Methods: []grpc.MethodDesc{{
			MethodName: "Echo",
			Handler: func(_ any, _ context.Context, decode func(any) error, _ grpc.UnaryServerInterceptor) (any, error) {
				in := new(wrapperspb.BytesValue)
				return in, decode(in)
			},
		}},
	}, nil)
	fmt.Fprintln(w, listener.Addr())
	return server.Serve(listener)
}

// An echo is a child process that serves the echo.
type echo struct {
	child
}

func startEcho(ctx context.Context) (*echo, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	c, err := startChild(exec.CommandContext(ctx, self, echoCommand), "")
	return &echo{c}, err
}

func (*echo) call() call {
	req := wrapperspb.Bytes(make([]byte, echoBytes))
	return func(ctx context.Context, conn *client.Client, source *rand.Rand) error {
		answer := new(wrapperspb.BytesValue)
		read, err := invoke(ctx, conn, source, echoMethod, req, answer)
		if read && err == nil && len(answer.Value) != echoBytes {
			err = fmt.Errorf("the echo has %d bytes", len(answer.Value))
		}
		return err
	}
}
