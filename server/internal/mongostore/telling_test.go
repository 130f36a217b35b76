package mongostore

import (
	"context"
	"errors"
	"testing"
)

// TestReadyLeaves ensures that a lane which is about to store something leaves with its own
// deadline while another one waits for a database that does not answer.
func TestReadyLeaves(t *testing.T) {
	w := newWriter(&Store{})
	w.lock <- struct{}{}
	ctx, cancel := context.WithCancel(t.Context())
	left := make(chan error)
	go func() { left <- w.ready(ctx) }()
	cancel()
	if err := <-left; !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want the lane's own end", err)
	}
}
