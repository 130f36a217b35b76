package main

import (
	"context"
	"time"
)

// How long a call is repeated until its cost counts: until the server has spent
// enoughCPU, or enoughCalls were made, or enoughTime is over.
const (
	enoughCPU   = 300 * time.Millisecond
	enoughCalls = 2000
	enoughTime  = 10 * time.Second
)

// spent returns the server's CPU time while f runs.
func (c child) spent(f func() error) (time.Duration, error) {
	before, err := c.fineCPU()
	if err != nil {
		return 0, err
	}
	if err := f(); err != nil {
		return 0, err
	}
	after, err := c.fineCPU()
	return after - before, err
}

// cost returns the server's CPU time of a call, which it repeats one after the other.
func (c child) cost(ctx context.Context, one func() error) (time.Duration, error) {
	var total time.Duration
	calls, begun := 0, time.Now()
	for total < enoughCPU && calls < enoughCalls && (calls == 0 || time.Since(begun) < enoughTime) {
		spent, err := c.spent(func() error {
			for range 10 {
				if err := one(); err != nil {
					return err
				}
				calls++
				if time.Since(begun) > enoughTime {
					break
				}
			}
			return ctx.Err()
		})
		if err != nil {
			return 0, err
		}
		total += spent
	}
	return total / time.Duration(calls), nil
}
