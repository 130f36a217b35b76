package serve

import (
	"context"
	"fmt"
	"io"

	"xuncha/server/internal/accounts"
)

// AccountReplaceKeysCommand is "xuncha account replace-keys".
type AccountReplaceKeysCommand struct {
	StoreConfig `embed:""`
}

// Run makes a new key and forgets the others.
func (c *AccountReplaceKeysCommand) Run(ctx context.Context, stdout, stderr io.Writer) error {
	return c.withAccounts(ctx, stderr, func(people *accounts.Service) error {
		if err := people.ReplaceKeys(ctx); err != nil {
			return err
		}
		_, err := fmt.Fprintln(stdout, "A new key signs access tokens. Servers on the same database know it within 30 seconds.")
		return err
	})
}
