package serve

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"golang.org/x/term"

	"xuncha/server/internal/accounts"
	"xuncha/sites"
)

// AccountCreateCommand is "xuncha account create". It needs the store for itself.
type AccountCreateCommand struct {
	StoreConfig  `embed:""`
	Role         string   `required:"" enum:"officer,head,auditor,admin" help:"What the account may do: officer, head, auditor or admin. The first account is an administrator's."`
	Username     string   `required:"" placeholder:"NAME" help:"Name to sign in with and the one in records: 2 to 32 of a-z, 0-9, '.', '_' and '-'. It can never be changed."`
	DisplayName  string   `placeholder:"TEXT" help:"What the person is called."`
	Division     []string `required:"" placeholder:"CODE" help:"Division to which the account is bound, with all below it; may be given several times. It need not be in the division table yet."`
	PasswordFile string   `type:"existingfile" placeholder:"FILE" help:"File whose first line is the password. Default: ask for it on the terminal, or read a line of standard input."`
}

// Run creates the account.
func (c *AccountCreateCommand) Run(ctx context.Context, stdout, stderr io.Writer) error {
	return c.withAccounts(ctx, stderr, func(people *accounts.Service) error { return c.create(ctx, people, stdout, stderr) })
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
	a, _, err := people.Create(ctx, accounts.By{Account: operator}, n)
	if err != nil {
		return err
	}
	var codes []string
	for _, code := range a.Divisions {
		codes = append(codes, string(code))
	}
	_, err = fmt.Fprintf(stdout, "Created the account %s (%s of %s).\n", a.Username, a.Role, strings.Join(codes, ", "))
	return err
}

// password reads the password from the file, the terminal or standard input. An empty
// one is an error, because accounts.Service would make a one-time password of it.
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

// firstLine reads the first line. A line end after it is optional.
func firstLine(r io.Reader) (string, error) {
	line, err := bufio.NewReader(io.LimitReader(r, 4096)).ReadString('\n')
	if errors.Is(err, io.EOF) {
		err = nil
	}
	return strings.TrimRight(line, "\r\n"), err
}
