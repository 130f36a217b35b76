//go:build !windows

package sqlitestore

import (
	"errors"
	"syscall"
	"testing"

	"xuncha/inspections/photos"
	"xuncha/ledger"
)

// TestFullDisk holds what callers are told where a photo finds no room.
func TestFullDisk(t *testing.T) {
	s := open(t)
	if _, err := s.Photos().Keep(t.Context(), photos.Kept{}, failing{syscall.ENOSPC}); !errors.Is(err, ledger.ErrFull) {
		t.Errorf("got %v, want ErrFull", err)
	}
}
