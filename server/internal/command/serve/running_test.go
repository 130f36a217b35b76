package serve

import (
	"context"
	"errors"
	"iter"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"

	"xuncha/ledger"
	xunchav1 "xuncha/proto/xuncha/v1"
)

// A slowEngine is one whose feed begins once it is told what with.
type slowEngine struct {
	Engine
	begin chan error
}

func (s *slowEngine) Feed(ctx context.Context, from ledger.Cursor) iter.Seq2[ledger.FeedEntry, error] {
	return func(yield func(ledger.FeedEntry, error) bool) {
		var err error
		select {
		case err = <-s.begin:
		case <-ctx.Done():
			err = ctx.Err()
		}
		if err != nil {
			yield(ledger.FeedEntry{}, err)
			return
		}
		s.Engine.Feed(ctx, from)(yield)
	}
}

// startSlowly starts a server whose reading of what is stored begins when told to.
func startSlowly(t *testing.T) (r *Running, begin chan error, log *lines) {
	t.Helper()
	begin, log = make(chan error), &lines{}
	c := Config{
		Listen: "127.0.0.1:0", TimeZone: "UTC", LogLevel: "info", MaxMessageBytes: 1 << 20,
		photoConfig: photoConfig{PhotoRetentionDays: 30}, ShutdownTimeout: time.Minute,
	}
	r, err := start(t.Context(), StoreConfig{Data: t.TempDir()}, c, log,
		func(ctx context.Context, name string, o EngineOptions) (Engine, string, error) {
			store, where, err := OpenEngine(ctx, name, o)
			return &slowEngine{store, begin}, where, err
		})
	if err != nil {
		t.Fatal(err)
	}
	return r, begin, log
}

// A server answers from its first moment on: before it has read what is stored, that it is
// starting and when to try again.
func TestStarting(t *testing.T) {
	r, begin, _ := startSlowly(t)
	conn, err := grpc.NewClient(r.Address, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	list := func() error {
		_, err := xunchav1.NewRosterServiceClient(conn).ListSites(t.Context(), &xunchav1.ListSitesRequest{})
		return err
	}
	health := func(want healthv1.HealthCheckResponse_ServingStatus) {
		t.Helper()
		got, err := healthv1.NewHealthClient(conn).Check(t.Context(), &healthv1.HealthCheckRequest{})
		if err != nil || got.Status != want {
			t.Errorf("got %v, %v, want %v", got, err, want)
		}
	}
	err = list()
	retry := false
	for _, d := range status.Convert(err).Details() {
		_, is := d.(*errdetails.RetryInfo)
		retry = retry || is
	}
	if status.Code(err) != codes.Unavailable || !retry {
		t.Errorf("got %v, retry %v, want UNAVAILABLE with RetryInfo", err, retry)
	}
	health(healthv1.HealthCheckResponse_NOT_SERVING)
	begin <- nil
	<-r.Ready
	if err := list(); err != nil {
		t.Error(err)
	}
	// The health is set right behind that.
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); {
		if got, err := healthv1.NewHealthClient(conn).Check(t.Context(), &healthv1.HealthCheckRequest{}); err != nil || got.Status == healthv1.HealthCheckResponse_SERVING {
			break
		}
	}
	health(healthv1.HealthCheckResponse_SERVING)
	if err := r.Stop(); err != nil {
		t.Error(err)
	}
}

// A server that is stopped while it starts does not go on reading, and that is no failure.
func TestStopWhileStarting(t *testing.T) {
	r, _, log := startSlowly(t)
	if err := r.Stop(); err != nil {
		t.Error(err)
	}
	select {
	case <-r.Ready:
		t.Error("it has served")
	case err := <-r.Failed:
		t.Errorf("got %v", err)
	default:
	}
	if got := log.String(); !strings.Contains(got, "stopped") || strings.Contains(got, "ERROR") {
		t.Errorf("the log has %s", got)
	}
}

// A server that cannot read what is stored says what is wrong with which store.
func TestStartFails(t *testing.T) {
	r, begin, _ := startSlowly(t)
	begin <- ledger.ErrBroken
	if err := <-r.Failed; !errors.Is(err, ledger.ErrBroken) || !strings.Contains(err.Error(), "data folder") {
		t.Errorf("got %v, want ErrBroken and which store", err)
	}
	if err := r.Stop(); err != nil {
		t.Error(err)
	}
}

// A start that takes long says how far it is; one that does not says nothing.
func TestLoadingSays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := &lines{}
		p := startLoading(slog.New(slog.NewTextHandler(log, nil)))
		p.of.Store(3000)
		for range 1000 {
			if err := p.take(ledger.Entry{}); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(saysEvery - time.Millisecond)
		if got := log.String(); got != "" {
			t.Errorf("got %s before its time", got)
		}
		time.Sleep(time.Second)
		if got := log.String(); !strings.Contains(got, "entries=1000 of=3000 per_second=200") {
			t.Errorf("got %s", got)
		}
		time.Sleep(saysEvery)
		p.end()
		if got := log.String(); strings.Count(got, "\n") != 2 || !strings.Contains(got, "per_second=0") {
			t.Errorf("got %s, want a second line", got)
		}
	})
}
