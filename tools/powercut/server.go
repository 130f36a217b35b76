package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
)

const (
	// startTimeout is how long a server may take to serve, and stopTimeout to stop.
	startTimeout = time.Minute
	stopTimeout  = time.Minute
)

// A server is one process of xuncha, on a folder.
type server struct {
	process *exec.Cmd
	log     *lines
	ready   chan string   // its address, once it serves
	gone    chan struct{} // closed once the process has ended
	ended   error         // how, then
	conn    *grpc.ClientConn
}

// startServer starts the program on a data folder.
func startServer(binary, data string) (*server, error) {
	s := &server{log: &lines{}, ready: make(chan string, 1), gone: make(chan struct{})}
	s.process = exec.Command(binary, "serve", "--data", data, "--listen", "127.0.0.1:0",
		"--calls-per-account", "0", "--calls-per-address", "0", "--shutdown-timeout", "5s", "--reserve-bytes", "1000000")
	// Not the folder itself: the process must be able to end while its disk hangs.
	s.process.Dir = filepath.Dir(binary)
	s.process.Stderr = s.log
	out, err := s.process.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := s.process.Start(); err != nil {
		return nil, err
	}
	go func() {
		scan := bufio.NewScanner(out)
		for scan.Scan() {
			if address, ok := strings.CutPrefix(scan.Text(), "xuncha serves on "); ok {
				s.ready <- address
			}
		}
		s.ended = s.process.Wait()
		close(s.gone)
	}()
	return s, nil
}

// awaitReady waits until the server serves, and connects to it. It returns false where
// stopped was closed before.
func (s *server) awaitReady(stopped <-chan struct{}) (bool, error) {
	late := time.NewTimer(startTimeout)
	defer late.Stop()
	select {
	case address := <-s.ready:
		var err error
		s.conn, err = grpc.NewClient(address, grpc.WithTransportCredentials(insecure.NewCredentials()))
		return err == nil, err
	case <-stopped:
		return false, nil
	case <-s.gone:
		select {
		case <-stopped:
			return false, nil
		default:
		}
		return false, faultf("the server does not start: %v: %s", s.ended, s.log.tail())
	case <-late.C:
		s.kill()
		return false, faultf("the server does not serve after %v: %s", startTimeout, s.log.tail())
	}
}

// terminate asks the server to stop.
func (s *server) terminate() error { return s.process.Process.Signal(syscall.SIGTERM) }

// stop lets the server stop, which it must do well.
func (s *server) stop() error {
	s.disconnect()
	if err := s.terminate(); err != nil {
		return faultf("the server is gone before it was stopped: %w: %s", err, s.log.tail())
	}
	select {
	case <-s.gone:
	case <-time.After(stopTimeout):
		s.kill()
		<-s.gone
		return faultf("the server does not stop: %s", s.log.tail())
	}
	if s.ended != nil {
		return faultf("the server stops badly: %w: %s", s.ended, s.log.tail())
	}
	return s.log.errors()
}

// kill kills the process, which may have ended by itself. Where it hangs in an
// operation of its disk, it ends once that has failed.
func (s *server) kill() { _ = s.process.Process.Kill() }

func (s *server) disconnect() {
	if s.conn != nil {
		s.conn.Close()
		s.conn = nil
	}
}

// lines is a log with one line of JSON for each message.
type lines struct {
	mu  sync.Mutex
	all bytes.Buffer
}

// Write implements io.Writer.
func (l *lines) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.all.Write(b)
}

// tail returns the newest part of the log, without the calls that went well.
func (l *lines) tail() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	var out []string
	for line := range strings.Lines(l.all.String()) {
		if !strings.Contains(line, `"code":"OK"`) && !strings.Contains(line, `"code":"Canceled"`) {
			out = append(out, line)
		}
	}
	return strings.Join(out[max(0, len(out)-10):], "")
}

// errors returns a fault where the server has logged an error.
func (l *lines) errors() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	for decode := json.NewDecoder(bytes.NewReader(l.all.Bytes())); ; {
		var line map[string]any
		err := decode.Decode(&line)
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			return nil
		}
		if err != nil {
			return faultf("the server's log cannot be read: %w", err)
		}
		if line["level"] == "ERROR" {
			return faultf("the server logs an error: %s", fmt.Sprint(line))
		}
	}
}
