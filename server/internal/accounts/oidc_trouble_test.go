package accounts_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/google/uuid"

	"xuncha/server/internal/accounts"
	"xuncha/server/internal/accounts/oidctest"
)

// A scriptedWorld is a service that trusts a provider which says what the test wants.
type scriptedWorld struct {
	*accounts.Service
	store    *store
	provider *oidctest.Scripted
	ahead    atomic.Int64

	mu       sync.Mutex
	troubles []string // as reported; "" where one is over
	passed   []string
}

func (w *scriptedWorld) now() time.Time { return time.Now().Add(time.Duration(w.ahead.Load())) }

func (w *scriptedWorld) reported() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return strings.Join(w.troubles, "; ")
}

func newScriptedWorld(t testing.TB, secure bool, change ...func(*accounts.Config)) *scriptedWorld {
	t.Helper()
	w := &scriptedWorld{store: newStore(t), provider: oidctest.NewScripted(t, secure)}
	w.Service = w.open(t, change...)
	return w
}

func (w *scriptedWorld) open(t testing.TB, change ...func(*accounts.Config)) *accounts.Service {
	t.Helper()
	until, end := context.WithCancel(context.Background())
	t.Cleanup(end)
	c := accounts.Config{
		Ledger: w.store, Secrets: w.store, Now: w.now, NewID: uuid.NewString, Random: rand.Reader,
		Provider: &accounts.IdentityProvider{
			Issuer: w.provider.Issuer, Audience: oidctest.Audience, Client: w.provider.Client(), Until: until,
			UsernameClaim: "preferred_username", RoleClaim: "xuncha_role", DivisionsClaim: "xuncha_divisions",
			Report: func(trouble error, _ int64) {
				w.mu.Lock()
				defer w.mu.Unlock()
				text := ""
				if trouble != nil {
					text = trouble.Error()
				}
				w.troubles = append(w.troubles, text)
			},
			Passed: func(codes []string) {
				w.mu.Lock()
				defer w.mu.Unlock()
				w.passed = append(w.passed, codes...)
			},
		},
	}
	for _, f := range change {
		f(&c)
	}
	s, err := accounts.Open(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// token is a good one, changed.
func (w *scriptedWorld) token(t testing.TB, claims, header map[string]any) string {
	t.Helper()
	return w.provider.Sign(t, w.provider.Claims(wang(), w.now(), claims), header)
}

// forged names a key that there is not.
func (w *scriptedWorld) forged(t testing.TB, key oidctest.Key) string {
	t.Helper()
	return oidctest.SignWith(t, jwt.SigningMethodRS256, key.Private, uuid.NewString(), w.provider.Claims(wang(), w.now(), nil), nil)
}

// TestProviderTrouble ensures that nothing that is wrong with the provider makes its tokens
// wrong, on which phones drop their session, and that what is wrong is reported.
func TestProviderTrouble(t *testing.T) {
	t.Parallel()
	elsewhere := httptest.NewServer(oidctest.JSON(map[string]any{"keys": []any{}}))
	defer elsewhere.Close()
	text := func(text string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(text)) }
	}
	huge := func(w http.ResponseWriter, r *http.Request) {
		// 1.5 GB, of which no more is written than somebody reads.
		for piece := bytes.Repeat([]byte(" "), 1<<20); r.Context().Err() == nil; {
			if _, err := w.Write(piece); err != nil {
				return
			}
		}
	}
	bomb := func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Encoding", "gzip")
		z := gzip.NewWriter(w)
		for range 64 {
			if _, err := z.Write(make([]byte, 1<<20)); err != nil {
				return
			}
		}
		_ = z.Close()
	}
	many := make([]any, 501)
	for i := range many {
		many[i] = map[string]any{"kty": "RSA"}
	}
	for name, c := range map[string]struct {
		document, keys http.HandlerFunc
		want           string
	}{
		"no JSON":              {document: text("<html>"), want: "its document is not"},
		"a list":               {document: text("[]"), want: "its document is not"},
		"another issuer":       {document: oidctest.JSON(map[string]any{"issuer": "https://else.example", "jwks_uri": "x"}), want: `that of the issuer "https://else.example"`},
		"no address":           {document: text(`{"issuer":"ISSUER"}`), want: "jwks_uri"},
		"plain http":           {document: text(`{"issuer":"ISSUER","jwks_uri":"` + elsewhere.URL + `"}`), want: "not https"},
		"a file":               {document: text(`{"issuer":"ISSUER","jwks_uri":"file:///etc/passwd"}`), want: "no address on the web"},
		"an error":             {document: func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(502) }, want: "502"},
		"a redirect to plain":  {keys: func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, elsewhere.URL, http.StatusFound) }, want: "not https"},
		"redirects for ever":   {keys: func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, r.URL.Path+"x", http.StatusFound) }, want: "more than 3 times"},
		"no key set":           {keys: text("{"), want: "its key set is not"},
		"an empty key set":     {keys: text(`{"keys":[]}`), want: "its key set is empty"},
		"a huge key set":       {keys: huge, want: "more than 1048576 bytes"},
		"a packed key set":     {keys: bomb, want: "more than 1048576 bytes"},
		"a huge document":      {document: huge, want: "more than 1048576 bytes"},
		"too many keys":        {keys: oidctest.JSON(map[string]any{"keys": many}), want: "501 keys"},
		"no key that is whole": {keys: text(`{"keys":[{"kty":"RSA","kid":"one","n":"!","e":"AQAB"}]}`), want: "none of the 1 keys"},
		"a cut connection":     {keys: func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, want: "EOF"},
		"huge headers": {keys: func(w http.ResponseWriter, _ *http.Request) {
			for i := range 3000 {
				w.Header().Set(fmt.Sprintf("X-%d", i), strings.Repeat("x", 1000))
			}
		}, want: "/keys"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newScriptedWorld(t, true)
			good := w.token(t, nil, nil)
			if c.document != nil {
				w.provider.SetDocument(func(rw http.ResponseWriter, r *http.Request) {
					c.document(&issuerWriter{rw, w.provider.Issuer}, r)
				})
			}
			if c.keys != nil {
				w.provider.SetKeys(c.keys)
			}
			_, err := w.Verify(t.Context(), good)
			wantError(t, "a good token", err, accounts.ErrProvider)
			if errors.Is(err, accounts.ErrToken) {
				t.Error("it is said to be wrong")
			}
			if got := w.reported(); !strings.Contains(got, c.want) || len(got) > 1500 {
				t.Errorf("reported was %q, want it to say %q", got, c.want)
			}
			var wait interface{ RetryAfter() time.Duration }
			if !errors.As(err, &wait) || wait.RetryAfter() < time.Second {
				t.Error("it does not say when to try again")
			}
			// Once the provider is well, the same token is good.
			w.provider.SetDocument(oidctest.JSON(map[string]any{"issuer": w.provider.Issuer, "jwks_uri": w.provider.Issuer + "/keys"}))
			w.provider.Publish(w.provider.Key.JWK(nil))
			w.ahead.Add(int64(5 * time.Second))
			if _, err := w.Verify(t.Context(), good); err != nil {
				t.Errorf("afterwards: %v", err)
			}
			if got := w.reported(); !strings.HasSuffix(got, "; ") {
				t.Errorf("reported was %q, want that it is over", got)
			}
			// A provider that then fails again keeps nobody out whose key is known.
			w.provider.SetKeys(c.keys)
			w.provider.SetDocument(c.document)
			if c.keys == nil {
				w.provider.SetKeys(text(""))
			}
			if c.document == nil {
				w.provider.SetDocument(text(""))
			}
			w.ahead.Add(int64(20 * time.Minute))
			for range 3 {
				if _, err := w.Verify(t.Context(), w.token(t, nil, nil)); err != nil {
					t.Errorf("a known key: %v", err)
				}
			}
		})
	}
}

// An issuerWriter puts the provider's address into what is written.
type issuerWriter struct {
	http.ResponseWriter
	issuer string
}

func (w *issuerWriter) Write(b []byte) (int, error) {
	_, err := w.ResponseWriter.Write(bytes.ReplaceAll(b, []byte("ISSUER"), []byte(w.issuer)))
	return len(b), err
}

// TestProviderSilent ensures that a provider that takes questions and answers none keeps
// nobody else waiting: each call leaves with its own deadline, most are told at once to
// try again, one question is asked, and the server's stop ends all.
func TestProviderSilent(t *testing.T) {
	t.Parallel()
	until, stop := context.WithCancel(t.Context())
	w := newScriptedWorld(t, false, func(c *accounts.Config) { c.Provider.Until = until })
	w.provider.SetDocument(oidctest.Silent(t))
	good := w.token(t, nil, nil)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	_, err := w.Verify(ctx, good)
	cancel()
	wantError(t, "a call with a deadline", err, context.DeadlineExceeded)
	for w.provider.Documents.Load() == 0 { // the question may need longer than that call has
		time.Sleep(time.Millisecond)
	}

	const calls = 300
	outcomes := make(chan error, calls)
	for range calls {
		go func() {
			_, err := w.Verify(t.Context(), good)
			outcomes <- err
		}()
	}
	for range calls - 32 { // which is how many wait
		wantError(t, "a call beyond those that wait", <-outcomes, accounts.ErrProvider)
	}
	if n := w.provider.Documents.Load(); n != 1 {
		t.Errorf("the provider was asked %d times at once, want once", n)
	}
	// Others are served meanwhile.
	if _, err := w.Verify(t.Context(), "x.y.z"); !errors.Is(err, accounts.ErrToken) {
		t.Errorf("got %v", err)
	}
	stop()
	for range 32 {
		wantError(t, "a call that waits while the server stops", <-outcomes, accounts.ErrProvider)
	}
}

// TestForgedTokensNamingTheIssuer ensures that tokens which only name the issuer cost a
// few questions to the provider, and stand in nobody's way.
func TestForgedTokensNamingTheIssuer(t *testing.T) {
	t.Parallel()
	w := newScriptedWorld(t, false)
	stranger := oidctest.NewKey(t, "stranger")
	if _, err := w.Verify(t.Context(), w.token(t, nil, nil)); err != nil {
		t.Fatal(err)
	}
	for i := range 3000 {
		// Most are not worth a signature.
		token := "e30.e30." + w.provider.Issuer
		if i%20 == 0 {
			token = w.forged(t, stranger)
		} else if i%2 == 0 {
			token = oidctest.SignWith(t, jwt.SigningMethodHS256, []byte("x"), "one", map[string]any{"iss": w.provider.Issuer, "n": i}, nil)
		}
		if _, err := w.Verify(t.Context(), token); !errors.Is(err, accounts.ErrToken) && !errors.Is(err, accounts.ErrProvider) {
			t.Fatalf("got %v", err)
		}
	}
	if n := w.provider.KeySets.Load(); n > 6 {
		t.Errorf("the provider was asked %d times for its keys, want at most 6", n)
	}
	// While it is asked and does not answer, whoever has a known key goes on.
	w.ahead.Add(int64(2 * time.Minute))
	w.provider.SetKeys(oidctest.Silent(t))
	gone, cancel := context.WithCancel(t.Context())
	asked := make(chan error, 1)
	before := w.provider.KeySets.Load()
	go func() {
		_, err := w.Verify(gone, w.forged(t, stranger))
		asked <- err
	}()
	for w.provider.KeySets.Load() == before {
		time.Sleep(time.Millisecond)
	}
	if _, err := w.Verify(t.Context(), w.token(t, nil, nil)); err != nil {
		t.Errorf("a known key while the provider is asked: %v", err)
	}
	cancel()
	wantError(t, "a call that was cancelled", <-asked, context.Canceled)
}

// TestUnknownKeyJudged ensures that a token by an unknown key is wrong only where the keys
// are newer than it, and that another try is asked for where they cannot be told to be.
func TestUnknownKeyJudged(t *testing.T) {
	t.Parallel()
	w := newScriptedWorld(t, false)
	if _, err := w.Verify(t.Context(), w.token(t, nil, nil)); err != nil {
		t.Fatal(err)
	}
	stranger := oidctest.NewKey(t, "stranger")
	old := oidctest.SignWith(t, jwt.SigningMethodRS256, stranger.Private, "gone", w.provider.Claims(wang(), w.now().Add(-10*time.Minute), nil), nil)
	n := w.provider.KeySets.Load()
	_, err := w.Verify(t.Context(), old)
	wantError(t, "a token older than the keys", err, accounts.ErrToken)
	if w.provider.KeySets.Load() != n {
		t.Error("the provider was asked for it")
	}
	for i := range 10 {
		_, err := w.Verify(t.Context(), w.forged(t, stranger))
		if i < 4 {
			wantError(t, "a token that the provider was asked for", err, accounts.ErrToken)
		} else {
			wantError(t, "a token that nobody was asked for", err, accounts.ErrProvider)
		}
	}
	// A key that is new is found by the next question that may be asked.
	w.provider.Publish(w.provider.Key.JWK(nil), stranger.JWK(map[string]any{"kid": "new"}))
	signed := oidctest.SignWith(t, jwt.SigningMethodRS256, stranger.Private, "new", w.provider.Claims(wang(), w.now(), nil), nil)
	_, err = w.Verify(t.Context(), signed)
	wantError(t, "a new key just now", err, accounts.ErrProvider)
	w.ahead.Add(int64(31 * time.Second))
	if _, err := w.Verify(t.Context(), signed); err != nil {
		t.Errorf("a new key half a minute later: %v", err)
	}
}

// A roundTripper answers requests within the test.
type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// A drip gives a byte a second, for ever.
type drip struct{ ctx context.Context }

func (d drip) Read(b []byte) (int, error) {
	select {
	case <-time.After(time.Second):
		b[0] = ' '
		return 1, nil
	case <-d.ctx.Done():
		return 0, d.ctx.Err()
	}
}

func (drip) Close() error { return nil }

// TestProviderSlow ensures that a question to the provider ends after ten seconds, whether
// nothing comes or a byte now and then, and that the next one follows two seconds later.
func TestProviderSlow(t *testing.T) {
	for name, answer := range map[string]roundTripper{
		"Silent": func(r *http.Request) (*http.Response, error) {
			<-r.Context().Done()
			return nil, r.Context().Err()
		},
		"Dripping": func(r *http.Request) (*http.Response, error) {
			return &http.Response{StatusCode: http.StatusOK, Header: http.Header{}, Body: drip{r.Context()}, Request: r}, nil
		},
	} {
		t.Run(name, func(t *testing.T) {
			provider := oidctest.NewScripted(t, false)
			synctest.Test(t, func(t *testing.T) {
				asked, w := 0, &scriptedWorld{store: newStore(t), provider: provider}
				w.Service = w.open(t, func(c *accounts.Config) {
					c.Provider.Client = &http.Client{Transport: roundTripper(func(r *http.Request) (*http.Response, error) {
						asked++
						return answer(r)
					})}
				})
				token := w.token(t, nil, nil)
				verify := func(want time.Duration, questions int) {
					t.Helper()
					began := time.Now()
					_, err := w.Verify(t.Context(), token)
					wantError(t, "a good token", err, accounts.ErrProvider)
					if took := time.Since(began); took != want || asked != questions {
						t.Errorf("it took %s and %d questions, want %s and %d", took, asked, want, questions)
					}
				}
				verify(10*time.Second, 1)
				verify(0, 1)
				if got := w.reported(); !strings.Contains(got, "within 10s") {
					t.Errorf("reported was %q", got)
				}
				time.Sleep(2 * time.Second)
				verify(10*time.Second, 2)
				if got := w.reported(); strings.Contains(got, ";") {
					t.Errorf("reported was %q, want one line a minute", got)
				}
			})
		})
	}
}
