package serve

import (
	"context"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	xunchav1 "xuncha/proto/xuncha/v1"
	"xuncha/server/internal/accounts"
	"xuncha/server/internal/accounts/oidctest"
	"xuncha/sites"
)

const silentPassword = "correct horse battery"

// startWith starts a server with a change of what it runs with, and one administrator.
func startWith(t *testing.T, change func(*Config), open func(context.Context, string, EngineOptions) (Engine, string, error)) (*Running, *grpc.ClientConn, *lines) {
	t.Helper()
	log := &lines{}
	c := Config{
		Listen: "127.0.0.1:0", TimeZone: "UTC", LogLevel: "info", MaxMessageBytes: 1 << 20,
		photoConfig: photoConfig{PhotoRetentionDays: 30}, ShutdownTimeout: time.Minute,
	}
	change(&c)
	r, err := start(t.Context(), StoreConfig{Data: t.TempDir()}, c, log, open)
	if err != nil {
		t.Fatal(err)
	}
	<-r.Ready
	if _, _, err := r.people.Create(t.Context(), accounts.By{Account: "operator"}, accounts.NewAccount{
		Username: "root", Role: accounts.Admin, Divisions: []sites.DivisionCode{"511600"}, Password: silentPassword,
	}); err != nil {
		t.Fatal(err)
	}
	conn, err := grpc.NewClient(r.Address, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return r, conn, log
}

// TestSilentProvider ensures that 3,000 forged tokens, which only name an identity provider
// that takes questions and answers none, keep no sign-in on the same connection waiting,
// and the server not from stopping.
func TestSilentProvider(t *testing.T) {
	provider := oidctest.NewScripted(t, false)
	provider.SetDocument(oidctest.Silent(t))
	r, conn, log := startWith(t, func(c *Config) {
		c.OIDC = oidcConfig{Issuer: provider.Issuer, Audience: oidctest.Audience, UsernameClaim: "u", RoleClaim: "r", DivisionsClaim: "d"}
	}, OpenEngine)
	stranger := oidctest.NewKey(t, "x")
	token := oidctest.SignWith(t, jwt.SigningMethodRS256, stranger.Private, "x", provider.Claims(oidctest.User{ID: "x"}, time.Now(), nil), nil)
	const calls = 3000
	ctx := metadata.AppendToOutgoingContext(t.Context(), "authorization", "Bearer "+token)
	outcomes := make(chan error, calls)
	for range calls {
		go func() {
			_, err := xunchav1.NewAccountServiceClient(conn).GetMe(ctx, &xunchav1.GetMeRequest{})
			outcomes <- err
		}()
	}
	// Most are answered while the question to the provider is under way.
	for range calls - 100 {
		if err := <-outcomes; status.Code(err) != codes.Unavailable || !strings.Contains(status.Convert(err).Message(), "identity provider") {
			t.Fatalf("a forged token: got %v", err)
		}
	}
	if _, err := xunchav1.NewAccountServiceClient(conn).Login(t.Context(), &xunchav1.LoginRequest{Username: "root", Password: silentPassword}); err != nil {
		t.Errorf("a sign-in with a password: %v", err)
	}
	if err := r.Stop(); err != nil {
		t.Error(err)
	}
	if got := log.String(); strings.Contains(got, "calls under way are cut") || strings.Contains(got, "call failed") {
		t.Errorf("the log says that calls did not end, or more than it has to")
	}
}

// A stuckEngine is one whose secrets, once it is stuck, do not even answer callers who
// have left.
type stuckEngine struct {
	Engine
	stuck atomic.Bool
	asked atomic.Int64
	end   chan struct{}
}

func (s *stuckEngine) Secret(ctx context.Context, name string) ([]byte, int64, error) {
	if s.stuck.Load() {
		s.asked.Add(1)
		<-s.end
	}
	return s.Engine.Secret(ctx, name)
}

// TestStopWithoutCalls ensures that a server stops although calls wait for what never
// answers.
func TestStopWithoutCalls(t *testing.T) {
	stuck := &stuckEngine{end: make(chan struct{})}
	defer close(stuck.end)
	r, conn, log := startWith(t, func(c *Config) { c.ShutdownTimeout = 50 * time.Millisecond },
		func(ctx context.Context, name string, o EngineOptions) (Engine, string, error) {
			store, where, err := OpenEngine(ctx, name, o)
			stuck.Engine = store
			return stuck, where, err
		})
	stuck.stuck.Store(true)
	outcome := make(chan error, 1)
	go func() {
		_, err := xunchav1.NewAccountServiceClient(conn).Login(t.Context(), &xunchav1.LoginRequest{Username: "root", Password: silentPassword})
		outcome <- err
	}()
	for stuck.asked.Load() == 0 {
		time.Sleep(time.Millisecond)
	}
	if err := r.Stop(); err != nil {
		t.Error(err)
	}
	if err := <-outcome; status.Code(err) != codes.Unavailable {
		t.Errorf("the call that was cut: got %v, want UNAVAILABLE", err)
	}
	if got := log.String(); !strings.Contains(got, "calls that were cut do not end") {
		t.Errorf("the log has %s", got)
	}
}

// TestStopWithoutHandshake ensures that who connects and says nothing keeps no server from
// stopping.
func TestStopWithoutHandshake(t *testing.T) {
	r, _, log := startWith(t, func(c *Config) { c.ShutdownTimeout = 5 * time.Second }, OpenEngine)
	silent, err := net.Dial("tcp", r.Address)
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	if _, err := silent.Read(make([]byte, 9)); err != nil { // the server awaits the caller's preface now
		t.Fatal(err)
	}
	if err := r.Stop(); err != nil {
		t.Error(err)
	}
	if got := log.String(); strings.Contains(got, "are cut") {
		t.Errorf("the server has waited for the caller: %s", got)
	}
}
