package accounts_test

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"xuncha/server/internal/accounts"
	"xuncha/sites"
)

// TestStrangersElsewhere ensures that strangers who never stop keep nobody waiting who calls
// from where the account was signed in to before, or from the server's own machine, with no
// device that shows anything, as commands do; and that nobody has more tries there than
// elsewhere.
func TestStrangersElsewhere(t *testing.T) {
	t.Parallel()
	w := newQuickWorld(t, unnoticed)
	try := func(in accounts.SignIn) error {
		_, _, err := w.Login(t.Context(), in)
		return err
	}
	if err := try(of("root", "192.0.2.9")); err != nil {
		t.Fatal(err)
	}
	n := 0
	attack := func() {
		for _, name := range []string{"root", "nobody"} {
			for errors.Is(try(accounts.SignIn{Username: name, Password: "wrong", Address: fmt.Sprintf("10.%d.%d.1", n>>8, n&255)}), accounts.ErrSignIn) {
				n++
			}
			n++
		}
	}
	for range 60 { // an hour
		w.advance(time.Minute)
		attack()
		for _, address := range []string{"192.0.2.9", "127.0.0.1", "::1"} {
			if err := try(of("root", address)); err != nil {
				t.Fatalf("under attack, from %s: %v", address, err)
			}
		}
		wantError(t, "from elsewhere", try(of("root", "192.0.2.10")), accounts.ErrThrottled)
	}
	for _, name := range []string{"root", "nobody"} { // which differ in nothing
		compared := 0
		for i := range 20 {
			if errors.Is(try(accounts.SignIn{Username: name, Password: "wrong", Address: []string{"127.0.0.2", "::1"}[i%2]}), accounts.ErrSignIn) {
				compared++
			}
		}
		if compared != 5 {
			t.Errorf("%s from the server's machine: %d wrong passwords were compared at once, want 5", name, compared)
		}
	}
	// What fails there does not count elsewhere, and only the last places are known.
	w.advance(31 * time.Minute)
	for i := range 17 {
		if err := try(of("root", fmt.Sprintf("198.51.100.%d", i))); err != nil {
			t.Fatal(err)
		}
	}
	attack()
	wantError(t, "from long ago", try(of("root", "198.51.100.0")), accounts.ErrThrottled)
	if err := try(of("root", "198.51.100.1")); err != nil {
		t.Errorf("from a place that is known: %v", err)
	}
}

// TestOfficeAtEight ensures that an office behind one address gets to work though many mistype
// their passwords, and that whoever has an account there can try no more passwords of others
// for it.
func TestOfficeAtEight(t *testing.T) {
	t.Parallel()
	const people = 300
	w := newQuickWorld(t, unnoticed)
	for i := range people {
		if _, _, err := w.Create(t.Context(), accounts.By{Account: "root"}, accounts.NewAccount{
			Username: fmt.Sprint("officer", i), Role: accounts.Officer, Divisions: []sites.DivisionCode{"511602"}, Password: password,
		}); err != nil {
			t.Fatal(err)
		}
	}
	in := func(i int, password string) error {
		_, _, err := w.Login(t.Context(), accounts.SignIn{Username: fmt.Sprint("officer", i), Password: password, Address: "192.0.2.9"})
		return err
	}
	for i := range people {
		for range i % 3 {
			wantError(t, "mistyped", in(i, "wrong"), accounts.ErrSignIn)
		}
		if err := in(i, password); err != nil {
			t.Fatalf("number %d of an office that signs in: %v", i, err)
		}
		w.advance(time.Second)
	}
	w.advance(31 * time.Minute)
	tried := 0
	for i := range 100 {
		if errors.Is(in(100+i, "wrong"), accounts.ErrSignIn) {
			tried++
		}
		if err := in(7, password); err != nil && !errors.Is(err, accounts.ErrThrottled) {
			t.Fatal(err)
		}
	}
	if tried > 32 {
		t.Errorf("%d passwords of others could be tried by who has an account, want 32 at most", tried)
	}
}
