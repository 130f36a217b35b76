package sqlitestore

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"

	"xuncha/ledger"
	"xuncha/sites"
)

// crashFolder names the environment variable by which the test binary is told
// to write to a folder until it is killed.
const crashFolder = "XUNCHA_TEST_CRASH_FOLDER"

func init() {
	if dir := os.Getenv(crashFolder); dir != "" {
		fmt.Fprintln(os.Stderr, writeUntilKilled(dir))
		os.Exit(1)
	}
}

// writeUntilKilled appends to five sites from 16 goroutines and prints the id
// and the hash of each entry once it is acknowledged.
func writeUntilKilled(dir string) error {
	s, err := Open(context.Background(), dir, Options{})
	if err != nil {
		return err
	}
	var mu sync.Mutex
	errs := make(chan error)
	for w := range 16 {
		go func() {
			for i := 0; ; i++ {
				d := draft(fmt.Sprintf("%d-%d-%d", os.Getpid(), w, i))
				d.History = sites.SiteID(fmt.Sprint(i % 5)).History()
				e, existed, err := s.Append(context.Background(), d)
				if err != nil || existed {
					errs <- fmt.Errorf("existed %v, error %v", existed, err)
					return
				}
				mu.Lock()
				_, err = fmt.Printf("%s %x\n", e.ID, e.Hash)
				mu.Unlock()
				if err != nil {
					errs <- err
					return
				}
			}
		}()
	}
	return <-errs
}

// TestKilled kills a server that writes, again and again in one folder, and
// looks for what it has acknowledged.
func TestKilled(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	acknowledged := map[string]string{} // hashes by id
	for round := range 6 {
		var stderr strings.Builder
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), crashFolder+"="+dir)
		cmd.Stderr = &stderr
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewScanner(out)
		for n := 0; lines.Scan(); n++ {
			// The last line may have been cut by the kill.
			if id, hash, _ := strings.Cut(lines.Text(), " "); len(hash) == 2*len(ledger.Hash{}) {
				acknowledged[id] = hash
			}
			// Some die while they begin, some after a few thousand entries.
			if n == 700*round {
				if err := cmd.Process.Kill(); err != nil {
					t.Fatal(err)
				}
			}
		}
		// It says why where it ends by itself.
		if err := cmd.Wait(); err == nil || stderr.Len() > 0 {
			t.Fatalf("the writing process ended by itself: %v: %s", err, stderr.String())
		}

		s, err := Open(t.Context(), dir, Options{})
		if err != nil {
			t.Fatal(err)
		}
		entries := mustReadAll(t, s)
		for id, hash := range acknowledged {
			if got := fmt.Sprintf("%x", entries[id].Hash); got != hash {
				t.Errorf("round %d: got hash %s of the entry %s, want %s, which was acknowledged", round, got, id, hash)
			}
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if len(acknowledged) < 5*700 {
		t.Errorf("only %d entries were acknowledged", len(acknowledged))
	}
}
