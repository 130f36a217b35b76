package accounts_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"xuncha/server/internal/accounts"
)

// newQuickWorld is newWorld with passwords that are compared in no time, which hashed is told.
func newQuickWorld(t *testing.T, hashed func(password string)) *world {
	t.Helper()
	w := emptyWorld(t)
	w.OnHash(true, func(password string, _ accounts.Hash) { hashed(password) })
	return w.people(t)
}

// idOf returns the id of the account with the username.
func (w *world) idOf(username string) string {
	for a := range w.After("") {
		if a.Username == username {
			return a.ID
		}
	}
	return ""
}

// of returns the right sign-in of newQuickWorld.
func of(username, address string) accounts.SignIn {
	in := accounts.SignIn{Username: username, Password: password, Address: address}
	if username == "root" {
		in.Password += " root"
	}
	return in
}

// eventually waits until what others do concurrently has come about.
func eventually(t *testing.T, what string, is func() bool) {
	t.Helper()
	for !is() {
		if t.Context().Err() != nil {
			t.Fatal(what)
		}
		runtime.Gosched()
	}
}

func unnoticed(string) {}

// TestNothingIsPushedOut ensures that neither other names nor other addresses end what is
// remembered of failures, also by calls that are cut off, and that none of it tells who has
// an account.
func TestNothingIsPushedOut(t *testing.T) {
	t.Parallel()
	w := newQuickWorld(t, unnoticed)
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	wrong := func(ctx context.Context, name, address string) error {
		_, _, err := w.Login(ctx, accounts.SignIn{Username: name, Password: "wrong", Address: address})
		return err
	}
	for i := range 5 {
		for _, name := range []string{"li.wei", "nobody"} {
			wantError(t, name, wrong(t.Context(), name, fmt.Sprintf("10.0.%d.1", i)), accounts.ErrSignIn)
		}
	}
	for i := range 30 { // and of an address
		wantError(t, "names", wrong(t.Context(), fmt.Sprint("name", i), fmt.Sprintf("2001:db8:1:1::%x", i)), accounts.ErrSignIn)
	}
	throttled := 0
	for i := range 15_000 {
		err := wrong(gone, fmt.Sprint("other", i), fmt.Sprintf("2001:db8:2:1::%x", i))
		if errors.Is(err, accounts.ErrThrottled) {
			throttled++
		}
		err = wrong(gone, fmt.Sprint("another", i), fmt.Sprintf("172.%d.%d.1", 16+i>>8, i&255))
		if errors.Is(err, accounts.ErrThrottled) {
			t.Fatalf("after %d others, a name and an address that never failed have to wait", i)
		}
	}
	if throttled != 15_000-30 {
		t.Errorf("of 15000 calls from one /64 that were cut off, %d had to wait, want all but 30", throttled)
	}
	for _, name := range []string{"li.wei", "nobody"} {
		wantError(t, name+" after 30,000 others", wrong(t.Context(), name, "10.1.1.1"), accounts.ErrThrottled)
		if got := w.Remembered(name); got != 5 {
			t.Errorf("%s: %d failures are remembered, want 5", name, got)
		}
	}
	wantError(t, "the same /64", wrong(t.Context(), "name31", "2001:db8:1:1:ffff::1"), accounts.ErrThrottled)
	wantError(t, "another /64", wrong(t.Context(), "name31", "2001:db8:1:2::1"), accounts.ErrSignIn)
	// They no longer count half an hour after the last.
	w.advance(31 * time.Minute)
	for _, name := range []string{"li.wei", "nobody"} {
		wantError(t, name+" later", wrong(t.Context(), name, "2001:db8:1:1::1"), accounts.ErrSignIn)
	}
}

// TestOneAddress ensures that an address is the same one however it is written.
func TestOneAddress(t *testing.T) {
	t.Parallel()
	w := newQuickWorld(t, unnoticed)
	for i := range 31 {
		address := []string{"10.9.9.9", "::ffff:10.9.9.9", "::ffff:a09:909"}[i%3]
		_, _, err := w.Login(t.Context(), accounts.SignIn{Username: fmt.Sprint("name", i), Password: "wrong", Address: address})
		want := accounts.ErrSignIn
		if i == 30 {
			want = accounts.ErrThrottled
		}
		wantError(t, fmt.Sprint(i, address), err, want)
	}
}

// TestRightAtOnce ensures that people who sign in at the same time with the right password
// do not keep each other out, and that no more wrong ones are compared than one after another.
func TestRightAtOnce(t *testing.T) {
	t.Parallel()
	var compared atomic.Int64
	w := newQuickWorld(t, func(password string) {
		if strings.HasPrefix(password, "wrong") {
			compared.Add(1)
		}
	})
	all := func(n int, in func(i int) accounts.SignIn) (errs []error) {
		errs = make([]error, n)
		var group sync.WaitGroup
		for i := range n {
			group.Go(func() { _, _, errs[i] = w.Login(t.Context(), in(i)) })
		}
		group.Wait()
		return errs
	}
	for i, err := range all(100, func(int) accounts.SignIn { return of("li.wei", "10.0.0.1") }) {
		if err != nil {
			t.Errorf("the right password %d at once: %v", i, err)
		}
	}
	for _, name := range []string{"root", "nobody"} {
		compared.Store(0)
		failed := 0
		for _, err := range all(100, func(i int) accounts.SignIn {
			return accounts.SignIn{Username: name, Password: fmt.Sprint("wrong", i), Address: fmt.Sprintf("10.2.%d.1", i)}
		}) {
			if errors.Is(err, accounts.ErrSignIn) {
				failed++
			} else {
				wantError(t, name, err, accounts.ErrThrottled)
			}
		}
		if failed != 5 || compared.Load() != 5 {
			t.Errorf("%s: of 100 wrong passwords at once %d were refused as wrong and %d compared, want 5", name, failed, compared.Load())
		}
	}
}

// TestCutOff ensures that a call that is cut off counts, wherever it is, and keeps no place.
func TestCutOff(t *testing.T) {
	t.Parallel()
	begun, goOn := make(chan struct{}, 100), make(chan struct{})
	w := newQuickWorld(t, func(password string) {
		if strings.HasPrefix(password, "hold") {
			begun <- struct{}{}
			<-goOn
		}
	})
	var group sync.WaitGroup
	for i := range 2 { // which take both turns
		group.Go(func() {
			_, _, err := w.Login(t.Context(), accounts.SignIn{Username: fmt.Sprint("holder", i), Password: "hold", Address: "10.3.0.1"})
			wantError(t, "a holder", err, accounts.ErrSignIn)
		})
		<-begun
	}
	for i := range 5 {
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() {
			_, _, err := w.Login(ctx, accounts.SignIn{Username: "li.wei", Password: "wrong", Address: fmt.Sprintf("10.3.%d.2", i)})
			done <- err
		}()
		eventually(t, "it waits for its turn", func() bool { return w.Waiting() == 1 })
		cancel()
		wantError(t, "cut off while it waits", <-done, context.Canceled)
		if n := w.Waiting(); n != 0 {
			t.Errorf("%d places are kept, want none", n)
		}
	}
	if got := w.Remembered("li.wei"); got != 5 {
		t.Errorf("%d failures are remembered of 5 calls that were cut off", got)
	}
	close(goOn)
	group.Wait()
	_, _, err := w.Login(t.Context(), of("li.wei", "10.4.0.1"))
	wantError(t, "the next", err, accounts.ErrThrottled)
	w.advance(time.Hour)
	if _, _, err := w.Login(t.Context(), of("li.wei", "10.4.0.1")); err != nil {
		t.Error(err)
	}
}

// TestCutOffBehindOthers ensures that whoever waits to know what becomes of others' tries is
// gone without a trace once the call is cut off.
func TestCutOffBehindOthers(t *testing.T) {
	t.Parallel()
	goOn := make(chan struct{})
	w := newQuickWorld(t, func(password string) {
		if password == "hold" {
			<-goOn
		}
	})
	var group sync.WaitGroup
	for i := range 5 {
		group.Go(func() {
			_, _, err := w.Login(t.Context(), accounts.SignIn{Username: "li.wei", Password: "hold", Address: fmt.Sprintf("10.3.%d.1", i)})
			wantError(t, "a holder", err, accounts.ErrSignIn)
		})
	}
	eventually(t, "all five are under way", func() bool { return w.Waiting() == 3 })
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() {
		_, _, err := w.Login(ctx, of("li.wei", "10.4.0.1"))
		done <- err
	}()
	eventually(t, "the sixth waits", func() bool { return w.Held("li.wei") == 1 })
	cancel()
	wantError(t, "the sixth", <-done, context.Canceled)
	if n := w.Held("li.wei"); n != 0 {
		t.Errorf("%d wait still", n)
	}
	close(goOn)
	group.Wait()
	if got := w.Remembered("li.wei"); got != 5 {
		t.Errorf("%d failures are remembered, want those of the five", got)
	}
}

// TestStoreAway ensures that nobody has to wait because the store did not answer.
func TestStoreAway(t *testing.T) {
	t.Parallel()
	w := newQuickWorld(t, unnoticed)
	w.store.away.Store(true)
	for range 10 {
		if _, _, err := w.Login(t.Context(), of("li.wei", "10.0.0.1")); !errors.Is(err, errAway) {
			t.Fatalf("got %v, want that of the store", err)
		}
	}
	w.store.away.Store(false)
	if _, _, err := w.Login(t.Context(), of("li.wei", "10.0.0.1")); err != nil {
		t.Error(err)
	}
}
