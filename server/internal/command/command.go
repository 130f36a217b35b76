// Package command holds the commands of the program xuncha, in three groups:
// serve runs a server and keeps its store, client talks to a running server, and
// demo does both.
package command

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"

	"github.com/alecthomas/kong"

	"xuncha/inspections/photos"
	"xuncha/internal/texts"
	"xuncha/server/internal/command/client"
	"xuncha/server/internal/command/demo"
	"xuncha/server/internal/command/outcome"
	"xuncha/server/internal/command/serve"
)

// commands has all commands with their flags. It is the operator's manual, which --help
// prints. Each flag can also be given in the environment: --time-zone is
// XUNCHA_TIME_ZONE.
type commands struct {
	Serve  serve.Command `cmd:"" help:"Run the server."`
	Demo   demo.Command  `cmd:"" help:"Show a whole round of inspections on a fresh data folder, then keep serving it."`
	Import struct {
		Divisions client.ImportDivisionsCommand `cmd:"" help:"Import a table of divisions: code, name, level, parent_code."`
		Sites     client.ImportSitesCommand     `cmd:"" help:"Import a table of sites: registration_no, name, division_code, registered_on and more."`
	} `cmd:"" help:"Import a table from a CSV or XLSX file."`
	Account struct {
		Create      serve.AccountCreateCommand      `cmd:"" help:"Create an account in a store that no server has open: the first one, or an administrator's where none can sign in."`
		Relink      serve.AccountRelinkCommand      `cmd:"" help:"Move accounts to another identity provider, from passwords to one, or back to passwords. Of a data folder that no server has open; beside a database, servers may be at work."`
		ReplaceKeys serve.AccountReplaceKeysCommand `cmd:"" help:"Let a new key sign access tokens and forget all others, as when somebody may have read a store or its backup. Nobody is signed out."`
	} `cmd:"" help:"Keep the accounts of a store."`
	Check    checkCommand           `cmd:"" help:"Check that nothing that is stored was altered or lost, and change nothing: of a store that no server has open, or through the server that has. It ends with status 0 where all is well, 1 where something was altered or lost, and 2 where it could not check."`
	Repair   serve.RepairCommand    `cmd:"" help:"Set aside the entries that do not verify, and say so on record. Nothing is deleted or changed. Of a data folder that no server has open; beside a database, servers may be at work."`
	Copy     serve.CopyCommand      `cmd:"" help:"Copy a whole deployment from one store to another, and check the copy."`
	Purge    serve.PurgeCommand     `cmd:"" help:"Delete the photos whose time is over from a store that no server has open. A server does it by itself every hour."`
	CheckIn  client.CheckInCommand  `cmd:"" help:"Report a visit to a site, with photos."`
	Photo    client.PhotoCommand    `cmd:"" help:"Fetch a photo of a check-in."`
	Coverage client.CoverageCommand `cmd:"" help:"Print the coverage of a division."`
	History  client.HistoryCommand  `cmd:"" help:"Print the history of a site, newest first."`
	Changes  client.ChangesCommand  `cmd:"" help:"Print the changes of the roster, newest first."`
	Revoke   client.RevokeCommand   `cmd:"" help:"Take a change of the roster back as if it had never been, from now on."`

	Status       client.StatusCommand       `cmd:"" help:"Print what is wrong with the server. It ends with status 0 where all is well, 1 where something is wrong, and 2 where the server could not be asked."`
	ConfirmClock client.ConfirmClockCommand `cmd:"" help:"Tell the server that its clock is right after it has jumped."`
}

// A runner is one of the commands. It writes answers to stdout and all else to
// stderr.
type runner interface {
	Run(ctx context.Context, stdout, stderr io.Writer) error
}

// A stopped is the panic with which kong's exit, as after --help, comes back to Run.
type stopped int

// Run runs the command that args name, until it is done or ctx ends. The error is for
// people to read. ExitCode has the status with which the program ends then.
func Run(ctx context.Context, args []string, stdout, stderr io.Writer) (err error) {
	defer func() {
		switch p := recover().(type) {
		case nil:
		case stopped:
			if p != 0 {
				err = unusable(errors.New("no such command"))
			}
		default:
			panic(p)
		}
	}()
	var c commands
	parser, err := kong.New(&c,
		kong.Name("xuncha"),
		kong.Description("Xuncha (巡查): checks that premises closed by a public-health order are closed."),
		kong.DefaultEnvars("XUNCHA"),
		kong.Vars{"address": serve.DefaultAddress, "retention": strconv.Itoa(photos.DefaultRetentionDays)},
		kong.Writers(stdout, stderr),
		kong.Exit(func(code int) { panic(stopped(code)) }),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true}),
	)
	if err != nil {
		return err
	}
	chosen, err := parser.Parse(args)
	if err != nil {
		return unusable(fmt.Errorf("%w (xuncha --help lists the commands)", err))
	}
	target, ok := chosen.Selected().Target.Addr().Interface().(runner)
	if !ok {
		return unusable(fmt.Errorf("%s: incomplete (xuncha --help lists the commands)", chosen.Command()))
	}
	if err := target.Run(ctx, spelled{stdout}, stderr); err != nil {
		return &spelledError{err}
	}
	return nil
}

// A spelled writer spells what a terminal would act upon, and writes all else as it is.
// Stores and servers have texts of times with other rules, and all of them go through it.
type spelled struct{ io.Writer }

func (w spelled) Write(b []byte) (int, error) {
	if _, err := io.WriteString(w.Writer, texts.Spelled(string(b))); err != nil {
		return 0, err
	}
	return len(b), nil
}

// A spelledError is an error whose text is spelled in the same way.
type spelledError struct{ error }

func (e *spelledError) Error() string { return texts.Spelled(e.error.Error()) }

// Unwrap returns the error as it was.
func (e *spelledError) Unwrap() error { return e.error }

// unusable is the error of a command that was not given as it should be.
func unusable(err error) error { return &outcome.Error{Err: err, Status: outcome.Unknown} }

// ExitCode returns the status with which the program ends after Run: 0 where it gave no
// error.
func ExitCode(err error) int {
	var coded *outcome.Error
	switch {
	case err == nil:
		return 0
	case errors.As(err, &coded):
		return coded.Status
	}
	return outcome.Failed
}
