// Package mongotest gives tests a MongoDB server: the one that
// XUNCHA_TEST_MONGODB_URI names, or else FerretDB, a MongoDB-compatible server
// in Go that keeps its data in SQLite. A StandIn is there beside it, for tests
// that decide when what happens.
package mongotest

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"xuncha/server/internal/testbinary"
)

// Variable names the environment variable that has the address of a server.
const Variable = "XUNCHA_TEST_MONGODB_URI"

// A Server is a MongoDB server for tests.
type Server struct {
	uri     string
	data    string    // FerretDB's folder
	socket  string    // and where it listens
	process *exec.Cmd // nil for a server that is not ours
	stderr  bytes.Buffer
}

// Start returns the server that the environment names, or starts one, which
// Stop ends.
func Start() (*Server, error) {
	if uri := os.Getenv(Variable); uri != "" {
		return &Server{uri: uri}, nil
	}
	return StartOwn()
}

// StartOwn starts a FerretDB that a test can kill, whatever the environment
// says.
func StartOwn() (_ *Server, err error) {
	// A socket's path must be short, which the paths of tests are not.
	data, err := os.MkdirTemp("", "xmt")
	if err != nil {
		return nil, err
	}
	s := &Server{data: data, socket: filepath.Join(data, "s.sock")}
	if err := s.Restart(); err != nil {
		return nil, errors.Join(err, os.RemoveAll(data))
	}
	return s, nil
}

// Restart starts the server once more on what it has stored, at the same
// address. It must have ended.
func (s *Server) Restart() error {
	binary, err := testbinary.Build("ferretdb", "-tags", "ferretdb_no_postgresql")
	if err != nil {
		return err
	}
	s.stderr.Reset()
	s.process = exec.Command(binary, "--data", filepath.Join(s.data, "data"), "--unix", s.socket)
	s.process.Stderr = &s.stderr
	out, err := s.process.StdoutPipe()
	if err != nil {
		return err
	}
	if err := s.process.Start(); err != nil {
		return err
	}
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		if uri, ok := strings.CutPrefix(lines.Text(), "listening "); ok {
			s.uri = uri
			return nil
		}
	}
	return fmt.Errorf("FerretDB did not start: %v: %s", s.process.Wait(), s.stderr.String())
}

// Kill ends the server as a power cut would, as far as a program can.
//
// FerretDB cannot be killed while it makes a database, a collection or an
// index, which it does in several steps.
func (s *Server) Kill() error {
	if s.process.ProcessState != nil {
		return nil
	}
	if err := s.process.Process.Kill(); err != nil {
		return err
	}
	var exit *exec.ExitError
	if err := s.process.Wait(); err != nil && !errors.As(err, &exit) {
		return err
	}
	return nil
}

// Stop ends the server where it is ours, and removes what it stored.
func (s *Server) Stop() error {
	if s.process == nil {
		return nil
	}
	return errors.Join(s.Kill(), os.RemoveAll(s.data))
}

// Database returns the address of a database that is empty and that no other
// test has. It is dropped when the test ends, if the server is there then.
func (s *Server) Database(tb testing.TB) string {
	tb.Helper()
	name := newName()
	tb.Cleanup(func() {
		if s.process != nil {
			return // all of its data goes
		}
		ctx, cancel := context.WithTimeout(context.Background(), stopTimeout)
		defer cancel()
		client, err := mongo.Connect(options.Client().ApplyURI(s.uri))
		if err == nil {
			err = errors.Join(client.Database(name).Drop(ctx), client.Disconnect(ctx))
		}
		if err != nil {
			tb.Errorf("dropping the database %s: %v", name, err)
		}
	})
	return inDatabase(s.uri, name)
}

// stopTimeout is how long it may take to leave a server as it was.
const stopTimeout = 20 * time.Second

// newName returns a name that no database has.
func newName() string { return "xuncha_test_" + strings.ToLower(rand.Text()[:12]) }

// inDatabase returns the address of a database of a server. It goes by the text,
// because net/url does not know hosts that are the path of a socket.
func inDatabase(server, name string) string {
	scheme, rest, _ := strings.Cut(server, "://")
	rest, query, hasQuery := strings.Cut(rest, "?")
	hosts, _, _ := strings.Cut(rest, "/")
	address := scheme + "://" + hosts + "/" + name
	if hasQuery {
		address += "?" + query
	}
	return address
}
