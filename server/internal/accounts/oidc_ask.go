package accounts

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"

	"xuncha/internal/texts"
)

// A provider checks the tokens of an identity provider. It asks that for its keys in a
// goroutine of its own, one question at a time. Calls wait for the outcome by their own
// deadlines, and none of them holds a lock meanwhile.
type provider struct {
	IdentityProvider
	now    func() time.Time
	until  context.Context
	client *http.Client

	keys    atomic.Pointer[keySet] // nil until the provider has answered
	waiting atomic.Int64
	refused atomic.Int64 // calls, since the last report

	mu      sync.Mutex // is never held while anybody waits
	asking  *question  // the one under way; nil for none
	failure error      // of the last question; nil where it was answered
	failed  time.Time
	limit   *rate.Limiter
	told    time.Time // when Report was told of a trouble
	trouble bool      // that Report was told of one that is not over
	passed  time.Time // when Passed was told
}

// A question is asked of the provider. keys and err are there once done is closed.
type question struct {
	done chan struct{}
	keys *keySet
	err  error
}

// A providerError is an ErrProvider.
type providerError struct {
	why  string
	wait time.Duration // before another try can help; 0 for what the table of errors says
}

func (e *providerError) Error() string { return ErrProvider.Error() + ": " + e.why }

// Is lets errors.Is find it as ErrProvider.
func (e *providerError) Is(target error) bool { return target == ErrProvider }

// RetryAfter is how long the caller should wait.
func (e *providerError) RetryAfter() time.Duration { return max(e.wait, askedAgain) }

// troubled returns what is wrong with the provider.
func troubled(format string, args ...any) error {
	return &providerError{why: fmt.Sprintf(format, args...)}
}

// maxSpelled is how much of a text of somebody else is shown, in bytes.
const maxSpelled = 300

// spelled returns a text of somebody else as a log can show it.
func spelled(text string) string {
	if len(text) > maxSpelled {
		text = strings.ToValidUTF8(text[:maxSpelled], "") + "…"
	}
	return texts.Spelled(text)
}

func newProvider(p IdentityProvider, now func() time.Time) *provider {
	client := http.Client{}
	if p.Client != nil {
		client = *p.Client
	}
	if client.Transport == nil {
		client.Transport = http.DefaultTransport
	}
	if transport, ok := client.Transport.(*http.Transport); ok {
		transport = transport.Clone()
		transport.MaxResponseHeaderBytes = maxAnswerHeader
		transport.DisableKeepAlives = true // the next question is minutes away
		client.Transport = transport
	}
	client.CheckRedirect = func(r *http.Request, via []*http.Request) error {
		if len(via) > maxRedirects {
			return fmt.Errorf("it sends the server elsewhere more than %d times", maxRedirects)
		}
		return checkAddress(p.Issuer, r.URL)
	}
	out := &provider{IdentityProvider: p, now: now, until: p.Until, client: &client, limit: rate.NewLimiter(rate.Every(keyFetchEvery), keyFetchBurst)}
	if out.until == nil {
		out.until = context.Background()
	}
	return out
}

// checkAddress returns an error for an address where somebody on the way could replace
// the provider's keys with their own, unless the provider itself is on this machine.
func checkAddress(issuer string, u *url.URL) error {
	local := u.Hostname() == "localhost" || net.ParseIP(u.Hostname()).IsLoopback()
	switch {
	case u.Host == "", u.Scheme != "https" && u.Scheme != "http":
		return fmt.Errorf("%s is no address on the web", spelled(u.String()))
	case u.Scheme == "http" && (!local || !strings.HasPrefix(issuer, "http://")):
		return fmt.Errorf("%s is not https, where whoever is on the way could give out keys", spelled(u.String()))
	}
	return nil
}

// newer returns the outcome of a question to the provider: of the one under way, or of
// one that begins now. began tells which. Where the provider may not be asked now, the
// error says so; than, the keys that are known, is nil for none.
func (p *provider) newer(ctx context.Context, than *keySet) (keys *keySet, began bool, err error) {
	p.mu.Lock()
	q := p.asking
	if q == nil {
		now := p.now()
		switch wait := askedAgain - now.Sub(p.failed); {
		case p.failure != nil && wait > 0 && wait <= askedAgain:
			err = p.failure
		case than != nil && !p.limit.AllowN(now, 1):
			missing := (1 - p.limit.TokensAt(now)) * float64(keyFetchEvery)
			err = &providerError{"it was asked for its keys a moment ago", time.Duration(missing)}
		default:
			q, began = p.ask(), true
		}
	}
	p.mu.Unlock()
	if err != nil {
		return nil, false, err
	}
	if p.waiting.Add(1) > maxAsking {
		p.waiting.Add(-1)
		return nil, began, troubled("too many calls wait for it")
	}
	defer p.waiting.Add(-1)
	select {
	case <-q.done:
		return q.keys, began, q.err
	case <-ctx.Done():
		return nil, began, ctx.Err()
	case <-p.until.Done():
		return nil, began, troubled("the server stops")
	}
}

// renew asks the provider anew, beside the calls, where the keys have become old.
func (p *provider) renew(keys *keySet) {
	if age := p.now().Sub(keys.asked); age < keysRenewed {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.asking == nil && (p.failure == nil || p.now().Sub(p.failed) >= keyFetchEvery) {
		p.ask()
	}
}

// ask begins a question. p.mu must be held, and no question be under way.
func (p *provider) ask() *question {
	q := &question{done: make(chan struct{})}
	p.asking = q
	go func() {
		ctx, cancel := context.WithTimeout(p.until, providerTimeout)
		defer cancel()
		q.keys, q.err = p.fetch(ctx)
		p.mu.Lock()
		p.asking, p.failure, p.failed = nil, q.err, p.now()
		if q.err == nil {
			p.keys.Store(q.keys)
		}
		p.mu.Unlock()
		if p.until.Err() == nil {
			p.report(q.err)
		}
		close(q.done)
	}()
	return q
}

// report tells what is wrong with the provider, or that nothing is any more.
func (p *provider) report(trouble error) {
	p.mu.Lock()
	now := p.now()
	tell := p.trouble // which is over
	if trouble != nil {
		if age := now.Sub(p.told); age < 0 || age >= troubleEvery {
			tell, p.told = true, now
		} else {
			tell = false
		}
	}
	if tell {
		p.trouble = trouble != nil
	}
	p.mu.Unlock()
	if tell && p.Report != nil {
		p.Report(trouble, p.refused.Swap(0))
	}
}

// fetch asks the provider for its document and its keys (OpenID Connect Discovery 1.0
// section 4). The error is ErrProvider.
func (p *provider) fetch(ctx context.Context) (keys *keySet, err error) {
	defer func() {
		if v := recover(); v != nil { // of what reads the provider's answer
			keys, err = nil, troubled("its answer cannot be read: %s", spelled(fmt.Sprint(v)))
		}
	}()
	asked := p.now()
	b, err := p.get(ctx, strings.TrimSuffix(p.Issuer, "/")+"/.well-known/openid-configuration")
	if err != nil {
		return nil, err
	}
	var document struct {
		Issuer string `json:"issuer"`
		Keys   string `json:"jwks_uri"`
	}
	if err := json.Unmarshal(b, &document); err != nil {
		return nil, troubled("its document is not what OpenID Connect says: %s", spelled(err.Error()))
	}
	if document.Issuer != p.Issuer {
		return nil, troubled("its document is that of the issuer %q", spelled(document.Issuer))
	}
	address, err := url.Parse(document.Keys)
	if err != nil {
		return nil, troubled("its jwks_uri is no address: %s", spelled(document.Keys))
	}
	if err := checkAddress(p.Issuer, address); err != nil {
		return nil, troubled("its jwks_uri %v", err)
	}
	if b, err = p.get(ctx, document.Keys); err != nil {
		return nil, err
	}
	return parseKeySet(b, asked)
}

// get returns what lies at one of the provider's addresses. The error is ErrProvider.
func (p *provider) get(ctx context.Context, address string) ([]byte, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return nil, troubled("%s", spelled(err.Error()))
	}
	r.Header.Set("Accept", "application/json")
	r.Header.Set("Cache-Control", "no-cache")
	answer, err := p.client.Do(r)
	if errors.Is(err, context.DeadlineExceeded) {
		return nil, troubled("%s does not answer within %s", spelled(address), providerTimeout)
	}
	if err != nil {
		return nil, troubled("%s", spelled(err.Error()))
	}
	defer func() { _ = answer.Body.Close() }() // of it, only what was read counts
	if answer.StatusCode != http.StatusOK {
		return nil, troubled("%s answers %s", spelled(address), spelled(answer.Status))
	}
	b, err := io.ReadAll(io.LimitReader(answer.Body, maxAnswer+1))
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		return nil, troubled("%s does not answer to the end within %s", spelled(address), providerTimeout)
	case err != nil:
		return nil, troubled("%s: %s", spelled(address), spelled(err.Error()))
	case len(b) > maxAnswer:
		return nil, troubled("%s answers with more than %d bytes", spelled(address), maxAnswer)
	}
	return b, nil
}
