package main

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"time"

	"xuncha/client"
)

// A child is a server in a process of its own, with connections to it.
type child struct {
	process *exec.Cmd
	address string
	conns   []*client.Client
}

// startChild starts a process that prints its address, behind the prefix, on a
// line of its own once it is ready.
func startChild(process *exec.Cmd, prefix string) (child, error) {
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
		if address, ok := strings.CutPrefix(lines.Text(), prefix); ok {
			conns, err := dial(address)
			return child{process, address, conns}, err
		}
	}
	return child{}, errors.Join(fmt.Errorf("%s did not say its address", process.Path), lines.Err(), process.Wait())
}

// stop ends the process that startChild started.
func (c child) stop() error {
	for _, conn := range c.conns {
		conn.Close()
	}
	if err := c.process.Process.Signal(syscall.SIGTERM); err != nil {
		return err
	}
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
