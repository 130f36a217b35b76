// Command xuncha keeps the roster of closed premises, takes officers'
// check-ins and answers which sites nobody has checked yet.
//
// "xuncha serve" is the server; "xuncha demo" shows a whole round on a fresh
// data folder; "xuncha copy" moves a deployment to another store; most other
// commands are clients of a running server. They are in internal/command.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	_ "time/tzdata" // so that the deployment's time zone is known on every machine

	"github.com/google/uuid"

	"xuncha/server/internal/command"
)

func main() {
	// The ids of requests and entries need be unique, not secret.
	uuid.EnableRandPool()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	// A second signal ends the process at once.
	context.AfterFunc(ctx, stop)
	err := command.Run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "xuncha:", err)
		os.Exit(command.ExitCode(err))
	}
}
