package serve

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"time"

	"github.com/google/uuid"

	"xuncha/server/internal/accounts"
)

// operator stands in records for whoever changed something with access to the store
// itself.
const operator = "operator"

// withAccounts opens the store, calls f with its accounts, and closes it.
func (c StoreConfig) withAccounts(ctx context.Context, stderr io.Writer, f func(*accounts.Service) error) (err error) {
	store, where, err := OpenEngine(ctx, c.name(), c.options(commandLog(stderr)))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	if err := c.checkClock(ctx, store); err != nil {
		return fmt.Errorf("%s: %w", where, err)
	}
	people, err := accounts.Open(ctx, accounts.Config{Ledger: store, Secrets: store, Now: time.Now, NewID: uuid.NewString, Random: rand.Reader})
	if err != nil {
		return fmt.Errorf("%s: %w", where, err)
	}
	return f(people)
}

// logUnrecorded returns what says in the log that a device was signed out and that its
// account's history does not have it.
func logUnrecorded(log *slog.Logger) func(username, device, reason string, why error) {
	return func(username, device, reason string, why error) {
		log.Error("a device was signed out, and that is not on record", "account", username, "device", device, "reason", reason, "error", why.Error())
	}
}

// logDamaged returns what says in the log which secret cannot be read.
func logDamaged(log *slog.Logger) func(what string) {
	return func(what string) {
		log.Error("something that accounts sign in with cannot be read", "error", what)
	}
}
