package main

import (
	"encoding/binary"
	"errors"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// A waiter waits to some tens of microseconds, where time.Sleep takes up to a
// millisecond more: Go hands its own timers to the system in milliseconds, but
// hears of one of the system's at once.
type waiter struct{ timer *os.File }

func newWaiter() (*waiter, error) {
	fd, err := unix.TimerfdCreate(unix.CLOCK_MONOTONIC, unix.TFD_NONBLOCK|unix.TFD_CLOEXEC)
	if err != nil {
		return nil, os.NewSyscallError("timerfd_create", err)
	}
	return &waiter{os.NewFile(uintptr(fd), "timer")}, nil
}

func (w *waiter) close() error { return w.timer.Close() }

// wait waits for a time that is more than 0.
func (w *waiter) wait(d time.Duration) error {
	spec := unix.ItimerSpec{Value: unix.NsecToTimespec(int64(d))}
	conn, err := w.timer.SyscallConn()
	if err != nil {
		return err
	}
	var failed error
	if err := conn.Control(func(fd uintptr) { failed = unix.TimerfdSettime(int(fd), 0, &spec, nil) }); err != nil {
		return err
	}
	if failed != nil {
		return os.NewSyscallError("timerfd_settime", failed)
	}
	var times [8]byte
	n, err := w.timer.Read(times[:])
	if err == nil && (n != len(times) || binary.NativeEndian.Uint64(times[:]) == 0) {
		return errors.New("a timer of the system has ended too early")
	}
	return err
}
