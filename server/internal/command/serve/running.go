package serve

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"google.golang.org/grpc"

	"xuncha/inspections"
	"xuncha/inspections/photos"
	"xuncha/ledger"
	"xuncha/server/internal/accounts"
	"xuncha/server/internal/clock"
	"xuncha/server/internal/rpc"
	"xuncha/server/internal/wire"
	"xuncha/sites"
)

// A Running is a server that was started. Stop must be called in the end.
type Running struct {
	Address string // HOST:PORT, with the port that was free where 0 was asked for
	// Ready is closed once the server has read what is stored and answers calls. Before,
	// it refuses them.
	Ready chan struct{}
	// Failed has an error where the server could not read what is stored, or where
	// serving ended by itself.
	Failed chan error

	log      *slog.Logger
	logged   *logWriter
	lines    *rpc.CallLog
	gate     *wire.Gate
	grpc     *grpc.Server
	vitals   *vitals
	problems *rpc.Problems
	store    Engine
	where    string // the store's name
	patient  time.Duration
	stopping chan struct{}
	unpace   func()
	time     *timekeeper
	newest   newestTime // of all that load has read

	people    *accounts.Service
	roster    *sites.Service
	checkIns  *inspections.Service
	keeper    *photos.Service
	snapshots *snapshots // nil for none
	// verification knows which histories do not verify.
	verification *verification
	// followed is behind what follow has given the services.
	followed atomic.Pointer[ledger.Cursor]

	// beside ends what runs beside the calls, and running waits for it.
	beside    context.Context
	endBeside func()
	running   sync.WaitGroup
}

// Start opens the store, listens, and begins to read what is stored.
func Start(ctx context.Context, stored StoreConfig, c Config, stderr io.Writer) (*Running, error) {
	return start(ctx, stored, c, stderr, OpenEngine)
}

// start is Start with the way in which a store is opened.
func start(ctx context.Context, stored StoreConfig, c Config, stderr io.Writer, open func(context.Context, string, EngineOptions) (Engine, string, error)) (_ *Running, err error) {
	out := newLogWriter(stderr)
	log, err := newLog(c, out)
	if err != nil {
		return nil, err
	}
	out.onLost = func(lines int64) {
		log.Warn("lines of the log are lost; whatever takes them had stopped", "lines", lines)
	}
	defer func() {
		if err != nil {
			_ = out.Close() // and there is another error to tell
		}
	}()
	if err := c.TLS.check(); err != nil {
		return nil, err
	}
	provider, err := c.OIDC.provider()
	if err != nil {
		return nil, err
	}
	problems, altered := new(rpc.Problems), new(ledger.Alterations)
	keeping := newTimekeeper(stored.clockConfig, c.readClock, log, problems)
	secure, err := newCertificates(c.TLS, keeping.Now, log, problems)
	if err != nil {
		return nil, err
	}
	zone, err := time.LoadLocation(c.TimeZone)
	if err != nil {
		return nil, fmt.Errorf("--time-zone: %w", err)
	}
	if err := c.memoryConfig.apply(); err != nil {
		return nil, err
	}
	limits, err := c.limits()
	if err != nil {
		return nil, err
	}
	if c.MaxStreamAge < 0 {
		return nil, fmt.Errorf("--max-stream-age: %s is less than nothing; 0 sets no limit", c.MaxStreamAge)
	}
	gate, err := c.connectionConfig.gate(c.TLS.PlaintextBehindProxy, log)
	if err != nil {
		return nil, err
	}
	begun := time.Now()
	options := stored.options(log)
	options.Folder.OnFull, options.Folder.OnGone = noteFull(problems), noteGone(problems)
	store, where, err := open(ctx, stored.name(), options)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, store.Close())
		}
	}()
	if err := keeping.open(ctx, store); err != nil {
		return nil, fmt.Errorf("%s: %w", where, err)
	}
	guarded := ledger.Guard(store, altered)
	beside, endBeside := context.WithCancel(context.Background())
	defer func() {
		if err != nil {
			endBeside()
		}
	}()
	roster := sites.New(sites.Config{Ledger: guarded, Rows: store, Altered: altered, Now: keeping.Now, NewID: uuid.NewString, Zone: zone})
	if provider != nil {
		provider.Until, provider.Report, provider.Passed = beside, logProvider(log), logPassedDivisions(log)
	}
	// Whether there are accounts decides on which address the server may listen. They are
	// few; all else is read once it listens.
	var people *accounts.Service
	err = untilBack(ctx, log, "reading the accounts", func() (err error) {
		people, err = accounts.Open(ctx, accounts.Config{Ledger: guarded, Secrets: store, Altered: altered, Now: keeping.Now, NewID: uuid.NewString, Random: rand.Reader, Provider: provider, Roster: roster.Roster, Unrecorded: logUnrecorded(log), Damaged: logDamaged(log), UsernameTaken: logTaken(log, keeping.Now)})
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("%s: %w", where, err)
	}
	if err := checkListen(c.Listen, c.TLS, people.Any()); err != nil {
		return nil, err
	}
	checkIns := inspections.New(inspections.Config{Ledger: guarded, Claims: store.Photos(), Roster: roster, Limits: limits, Altered: altered, Doubtful: keeping.doubt.holds, Now: keeping.Now})
	keeper, err := photos.New(photos.Config{
		Ledger: guarded, Store: store.Photos(), CheckIns: checkIns, Roster: roster, RetentionDays: c.PhotoRetentionDays, Now: keeping.Now, Believed: keeping.Believed,
		Stopwatch: clock.ThreadTime,
	})
	if err != nil {
		return nil, err
	}
	snapshots, err := newSnapshots(stored, c.Cache, zone, store, log, sectionsOf(roster, checkIns, altered))
	if err != nil {
		return nil, err
	}
	ready, stopping := make(chan struct{}), make(chan struct{})
	lines := rpc.NewCallLog(log)
	var r *Running // which is there before any call is answered
	server, health, err := rpc.New(rpc.Config{
		Roster: roster, Inspections: checkIns, Photos: keeper, Accounts: people, Now: keeping.Now, NewID: uuid.NewString, Zone: zone,
		Log: log, MaxMessage: c.MaxMessageBytes, Ready: ready, Stopping: stopping, TLS: secure.credentials(), Gate: gate,
		Lines: lines, Reflection: rpc.Reflection(c.Reflection), CallsPerAccount: c.CallsPerAccount, CallsPerAddress: c.CallsPerAddress, BehindProxy: c.TLS.PlaintextBehindProxy,
		ReportRows: c.ReportRows, MaxStreamAge: c.MaxStreamAge, Altered: altered, Problems: problems, ConfirmClock: keeping.Confirm,
		VerifyTime: func() time.Time { return r.VerifiedAt() },
		CheckHistories: func(ctx context.Context, progress func(checked, total int64)) (int64, []ledger.Fault, error) {
			return r.checkHistories(ctx, progress)
		},
	})
	if err != nil {
		return nil, err
	}
	listener, err := net.Listen("tcp", c.Listen)
	if err != nil {
		return nil, fmt.Errorf("--listen: %w", err)
	}
	r = &Running{
		Address: listener.Addr().String(), Ready: ready, Failed: make(chan error, 2),
		log: log, logged: out, lines: lines, gate: gate, grpc: server, vitals: newVitals(health, server.GetServiceInfo()), problems: problems, store: store, where: where, patient: c.ShutdownTimeout,
		stopping: stopping, unpace: paceCollector(gate.Pressed),
		people: people, roster: roster, checkIns: checkIns, keeper: keeper, snapshots: snapshots, time: keeping,
		verification: newVerification(log, altered, keeping.Now),
	}
	r.verification.recount, r.verification.takeBack, r.verification.onFault = checkIns.Take, checkIns.TakeBack, r.forgetSnapshot
	if snapshots != nil {
		snapshots.held, snapshots.seen = r.verification.holdsSnapshots, r.seeHead
	}
	r.beside, r.endBeside = beside, endBeside
	r.watchVitals()
	secure.watch(r.beside)
	r.running.Go(func() { keeping.Run(r.beside) })
	r.running.Go(func() {
		ticker := time.NewTicker(tidyEvery)
		defer ticker.Stop()
		tidyMemory(r.beside, ticker.C)
	})
	go func() {
		// A server that is stopped before it comes to serve says so; that is no failure.
		if err := server.Serve(listener); err != nil && !errors.Is(err, grpc.ErrServerStopped) {
			r.Failed <- err
		}
	}()
	r.running.Go(func() {
		if err := r.begin(begun); err != nil && r.beside.Err() == nil {
			r.Failed <- fmt.Errorf("%s: %w", where, err)
		}
	})
	return r, nil
}

// begin reads what is stored, and then lets the server answer calls.
func (r *Running) begin(begun time.Time) error {
	at, err := r.load(r.beside)
	if err != nil {
		return err
	}
	if err := r.beside.Err(); err != nil {
		return err
	}
	if err := r.checkEntries(); err != nil {
		return err
	}
	r.tendPhotos(r.keeper)
	r.tendDevices(r.people)
	if r.store.Shared() {
		r.follow(r.store, at, r.people, r.roster, r.checkIns)
	}
	if r.snapshots != nil {
		r.keepSnapshots(at)
	}
	r.verifyInRounds()
	r.discover()
	if err := r.people.KeysLost(); err != nil {
		r.log.Error("the keys of the accounts cannot be read; nobody can sign in", "error", err.Error())
	}
	if !r.people.Any() {
		r.log.Warn("there are no accounts yet, so whoever is on this machine may do everything; create the first with: xuncha account create --role admin")
	}
	r.log.Info("serving", "address", r.Address, "store", r.where, "sites", r.roster.Roster().NumSites(),
		"revision", int64(r.roster.Roster().Revision()), "ready_after", time.Since(begun))
	close(r.Ready)
	r.vitals.serve(true)
	giveBack()
	return nil
}

// Stop tells clients that the server stops, waits for the calls under way, and closes
// the store.
func (r *Running) Stop() error {
	r.log.Info("stopping")
	r.endBeside()
	r.running.Wait()
	r.vitals.shutdown()
	close(r.stopping)
	r.gate.Stop()
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
		go r.grpc.Stop() // which waits for the calls to end
		r.abandon(done)
	}
	r.lines.Close()
	r.lastSnapshot()
	err := r.store.Close()
	r.unpace()
	r.log.Info("stopped")
	return errors.Join(err, r.logged.Close())
}

// cutPatience is how long calls that were cut may take to end, at most.
const cutPatience = 5 * time.Second

// abandon waits for calls that were cut, and goes on without those that wait for somebody
// who does not answer: what they still ask of the store is refused once it is closed.
func (r *Running) abandon(done <-chan struct{}) {
	patient := min(r.patient, cutPatience)
	timeout := time.NewTimer(patient)
	defer timeout.Stop()
	select {
	case <-done:
	case <-timeout.C:
		r.log.Warn("calls that were cut do not end; the server stops without them", "after", patient)
	}
}
