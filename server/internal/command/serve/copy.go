package serve

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
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
	Salvage    bool   `help:"Copy all that can be read, also of a data folder whose database is damaged, and of histories that do not verify. Check the copy then, and repair it, before a server starts on it."`
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
	from, source, err := c.open(ctx, log, stderr)
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
	var lost lostParts
	job := ledger.CopyJob{
		From: from, To: to,
		Before: func(ctx context.Context, e ledger.Entry) error {
			err := copyBeside(ctx, from, to, e)
			if errors.Is(err, photos.ErrLost) || c.Salvage && err != nil && ctx.Err() == nil &&
				!errors.Is(err, ledger.ErrUnavailable) && !errors.Is(err, ledger.ErrFull) {
				lost.add(e, err) // the rest is no less worth copying
				return nil
			}
			return err
		},
		Progress: func(n int) { _ = bar.Add(n) }, // it is only to look at
		Salvage:  c.Salvage, Lost: lost.add,
	}
	plan, err := job.Plan(ctx)
	if err != nil {
		return fmt.Errorf("--to %s: %w", target, err)
	}
	fmt.Fprintf(stdout, "From %s to %s: %d histories with %d entries, of which %d are there already.\n",
		source, target, plan.Histories, plan.Entries, plan.Entries-plan.Missing)
	bar = progress(stderr, "copying", plan.Missing)
	switch err := job.Copy(ctx, plan); {
	case errors.Is(err, ledger.ErrBroken), errors.Is(err, ledger.ErrBadRecord):
		return fmt.Errorf("%w\n\"xuncha check\" names all that was altered or lost, and \"xuncha repair\" sets it aside. Then the same command goes on. To copy all that can be read as it is, give --salvage", err)
	case err != nil:
		return fmt.Errorf("%w\nWhat was copied stays; the same command goes on from there", err)
	}
	if err := accounts.CopySecrets(ctx, from, to); err != nil {
		return fmt.Errorf("--to %s: %w", target, err)
	}
	bar = progress(stderr, "checking", plan.Entries)
	if err := job.Verify(ctx, plan); err != nil {
		return fmt.Errorf("the copy is not what it should be: %w", err)
	}
	if c.Salvage {
		if _, err := fmt.Fprintf(stdout, "What could be read is copied. Run \"xuncha check\" and \"xuncha repair\" on %s before a server starts on it.\n", target); err != nil {
			return err
		}
		return lost.report(stderr)
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

// open opens the source.
func (c *CopyCommand) open(ctx context.Context, log *slog.Logger, stderr io.Writer) (Engine, string, error) {
	if !c.Salvage {
		return OpenEngine(ctx, c.From, EngineOptions{
			Mongo:  mongostore.Options{ReadOnly: true},
			Folder: sqlitestore.Options{AcceptLoss: c.AcceptLoss, Log: log},
		})
	}
	store, where, err := openAtRest(ctx, c.From)
	if err != nil {
		return nil, where, err
	}
	return salvaged{store, stderr}, where, nil
}

// copyBeside brings over what an entry names and does not hold.
func copyBeside(ctx context.Context, from, to Engine, e ledger.Entry) error {
	if e.History != ledger.Roster {
		return photos.Copy(ctx, from.Photos(), to.Photos(), e)
	}
	err := sites.CopyRows(ctx, from, to, e)
	if errors.Is(err, sites.ErrRowsUnknown) {
		err = fmt.Errorf("%w: %w", ledger.ErrBroken, err)
	}
	return err
}

// folderExists returns an error where there is no data folder with the name. To open it
// would make it.
func folderExists(name string) error {
	_, err := os.Stat(filepath.Join(name, sqlitestore.File))
	return err
}

// lostParts collects what the source of a copy has lost, such as photos.
type lostParts struct {
	mu    sync.Mutex
	lines []string // the first of them
	n     int
}

// maxLost is how many lost parts are named.
const maxLost = 100

// add takes note of what an entry names and is lost. It is safe for concurrent use.
func (l *lostParts) add(e ledger.Entry, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.n++; len(l.lines) < maxLost {
		l.lines = append(l.lines, fmt.Sprintf("%s at sequence %d: %v", e.History, e.Sequence, err))
	}
}

// report names what is lost. Any is an error.
func (l *lostParts) report(w io.Writer) error {
	if l.n == 0 {
		return nil
	}
	for _, line := range l.lines {
		fmt.Fprintln(w, line)
	}
	return fmt.Errorf("all else is copied, but this was lost or altered in the source: %d", l.n)
}

// progress returns a progress bar for n entries.
func progress(w io.Writer, what string, n int64) *progressbar.ProgressBar {
	return progressbar.NewOptions64(max(n, 1),
		progressbar.OptionSetWriter(w), progressbar.OptionSetDescription(what), progressbar.OptionShowCount(),
		progressbar.OptionShowIts(), progressbar.OptionSetItsString("entries"), progressbar.OptionSetPredictTime(true),
		progressbar.OptionSetWidth(30), progressbar.OptionThrottle(100*time.Millisecond),
		progressbar.OptionOnCompletion(func() { fmt.Fprintln(w) }))
}
