package serve

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"golang.org/x/term"

	"xuncha/server/internal/accounts"
	"xuncha/server/internal/command/outcome"
	"xuncha/server/internal/mongostore"
	"xuncha/server/internal/sqlitestore"
)

var (
	_ examinable = (*sqlitestore.Store)(nil)
	_ examinable = (*mongostore.Store)(nil)
)

// AtRest names a store that is read as it is.
type AtRest struct {
	Data  string `default:"xuncha-data" type:"path" placeholder:"FOLDER" help:"Data folder, which no server may have open. Default: ./xuncha-data."`
	Store string `placeholder:"mongodb://…" help:"Address of a MongoDB database to read instead; servers may be at work on it, and a user who may only read is enough. Better given as XUNCHA_STORE, because others on the machine can read a command's arguments, and it has a password."`
}

// CheckStore checks all that is stored in a folder or a database and changes nothing. In
// a folder that no server can have meanwhile; beside a database, servers may be at work.
// Of an error, nothing is known of what is stored.
func CheckStore(ctx context.Context, c AtRest, photoFiles bool, stderr io.Writer) (r outcome.Report, err error) {
	store, where, err := openAtRest(ctx, cmp.Or(c.Store, c.Data))
	var loss *sqlitestore.LossError
	switch {
	case errors.Is(err, sqlitestore.ErrLocked):
		return r, fmt.Errorf("%w; give --server HOST:PORT to have that server check it", err)
	case errors.As(err, &loss):
		return outcome.Report{Where: where, Imports: -1, Photos: -1, Findings: []outcome.Finding{{Why: loss.Why}}}, nil
	case err != nil:
		return r, err
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	total, err := store.CountEntries(ctx)
	if err != nil {
		total = 1 // it is only to look at
	}
	bar := watched(stderr, "checking", total)
	x, err := examine(ctx, store, bar)
	if err != nil {
		return r, fmt.Errorf("%s: %w", where, err)
	}
	err = accounts.CheckSecrets(ctx, store, store, func(why string) { x.Findings = append(x.Findings, outcome.Finding{Why: why}) })
	if err != nil {
		return r, fmt.Errorf("%s: reading what accounts sign in with: %w", where, err)
	}
	bar.finish()
	x.Where, x.Photos = where, -1
	if photoFiles {
		list := x.present()
		bar := watched(stderr, "photos", int64(len(list)))
		if err := x.checkPhotos(ctx, list, bar); err != nil {
			return r, fmt.Errorf("%s: %w", where, err)
		}
		bar.finish()
	}
	return x.report(ctx), nil
}

// openAtRest opens the store with the name to read it as it is.
func openAtRest(ctx context.Context, name string) (examinable, string, error) {
	if mongostore.Is(name) || strings.Contains(name, "://") {
		return openExaminable(ctx, name, EngineOptions{Mongo: mongostore.Options{ReadOnly: true}})
	}
	where := "data folder " + name
	store, err := sqlitestore.OpenAtRest(ctx, name)
	if err != nil {
		return nil, where, err
	}
	return store, where, nil
}

// openExaminable opens the store with the name as a server would.
func openExaminable(ctx context.Context, name string, o EngineOptions) (examinable, string, error) {
	store, where, err := OpenEngine(ctx, name, o)
	if err != nil {
		return nil, where, err
	}
	if s, ok := store.(examinable); ok {
		return s, where, nil
	}
	return nil, where, errors.Join(fmt.Errorf("%s: this store cannot be checked", where), store.Close())
}

// A watch shows how far something is, on a terminal alone.
type watch struct {
	add func(int) error
	end func() error
}

// Add says that n more are done.
func (w watch) Add(n int) error { return w.add(n) }

func (w watch) finish() { _ = w.end() } // it is only to look at

// Watched shows how far something is where w is a terminal.
func watched(w io.Writer, what string, n int64) watch {
	if f, ok := w.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		bar := progress(w, what, n)
		return watch{bar.Add, bar.Finish}
	}
	return watch{func(int) error { return nil }, func() error { return nil }}
}
