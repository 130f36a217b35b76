//go:build !windows

package sqlitestore

import (
	"errors"
	"os"
	"path/filepath"
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

// TestNotPutBack holds that a photo is shown where its file cannot be put back, as on a
// disk that is full.
func TestNotPutBack(t *testing.T) {
	s := open(t)
	kept := keep(t, s, []byte("a picture"))
	s.ForgetPhoto(t, kept)
	if _, err := s.Photos().SetAside(t.Context(), "2026-11-26", dropNone); err != nil {
		t.Fatal(err)
	}
	s.RecallPhoto(t, kept)
	// Nothing can be stored where this leads.
	folder := filepath.Dir(s.photos.path(kept.Stored))
	if err := errors.Join(os.Remove(folder), os.Symlink("nowhere", folder)); err != nil {
		t.Fatal(err)
	}
	f, err := s.Photos().Open(t.Context(), kept.Stored)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	b := make([]byte, kept.Size)
	if _, err := f.ReadAt(b, 0); string(b) != "a picture" || err != nil {
		t.Errorf("got %q, %v", b, err)
	}
	if !isThere(t, s.photos.aside("2026-11-26", kept.Stored)) {
		t.Error("the file is gone")
	}
}
