// Command xuncha keeps the roster of closed premises, takes officers'
// check-ins and answers which sites nobody has checked yet.
//
// "xuncha serve" is the server; "xuncha demo" shows a whole round on a fresh
// data folder; "xuncha copy" moves a deployment to another store; all other
// commands are clients of a server that runs.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strconv"
	"syscall"
	_ "time/tzdata" // so that the deployment's time zone is known on every machine

	"github.com/alecthomas/kong"
	"github.com/google/uuid"

	"xuncha/inspections"
)

func main() {
	// The ids of requests and entries need be unique, not secret.
	uuid.EnableRandPool()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	// A second signal ends the process at once.
	context.AfterFunc(ctx, stop)
	err := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "xuncha:", err)
		os.Exit(1)
	}
}

// commands is every command with its flags: the operator's manual, which
// --help prints. Each flag can also be given in the environment, as XUNCHA_ and
// its name in capitals: --time-zone is XUNCHA_TIME_ZONE.
type commands struct {
	Serve  serveCommand `cmd:"" help:"Run the server."`
	Demo   demoCommand  `cmd:"" help:"Show a whole round of inspections on a fresh data folder, then keep serving it."`
	Import struct {
		Divisions importDivisionsCommand `cmd:"" help:"Import a table of divisions: code, name, level, parent_code."`
		Sites     importSitesCommand     `cmd:"" help:"Import a table of sites: registration_no, name, division_code, registered_on and more."`
	} `cmd:"" help:"Import a table from a CSV or XLSX file."`
	Account struct {
		Create      accountCreateCommand      `cmd:"" help:"Create an account in a store that no server has open: the first one, or an administrator's where none can sign in."`
		ReplaceKeys accountReplaceKeysCommand `cmd:"" help:"Let a new key sign access tokens and forget all others, as when somebody may have read a store or its backup. Nobody is signed out."`
	} `cmd:"" help:"Keep the accounts of a store."`
	Copy     copyCommand     `cmd:"" help:"Copy a whole deployment from one store to another, and check the copy."`
	Purge    purgeCommand    `cmd:"" help:"Delete the photos whose time is over from a store that no server has open. A server does it by itself every hour."`
	CheckIn  checkInCommand  `cmd:"" help:"Report a visit to a site, with photos."`
	Photo    photoCommand    `cmd:"" help:"Fetch a photo of a check-in."`
	Coverage coverageCommand `cmd:"" help:"Print the coverage of a division."`
	History  historyCommand  `cmd:"" help:"Print the history of a site, newest first."`
}

// A command is what each of them is.
type command interface {
	Run(ctx context.Context, streams streams) error
}

// streams are where a command writes: answers to out, all else to err.
type streams struct{ out, err io.Writer }

// stopped is how kong's wish to exit, after --help, comes back to run.
type stopped int

// run runs the command that args name until it is done or ctx ends.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) (err error) {
	defer func() {
		switch p := recover().(type) {
		case nil:
		case stopped:
			if p != 0 {
				err = errors.New("no such command")
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
		kong.Vars{"address": defaultAddress, "retention": strconv.Itoa(inspections.DefaultRetentionDays)},
		kong.Writers(stdout, stderr),
		kong.Exit(func(code int) { panic(stopped(code)) }),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true}),
	)
	if err != nil {
		return err
	}
	chosen, err := parser.Parse(args)
	if err != nil {
		return fmt.Errorf("%w (xuncha --help lists the commands)", err)
	}
	target, ok := chosen.Selected().Target.Addr().Interface().(command)
	if !ok {
		return fmt.Errorf("%s: incomplete (xuncha --help lists the commands)", chosen.Command())
	}
	return target.Run(ctx, streams{stdout, stderr})
}
