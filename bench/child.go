package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"google.golang.org/grpc/codes"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"

	"xuncha/client"
)

// A child is a server in a process of its own, with connections to it.
type child struct {
	process *exec.Cmd
	address string
	conns   []*client.Client
	// gone is closed once the process has ended.
	gone chan struct{}
}

// startChild starts a server that prints its address, behind the prefix, on a line of
// its own once it is ready, and connects to it.
func startChild(process *exec.Cmd, prefix string) (child, error) {
	c, err := startProcess(process, prefix)
	if err != nil {
		return child{}, err
	}
	if c.conns, err = dial(c.address); err != nil {
		return child{}, errors.Join(err, c.stop())
	}
	return c, nil
}

// startProcess does the same without connections.
func startProcess(process *exec.Cmd, prefix string) (child, error) {
	if process.Stderr == nil {
		process.Stderr = os.Stderr
	}
	out, err := process.StdoutPipe()
	if err != nil {
		return child{}, err
	}
	process.Cancel = func() error { return process.Process.Signal(syscall.SIGTERM) }
	if err := process.Start(); err != nil {
		return child{}, err
	}
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		address, ok := strings.CutPrefix(lines.Text(), prefix)
		if !ok {
			continue
		}
		c := child{process: process, address: address, gone: make(chan struct{})}
		go func() {
			for lines.Scan() {
			}
			close(c.gone)
		}()
		return c, nil
	}
	return child{}, errors.Join(fmt.Errorf("%s did not say its address", process.Path), lines.Err(), process.Wait())
}

// ready waits until a server says that it serves. Its port may answer before.
func (c child) ready(ctx context.Context) error {
	health := healthv1.NewHealthClient(c.conns[0])
	for {
		answer, err := health.Check(ctx, &healthv1.HealthCheckRequest{})
		if err == nil && answer.Status == healthv1.HealthCheckResponse_SERVING {
			return nil
		}
		if err != nil && status.Code(err) != codes.Unavailable {
			return err
		}
		select {
		case <-time.After(2 * time.Millisecond):
		case <-ctx.Done():
			return ctx.Err()
		case <-c.gone:
			return errors.New("the server ended before it was ready")
		}
	}
}

// stop ends the process that startChild started.
func (c child) stop() error {
	for _, conn := range c.conns {
		conn.Close()
	}
	if err := c.process.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	<-c.gone
	err := c.process.Wait()
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.Sys().(syscall.WaitStatus).Signal() == syscall.SIGTERM {
		return nil // the echo has no other way to end
	}
	return err
}

// clockTick is the unit in which Linux tells the CPU time of a process, on every
// processor that Go knows: proc(5), getconf CLK_TCK.
const clockTick = 10 * time.Millisecond

// cpu returns how much CPU time the process has taken, which only Linux tells.
func (c child) cpu() (time.Duration, error) {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", c.process.Process.Pid))
	if err != nil {
		return 0, err
	}
	return readCPU(string(data))
}

// readCPU reads the user's and the system's time of a line of /proc/PID/stat: its
// 14th and 15th fields, of which the second is a name in parentheses.
func readCPU(stat string) (time.Duration, error) {
	fields := strings.Fields(stat[strings.LastIndex(stat, ")")+1:])
	if len(fields) < 13 {
		return 0, errors.New("the kernel does not tell the CPU time")
	}
	user, errUser := strconv.ParseInt(fields[11], 10, 64)
	system, errSystem := strconv.ParseInt(fields[12], 10, 64)
	return time.Duration(user+system) * clockTick, errors.Join(errUser, errSystem)
}

// fineCPU returns the same in nanoseconds. It adds up the threads that live, and Go ends
// hardly any, so differences are right where total is not.
func (c child) fineCPU() (total time.Duration, err error) {
	files, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", c.process.Process.Pid))
	if err != nil {
		return 0, err
	}
	for _, name := range files {
		data, err := os.ReadFile(name)
		if errors.Is(err, os.ErrNotExist) || errors.Is(err, syscall.ESRCH) {
			continue // the thread has ended meanwhile
		}
		if err != nil {
			return 0, err
		}
		spent, _, _ := strings.Cut(string(data), " ")
		n, err := strconv.ParseInt(spent, 10, 64)
		if err != nil {
			return 0, fmt.Errorf("%s: %w", name, err)
		}
		total += time.Duration(n)
	}
	if total == 0 {
		return c.cpu() // a kernel without this tells ticks alone
	}
	return total, nil
}

// memory returns the process's resident memory in MiB, which only Linux tells.
func (c child) memory() (float64, error) { return c.status("VmRSS:") }

// peak returns the most that it has been.
func (c child) peak() (float64, error) { return c.status("VmHWM:") }

func (c child) status(name string) (float64, error) {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", c.process.Process.Pid))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(data)) {
		if fields := strings.Fields(line); len(fields) == 3 && fields[0] == name {
			kib, err := strconv.ParseFloat(fields[1], 64)
			return kib / 1024, err
		}
	}
	return 0, errors.New("the kernel does not tell the resident memory")
}
