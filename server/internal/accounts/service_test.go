package accounts_test

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/google/uuid"

	"xuncha/ledger"
	"xuncha/ledger/ledgertest"
	"xuncha/server/internal/accounts"
	"xuncha/server/internal/accounts/accountstest"
	"xuncha/sites"
)

const password = "correct horse battery"

// A store is all that accounts are stored in.
type store struct {
	*ledgertest.Memory
	accountstest.MemorySecrets
	away atomic.Bool  // secrets cannot be read
	read atomic.Int64 // how many secrets were
}

var errAway = fmt.Errorf("to order: %w", ledger.ErrUnavailable)

// Secret implements accounts.Secrets.
func (s *store) Secret(ctx context.Context, name string) ([]byte, int64, error) {
	s.read.Add(1)
	if s.away.Load() {
		return nil, 0, errAway
	}
	return s.MemorySecrets.Secret(ctx, name)
}

func newStore(t testing.TB) *store { return &store{Memory: ledgertest.New(t)} }

// A world is a service on a store in memory, with one officer, and a clock.
type world struct {
	*accounts.Service
	store   *store
	mu      sync.Mutex
	now     time.Time
	officer *accounts.Account
	// unrecorded are the devices that were signed out and are not on record.
	unrecorded []string
	// damaged is what could not be read of what accounts sign in with.
	damaged []string
}

func (w *world) clock() time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.now
}

func (w *world) advance(d time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.now = w.now.Add(d)
}

// open opens the accounts of the store as another server would.
func (w *world) open(t testing.TB) *accounts.Service {
	t.Helper()
	s, err := accounts.Open(t.Context(), accounts.Config{
		Ledger: w.store, Secrets: w.store, Now: w.clock, NewID: uuid.NewString, Random: rand.Reader,
		Unrecorded: func(username, device, reason string, _ error) {
			w.unrecorded = append(w.unrecorded, username+" "+device+" "+reason)
		},
		Damaged: func(what string) { w.damaged = append(w.damaged, what) },
	})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// follow lets another server take in what the store's feed has.
func (w *world) follow(t testing.TB, s *accounts.Service) error {
	t.Helper()
	return errors.Join(ledger.NewFollower(w.store, "", s.Take).CatchUp(t.Context()), s.CatchUp(t.Context()))
}

func newWorld(t testing.TB) *world {
	t.Helper()
	return emptyWorld(t).people(t)
}

func emptyWorld(t testing.TB) *world {
	t.Helper()
	w := &world{store: newStore(t), now: time.Date(2026, 2, 1, 8, 0, 0, 0, time.UTC)}
	w.Service = w.open(t)
	if w.Any() {
		t.Error("an empty store has accounts")
	}
	return w
}

// people creates an administrator and the officer.
func (w *world) people(t testing.TB) *world {
	t.Helper()
	_, _, err := w.Create(t.Context(), accounts.By{Account: "local"}, accounts.NewAccount{Username: "li.wei", Role: accounts.Officer, Divisions: []sites.DivisionCode{"511602"}})
	wantError(t, "a first account that is no administrator's", err, sites.ErrInvalid)
	if _, _, err := w.Create(t.Context(), accounts.By{Account: "local"}, accounts.NewAccount{
		Username: "root", Role: accounts.Admin, Divisions: []sites.DivisionCode{"511600"}, Password: password + " root",
	}); err != nil {
		t.Fatal(err)
	}
	w.officer, _, err = w.Create(t.Context(), accounts.By{Account: "root"}, accounts.NewAccount{
		Username: "li.wei", DisplayName: "李伟", Role: accounts.Officer, Divisions: []sites.DivisionCode{"511602"}, Password: password,
	})
	if err != nil {
		t.Fatal(err)
	}
	return w
}

func (w *world) login(t testing.TB, in accounts.SignIn) accounts.Tokens {
	t.Helper()
	_, tokens, err := w.Login(t.Context(), in)
	if err != nil {
		t.Fatal(err)
	}
	return tokens
}

func right() accounts.SignIn {
	return accounts.SignIn{Username: "Li.Wei", Password: password, DeviceName: "手机", Address: "10.0.0.1"}
}

// names returns the usernames after the one given.
func names(s *accounts.Service, after string) string {
	var out []string
	for a := range s.After(after) {
		out = append(out, a.Username)
	}
	return strings.Join(out, " ")
}

func wantError(t testing.TB, what string, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Errorf("%s: got %v, want %v", what, err, want)
	}
}

// TestUsernameOfAKeyboard ensures that nobody is kept out by what a phone puts around a
// username and nobody sees.
func TestUsernameOfAKeyboard(t *testing.T) {
	w := newWorld(t)
	for _, username := range []string{"li.wei", "Li.Wei ", "\u202dli.wei\u202c", "li.wei\r\n", "\ufeffli.wei"} {
		in := right()
		in.Username = username
		if a, _, err := w.Login(t.Context(), in); err != nil || a.Username != "li.wei" {
			t.Errorf("%+q: got %+v, %v", username, a, err)
		}
	}
	in := right()
	in.Username = "li. wei"
	if _, _, err := w.Login(t.Context(), in); !errors.Is(err, accounts.ErrSignIn) {
		t.Errorf("got %v, want ErrSignIn of another name", err)
	}
}

func TestSignIn(t *testing.T) {
	w := newWorld(t)
	tokens := w.login(t, right())
	c, err := w.Verify(t.Context(), tokens.Access)
	if err != nil || c.Account.Username != "li.wei" || c.Account.Role != accounts.Officer {
		t.Fatalf("got %+v, %v", c, err)
	}
	if got := tokens.AccessExpires.Sub(w.clock()); got != 15*time.Minute {
		t.Errorf("an access token lives %v, want 15m", got)
	}
	// Another server on the same store knows the token, also by a key that it has
	// not seen yet.
	other := w.open(t)
	if _, err := other.Verify(t.Context(), tokens.Access); err != nil {
		t.Error(err)
	}
	if err := w.RotateKeys(t.Context()); err != nil {
		t.Fatal(err)
	}
	w.advance(time.Minute)
	for _, token := range []string{tokens.Access, w.login(t, right()).Access} {
		for _, s := range []*accounts.Service{w.Service, other} {
			if _, err := s.Verify(t.Context(), token); err != nil {
				t.Errorf("after the key was rotated: %v", err)
			}
		}
	}
	// Keys that somebody may have read are forgotten, also by servers that know the
	// tokens; the devices stay signed in.
	if err := w.ReplaceKeys(t.Context()); err != nil {
		t.Fatal(err)
	}
	w.advance(time.Minute)
	fresh := w.login(t, right())
	for _, s := range []*accounts.Service{w.Service, other} {
		if err := w.follow(t, s); err != nil {
			t.Fatal(err)
		}
		_, err := s.Verify(t.Context(), tokens.Access)
		wantError(t, "a token by a key that was replaced", err, accounts.ErrToken)
		if _, err := s.Verify(t.Context(), fresh.Access); err != nil {
			t.Error(err)
		}
	}
	_, tokens, err = w.Refresh(t.Context(), tokens.Refresh, "")
	if err != nil {
		t.Fatal(err)
	}
	w.advance(15 * time.Minute)
	_, err = w.Verify(t.Context(), tokens.Access)
	wantError(t, "an expired token", err, accounts.ErrToken)
	_, _, err = w.Login(t.Context(), accounts.SignIn{Username: "li.wei", Password: "wrong"})
	wantError(t, "a wrong password", err, accounts.ErrSignIn)
	_, _, unknown := w.Login(t.Context(), accounts.SignIn{Username: "nobody", Password: password})
	if unknown == nil || unknown.Error() != err.Error() {
		t.Errorf("an unknown user is told %v, a wrong password %v", unknown, err)
	}
}

// Keys that were changed in the store can be replaced, and people sign in again.
func TestReplaceDamagedKeys(t *testing.T) {
	for _, value := range []string{"\x00", `[{"id":"a","seed":"AAAA"}]`} {
		w := newWorld(t)
		w.login(t, right())
		_, revision, err := w.store.Secret(t.Context(), "keys")
		if err == nil {
			err = w.store.PutSecret(t.Context(), "keys", revision, []byte(value))
		}
		if err != nil {
			t.Fatal(err)
		}
		after := w.open(t)
		if after.KeysLost() == nil {
			t.Error("the keys are not missed")
		}
		if err := after.RotateKeys(t.Context()); !errors.Is(err, ledger.ErrDamaged) {
			t.Errorf("got %v, want ErrDamaged: nobody has said that they are to be forgotten", err)
		}
		if err := after.ReplaceKeys(t.Context()); err != nil {
			t.Fatal(err)
		}
		w.Service = w.open(t)
		if _, err := w.Verify(t.Context(), w.login(t, right()).Access); err != nil || w.KeysLost() != nil {
			t.Errorf("after they were replaced: %v, %v", err, w.KeysLost())
		}
	}
}

func TestForeignTokens(t *testing.T) {
	w := newWorld(t)
	good := w.login(t, right()).Access
	parsed, _, err := jwt.NewParser().ParseUnverified(good, jwt.MapClaims{})
	if err != nil {
		t.Fatal(err)
	}
	forge := func(method jwt.SigningMethod, key any) string {
		f := jwt.NewWithClaims(method, parsed.Claims)
		f.Header["kid"] = parsed.Header["kid"]
		text, err := f.SignedString(key)
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	stranger := newWorld(t)
	parts := strings.Split(good, ".")
	for name, token := range map[string]string{
		"nothing":        "",
		"no token":       "x.y.z",
		"alg none":       forge(jwt.SigningMethodNone, jwt.UnsafeAllowNoneSignatureType),
		"alg HS256":      forge(jwt.SigningMethodHS256, []byte(parsed.Header["kid"].(string))),
		"another server": stranger.login(t, right()).Access,
		"cut":            parts[0] + "." + parts[1] + ".",
		"changed":        parts[0] + "." + parts[1] + "x." + parts[2],
		"endless":        strings.Repeat("a", 1<<20),
	} {
		_, err := w.Verify(t.Context(), token)
		wantError(t, name, err, accounts.ErrToken)
	}
	if _, err := w.Verify(t.Context(), good); err != nil {
		t.Error(err)
	}
}

// TestTokenTimes ensures that a token from a clock that is ahead is not taken, and that
// a minute is allowed for clocks that differ.
func TestTokenTimes(t *testing.T) {
	w := newWorld(t)
	good := w.login(t, right()).Access
	stored, _, err := w.store.Secret(t.Context(), "keys")
	if err != nil {
		t.Fatal(err)
	}
	var keys []struct {
		ID   string `json:"id"`
		Seed []byte `json:"seed"`
	}
	if err := json.Unmarshal(stored, &keys); err != nil {
		t.Fatal(err)
	}
	sign := func(claim string, ahead time.Duration) string {
		claims := jwt.MapClaims{}
		if _, _, err := jwt.NewParser().ParseUnverified(good, claims); err != nil {
			t.Fatal(err)
		}
		claims[claim] = w.clock().Add(ahead).Unix()
		token := jwt.NewWithClaims(jwt.SigningMethodEdDSA, claims)
		token.Header["kid"] = keys[0].ID
		text, err := token.SignedString(ed25519.NewKeyFromSeed(keys[0].Seed))
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	for _, tt := range []struct {
		claim string
		ahead time.Duration
		taken bool
	}{
		{"iat", time.Minute, true},
		{"iat", 61 * time.Second, false},
		{"iat", 365 * 24 * time.Hour, false},
		{"nbf", time.Minute, true},
		{"nbf", 61 * time.Second, false},
		{"exp", time.Second, true},
		{"exp", 0, false},
		{"exp", -time.Second, false},
	} {
		token := sign(tt.claim, tt.ahead)
		for _, which := range []string{"new", "known"} {
			_, err := w.Verify(t.Context(), token)
			if taken := err == nil; taken != tt.taken || !taken && !errors.Is(err, accounts.ErrToken) {
				t.Errorf("a %s token whose %s is %v ahead: %v, want it taken: %v", which, tt.claim, tt.ahead, err, tt.taken)
			}
		}
	}
	// A clock that is set back makes a token of those that the server knows one from
	// the future, and it is taken again once the clock is there.
	if _, err := w.Verify(t.Context(), good); err != nil {
		t.Fatal(err)
	}
	w.advance(-2 * time.Minute)
	_, err = w.Verify(t.Context(), good)
	wantError(t, "a known token after the clock was set back", err, accounts.ErrToken)
	w.advance(time.Minute)
	if _, err := w.Verify(t.Context(), good); err != nil {
		t.Error(err)
	}
}

func TestRefresh(t *testing.T) {
	w := newWorld(t)
	first := w.login(t, right())
	const retry = "6f1c0a52-0000-4000-8000-000000000001"
	refresh := func(token, retry string) (accounts.Tokens, error) {
		_, tokens, err := w.Refresh(t.Context(), token, retry)
		return tokens, err
	}
	second, err := refresh(first.Refresh, retry)
	if err != nil {
		t.Fatal(err)
	}
	again, err := refresh(first.Refresh, retry)
	if err != nil || again.Refresh != second.Refresh {
		t.Errorf("a repeat after a lost answer got %v, and another token: %v", err, again.Refresh != second.Refresh)
	}
	third, err := refresh(second.Refresh, "")
	if err != nil {
		t.Fatal(err)
	}
	// A thief has the second token, but not what the phone sent with it.
	_, err = refresh(second.Refresh, "")
	wantError(t, "a spent token", err, accounts.ErrToken)
	_, err = refresh(third.Refresh, "")
	wantError(t, "the newest token of a device that was signed out", err, accounts.ErrToken)
	_, err = w.Verify(t.Context(), third.Access)
	wantError(t, "its access token", err, accounts.ErrToken)
	entries, err := w.store.Span(t.Context(), ledger.Accounts, 0, 100)
	if err != nil {
		t.Fatal(err)
	}
	if last := entries[len(entries)-1]; last.Kind != accounts.KindDeviceRevoked || !strings.Contains(string(last.Record), `"reason":"reuse"`) {
		t.Errorf("the reuse is not on record: %s", last.Record)
	}
	// Whoever only knows the device's name cannot sign it out.
	other := w.login(t, right())
	parts := strings.Split(other.Refresh, ".")
	_, err = refresh(strings.Join([]string{parts[0], parts[1], parts[3], parts[2]}, "."), "")
	wantError(t, "a made-up token", err, accounts.ErrToken)
	if other, err = refresh(other.Refresh, ""); err != nil {
		t.Error(err)
	}
	w.advance(30 * 24 * time.Hour)
	_, err = refresh(other.Refresh, "")
	wantError(t, "a token after 30 days", err, accounts.ErrToken)
}

// TestRefreshTogether ensures that of many uses at once with one retry id all
// get the same answer.
func TestRefreshTogether(t *testing.T) {
	w := newWorld(t)
	token := w.login(t, right()).Refresh
	var group sync.WaitGroup
	got := make([]string, 8)
	for i := range got {
		group.Go(func() {
			_, tokens, err := w.Refresh(t.Context(), token, "6f1c0a52-0000-4000-8000-000000000002")
			if err != nil {
				t.Error(err)
			}
			got[i] = tokens.Refresh
		})
	}
	group.Wait()
	for _, r := range got {
		if r != got[0] {
			t.Error("the answers differ")
		}
	}
}

func TestSignedOut(t *testing.T) {
	for name, end := range map[string]func(*world, accounts.Caller) error{
		"Logout": func(w *world, c accounts.Caller) error { return w.Logout(context.Background(), c) },
		"Disable": func(w *world, c accounts.Caller) error {
			_, err := w.Disable(context.Background(), accounts.By{Account: "root"}, c.Account.ID)
			return err
		},
		"Reset": func(w *world, c accounts.Caller) error {
			_, err := w.ResetPassword(context.Background(), accounts.By{Account: "root"}, c.Account.ID)
			return err
		},
		"Password": func(w *world, c accounts.Caller) error {
			_, err := w.ChangePassword(context.Background(), c, password, "another horse battery")
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			other := w.open(t)
			tokens := w.login(t, right())
			c, err := w.Verify(t.Context(), tokens.Access)
			if err != nil {
				t.Fatal(err)
			}
			if err := end(w, c); err != nil {
				t.Fatal(err)
			}
			if err := w.follow(t, other); err != nil {
				t.Fatal(err)
			}
			for _, s := range []*accounts.Service{w.Service, other, w.open(t)} {
				_, err = s.Verify(t.Context(), tokens.Access)
				wantError(t, "the access token", err, accounts.ErrToken)
				_, _, err = s.Refresh(t.Context(), tokens.Refresh, "")
				wantError(t, "the refresh token", err, accounts.ErrToken)
			}
			_, _, err = w.Login(t.Context(), right())
			if name == "Logout" {
				wantError(t, "signing in again", err, nil)
			} else {
				wantError(t, "signing in with the old password", err, accounts.ErrSignIn)
			}
		})
	}
}

func TestOneTimePassword(t *testing.T) {
	w := newWorld(t)
	oneTime, err := w.ResetPassword(t.Context(), accounts.By{Account: "root"}, w.officer.ID)
	if err != nil {
		t.Fatal(err)
	}
	in := right()
	in.Password = oneTime
	_, _, err = w.Login(t.Context(), in)
	wantError(t, "without a new password", err, accounts.ErrPasswordChange)
	for _, weak := range []string{"short", oneTime, strings.Repeat("x", 129)} {
		in.NewPassword = weak
		_, _, err = w.Login(t.Context(), in)
		wantError(t, "a weak new password", err, accounts.ErrWeakPassword)
	}
	in.NewPassword = "another horse battery"
	w.login(t, in)
	_, _, err = w.Login(t.Context(), in)
	wantError(t, "used twice", err, accounts.ErrSignIn)
	in.Password, in.NewPassword = in.NewPassword, ""
	w.login(t, in)
	if in.Password, err = w.ResetPassword(t.Context(), accounts.By{Account: "root"}, w.officer.ID); err != nil {
		t.Fatal(err)
	}
	w.advance(7 * 24 * time.Hour)
	in.NewPassword = "a third horse battery"
	_, _, err = w.Login(t.Context(), in)
	wantError(t, "after 7 days", err, accounts.ErrSignIn)
}

func TestThrottle(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	try := func(name, address string) error {
		_, _, err := w.Login(t.Context(), accounts.SignIn{Username: name, Password: "wrong", Address: address})
		return err
	}
	// It does not show whether there is such a user.
	for _, name := range []string{"li.wei", "nobody"} {
		for i := range 5 {
			wantError(t, fmt.Sprint(name, i), try(name, fmt.Sprint(name, i)), accounts.ErrSignIn)
		}
		for _, wait := range []time.Duration{time.Second, 2 * time.Second, 4 * time.Second} {
			err := try(name, "elsewhere")
			var throttled *accounts.ThrottledError
			if !errors.As(err, &throttled) || throttled.RetryAfter() != wait {
				t.Fatalf("%s: got %v, want to wait %v", name, err, wait)
			}
			w.advance(wait)
			wantError(t, name, try(name, "elsewhere"), accounts.ErrSignIn)
		}
	}
	// The right password has to wait as well, and then the slate is clean.
	_, _, err := w.Login(t.Context(), right())
	wantError(t, "the right password", err, accounts.ErrThrottled)
	w.advance(8 * time.Second)
	w.login(t, right())
	wantError(t, "after that", try("li.wei", "x"), accounts.ErrSignIn)
	// One address that tries many names is slowed down too.
	for i := range 30 {
		wantError(t, "names", try(fmt.Sprint("name", i), "10.9.9.9"), accounts.ErrSignIn)
	}
	wantError(t, "the 31st name", try("name31", "10.9.9.9"), accounts.ErrThrottled)
}

func TestAccountRules(t *testing.T) {
	w := newWorld(t)
	good := accounts.NewAccount{Username: "zhang", Role: accounts.Head, Divisions: []sites.DivisionCode{"511600"}, Password: password}
	for name, test := range map[string]struct {
		change func(*accounts.NewAccount)
		field  string
		want   error
	}{
		"Taken":           {func(a *accounts.NewAccount) { a.Username = "li.wei" }, "username", accounts.ErrUsernameTaken},
		"UpperCase":       {func(a *accounts.NewAccount) { a.Username = "Zhang" }, "username", sites.ErrInvalid},
		"Local":           {func(a *accounts.NewAccount) { a.Username = "local" }, "username", sites.ErrInvalid},
		"NoRole":          {func(a *accounts.NewAccount) { a.Role = "" }, "role", sites.ErrInvalid},
		"NoDivisions":     {func(a *accounts.NewAccount) { a.Divisions = nil }, "division_codes", sites.ErrInvalid},
		"BadDivision":     {func(a *accounts.NewAccount) { a.Divisions = []sites.DivisionCode{"5116"} }, "division_codes[0]", sites.ErrInvalid},
		"Twice":           {func(a *accounts.NewAccount) { a.Divisions = []sites.DivisionCode{"511600", "511600"} }, "division_codes[1]", sites.ErrInvalid},
		"TwiceInTwoForms": {func(a *accounts.NewAccount) { a.Divisions = []sites.DivisionCode{"511600", "511600000000"} }, "division_codes[1]", sites.ErrInvalid},
		"LongName":        {func(a *accounts.NewAccount) { a.DisplayName = strings.Repeat("名", 65) }, "display_name", sites.ErrInvalid},
		"WeakPassword":    {func(a *accounts.NewAccount) { a.Password = "12345678901234" }, "password", accounts.ErrWeakPassword},
	} {
		t.Run(name, func(t *testing.T) {
			a := good
			test.change(&a)
			_, _, err := w.Create(t.Context(), accounts.By{Account: "root"}, a)
			var field *sites.FieldError
			if !errors.Is(err, test.want) || !errors.As(err, &field) || field.Field != test.field {
				t.Errorf("got %v, want %v of %s", err, test.want, test.field)
			}
		})
	}
	if got := names(w.Service, ""); got != "li.wei root" {
		t.Errorf("there are the accounts %s, want li.wei and root", got)
	}
}

// TestNoSecretOnRecord ensures that histories hold nothing to sign in with, that
// they verify, and that they are all that is needed to know the accounts.
func TestNoSecretOnRecord(t *testing.T) {
	w := newWorld(t)
	tokens := w.login(t, right())
	oneTime, err := w.ResetPassword(t.Context(), accounts.By{Account: "root"}, w.officer.ID)
	if err != nil {
		t.Fatal(err)
	}
	head := accounts.Head
	if _, err := w.Update(t.Context(), accounts.By{Account: "root"}, w.officer.ID, accounts.Change{Role: &head, Divisions: []sites.DivisionCode{"511600"}}); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Disable(t.Context(), accounts.By{Account: "root"}, w.officer.ID); err != nil {
		t.Fatal(err)
	}
	entries, err := w.store.Span(t.Context(), ledger.Accounts, 0, 100)
	if err != nil {
		t.Fatal(err)
	}
	var state ledger.Head
	var kinds []string
	for _, e := range entries {
		if state, err = state.Follow(e); err != nil {
			t.Error(err)
		}
		kinds = append(kinds, string(e.Kind))
		for _, secret := range append(strings.Split(tokens.Refresh, ".")[2:], tokens.Access, oneTime, password, "argon2") {
			if strings.Contains(string(e.Record), secret) {
				t.Errorf("a record holds a secret: %s", e.Record)
			}
		}
	}
	if got, want := strings.Join(kinds, " "), "account_created account_created password_reset account_changed account_disabled"; got != want {
		t.Errorf("got the entries %s, want %s", got, want)
	}
	a, err := w.open(t).Get(w.officer.ID)
	if err != nil || a.Role != accounts.Head || a.DisplayName != "李伟" || a.Disabled.IsZero() {
		t.Errorf("read anew: got %+v, %v", a, err)
	}
	// The store holds hashes alone, of what can be used to sign in.
	if err := w.store.Secrets(t.Context(), "", func(name string, value []byte) error {
		for _, secret := range append(strings.Split(tokens.Refresh, ".")[2:], oneTime, password) {
			if strings.Contains(string(value), secret) {
				t.Errorf("the secret %s holds what it should only hold the hash of", name)
			}
		}
		return nil
	}); err != nil {
		t.Error(err)
	}
}
