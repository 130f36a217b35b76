package accounts_test

import (
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"xuncha/server/internal/accounts"
)

// TestKnownDevice ensures that no failures of strangers keep a device from signing in that
// was signed in to the account before, whatever has become of its refresh token, and that
// such a token gives no more tries than anybody has.
func TestKnownDevice(t *testing.T) {
	t.Parallel()
	w := newQuickWorld(t, unnoticed)
	locked := func() {
		for i := range 12 { // of the name and of the address
			_, _, err := w.Login(t.Context(), accounts.SignIn{Username: "root", Password: "wrong", Address: "10.0.0.8"})
			if !errors.Is(err, accounts.ErrSignIn) && !errors.Is(err, accounts.ErrThrottled) {
				t.Fatal(err)
			}
			for j := range 3 {
				_, _, _ = w.Login(t.Context(), accounts.SignIn{Username: fmt.Sprint("name", i, j), Password: "wrong", Address: "10.0.0.9"})
			}
			w.advance(time.Second)
		}
		_, _, err := w.Login(t.Context(), of("root", "10.0.0.10")) // where it never was
		wantError(t, "root from nowhere", err, accounts.ErrThrottled)
	}
	with := func(in accounts.SignIn, token string) accounts.SignIn {
		in.DeviceToken = token
		return in
	}
	first := w.login(t, of("root", "10.0.0.1"))
	_, second, err := w.Refresh(t.Context(), first.Refresh, "")
	if err != nil {
		t.Fatal(err)
	}
	for name, token := range map[string]string{"spent": first.Refresh, "current": second.Refresh} {
		locked()
		if _, _, err := w.Login(t.Context(), with(of("root", "10.0.0.9"), token)); err != nil {
			t.Errorf("a device whose token is %s: %v", name, err)
		}
	}
	c, err := w.Verify(t.Context(), second.Access)
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Logout(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	locked()
	third := w.login(t, with(of("root", "10.0.0.9"), second.Refresh)) // signed out
	w.advance(40 * 24 * time.Hour)
	locked()
	w.login(t, with(of("root", "10.0.0.9"), third.Refresh)) // expired

	// What it shows is of its account alone, and nobody can make it.
	locked()
	other := w.login(t, of("li.wei", "10.0.0.2")).Refresh
	parts := strings.Split(third.Refresh, ".")
	forged := func(i int, part string) string {
		out := append([]string(nil), parts...)
		out[i] = part
		return strings.Join(out, ".")
	}
	zero := base64.RawURLEncoding.EncodeToString(make([]byte, 32))
	for name, token := range map[string]string{
		"another account's": other, "no token": "x", "another device's": forged(1, w.NewID()), "a made-up": forged(2, zero),
		"an account without": forged(0, strings.Split(other, ".")[0]),
	} {
		_, _, err := w.Login(t.Context(), with(of("root", "10.0.0.9"), token))
		wantError(t, name, err, accounts.ErrThrottled)
	}
	if _, _, err := w.Login(t.Context(), with(of("root", "10.0.0.9"), forged(3, zero))); err != nil {
		t.Errorf("the secret of a spent token does not matter: %v", err)
	}

	// Whoever has stolen it has five tries, and the account's other device signs in.
	stolen := third.Refresh
	for i := range 5 {
		in := with(of("root", fmt.Sprintf("10.8.%d.1", i)), stolen)
		in.Password = "wrong"
		_, _, err := w.Login(t.Context(), in)
		wantError(t, "a stolen token", err, accounts.ErrSignIn)
	}
	for _, p := range []string{"wrong", of("root", "").Password} {
		in := with(of("root", "10.8.9.1"), stolen)
		in.Password = p
		_, _, err := w.Login(t.Context(), in)
		wantError(t, "a stolen token after five failures", err, accounts.ErrThrottled)
	}
	w.login(t, with(of("root", "10.0.0.9"), second.Refresh))
}

// TestManyDevices ensures that whoever signs in over and over has no more tries for it than
// devices are counted apart.
func TestManyDevices(t *testing.T) {
	t.Parallel()
	w := newQuickWorld(t, unnoticed)
	failed := 0
	for range 2 * accounts.MaxDevicesFailing {
		in := of("li.wei", "10.0.0.1")
		in.DeviceToken = w.login(t, in).Refresh
		in.Password = "wrong"
		for range 6 {
			if _, _, err := w.Login(t.Context(), in); errors.Is(err, accounts.ErrSignIn) {
				failed++
			}
		}
	}
	if most := 5 * (accounts.MaxDevicesFailing + 1); failed > most {
		t.Errorf("%d wrong passwords were compared, want at most %d", failed, most)
	}
	w.login(t, of("li.wei", "10.0.0.2"))
	if _, _, err := w.Login(t.Context(), of("root", "10.0.0.2")); err != nil {
		t.Error(err)
	}
}

// TestKnownDeviceOfBefore ensures that a device of before there was a key, or of one that was
// replaced, shows that it was signed in once it has refreshed its tokens, and loses nothing
// where that answer was lost.
func TestKnownDeviceOfBefore(t *testing.T) {
	t.Parallel()
	w := newQuickWorld(t, unnoticed)
	old := w.login(t, of("root", "10.0.0.1")).Refresh
	if err := w.ReplaceKeys(t.Context()); err != nil {
		t.Fatal(err)
	}
	known := func(token string) error {
		for range 6 {
			_, _, _ = w.Login(t.Context(), accounts.SignIn{Username: "root", Password: "wrong", Address: "10.0.0.9"})
		}
		in := of("root", "10.0.0.3")
		in.DeviceToken = token
		_, _, err := w.Login(t.Context(), in)
		return err
	}
	wantError(t, "a key that was replaced", known(old), accounts.ErrThrottled)
	const retry = "8e4a5d59-6a4f-4c38-9a50-5e3a3b6a0d10"
	_, next, err := w.Refresh(t.Context(), old, retry)
	if err != nil {
		t.Fatal(err)
	}
	_, again, err := w.Refresh(t.Context(), old, retry)
	if err != nil || again.Refresh != next.Refresh {
		t.Errorf("a repeat got another answer: %v", err)
	}
	if err := known(next.Refresh); err != nil {
		t.Errorf("after a refresh: %v", err)
	}
	if _, next, err = w.Refresh(t.Context(), next.Refresh, ""); err != nil {
		t.Fatal(err)
	}
	// A copy of the token of before is still known as one that was spent.
	_, _, err = w.Refresh(t.Context(), old, "")
	wantError(t, "a token that was spent twice", err, accounts.ErrToken)
	_, _, err = w.Refresh(t.Context(), next.Refresh, "")
	wantError(t, "after that", err, accounts.ErrToken)
}

// TestKnownDeviceElsewhere ensures that a device is known on every server of a database.
func TestKnownDeviceElsewhere(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	other := w.open(t) // which has seen no key
	in := accounts.SignIn{Username: "root", Password: password + " root", Address: "10.0.0.1"}
	in.DeviceToken = w.login(t, in).Refresh
	w.advance(time.Minute)
	if err := w.follow(t, other); err != nil {
		t.Fatal(err)
	}
	for range 6 {
		_, _, _ = other.Login(t.Context(), accounts.SignIn{Username: "root", Password: "wrong", Address: "10.0.0.9"})
	}
	if _, _, err := other.Login(t.Context(), in); err != nil {
		t.Error(err)
	}
}

// TestTurns ensures that no number of strangers keeps others from having their passwords
// compared: a known device waits for one of them, and every address has its turn.
func TestTurns(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	var order []string
	begun, goOn := make(chan struct{}, 100), make(chan struct{})
	w := newQuickWorld(t, func(password string) {
		switch {
		case password == "hold":
			begun <- struct{}{}
			<-goOn
		case strings.HasPrefix(password, "of "):
			mu.Lock()
			order = append(order, strings.TrimPrefix(password, "of "))
			mu.Unlock()
		}
	})
	token := w.login(t, of("root", "10.0.0.1")).Refresh
	var group sync.WaitGroup
	send := func(in accounts.SignIn) {
		group.Go(func() { _, _, _ = w.Login(t.Context(), in) })
	}
	for i := range 2 {
		send(accounts.SignIn{Username: fmt.Sprint("holder", i), Password: "hold", Address: "10.3.0.1"})
		<-begun
	}
	waiting := 0
	next := func(in accounts.SignIn) {
		send(in)
		waiting++
		eventually(t, "it waits for its turn", func() bool { return w.Waiting() == waiting })
	}
	for i := range 30 { // one stranger's
		next(accounts.SignIn{Username: fmt.Sprint("name", i), Password: "of one", Address: fmt.Sprintf("2001:db8::%x", i)})
	}
	for i := range 20 {
		next(accounts.SignIn{Username: fmt.Sprint("other", i), Password: "of others", Address: fmt.Sprintf("10.5.%d.1", i)})
	}
	next(accounts.SignIn{Username: "li.wei", Password: "of the officer", Address: "10.6.0.1"})
	next(accounts.SignIn{Username: "root", Password: "of the device", Address: "10.3.0.1", DeviceToken: token})
	next(accounts.SignIn{Username: "root", Password: "of the place", Address: "10.0.0.1"})
	close(goOn)
	group.Wait()
	at := func(who string) int {
		for i, o := range order {
			if o == who {
				return i
			}
		}
		return -1
	}
	// Two work at once, so neighbours may change places.
	for _, who := range []string{"the device", "the place"} {
		if got := at(who); got < 0 || got > 5 {
			t.Errorf("%s that is known was number %d, want one of the first", who, got)
		}
	}
	if got := at("the officer"); got < 20 || got > 26 {
		t.Errorf("the officer was number %d, want to wait once for each address", got)
	}
}
