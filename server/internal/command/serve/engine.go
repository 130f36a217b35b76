package serve

import (
	"context"
	"errors"
	"strings"

	"xuncha/inspections/photos"
	"xuncha/ledger"
	"xuncha/server/internal/accounts"
	"xuncha/server/internal/clock"
	"xuncha/server/internal/mongostore"
	"xuncha/server/internal/sqlitestore"
	"xuncha/sites"
)

// An Engine is where a deployment keeps what it knows.
type Engine interface {
	ledger.Store
	sites.Rows
	accounts.Secrets
	clock.Notes
	Photos() photos.Store
	// CountEntries returns how many entries all histories have, or about so many.
	CountEntries(context.Context) (int64, error)
	// Shared tells whether other servers may store in it too.
	Shared() bool
	Close() error
}

// EngineOptions say how a store is opened; each engine has its own.
type EngineOptions struct {
	Mongo  mongostore.Options
	Folder sqlitestore.Options
}

// OpenEngine opens the store with the name: a MongoDB address, or else a data
// folder. It returns the name as people may read it, without credentials.
func OpenEngine(ctx context.Context, name string, o EngineOptions) (_ Engine, where string, err error) {
	if mongostore.Is(name) {
		where = "database " + mongostore.Redact(name)
		store, err := mongostore.Open(ctx, name, o.Mongo)
		if err != nil {
			return nil, where, err
		}
		return store, where, nil
	}
	if strings.Contains(name, "://") {
		// The name may contain a password, so the error does not have it.
		return nil, "", errors.New("no store has such an address: want a folder, or mongodb:// or mongodb+srv://")
	}
	where = "data folder " + name
	store, err := sqlitestore.Open(ctx, name, o.Folder)
	if err != nil {
		return nil, where, err
	}
	return store, where, nil
}
