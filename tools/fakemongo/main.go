// Command fakemongo is a stand-in for MongoDB by which several servers on one
// database are measured and tested. It is a simulation: it proves nothing about
// MongoDB, keeps everything in memory, and is no database to keep anything in.
//
// What it simulates is time. A write is seen by readers, and answered, once a
// majority would have it, which takes as long as -commit says. Keys of unique
// indexes are taken from the moment on that the write comes. With -shards it is
// like a router: the collections that are sharded lie on all shards, by a hash of
// the first field of their shard key, and all others on the first. An ordered
// insert waits for the majority at each change of shard. With -write each shard
// writes one document at a time, which takes so long; that is its capacity.
//
// It knows the commands that drivers and this project's engine send, as far as
// they need them, and answers any other with CommandNotFound.
//
// A test steers it by the command standIn of the database admin; see standin.go.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net"
	"net/url"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"
)

// options are what one can choose.
type options struct {
	listen, unix       string
	commit, rtt, write time.Duration
	shards             int
}

func main() {
	var o options
	flag.StringVar(&o.listen, "listen", "", `TCP address to listen on; port 0 is any free one (default "127.0.0.1:0" without -unix)`)
	flag.StringVar(&o.unix, "unix", "", "path of a Unix socket to listen on instead")
	flag.DurationVar(&o.commit, "commit", 5*time.Millisecond, "how long it takes until a majority has a write")
	flag.DurationVar(&o.rtt, "rtt", 300*time.Microsecond, "how long a command is on its way to and fro")
	flag.DurationVar(&o.write, "write", 0, "how long a shard is busy with each document that it writes")
	flag.IntVar(&o.shards, "shards", 1, "how many shards there are; with more than 1, this is a router")
	flag.Parse()

	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, o, flag.Args()); err != nil {
		fmt.Fprintln(os.Stderr, "fakemongo:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, o options, rest []string) error {
	switch {
	case len(rest) > 0:
		return fmt.Errorf("unexpected argument %q", rest[0])
	case o.listen != "" && o.unix != "":
		return errors.New("-listen and -unix exclude each other")
	case o.shards < 1:
		return fmt.Errorf("-shards is %d, must be at least 1", o.shards)
	case o.commit < 0 || o.rtt < 0 || o.write < 0:
		return errors.New("-commit, -rtt and -write must not be negative")
	}
	listener, uri, err := listen(o)
	if err != nil {
		return err
	}
	context.AfterFunc(ctx, func() { listener.Close() })
	fmt.Println("listening", uri)
	s := newServer(o)
	for {
		conn, err := listener.Accept()
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return err
		}
		go s.serve(conn)
	}
}

// listen opens where clients connect, and returns the URI for them.
func listen(o options) (net.Listener, string, error) {
	if o.unix != "" {
		path, err := filepath.Abs(o.unix)
		if err != nil {
			return nil, "", err
		}
		l, err := net.Listen("unix", path)
		return l, "mongodb://" + url.QueryEscape(path) + "/", err
	}
	if o.listen == "" {
		o.listen = "127.0.0.1:0"
	}
	l, err := net.Listen("tcp", o.listen)
	if err != nil {
		return nil, "", err
	}
	return l, "mongodb://" + l.Addr().String() + "/", nil
}
