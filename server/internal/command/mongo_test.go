package command_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/timestamppb"

	"xuncha/ledger"
	xunchav1 "xuncha/proto/xuncha/v1"
	"xuncha/server/internal/command"
	"xuncha/server/internal/command/serve"
	"xuncha/server/internal/mongostore/mongotest"
)

var shared struct {
	sync.Once
	server *mongotest.Server
	err    error
}

// mongo returns the MongoDB server that all tests share that do not kill theirs.
func mongo(t testing.TB) *mongotest.Server {
	t.Helper()
	shared.Do(func() { shared.server, shared.err = mongotest.Start() })
	if shared.err != nil {
		t.Fatal(shared.err)
	}
	return shared.server
}

// TestMain takes what an operator has in the environment out of it: no test may write
// to the deployment that it names.
func TestMain(m *testing.M) {
	for _, v := range os.Environ() {
		if name, _, _ := strings.Cut(v, "="); strings.HasPrefix(name, "XUNCHA_") && !strings.HasPrefix(name, "XUNCHA_TEST_") {
			os.Unsetenv(name)
		}
	}
	code := m.Run()
	if shared.server != nil {
		if err := shared.server.Stop(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
	}
	os.Exit(code)
}

// ownMongo returns a MongoDB server that the test may kill.
func ownMongo(t testing.TB) *mongotest.Server {
	t.Helper()
	server, err := mongotest.StartOwn()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := server.Stop(); err != nil {
			t.Error(err)
		}
	})
	return server
}

// eventually asks again until the answer is right, at most for a time that
// only a broken program needs.
func eventually(t testing.TB, what string, right func() bool) {
	t.Helper()
	late := time.Now().Add(time.Minute)
	for !right() {
		if time.Now().After(late) {
			t.Fatalf("%s: not after a minute", what)
		}
		wait := time.NewTimer(20 * time.Millisecond)
		<-wait.C
	}
}

func cityCoverage(t testing.TB, conn *grpc.ClientConn) *xunchav1.CoverageRow {
	t.Helper()
	answer, err := xunchav1.NewCoverageServiceClient(conn).GetCoverage(t.Context(), &xunchav1.GetCoverageRequest{
		DivisionCode: "511600", StartTime: timestamppb.New(time.Now().Add(-time.Hour)), EndTime: timestamppb.New(time.Now().Add(time.Hour)),
	})
	if status.Code(err) == codes.NotFound {
		return &xunchav1.CoverageRow{} // its roster has not come yet
	}
	if err != nil {
		t.Fatal(err)
	}
	return answer.Row
}

// What one of two servers on one database accepts, the other counts.
func TestTwoServers(t *testing.T) {
	t.Parallel()
	uri := mongo(t).Database(t)
	var conns []*grpc.ClientConn
	var ids []string
	for i := range 2 {
		address, _ := serveOn(t, "--store", uri)
		conns = append(conns, connect(t, address))
		if i == 0 {
			ids = fill(t, address)
		}
	}
	// A site that the first registers is one for the second, and the order too.
	roster := xunchav1.NewRosterServiceClient(conns[0])
	site, err := roster.GetSite(t.Context(), &xunchav1.GetSiteRequest{SiteId: ids[0]})
	if err != nil {
		t.Fatal(err)
	}
	created, err := roster.CreateSite(t.Context(), &xunchav1.CreateSiteRequest{Site: &xunchav1.Site{
		RegistrationNo: "new", Name: "样例·新", DivisionCode: site.Site.DivisionCode,
		RegisteredTime: timestamppb.New(time.Now().Add(-30 * time.Minute)),
	}})
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "the second server knows the new site", func() bool { return cityCoverage(t, conns[1]).SitesDue == 86 })

	// Both append to the same sites at once.
	const workers, each = 8, 10
	var group sync.WaitGroup
	for w := range workers {
		group.Go(func() {
			client := xunchav1.NewInspectionServiceClient(conns[w%2])
			for i := range each {
				id := []string{created.Site.SiteId, ids[1], ids[2]}[i%3]
				if _, err := client.SubmitCheckIn(t.Context(), &xunchav1.SubmitCheckInRequest{CheckIn: newCheckIn(id)}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	group.Wait()
	for i, conn := range conns {
		eventually(t, fmt.Sprintf("server %d counts all check-ins", i), func() bool { return cityCoverage(t, conn).CheckIns == workers*each })
		if got := cityCoverage(t, conn).SitesInspected; got != 3 {
			t.Errorf("server %d: got %d sites inspected, want 3", i, got)
		}
		total := 0
		for _, id := range []string{created.Site.SiteId, ids[1], ids[2]} {
			total += len(wantChain(t, conn, id))
		}
		if total != workers*each {
			t.Errorf("server %d: got %d entries, want %d", i, total, workers*each)
		}
	}
	// One id at both servers is one check-in.
	same := newCheckIn(ids[3])
	first, second := submit(t, conns[0], same), submit(t, conns[1], same)
	if first.Duplicate || !second.Duplicate || !bytes.Equal(first.EntryHash, second.EntryHash) {
		t.Errorf("got the receipts %v and %v, want the second to repeat the first", first, second)
	}
}

// While the database is away, calls may be tried again and health says so;
// once it is back, all goes on. What was acknowledged under load is there.
func TestDatabaseKilled(t *testing.T) {
	t.Parallel()
	database := ownMongo(t)
	address, stop := serveOn(t, "--store", database.Database(t))
	ids := fill(t, address)
	conn := connect(t, address)
	health := func() healthv1.HealthCheckResponse_ServingStatus {
		answer, err := healthv1.NewHealthClient(conn).Check(t.Context(), &healthv1.HealthCheckRequest{Service: "xuncha.v1.InspectionService"})
		if err != nil {
			t.Fatal(err)
		}
		return answer.Status
	}
	client := xunchav1.NewInspectionServiceClient(conn)
	receipts := map[string]*xunchav1.Receipt{}
	var mu sync.Mutex
	for round := range 3 {
		var group sync.WaitGroup
		var over atomic.Bool
		enough := make(chan struct{})
		target := len(receipts) + 40
		for worker := range 8 {
			group.Go(func() {
				for !over.Load() {
					c := newCheckIn(ids[worker%3])
					answer, err := client.SubmitCheckIn(t.Context(), &xunchav1.SubmitCheckInRequest{CheckIn: c})
					if err != nil {
						wantRetry(t, err)
						// The phone sends the same once more, later.
						eventually(t, "a check-in is taken", func() bool {
							if answer, err = client.SubmitCheckIn(t.Context(), &xunchav1.SubmitCheckInRequest{CheckIn: c}); err != nil {
								wantRetry(t, err)
							}
							return err == nil
						})
						mu.Lock()
						receipts[c.CheckInId] = answer.Receipt
						mu.Unlock()
						return
					}
					mu.Lock()
					receipts[c.CheckInId] = answer.Receipt
					if len(receipts) == target {
						close(enough)
					}
					mu.Unlock()
				}
			})
		}
		<-enough
		if err := database.Kill(); err != nil {
			t.Fatal(err)
		}
		eventually(t, "health says that the database is away", func() bool { return health() == healthv1.HealthCheckResponse_NOT_SERVING })
		if round == 0 {
			_, err := client.SubmitCheckIn(t.Context(), &xunchav1.SubmitCheckInRequest{CheckIn: newCheckIn(ids[4])})
			wantRetry(t, err)
			_, err = xunchav1.NewAuditServiceClient(conn).ListSiteHistory(t.Context(), &xunchav1.ListSiteHistoryRequest{SiteId: ids[0]})
			wantRetry(t, err)
		}
		over.Store(true)
		if err := database.Restart(); err != nil {
			t.Fatal(err)
		}
		group.Wait()
		eventually(t, "health says that the database is back", func() bool { return health() == healthv1.HealthCheckResponse_SERVING })
	}
	stored := wantAcknowledged(t, conn, ids[:5], receipts)
	eventually(t, "the coverage counts what is stored", func() bool { return cityCoverage(t, conn).CheckIns == int64(stored) })
	if log := stop(); !strings.Contains(log, "the database is away") || !strings.Contains(log, "the database is back") {
		t.Errorf("the log does not say that the database was away: %s", log)
	}
}

// wantRetry checks an error that says that the same call may succeed later.
func wantRetry(t testing.TB, err error) {
	t.Helper()
	st := status.Convert(err)
	retry := false
	for _, d := range st.Details() {
		if r, ok := d.(*errdetails.RetryInfo); ok && r.RetryDelay.AsDuration() > 0 {
			retry = true
		}
	}
	if st.Code() != codes.Unavailable || !retry {
		t.Errorf("got %v with the details %v, want UNAVAILABLE with RetryInfo", err, st.Details())
	}
}

func TestNoDatabase(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ uri, says string }{
		{"mongodb://officer:geheim@127.0.0.1:1/city?connectTimeoutMS=500", "mongodb://127.0.0.1:1/city"},
		{"mongodb://officer:ge@heim@127.0.0.1:1/", "mongodb://127.0.0.1:1/"},
		{"mongodb://officer:geheim@127.0.0.1:1/?replicaSet=", "mongodb://127.0.0.1:1/"},
		{"mongodb://officer:geheim@[::1/", "mongodb://[::1/"},
		{"mongodb://officer:ge%heim@127.0.0.1:1/", "written as %XX"},
		{"postgres://officer:geheim@127.0.0.1/", "want a folder, or mongodb://"},
	} {
		t.Run(c.says, func(t *testing.T) {
			t.Parallel() // each waits for somebody who does not answer
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
			defer cancel()
			var out, log bytes.Buffer
			err := command.Run(ctx, []string{"serve", "--listen", "127.0.0.1:0", "--store", c.uri, "--log-level", "debug"}, &out, &log)
			if ctx.Err() != nil {
				t.Error("it took 10 s to say so")
			}
			if err == nil || !strings.Contains(err.Error(), c.says) {
				t.Errorf("got %v, want it to name %s", err, c.says)
			}
			if said := fmt.Sprint(err, out.String(), log.String()); strings.Contains(said, "heim") || strings.Contains(said, "%he") {
				t.Errorf("the password is in %s", said)
			}
		})
	}
}

// archiveOf opens a store as what it holds.
func archiveOf(t *testing.T, name string) serve.Engine {
	t.Helper()
	e, _, err := serve.OpenEngine(t.Context(), name, serve.EngineOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// wantSame compares two stores, byte for byte.
func wantSame(t *testing.T, got, want string) {
	t.Helper()
	dump := func(name string) map[string]string {
		e := archiveOf(t, name)
		out := map[string]string{}
		err := e.Heads(t.Context(), func(h ledger.History, head ledger.Head) error {
			entries, err := e.Span(t.Context(), h, 0, 10_000)
			for _, x := range entries {
				out[fmt.Sprint(h, " ", x.Sequence)] = fmt.Sprintf("%s %s %s %v %x %s", x.ID, x.Kind, x.Account, x.Time, x.Hash, x.Record)
			}
			if len(entries) == 0 || entries[len(entries)-1].Head() != head {
				t.Errorf("%s does not end with its head", h)
			}
			return err
		})
		if err := errors.Join(err, e.Close()); err != nil {
			t.Fatal(err)
		}
		return out
	}
	a, b := dump(got), dump(want)
	if len(a) != len(b) {
		t.Errorf("%d entries, want %d", len(a), len(b))
	}
	for k, v := range b {
		if a[k] != v {
			t.Errorf("%s: got %s, want %s", k, a[k], v)
		}
	}
}

// A deployment goes to MongoDB and back, byte for byte, also where a copy was
// interrupted, and serves on there.
func TestCopy(t *testing.T) {
	t.Parallel()
	first, second, database := t.TempDir(), filepath.Join(t.TempDir(), "new"), mongo(t).Database(t)
	address, stop := serveFolder(t, first)
	ids := fill(t, address)
	conn := connect(t, address)
	for i := range 120 {
		submit(t, conn, newCheckIn(ids[i%40]))
	}
	stop()

	// The first try is interrupted somewhere.
	ctx, cancel := context.WithCancel(t.Context())
	out, log := newLineWriter(), newLineWriter()
	done := make(chan error, 1)
	go func() { done <- command.Run(ctx, []string{"copy", "--from", first, "--to", database}, out, log) }()
	<-out.lines // the plan
	cancel()
	if err := <-done; err != nil && !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	for _, c := range [][2]string{{first, database}, {first, database}, {database, second}} {
		stdout, _, err := xuncha(t, "copy", "--from", c[0], "--to", c[1])
		if err != nil || !strings.Contains(stdout, "41 histories with 123 entries") || !strings.Contains(stdout, "Every chain of the copy is whole") {
			t.Fatalf("copy %v: got %q and error %v", c, stdout, err)
		}
		wantSame(t, c[1], first)
	}
	for _, store := range [][]string{{"--store", database}, {"--data", second}} {
		address, stop := serveOn(t, store...)
		if got := cityCoverage(t, connect(t, address)); got.SitesDue != 85 || got.SitesInspected != 40 || got.CheckIns != 120 {
			t.Errorf("%v: got the coverage %v, want 40 of 85 sites with 120 check-ins", store, got)
		}
		if store[0] == "--data" {
			submit(t, connect(t, address), newCheckIn(ids[0]))
		}
		stop()
	}

	// What holds something else is no target, and stays as it is.
	if _, _, err := xuncha(t, "copy", "--from", first, "--to", second); !errors.Is(err, ledger.ErrOther) {
		t.Errorf("got %v, want ErrOther", err)
	}
	missing := filepath.Join(t.TempDir(), "nothing")
	if _, _, err := xuncha(t, "copy", "--from", missing, "--to", second); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("got %v, want ErrNotExist", err)
	}
	if _, err := os.Stat(missing); !errors.Is(err, os.ErrNotExist) {
		t.Error("a source that was not there is there now")
	}
}
