package serve

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
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
