package mongotest

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"xuncha/server/internal/testbinary"
)

// A StandIn is a simulation of MongoDB in memory, tools/fakemongo, with which tests
// decide when a majority has a write, and what fails. It proves nothing about
// MongoDB.
type StandIn struct {
	uri     string
	folder  string // where its socket lies
	process *exec.Cmd
	stderr  bytes.Buffer
	client  *mongo.Client
}

// StartStandIn starts a stand-in with flags of tools/fakemongo, such as "-shards=2".
// Stop ends it.
func StartStandIn(flags ...string) (_ *StandIn, err error) {
	binary, err := testbinary.Build("fakemongo")
	if err != nil {
		return nil, err
	}
	// A socket's path must be short, which the paths of tests are not.
	folder, err := os.MkdirTemp("", "xst")
	if err != nil {
		return nil, err
	}
	s := &StandIn{folder: folder}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.RemoveAll(folder))
		}
	}()
	s.process = exec.Command(binary, append([]string{"-unix", filepath.Join(folder, "s.sock")}, flags...)...)
	s.process.Stderr = &s.stderr
	out, err := s.process.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := s.process.Start(); err != nil {
		return nil, err
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	uri, ok := strings.CutPrefix(strings.TrimSpace(line), "listening ")
	if err != nil || !ok {
		_ = s.process.Process.Kill()
		return nil, fmt.Errorf("the stand-in did not start: %v: %s", s.process.Wait(), s.stderr.String())
	}
	s.uri = uri
	if s.client, err = mongo.Connect(options.Client().ApplyURI(uri)); err != nil {
		return nil, errors.Join(err, s.end())
	}
	return s, nil
}

// Stop ends the stand-in, with all that it holds.
func (s *StandIn) Stop() error {
	ctx, cancel := context.WithTimeout(context.Background(), stopTimeout)
	defer cancel()
	return errors.Join(s.client.Disconnect(ctx), s.end(), os.RemoveAll(s.folder))
}

// end kills the process: there is nothing that it could save.
func (s *StandIn) end() error {
	if err := s.process.Process.Kill(); err != nil {
		return err
	}
	var exit *exec.ExitError
	if err := s.process.Wait(); err != nil && !errors.As(err, &exit) {
		return err
	}
	return nil
}

// Database returns the address of a database that is empty and that no other test
// has.
func (s *StandIn) Database(tb testing.TB) string {
	tb.Helper()
	return inDatabase(s.uri, newName())
}

// Control steers the stand-in or asks it something, by what is beside the command in
// {standIn: 1, …}: see tools/fakemongo/standin.go.
func (s *StandIn) Control(ctx context.Context, how bson.D) (bson.Raw, error) {
	return s.client.Database("admin").RunCommand(ctx, append(bson.D{{Key: "standIn", Value: 1}}, how...)).Raw()
}
