package serve

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync"
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

// takenEvery is how often at most the log says that usernames of an identity provider are
// taken: whoever is refused tries again.
const takenEvery = time.Minute

// logTaken returns what says in the log that a token of an identity provider was refused
// because another account has the username, and how many were since that was said last.
func logTaken(log *slog.Logger, now func() time.Time) func(username, issuer, subject string) {
	var mu sync.Mutex
	var said time.Time
	refused := 0
	return func(username, issuer, subject string) {
		mu.Lock()
		defer mu.Unlock()
		refused++
		if !said.IsZero() && now().Sub(said) < takenEvery {
			return
		}
		log.Warn("tokens of the identity provider are refused because other accounts have their usernames; where they are the same people, move the accounts with: xuncha account relink",
			"refused", refused, "username", username, "issuer", issuer, "subject", subject)
		said, refused = now(), 0
	}
}

// logDamaged returns what says in the log which secret cannot be read.
func logDamaged(log *slog.Logger) func(what string) {
	return func(what string) {
		log.Error("something that accounts sign in with cannot be read", "error", what)
	}
}
