// Package serve holds the commands that open a store: the server itself, and what its
// operator does with the store while no server has it open.
package serve

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"time"

	"xuncha/server/internal/mongostore"
	"xuncha/server/internal/sqlitestore"
)

// DefaultAddress is where a server listens, and where the commands call it, unless a
// flag says otherwise.
const DefaultAddress = "127.0.0.1:6200"

// Config holds the flags of a server that have nothing to do with its store.
type Config struct {
	Listen           string  `default:"${address}" placeholder:"HOST:PORT" help:"Address to listen on; port 0 picks a free one. One that other machines can reach needs TLS and an account."`
	TimeZone         string  `default:"Asia/Shanghai" placeholder:"NAME" help:"Time zone in which days begin. Default: ${default}."`
	LogLevel         string  `default:"info" enum:"debug,info,warn,error" help:"Least level that is logged: debug, info (a line for each call), warn or error. Default: ${default}."`
	LogFormat        string  `default:"json" enum:"json,text" help:"Form of the log on standard error: json or text. Default: ${default}."`
	MaxMessageBytes  int     `default:"4194304" help:"Longest request in bytes, once unpacked, of a check-in, an upload and an import; other calls may have 64 KiB. Default: ${default}."`
	CallsPerAccount  float64 `default:"50" help:"Calls a second that an account may make in the long run, and 20 times as many at once; 0 sets no limit. Default: ${default}."`
	CallsPerAddress  float64 `default:"500" help:"The same of all callers with one address, such as those of an office; of IPv6, with one /64. Calls from this machine with a good access token are not counted. Default: ${default}."`
	Reflection       string  `default:"open" enum:"open,token,off" help:"Who may ask the server what methods and messages there are, as grpcurl does: open for everybody, token for those with an access token once there are accounts, off for nobody. Default: ${default}."`
	ReportRows       int     `default:"5000" placeholder:"N" help:"Most rows that a report may have; 0 sets no limit. No report is larger than 4 MiB. Default: ${default}."`
	Cache            string  `type:"path" placeholder:"FOLDER" help:"Folder for a snapshot of what the server knows, which makes the next start faster and may be deleted at any time. Each server needs its own. Default: the data folder; none with MongoDB."`
	memoryConfig     `embed:""`
	photoConfig      `embed:""`
	photoLimits      `embed:""`
	connectionConfig `embed:""`
	MaxStreamAge     time.Duration `default:"1h" help:"How long an import, an upload, a download or a check of all histories may last before the server ends it; what an upload has brought stays. 0 sets no limit. Default: ${default}."`
	ShutdownTimeout  time.Duration `default:"30s" help:"How long calls under way may take to end after SIGINT or SIGTERM before they are cut. Default: ${default}."`
	// TLS and OIDC are not flags of the demo, because no other machine can reach it.
	TLS  tlsConfig  `kong:"-"`
	OIDC oidcConfig `kong:"-"`
	// readClock stands for the machine's clock in tests.
	readClock reader `kong:"-"`
}

// StoreConfig names a store.
type StoreConfig struct {
	Data        string `default:"xuncha-data" type:"path" placeholder:"FOLDER" help:"Data folder, made where there is none. One server holds it alone. Default: ./xuncha-data."`
	Store       string `placeholder:"mongodb://…" help:"Address of a MongoDB database to use instead of the data folder; several servers can share it. Better given as XUNCHA_STORE, because others on the machine can read a command's arguments, and it has a password. The database is xuncha where the address names none."`
	KeepSchema  bool   `help:"Do not make indexes or shard keys in MongoDB, but refuse to start where one is missing."`
	lossConfig  `embed:""`
	clockConfig `embed:""`
	// ReserveBytes is 0 for none, which is what a StoreConfig has that no flags were read into.
	ReserveBytes int64 `default:"67108864" placeholder:"BYTES" help:"Room on the disk of the data folder that is kept for signing in, ending orders, disabling accounts and the record of who looked at what when the disk is full; 0 keeps none. Default: 64 MiB."`
}

// lossConfig says whether a store is opened that lacks something.
type lossConfig struct {
	AcceptLoss bool `help:"Open the data folder although entries that were acknowledged, or the whole database, are missing, and give them up. Without it the command refuses to, and says what is missing."`
}

// options returns how the store is opened.
func (c StoreConfig) options(log *slog.Logger) EngineOptions {
	return EngineOptions{
		Mongo:  mongostore.Options{KeepSchema: c.KeepSchema, Log: log},
		Folder: sqlitestore.Options{AcceptLoss: c.AcceptLoss, ReserveBytes: max(0, c.ReserveBytes), Log: log},
	}
}

// commandLog returns the log of a command that is no server.
func commandLog(stderr io.Writer) *slog.Logger {
	return slog.New(slog.NewTextHandler(stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))
}

// name returns the address of the database, or else the data folder.
func (c StoreConfig) name() string { return cmp.Or(c.Store, c.Data) }

// Command is "xuncha serve".
type Command struct {
	StoreConfig `embed:""`
	tlsConfig   `embed:""`
	oidcConfig  `embed:""`
	Config      `embed:""`
}

// Run serves until ctx ends. Then it waits for the calls under way and closes the
// store.
func (c *Command) Run(ctx context.Context, stdout, stderr io.Writer) error {
	c.Config.TLS, c.Config.OIDC = c.tlsConfig, c.oidcConfig
	server, err := Start(ctx, c.StoreConfig, c.Config, stderr)
	if err != nil {
		return err
	}
	for ready := server.Ready; ; ready = nil {
		select {
		case <-ready:
			fmt.Fprintf(stdout, "xuncha serves on %s\n", server.Address)
		case <-ctx.Done():
			return server.Stop()
		case err := <-server.Failed:
			return errors.Join(err, server.Stop())
		}
	}
}
