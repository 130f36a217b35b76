package sqlitestore

import (
	"fmt"
	"log/slog"
	"os"
	"time"

	"xuncha/ledger"
)

// looksForFiles is how often is looked at most whether the files are where they were.
const looksForFiles = 100 * time.Millisecond

// Whereabouts tell whether the files that the writer has open are still those in the data
// folder. Somebody who deletes the folder, or puts another database in place while a
// server runs, takes the names away and not the open files: commits would go on, be
// acknowledged, and be gone with the process. Only the writer uses it.
type whereabouts struct {
	log     *slog.Logger
	onGone  func(gone bool)
	every   time.Duration
	paths   []string
	opened  []os.FileInfo // by the path; nil until the file is first seen
	looked  time.Time
	problem error // of the newest look; nil where all files are in place
}

// openWhereabouts notes the files of the database at path, which is open.
func openWhereabouts(path string, o Options) *whereabouts {
	w := &whereabouts{log: o.Log, onGone: o.OnGone, every: looksForFiles, paths: []string{path, path + "-wal"}}
	w.opened = make([]os.FileInfo, len(w.paths))
	_ = w.look() // what is not there yet is noted once it is
	return w
}

// check returns an error that wraps ledger.ErrUnavailable where the files are not those
// that are open. Nothing may be committed then.
func (w *whereabouts) check() error {
	if w.problem == nil && time.Since(w.looked) < w.every {
		return nil
	}
	before := w.problem
	w.problem = w.look()
	switch {
	case before == nil && w.problem != nil:
		w.log.Error("the database was taken away from under the server; nothing is stored until it is back", "error", w.problem.Error())
		w.onGone(true)
	case before != nil && w.problem == nil:
		w.log.Info("the database is where it was again")
		w.onGone(false)
	}
	return w.problem
}

// look compares the files with those that were there.
func (w *whereabouts) look() error {
	w.looked = time.Now()
	for i, path := range w.paths {
		info, err := os.Stat(path)
		switch {
		case w.opened[i] == nil:
			w.opened[i] = info // nil where it cannot be seen
		case err != nil:
			return fmt.Errorf("%w: %w", ledger.ErrUnavailable, err)
		case !os.SameFile(w.opened[i], info):
			return fmt.Errorf("%w: %s is not the file that the server has open", ledger.ErrUnavailable, path)
		}
	}
	return nil
}
