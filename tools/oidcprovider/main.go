// Command oidcprovider is an OpenID Connect provider for tests: the provider of
// github.com/zitadel/oidc, with users from a file. It keeps all else in memory.
package main

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/google/uuid"
	"github.com/zitadel/oidc/v3/example/server/exampleop"
	"github.com/zitadel/oidc/v3/example/server/storage"
	"github.com/zitadel/oidc/v3/pkg/oidc"
	"github.com/zitadel/oidc/v3/pkg/op"
)

func main() {
	listen := flag.String("listen", "127.0.0.1:0", "address to listen on")
	users := flag.String("users", "", "file with the users, read again for every token")
	callback := flag.String("callback", "http://127.0.0.1/callback", "where the apps are called back")
	lifetime := flag.Duration("lifetime", 5*time.Minute, "how long ID tokens last")
	flag.Parse()
	if err := run(*listen, *users, *callback, *lifetime); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// run serves until it is told to end, or until standard input does, which is when
// the test that started it has gone.
func run(listen, users, callback string, lifetime time.Duration) error {
	if _, err := readUsers(users); err != nil {
		return fmt.Errorf("-users: %w", err)
	}
	listener, err := net.Listen("tcp", listen)
	if err != nil {
		return fmt.Errorf("-listen: %w", err)
	}
	slog.SetDefault(slog.New(slog.DiscardHandler))
	// Apps of phones: they have no secret, and prove by PKCE that they began.
	storage.RegisterClients(storage.NativeClient("xuncha-app", callback), storage.NativeClient("other-app", callback))
	p := &provider{lifetime: lifetime, users: users}
	p.Storage = storage.NewStorage(p)
	if err := p.rotate(); err != nil {
		return err
	}
	issuer := "http://" + listener.Addr().String()
	mux := http.NewServeMux()
	mux.Handle("/", exampleop.SetupServer(issuer, p, nil, false))
	mux.HandleFunc("POST /test/rotate-key", func(w http.ResponseWriter, _ *http.Request) {
		if err := p.rotate(); err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
		}
	})
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	server := &http.Server{Handler: mux}
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin) // however it ends, it has
		stop()
	}()
	context.AfterFunc(ctx, func() { _ = server.Close() })
	fmt.Println("listening " + issuer)
	if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// A user is who can sign in.
type user struct {
	ID       string         `json:"id"`
	Username string         `json:"username"`
	Password string         `json:"password"`
	Name     string         `json:"name"`
	Claims   map[string]any `json:"claims"`
}

func readUsers(name string) (users []user, err error) {
	b, err := os.ReadFile(name)
	if err != nil {
		return nil, err
	}
	if err := json.Unmarshal(b, &users); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return users, nil
}

// A provider is the example's storage, with users from a file, their claims in
// every token, and keys that can be rotated.
type provider struct {
	*storage.Storage
	lifetime time.Duration
	users    string

	mu   sync.Mutex
	keys []key // the last one signs
}

// find returns the user that the function finds, or nil.
func (p *provider) find(is func(user) bool) *user {
	users, err := readUsers(p.users)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
	for _, u := range users {
		if is(u) {
			return &u
		}
	}
	return nil
}

func (u *user) stored() *storage.User {
	if u == nil {
		return nil
	}
	return &storage.User{ID: u.ID, Username: u.Username, Password: u.Password, FirstName: u.Name}
}

// GetUserByID implements storage.UserStore.
func (p *provider) GetUserByID(id string) *storage.User {
	return p.find(func(u user) bool { return u.ID == id }).stored()
}

// GetUserByUsername implements storage.UserStore.
func (p *provider) GetUserByUsername(name string) *storage.User {
	return p.find(func(u user) bool { return u.Username == name }).stored()
}

// ExampleClientID implements storage.UserStore.
func (p *provider) ExampleClientID() string { return "service" }

func (p *provider) claims(id string) map[string]any {
	if u := p.find(func(u user) bool { return u.ID == id }); u != nil {
		return u.Claims
	}
	return nil
}

// SetUserinfoFromRequest implements op.CanSetUserinfoFromRequest: what is in ID
// tokens.
func (p *provider) SetUserinfoFromRequest(ctx context.Context, info *oidc.UserInfo, token op.IDTokenRequest, scopes []string) error {
	if err := p.Storage.SetUserinfoFromRequest(ctx, info, token, scopes); err != nil {
		return err
	}
	for name, value := range p.claims(token.GetSubject()) {
		info.AppendClaims(name, value)
	}
	return nil
}

// GetPrivateClaimsFromScopes implements op.Storage: what is in access tokens.
func (p *provider) GetPrivateClaimsFromScopes(_ context.Context, id, _ string, _ []string) (map[string]any, error) {
	claims := map[string]any{}
	for name, value := range p.claims(id) {
		claims[name] = value
	}
	if u := p.GetUserByID(id); u != nil {
		claims["preferred_username"] = u.Username
	}
	return claims, nil
}

// GetClientByClientID implements op.Storage.
func (p *provider) GetClientByClientID(ctx context.Context, id string) (op.Client, error) {
	c, err := p.Storage.GetClientByClientID(ctx, id)
	if err != nil {
		return nil, err
	}
	return client{c, p.lifetime}, nil
}

// A client is an app whose tokens say who the user is.
type client struct {
	op.Client
	lifetime time.Duration
}

// AccessTokenType implements op.Client.
func (client) AccessTokenType() op.AccessTokenType { return op.AccessTokenTypeJWT }

// IDTokenUserinfoClaimsAssertion implements op.Client.
func (client) IDTokenUserinfoClaimsAssertion() bool { return true }

// IDTokenLifetime implements op.Client.
func (c client) IDTokenLifetime() time.Duration { return c.lifetime }

// A key signs tokens.
type key struct {
	id      string
	private *rsa.PrivateKey
}

// ID implements op.SigningKey.
func (k key) ID() string { return k.id }

// SignatureAlgorithm implements op.SigningKey.
func (k key) SignatureAlgorithm() jose.SignatureAlgorithm { return jose.RS256 }

// Key implements op.SigningKey.
func (k key) Key() any { return k.private }

// A publicKey is what others see of a key.
type publicKey struct{ key }

// Algorithm implements op.Key.
func (k publicKey) Algorithm() jose.SignatureAlgorithm { return jose.RS256 }

// Use implements op.Key.
func (k publicKey) Use() string { return "sig" }

// Key implements op.Key.
func (k publicKey) Key() any { return k.private.Public() }

// rotate lets a new key sign. The others are still published.
func (p *provider) rotate() error {
	private, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.keys = append(p.keys, key{uuid.NewString(), private})
	return nil
}

// SigningKey implements op.Storage.
func (p *provider) SigningKey(context.Context) (op.SigningKey, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.keys[len(p.keys)-1], nil
}

// SignatureAlgorithms implements op.Storage.
func (p *provider) SignatureAlgorithms(context.Context) ([]jose.SignatureAlgorithm, error) {
	return []jose.SignatureAlgorithm{jose.RS256}, nil
}

// KeySet implements op.Storage.
func (p *provider) KeySet(context.Context) ([]op.Key, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	var out []op.Key
	for _, k := range p.keys {
		out = append(out, publicKey{k})
	}
	return out, nil
}
