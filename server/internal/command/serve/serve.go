// Package serve holds the commands that open a store: the server itself, and what its
// operator does with the store while no server has it open.
package serve

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"runtime"
	"runtime/debug"
	"sync"
	"time"

	"github.com/google/uuid"
	"google.golang.org/grpc"
	"google.golang.org/grpc/health"

	"xuncha/inspections"
	"xuncha/inspections/photos"
	"xuncha/ledger"
	"xuncha/server/internal/accounts"
	"xuncha/server/internal/mongostore"
	"xuncha/server/internal/rpc"
	"xuncha/sites"
)

// DefaultAddress is where a server listens, and where the commands call it, unless a
// flag says otherwise.
const DefaultAddress = "127.0.0.1:6200"

// Config holds the flags of a server that have nothing to do with its store.
type Config struct {
	Listen          string  `default:"${address}" placeholder:"HOST:PORT" help:"Address to listen on; port 0 picks a free one. One that other machines can reach needs TLS and an account."`
	TimeZone        string  `default:"Asia/Shanghai" placeholder:"NAME" help:"Time zone in which days begin. Default: ${default}."`
	LogLevel        string  `default:"info" enum:"debug,info,warn,error" help:"Least level that is logged: debug, info (a line for each call), warn or error. Default: ${default}."`
	LogFormat       string  `default:"json" enum:"json,text" help:"Form of the log on standard error: json or text. Default: ${default}."`
	MaxMessageBytes int     `default:"4194304" help:"Longest request in bytes. Default: ${default}."`
	CallsPerAccount float64 `default:"50" help:"Calls a second that an account may make in the long run, and 20 times as many at once; 0 sets no limit. Default: ${default}."`
	CallsPerAddress float64 `default:"500" help:"The same of all callers with one address, such as those of an office. Those on this machine are not counted. Default: ${default}."`
	photoConfig     `embed:""`
	ShutdownTimeout time.Duration `default:"30s" help:"How long calls under way may take to end after SIGINT or SIGTERM before they are cut. Default: ${default}."`
	// TLS and OIDC are not flags of the demo, because no other machine can reach it.
	TLS  tlsConfig  `kong:"-"`
	OIDC oidcConfig `kong:"-"`
}

// StoreConfig names a store.
type StoreConfig struct {
	Data       string `default:"xuncha-data" type:"path" placeholder:"FOLDER" help:"Data folder, made where there is none. One server holds it alone. Default: ./xuncha-data."`
	Store      string `placeholder:"mongodb://…" help:"Address of a MongoDB database to use instead of the data folder; several servers can share it. Better given as XUNCHA_STORE, because others on the machine can read a command's arguments, and it has a password. The database is xuncha where the address names none."`
	KeepSchema bool   `help:"Do not make indexes or shard keys in MongoDB, but refuse to start where one is missing."`
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
	fmt.Fprintf(stdout, "xuncha serves on %s\n", server.Address)
	select {
	case <-ctx.Done():
	case err = <-server.Failed:
	}
	return errors.Join(err, server.Stop())
}

// A Running is a server that was started. Stop must be called in the end.
type Running struct {
	Address  string     // HOST:PORT, with the port that was free where 0 was asked for
	Failed   chan error // has an error if serving ended by itself
	log      *slog.Logger
	logged   *logWriter
	grpc     *grpc.Server
	health   *health.Server
	store    Engine
	patient  time.Duration
	stopping chan struct{}
	// beside ends what runs beside the calls, and running waits for it.
	beside    context.Context
	endBeside func()
	running   sync.WaitGroup
}

// Start opens the store and serves it, until Stop is called.
func Start(ctx context.Context, stored StoreConfig, c Config, stderr io.Writer) (_ *Running, err error) {
	out := newLogWriter(stderr)
	log, err := newLog(c, out)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			out.Close()
		}
	}()
	if err := c.TLS.check(); err != nil {
		return nil, err
	}
	provider, err := c.OIDC.provider()
	if err != nil {
		return nil, err
	}
	secure, err := serverTLS(c.TLS, time.Now, log)
	if err != nil {
		return nil, err
	}
	zone, err := time.LoadLocation(c.TimeZone)
	if err != nil {
		return nil, fmt.Errorf("--time-zone: %w", err)
	}
	begun := time.Now()
	store, where, err := OpenEngine(ctx, stored.name(), mongostore.Options{KeepSchema: stored.KeepSchema})
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, store.Close())
		}
	}()
	roster, err := sites.Open(ctx, sites.Config{Ledger: store, Rows: store, Now: time.Now, NewID: uuid.NewString, Zone: zone})
	if err != nil {
		return nil, fmt.Errorf("%s: %w", where, err)
	}
	people, err := accounts.Open(ctx, accounts.Config{Ledger: store, Secrets: store, Now: time.Now, NewID: uuid.NewString, Random: rand.Reader, Provider: provider})
	if err != nil {
		return nil, fmt.Errorf("%s: %w", where, err)
	}
	if err := checkListen(c.Listen, c.TLS, people.Any()); err != nil {
		return nil, err
	}
	checkIns := inspections.New(inspections.Config{Ledger: store, Claims: store.Photos(), Roster: roster, Now: time.Now})
	keeper, err := photos.New(photos.Config{
		Ledger: store, Store: store.Photos(), CheckIns: checkIns, Roster: roster, RetentionDays: c.PhotoRetentionDays, Now: time.Now,
	})
	if err != nil {
		return nil, err
	}
	feed := ledger.NewFollower(store, "", people.Take, roster.Take, checkIns.Take)
	if err := feed.CatchUp(ctx); err != nil && !errors.Is(err, ledger.ErrWaiting) {
		return nil, fmt.Errorf("%s: reading the histories: %w", where, err)
	}
	collectSeldom()
	stopping := make(chan struct{})
	server, health, err := rpc.New(rpc.Config{
		Roster: roster, Inspections: checkIns, Photos: keeper, Accounts: people, Now: time.Now, NewID: uuid.NewString, Zone: zone,
		Log: log, MaxMessage: c.MaxMessageBytes, Stopping: stopping, TLS: secure,
		CallsPerAccount: c.CallsPerAccount, CallsPerAddress: c.CallsPerAddress, BehindProxy: c.TLS.PlaintextBehindProxy,
	})
	if err != nil {
		return nil, err
	}
	listener, err := net.Listen("tcp", c.Listen)
	if err != nil {
		return nil, fmt.Errorf("--listen: %w", err)
	}
	r := &Running{
		Address: listener.Addr().String(), Failed: make(chan error, 1),
		log: log, logged: out, grpc: server, health: health, store: store, patient: c.ShutdownTimeout,
		stopping: stopping,
	}
	r.beside, r.endBeside = context.WithCancel(context.Background())
	r.tendPhotos(keeper)
	if store.Shared() {
		r.follow(store, feed.Cursor(), people, roster, checkIns)
	}
	go func() {
		if err := server.Serve(listener); err != nil {
			r.Failed <- err
		}
	}()
	if err := people.Discover(); err != nil {
		log.Warn("the identity provider does not answer; it is asked again when one of its tokens comes", "error", err.Error())
	}
	if !people.Any() {
		log.Warn("there are no accounts yet, so whoever is on this machine may do everything; create the first with: xuncha account create --role admin")
	}
	log.Info("serving", "address", r.Address, "store", where, "sites", roster.Roster().NumSites(),
		"revision", int64(roster.Roster().Revision()), "ready_after", time.Since(begun))
	return r, nil
}

// roomToGrow is how many bytes of garbage may gather beside a small heap.
const roomToGrow = 64 << 20

// collectSeldom lets more garbage gather before Go's collector runs: roomToGrow, but
// at most four times the heap. By default it is as much as the heap, and a city's heap
// of a few MiB would keep the collector busy. A country's large heap stays with the
// default. GOGC in the environment overrides all of this.
func collectSeldom() {
	if os.Getenv("GOGC") != "" {
		return
	}
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	debug.SetGCPercent(int(min(400, max(100, 100*roomToGrow/max(m.HeapAlloc, 1)))))
}

// Stop tells clients that the server stops, waits for the calls under way, and closes
// the store.
func (r *Running) Stop() error {
	r.log.Info("stopping")
	r.endBeside()
	r.running.Wait()
	r.health.Shutdown()
	close(r.stopping)
	done := make(chan struct{})
	go func() {
		r.grpc.GracefulStop()
		close(done)
	}()
	timeout := time.NewTimer(r.patient)
	defer timeout.Stop()
	select {
	case <-done:
	case <-timeout.C:
		r.log.Warn("calls under way are cut", "after", r.patient)
		r.grpc.Stop()
		<-done
	}
	err := r.store.Close()
	r.log.Info("stopped")
	return errors.Join(err, r.logged.Close())
}
