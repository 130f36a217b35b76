//go:build !linux

package main

import "time"

// A waiter waits for some time.
type waiter struct{}

func newWaiter() (*waiter, error) { return &waiter{}, nil }

func (w *waiter) close() error { return nil }

func (w *waiter) wait(d time.Duration) error {
	time.Sleep(d)
	return nil
}
