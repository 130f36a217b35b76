package serve

import (
	"bufio"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/google/uuid"
	"golang.org/x/term"

	"xuncha/server/internal/accounts"
	"xuncha/server/internal/mongostore"
	"xuncha/sites"
)

// operator is who a record names where an account was made with access to the
// store itself.
const operator = "operator"

// AccountCreateCommand is "xuncha account create".
type AccountCreateCommand struct {
	StoreConfig  `embed:""`
	Role         string   `required:"" enum:"officer,head,auditor,admin" help:"What the account may do: officer, head, auditor or admin. The first account is an administrator's."`
	Username     string   `required:"" placeholder:"NAME" help:"Name to sign in with and the one in records: 2 to 32 of a-z, 0-9, '.', '_' and '-'. It can never be changed."`
	DisplayName  string   `placeholder:"TEXT" help:"What the person is called."`
	Division     []string `required:"" placeholder:"CODE" help:"Division to which the account is bound, with all below it; may be given several times. It need not be in the division table yet."`
	PasswordFile string   `type:"existingfile" placeholder:"FILE" help:"File whose first line is the password. Default: ask for it on the terminal, or read a line of standard input."`
}

// withAccounts calls f with the accounts of the store.
func (c StoreConfig) withAccounts(ctx context.Context, f func(*accounts.Service) error) (err error) {
	store, where, err := OpenEngine(ctx, c.name(), mongostore.Options{KeepSchema: c.KeepSchema})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	people, err := accounts.Open(ctx, accounts.Config{Ledger: store, Secrets: store, Now: time.Now, NewID: uuid.NewString, Random: rand.Reader})
	if err != nil {
		return fmt.Errorf("%s: %w", where, err)
	}
	return f(people)
}

// AccountReplaceKeysCommand is "xuncha account replace-keys".
type AccountReplaceKeysCommand struct {
	StoreConfig `embed:""`
}

// Run replaces the keys.
func (c *AccountReplaceKeysCommand) Run(ctx context.Context, stdout, stderr io.Writer) error {
	return c.withAccounts(ctx, func(people *accounts.Service) error {
		if err := people.ReplaceKeys(ctx); err != nil {
			return err
		}
		_, err := fmt.Fprintln(stdout, "A new key signs access tokens. Servers on the same database know it within 30 seconds.")
		return err
	})
}

// Run creates the account.
func (c *AccountCreateCommand) Run(ctx context.Context, stdout, stderr io.Writer) error {
	return c.withAccounts(ctx, func(people *accounts.Service) error { return c.create(ctx, people, stdout, stderr) })
}

func (c *AccountCreateCommand) create(ctx context.Context, people *accounts.Service, stdout, stderr io.Writer) error {
	password, err := c.password(stderr)
	if err != nil {
		return err
	}
	n := accounts.NewAccount{Username: c.Username, DisplayName: c.DisplayName, Role: accounts.Role(c.Role), Password: password}
	for _, code := range c.Division {
		n.Divisions = append(n.Divisions, sites.DivisionCode(code))
	}
	a, _, err := people.Create(ctx, operator, n)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(stdout, "Created the account %s (%s of %s).\n", a.Username, a.Role, strings.Join(c.Division, ", "))
	return err
}

// password reads the password. None is an error: an empty one would ask for a
// one-time password.
func (c *AccountCreateCommand) password(stderr io.Writer) (string, error) {
	var text string
	switch terminal := int(os.Stdin.Fd()); {
	case c.PasswordFile != "":
		f, err := os.Open(c.PasswordFile)
		if err != nil {
			return "", err
		}
		defer f.Close()
		if text, err = firstLine(f); err != nil {
			return "", err
		}
	case term.IsTerminal(terminal):
		var twice [2]string
		for i, question := range []string{"Password: ", "Once more: "} {
			fmt.Fprint(stderr, question)
			b, err := term.ReadPassword(terminal)
			fmt.Fprintln(stderr)
			if err != nil {
				return "", err
			}
			twice[i] = string(b)
		}
		if twice[0] != twice[1] {
			return "", errors.New("the two passwords differ")
		}
		text = twice[0]
	default:
		var err error
		if text, err = firstLine(os.Stdin); err != nil {
			return "", err
		}
	}
	if text == "" {
		return "", errors.New("the password is empty")
	}
	return text, nil
}

// firstLine reads a line, which need not end.
func firstLine(r io.Reader) (string, error) {
	line, err := bufio.NewReader(io.LimitReader(r, 4096)).ReadString('\n')
	if errors.Is(err, io.EOF) {
		err = nil
	}
	return strings.TrimRight(line, "\r\n"), err
}
