package engine

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"

	"xuncha/ledger"
)

// Whoever closes waits for the calls under way; whoever comes later is told that it
// is closed; and it is closed once.
func TestGate(t *testing.T) {
	var g Gate
	leave, err := g.Enter(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	ended := 0
	closed := make(chan struct{})
	broken := errors.New("broken")
	go func() {
		defer close(closed)
		if err := g.Close(func() error { ended++; return broken }); err != broken {
			t.Errorf("got %v, want what the end gives", err)
		}
	}()
	select {
	case <-closed:
		t.Error("it was closed under a call")
	default:
	}
	leave()
	<-closed
	if _, err := g.Enter(t.Context()); !errors.Is(err, ledger.ErrUnavailable) {
		t.Errorf("got %v, want ErrUnavailable", err)
	}
	if err := g.Close(func() error { ended++; return broken }); err != nil || ended != 1 {
		t.Errorf("closed %d times, %v", ended, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := new(Gate).Enter(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want context.Canceled", err)
	}
}

// What waits is done together, in the order in which it came, and nothing is lost
// when the queue is closed.
func TestQueue(t *testing.T) {
	q := NewQueue[int](4)
	for i := range 4 {
		if err := q.Put(t.Context(), i); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := q.Put(ctx, 4); !errors.Is(err, context.Canceled) {
		t.Errorf("a full queue: got %v, want context.Canceled", err)
	}
	var batches [][]int
	var running sync.WaitGroup
	running.Go(func() { q.Run(func(batch []int) { batches = append(batches, slices.Clone(batch)) }) })
	for i := range 100 {
		if err := q.Put(t.Context(), 4+i); err != nil {
			t.Fatal(err)
		}
	}
	q.Close()
	running.Wait()
	all := slices.Concat(batches...)
	if len(all) != 104 || !slices.IsSorted(all) {
		t.Errorf("got %v", all)
	}
	if !slices.Equal(batches[0], []int{0, 1, 2, 3}) {
		t.Errorf("the first batch has %v, want the four that waited", batches[0])
	}
	for _, b := range batches {
		if len(b) > 4 {
			t.Errorf("a batch has %d, want at most 4", len(b))
		}
	}
}

// What the system says has the meaning that callers know, however deep it lies.
func TestFileError(t *testing.T) {
	for said, want := range fileErrors {
		err := &fs.PathError{Op: "write", Path: "x", Err: said}
		if got := FileError(fmt.Errorf("storing: %w", err)); !errors.Is(got, want) || !errors.Is(got, said) {
			t.Errorf("%v: got %v, want %v", said, got, want)
		}
	}
	if got := FileError(fs.ErrNotExist); got != fs.ErrNotExist {
		t.Errorf("got %v, want it as it is", got)
	}
	if FileError(nil) != nil {
		t.Error("nothing became an error")
	}
}

// A file is at its path or not at all.
func TestPlace(t *testing.T) {
	dir := t.TempDir()
	file, path := filepath.Join(dir, "new"), filepath.Join(dir, "folder", "file")
	if err := os.WriteFile(file, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := Place(file, path); err == nil {
		t.Error("it was placed in a folder that is not there")
	}
	for range 2 {
		if err := MakeFolder(filepath.Dir(path)); err != nil {
			t.Fatal(err)
		}
	}
	if err := Place(file, path); err != nil {
		t.Fatal(err)
	}
	if b, err := os.ReadFile(path); err != nil || string(b) != "x" {
		t.Errorf("got %q, %v", b, err)
	}
	for range 2 {
		if err := Remove(path); err != nil {
			t.Error(err)
		}
	}
}

// Two files of one lock are kept apart; others are not.
func TestLocks(t *testing.T) {
	var l Locks
	take := func(sum [32]byte) (unlock func()) {
		unlock, err := l.Lock(t.Context(), sum)
		if err != nil {
			t.Fatal(err)
		}
		return unlock
	}
	unlock := take([32]byte{1})
	take([32]byte{2})()
	taken := make(chan struct{})
	go func() {
		defer take([32]byte{1, 9})()
		close(taken)
	}()
	select {
	case <-taken:
		t.Error("both have the lock")
	default:
	}
	// Whoever has no more time leaves, though the other one never gives it back.
	ctx, cancel := context.WithCancel(t.Context())
	left := make(chan error)
	go func() {
		_, err := l.Lock(ctx, [32]byte{1, 2})
		left <- err
	}()
	cancel()
	if err := <-left; !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want the caller's own end", err)
	}
	unlock()
	<-taken
}

// A file that is moved is at its new path, whatever was there, and not at the old one.
func TestMove(t *testing.T) {
	for name, there := range map[string]func(file, path string) error{
		"Nothing":  func(string, string) error { return nil },
		"Another":  func(_, path string) error { return os.WriteFile(path, []byte("another"), 0o600) },
		"TheSame":  os.Link,
		"NoFolder": func(_, path string) error { return os.Remove(filepath.Dir(path)) },
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			file, path := filepath.Join(dir, "file"), filepath.Join(dir, "folder", "moved")
			err := errors.Join(os.WriteFile(file, []byte("content"), 0o600), os.Mkdir(filepath.Dir(path), 0o700), there(file, path))
			if err != nil {
				t.Fatal(err)
			}
			want, gone := path, file
			err = Move(file, path)
			if name == "NoFolder" {
				// What fails leaves the file where it was.
				if want, gone = file, path; err == nil {
					t.Error("it moved to nowhere")
				}
			} else if err != nil {
				t.Error(err)
			}
			if b, err := os.ReadFile(want); string(b) != "content" || err != nil {
				t.Errorf("got %q, %v", b, err)
			}
			if _, err := os.Stat(gone); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("got %v of %s", err, gone)
			}
		})
	}
}
