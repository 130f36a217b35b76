package serve

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/schollz/progressbar/v3"

	"xuncha/inspections/photos"
	"xuncha/ledger"
	"xuncha/server/internal/accounts"
	"xuncha/server/internal/mongostore"
	"xuncha/server/internal/sqlitestore"
	"xuncha/sites"
)

// CopyCommand is "xuncha copy".
type CopyCommand struct {
	lossConfig `embed:""`
	From       string `required:"" placeholder:"STORE" help:"Data folder or mongodb:// address to copy from. No server may be writing to it; one that does is noticed. Of a database, a user who may only read it is enough."`
	To         string `required:"" placeholder:"STORE" help:"Data folder or mongodb:// address to copy to: empty, or an earlier copy that was interrupted. An address with a password is better given as XUNCHA_FROM or XUNCHA_TO."`
}

// Run copies all histories, the rows and photos that they name, and what accounts
// sign in with. Then it reads the copy and checks every chain, and looks whether
// somebody has written to the source meanwhile. Photos of which only a part has come are
// not copied; phones send them again.
func (c *CopyCommand) Run(ctx context.Context, stdout, stderr io.Writer) (err error) {
	if !mongostore.Is(c.From) {
		if err := folderExists(c.From); err != nil {
			return fmt.Errorf("--from: %w", err)
		}
	}
	log := commandLog(stderr)
	from, source, err := OpenEngine(ctx, c.From, EngineOptions{
		Mongo:  mongostore.Options{ReadOnly: true},
		Folder: sqlitestore.Options{AcceptLoss: c.AcceptLoss, Log: log},
	})
	if err != nil {
		return fmt.Errorf("--from: %w", err)
	}
	defer func() { err = errors.Join(err, from.Close()) }()
	to, target, err := OpenEngine(ctx, c.To, EngineOptions{
		Folder: sqlitestore.Options{AcceptLoss: c.AcceptLoss, PhotosFirst: true, Log: log},
	})
	if err != nil {
		return fmt.Errorf("--to: %w", err)
	}
	defer func() { err = errors.Join(err, to.Close()) }()

	watch, err := watchSource(ctx, from)
	if err != nil {
		return fmt.Errorf("--from %s: %w", source, err)
	}
	var bar *progressbar.ProgressBar
	var lost lostPhotos
	job := ledger.CopyJob{
		From: from, To: to,
		Before: func(ctx context.Context, e ledger.Entry) error {
			if e.History == ledger.Roster {
				return sites.CopyRows(ctx, from, to, e)
			}
			err := photos.Copy(ctx, from.Photos(), to.Photos(), e)
			if errors.Is(err, photos.ErrLost) {
				lost.add(e, err) // the rest is no less worth copying
				return nil
			}
			return err
		},
		Progress: func(n int) { _ = bar.Add(n) }, // it is only to look at
	}
	plan, err := job.Plan(ctx)
	if err != nil {
		return fmt.Errorf("--to %s: %w", target, err)
	}
	fmt.Fprintf(stdout, "From %s to %s: %d histories with %d entries, of which %d are there already.\n",
		source, target, plan.Histories, plan.Entries, plan.Entries-plan.Missing)
	bar = progress(stderr, "copying", plan.Missing)
	if err := job.Copy(ctx, plan); err != nil {
		return fmt.Errorf("%w\nWhat was copied stays; the same command goes on from there", err)
	}
	if err := accounts.CopySecrets(ctx, from, to); err != nil {
		return fmt.Errorf("--to %s: %w", target, err)
	}
	bar = progress(stderr, "checking", plan.Entries)
	if err := job.Verify(ctx, plan); err != nil {
		return fmt.Errorf("the copy is not what it should be: %w", err)
	}
	if err := checkSource(ctx, job, plan, from, to, source); err != nil {
		return errors.Join(err, lost.report(stderr))
	}
	fmt.Fprintf(stdout, "Every chain of the copy is whole and ends as in the source.\n")
	if n, err := watch.atWork(ctx, stderr); err != nil {
		return fmt.Errorf("--from %s: %w", source, err)
	} else if n > 0 {
		fmt.Fprintf(stdout, "Servers at work on %s: at least %d. What they store from now on is not in the copy. Before a server starts on the copy, stop them and run the same command again.\n", source, n)
	}
	return lost.report(stderr)
}

// folderExists returns an error where there is no data folder with the name. To open it
// would make it.
func folderExists(name string) error {
	_, err := os.Stat(filepath.Join(name, sqlitestore.File))
	return err
}

// lostPhotos collects the photos that the source of a copy has lost.
type lostPhotos struct {
	mu    sync.Mutex
	lines []string // the first of them
	n     int
}

// maxLost is how many lost photos are named.
const maxLost = 100

// add takes note of a lost photo. It is safe for concurrent use.
func (l *lostPhotos) add(e ledger.Entry, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.n++; len(l.lines) < maxLost {
		l.lines = append(l.lines, fmt.Sprintf("%s at sequence %d: %v", e.History, e.Sequence, err))
	}
}

// report names the lost photos. Any is an error.
func (l *lostPhotos) report(w io.Writer) error {
	if l.n == 0 {
		return nil
	}
	for _, line := range l.lines {
		fmt.Fprintln(w, line)
	}
	return fmt.Errorf("all else is copied, but %d photos were lost or altered in the source", l.n)
}

// progress returns a progress bar for n entries.
func progress(w io.Writer, what string, n int64) *progressbar.ProgressBar {
	return progressbar.NewOptions64(max(n, 1),
		progressbar.OptionSetWriter(w), progressbar.OptionSetDescription(what), progressbar.OptionShowCount(),
		progressbar.OptionShowIts(), progressbar.OptionSetItsString("entries"), progressbar.OptionSetPredictTime(true),
		progressbar.OptionSetWidth(30), progressbar.OptionThrottle(100*time.Millisecond),
		progressbar.OptionOnCompletion(func() { fmt.Fprintln(w) }))
}
