package serve

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"path/filepath"
	"slices"
	"strings"

	"xuncha/server/internal/accounts"
	"xuncha/server/internal/table"
	"xuncha/sites"
)

// AccountRelinkCommand is "xuncha account relink". It needs a data folder for itself; beside
// a database, servers may be at work.
type AccountRelinkCommand struct {
	StoreConfig `embed:""`
	Username    string `env:"-" placeholder:"NAME" help:"Move this account alone. It is not read from the environment."`
	FromIssuer  string `placeholder:"URL" help:"Move all accounts of the identity provider with this address, which keep their subjects at the next."`
	Table       string `type:"existingfile" placeholder:"FILE" help:"Move the accounts of a table with the columns username and subject, CSV or XLSX."`
	Issuer      string `placeholder:"URL" help:"Address of the identity provider that has the accounts from now on, to the letter as servers are given it with --oidc-issuer."`
	Subject     string `placeholder:"TEXT" help:"With --username: who the person is at that provider, which is the claim sub of its tokens."`
	Password    bool   `env:"-" help:"Give each account a one-time password instead of a provider, and print it. It is good for 7 days. It is not read from the environment."`
	Reason      string `placeholder:"TEXT" help:"Why, which goes on record. No person may be named in it."`
	DryRun      bool   `help:"Check everything, say what would be moved, and change nothing."`
}

// Run moves the accounts, or none of them where anything is wrong with one.
func (c *AccountRelinkCommand) Run(ctx context.Context, stdout, stderr io.Writer) error {
	if err := c.check(); err != nil {
		return err
	}
	return c.withAccounts(ctx, stderr, func(people *accounts.Service) error { return c.relink(ctx, people, stdout, stderr) })
}

// check returns an error that names a flag which is missing, or two that cannot be used
// together.
func (c *AccountRelinkCommand) check() error {
	given := 0
	for _, text := range []string{c.Username, c.FromIssuer, c.Table} {
		if text != "" {
			given++
		}
	}
	switch {
	case given != 1:
		return errors.New("give one of --username, --from-issuer and --table, which say whose accounts are moved")
	case (c.Issuer != "") == c.Password:
		return errors.New("give either --issuer, the address of the next identity provider, or --password")
	case c.Password && c.Table != "":
		return errors.New("--password: cannot be used together with --table, which names subjects of a provider")
	case c.Subject != "" && (c.Username == "" || c.Password):
		return errors.New("--subject: can only be used with --username and --issuer")
	case c.Username != "" && c.Issuer != "" && c.Subject == "":
		return errors.New("--subject: is missing; it is the claim sub of the person's tokens at the provider")
	case c.Issuer != "" && c.Issuer == c.FromIssuer:
		return errors.New("--from-issuer: is the same as --issuer")
	}
	if err := sites.CheckText("--reason", c.Reason, 0, sites.MaxReason); err != nil {
		return err
	}
	if c.Issuer != "" {
		if err := checkIssuer(c.Issuer); err != nil {
			return fmt.Errorf("--issuer %s: %w", c.Issuer, err)
		}
	}
	return nil
}

// links returns which accounts are to be moved. Of those of a table, rows has where they
// stand in it.
func (c *AccountRelinkCommand) links(ctx context.Context, people *accounts.Service) (links []accounts.Link, rows []int, err error) {
	switch {
	case c.Table != "":
		return readLinks(ctx, c.Table, maxLinksBytes)
	case c.FromIssuer != "":
		if links = people.LinksOf(c.FromIssuer); len(links) == 0 {
			return nil, nil, fmt.Errorf("--from-issuer %s: it has no account; %s", c.FromIssuer, issuersOf(people))
		}
		return links, nil, nil
	}
	return []accounts.Link{{Username: c.Username, Subject: c.Subject}}, nil, nil
}

// maxLinksBytes is how many bytes the rows of a table of accounts may have together: those of
// a million accounts have less, and are held until it is known that all can be moved.
const maxLinksBytes = 64 << 20

// readLinks reads a table of accounts, whose rows have at most so many bytes.
func readLinks(ctx context.Context, name string, most int) (links []accounts.Link, rows []int, err error) {
	f, shut, err := table.Open(ctx, name)
	if err != nil {
		return nil, nil, err
	}
	defer shut()
	err = table.Read(ctx, filepath.Base(name), f, table.Links, func(r table.Row) error {
		if most -= len(r.Cells[0]) + len(r.Cells[1]); most < 0 {
			return fmt.Errorf("%s, row %d: the table has too much text; split it", filepath.Base(name), r.Number)
		}
		links, rows = append(links, accounts.Link{Username: r.Cells[0], Subject: r.Cells[1]}), append(rows, r.Number)
		return nil
	})
	return links, rows, err
}

// issuersOf says which identity providers have accounts.
func issuersOf(people *accounts.Service) string {
	counts := people.Issuers()
	if len(counts) == 0 {
		return "no identity provider has any"
	}
	var out []string
	for _, issuer := range slices.Sorted(maps.Keys(counts)) {
		out = append(out, fmt.Sprintf("%s has %d", issuer, counts[issuer]))
	}
	return strings.Join(out, ", ")
}

func (c *AccountRelinkCommand) relink(ctx context.Context, people *accounts.Service, stdout, stderr io.Writer) error {
	links, rows, err := c.links(ctx, people)
	if err != nil {
		return err
	}
	plan, wrong := people.PlanRelinks(c.Issuer, links)
	if len(wrong) > 0 {
		return c.refuse(stderr, links, rows, wrong)
	}
	c.warnOfSlash(people, stderr)
	moved := 0
	for _, r := range plan {
		// A password is given anew, also to who has one: what was printed may be lost.
		change := !r.Done() || c.Password && r.Account.Disabled.IsZero()
		oneTime := ""
		if !c.DryRun {
			if oneTime, err = people.Relink(ctx, accounts.By{Account: operator}, r, c.Reason); err != nil {
				return fmt.Errorf("%s: %w (%d accounts were moved before; the same command goes on with the rest)", r.Account.Username, err, moved)
			}
		}
		if change {
			moved++
		}
		if _, err := fmt.Fprintln(stdout, describe(r, change, oneTime)); err != nil {
			return err
		}
	}
	what := fmt.Sprintf("Moved %d of %d accounts; the others were so already.", moved, len(plan))
	if c.DryRun {
		what = fmt.Sprintf("Checked %d accounts: %d would be moved. Nothing was changed.", len(plan), moved)
	}
	if c.Issuer != "" {
		what += fmt.Sprintf(" Servers take their tokens once they are started with --oidc-issuer %s.", c.Issuer)
	}
	_, err = fmt.Fprintln(stdout, what)
	return err
}

// describe says what becomes of an account.
func describe(r accounts.Relinking, change bool, oneTime string) string {
	whose := func(issuer, subject string) string {
		if issuer == "" {
			return "a password"
		}
		return fmt.Sprintf("%s of %s", subject, issuer)
	}
	out := fmt.Sprintf("%s: %s", r.Account.Username, whose(r.To()))
	switch {
	case !change:
		out += ", as before"
	case !r.Done():
		out += ", before: " + whose(r.From())
	}
	if oneTime != "" {
		out += ": " + oneTime
	}
	if !r.Account.Disabled.IsZero() {
		out += " (the account is disabled, and stays so)"
	}
	return out
}

// refuse prints what is wrong, as an import does, and returns the error that ends the
// command.
func (c *AccountRelinkCommand) refuse(stderr io.Writer, links []accounts.Link, rows []int, wrong []accounts.LinkError) error {
	shown := wrong[:min(len(wrong), table.MaxProblems)]
	for _, w := range shown {
		where := links[w.Index].Username
		if rows != nil {
			where = fmt.Sprintf("row %d", rows[w.Index])
		}
		if _, err := fmt.Fprintf(stderr, "%s, %v\n", where, w.Err); err != nil {
			return err
		}
	}
	return fmt.Errorf("problems: %d (%d shown); no account was moved", len(wrong), len(shown))
}

// warnOfSlash says where accounts are of an issuer that differs from the next by slashes at
// its end alone. A provider's tokens are taken where the issuer is the same to the letter.
func (c *AccountRelinkCommand) warnOfSlash(people *accounts.Service, stderr io.Writer) {
	for other, n := range people.Issuers() {
		if c.Issuer != "" && other != c.Issuer && other != c.FromIssuer && strings.TrimRight(other, "/") == strings.TrimRight(c.Issuer, "/") {
			fmt.Fprintf(stderr, "%d accounts are of %s, which differs from %s by a slash alone: to a server that is another provider.\n", n, other, c.Issuer)
		}
	}
}
