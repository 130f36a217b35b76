package accounts_test

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"xuncha/server/internal/accounts"
	"xuncha/sites"
)

// TestAfter ensures that a list of accounts goes on behind any name, whether or not an
// account has it, and that one list does not change while accounts do.
func TestAfter(t *testing.T) {
	w := newWorld(t)
	create := func(name string) {
		t.Helper()
		if _, _, err := w.Create(t.Context(), accounts.By{Account: "root"}, accounts.NewAccount{
			Username: name, Role: accounts.Head, Divisions: []sites.DivisionCode{"511600"}, Password: password,
		}); err != nil {
			t.Fatal(err)
		}
	}
	create("an")
	create("zhou")
	for after, want := range map[string]string{
		"": "an li.wei root zhou", "an": "li.wei root zhou", "an1": "li.wei root zhou", "root": "zhou", "zhou": "", "zz": "",
	} {
		if got := names(w.Service, after); got != want {
			t.Errorf("after %q: got %s, want %s", after, got, want)
		}
	}
	list := w.After("li.wei")
	create("lu")
	if _, err := w.Disable(t.Context(), accounts.By{Account: "root"}, w.officer.ID); err != nil {
		t.Fatal(err)
	}
	var got []string
	for a := range list {
		got = append(got, a.Username)
	}
	if want := []string{"root", "zhou"}; !slices.Equal(got, want) {
		t.Errorf("a list begun before a change: got %v, want %v", got, want)
	}
	if got := names(w.Service, "li.wei"); got != "lu root zhou" {
		t.Errorf("a list begun after it: got %s", got)
	}
}

// TestListsBesideChanges reads lists and checks tokens while accounts change. It is for
// the race detector, and holds that every list is in order.
func TestListsBesideChanges(t *testing.T) {
	w := newWorld(t)
	token := w.login(t, right()).Access
	done := make(chan struct{})
	var readers sync.WaitGroup
	for range 2 {
		readers.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
				}
				list := strings.Fields(names(w.Service, ""))
				if !slices.IsSorted(list) || len(list) < 2 {
					t.Errorf("got the list %v", list)
					return
				}
				if _, err := w.Verify(t.Context(), token); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	root, _, err := w.Login(t.Context(), accounts.SignIn{Username: "root", Password: password + " root", Address: "10.0.0.2"})
	if err != nil {
		t.Fatal(err)
	}
	for i := range 200 {
		name := fmt.Sprint("name ", i)
		if _, err := w.Update(t.Context(), accounts.By{Account: "root"}, root.ID, accounts.Change{DisplayName: &name}); err != nil {
			t.Fatal(err)
		}
	}
	close(done)
	readers.Wait()
}

// TestManySignedOut ensures that a device that was signed out stays so for as long as
// its token lives, also beside many others.
func TestManySignedOut(t *testing.T) {
	w := newWorld(t)
	var tokens []string
	for range 5 {
		tokens = append(tokens, w.login(t, right()).Access)
	}
	for i, token := range tokens[:4] {
		c, err := w.Verify(t.Context(), token)
		if err != nil {
			t.Fatal(err)
		}
		if err := w.Logout(t.Context(), c); err != nil {
			t.Fatal(err)
		}
		for j, token := range tokens {
			if _, err := w.Verify(t.Context(), token); (err == nil) != (j > i) {
				t.Errorf("device %d after %d signed out: %v", j, i+1, err)
			}
		}
		w.advance(accounts.AccessLifetime / 5)
	}
}
