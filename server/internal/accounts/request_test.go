package accounts_test

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"xuncha/ledger"
	"xuncha/ledger/ledgertest"
	"xuncha/server/internal/accounts"
	"xuncha/sites"
)

const requestID = "11111111-1111-4111-8111-111111111111"

// asked is who changes accounts by the request.
func asked(account, id string) accounts.By {
	return accounts.By{Account: account, Request: ledger.Request{ID: id}}
}

// repeatable are the methods that change accounts and take the id of a request. Each
// returns what its answer shows of the account, and the one-time password; with other
// set, it says something else.
var repeatable = map[string]func(w *world, s *accounts.Service, by accounts.By, other bool) (string, string, error){
	"CreateAccount": func(_ *world, s *accounts.Service, by accounts.By, other bool) (string, string, error) {
		return create(s, by, "", other)
	},
	"CreateAccount with a password": func(_ *world, s *accounts.Service, by accounts.By, other bool) (string, string, error) {
		return create(s, by, "another horse battery", other)
	},
	"UpdateAccount": func(w *world, s *accounts.Service, by accounts.By, other bool) (string, string, error) {
		role, name := accounts.Head, ""
		c := accounts.Change{Role: &role}
		if other {
			c.DisplayName = &name // no name is not the same as none said
		}
		return shown(s.Update(context.Background(), by, w.officer.ID, c))
	},
	"DisableAccount": func(w *world, s *accounts.Service, by accounts.By, other bool) (string, string, error) {
		return shown(s.Disable(context.Background(), by, w.id(other)))
	},
	"ResetPassword": func(w *world, s *accounts.Service, by accounts.By, other bool) (string, string, error) {
		oneTime, err := s.ResetPassword(context.Background(), by, w.id(other))
		return "", oneTime, err
	},
}

// id is the officer's, or another account's.
func (w *world) id(other bool) string {
	if !other {
		return w.officer.ID
	}
	for a := range w.After("li.wei") {
		return a.ID
	}
	return ""
}

func create(s *accounts.Service, by accounts.By, own string, other bool) (string, string, error) {
	n := accounts.NewAccount{Username: "chen.jie", Role: accounts.Officer, Divisions: []sites.DivisionCode{"511602000000"}, Password: own}
	if other {
		n.Divisions = append(n.Divisions, "511603")
	}
	a, oneTime, err := s.Create(context.Background(), by, n)
	answer, _, err := shown(a, err)
	return answer, oneTime, err
}

// shown spells all that answers have of an account.
func shown(a *accounts.Account, err error) (string, string, error) {
	if err != nil {
		return "", "", err
	}
	return fmt.Sprint(a.ID, a.Username, a.DisplayName, a.Role, a.Divisions, a.Created, a.Disabled), "", nil
}

// conflicts reports whether the error says that the request's id was used before.
func conflicts(err error) bool {
	var f *sites.FieldError
	return errors.Is(err, ledger.ErrRequestConflict) && errors.As(err, &f) && f.Field == "request_id"
}

// repeats runs a test for each method.
func repeats(t *testing.T, test func(t *testing.T, w *world, call func(s *accounts.Service, by accounts.By, other bool) (string, string, error))) {
	for name, method := range repeatable {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			test(t, w, func(s *accounts.Service, by accounts.By, other bool) (string, string, error) {
				return method(w, s, by, other)
			})
		})
	}
}

// good counts the one-time passwords with which the account signs in.
func (w *world) good(t testing.TB, username string, passwords ...string) (n int) {
	t.Helper()
	for _, p := range passwords {
		w.advance(time.Hour) // so that no try waits for another
		_, _, err := w.open(t).Login(t.Context(), accounts.SignIn{Username: username, Password: p, Address: uuid.NewString()})
		switch {
		case errors.Is(err, accounts.ErrPasswordChange):
			n++
		case !errors.Is(err, accounts.ErrSignIn):
			t.Errorf("got %v", err)
		}
	}
	return n
}

// TestRepeat ensures that a repeat of a change of an account returns the first answer and
// changes nothing: also after later changes, after a restart, and on a server that has not
// heard of the first; and that its id is good for nothing else.
func TestRepeat(t *testing.T) {
	repeats(t, func(t *testing.T, w *world, call func(*accounts.Service, accounts.By, bool) (string, string, error)) {
		behind := w.open(t)
		first, oneTime, err := call(w.Service, asked("root", requestID), false)
		if err != nil {
			t.Fatal(err)
		}
		e, err := w.store.Entry(t.Context(), ledger.Accounts, requestID)
		if err != nil || e.Sequence != 3 || !strings.Contains(string(e.Record), `,"request_sha256":"`) {
			t.Fatalf("got the entry %s, %v, want the third, by the request's id", e.Record, err)
		}
		username := "chen.jie"
		if !strings.HasPrefix(strings.Split(t.Name(), "/")[1], "Create") {
			username = "li.wei"
		}
		passwords := []string{oneTime}
		same := func(what string, s *accounts.Service) {
			t.Helper()
			got, again, err := call(s, asked("root", requestID), false)
			if err != nil || got != first || (again == "") != (oneTime == "") {
				t.Errorf("%s: got %s, %q, %v, want the first answer %s", what, got, again, err, first)
			}
			passwords = append(passwords, again)
		}
		same("at once", w.Service)
		same("on a server that is behind", behind)
		if oneTime != "" {
			if n := w.good(t, username, passwords...); n != 1 || w.good(t, username, passwords[2]) != 1 {
				t.Errorf("%d of the passwords %q are good, want the last alone", n, passwords)
			}
		}
		role, name := accounts.Auditor, "后来"
		for a := range w.After("") {
			if a.Username != username {
				continue
			}
			if _, err := w.Update(t.Context(), accounts.By{Account: "root"}, a.ID, accounts.Change{Role: &role, DisplayName: &name}); err != nil {
				t.Fatal(err)
			}
		}
		same("after another change", w.Service)
		same("after a restart", w.open(t))
		if _, _, err = call(w.Service, asked("root", requestID), true); !conflicts(err) {
			t.Errorf("other content: got %v, want a conflict", err)
		}
		if _, _, err = call(w.Service, asked("wu.min", requestID), false); !conflicts(err) {
			t.Errorf("another account: got %v, want a conflict", err)
		}
		for other, method := range repeatable {
			if other == strings.ReplaceAll(strings.Split(t.Name(), "/")[1], "_", " ") {
				continue
			}
			if _, _, err := method(w, w.Service, asked("root", requestID), false); !conflicts(err) {
				t.Errorf("%s: got %v, want a conflict", other, err)
			}
		}
		if n := w.store.Count(ledger.Accounts); n != 4 {
			t.Errorf("got %d entries, want 4", n)
		}
	})
}

// TestRepeatAfterLostAnswer ensures that whoever got no answer gets it by a repeat, with
// a password that is good, whether or not the change was stored.
func TestRepeatAfterLostAnswer(t *testing.T) {
	for what, fault := range map[string]ledgertest.Fault{"stored": ledgertest.FailedButStored, "not stored": ledgertest.Failed} {
		t.Run(what, func(t *testing.T) {
			repeats(t, func(t *testing.T, w *world, call func(*accounts.Service, accounts.By, bool) (string, string, error)) {
				w.store.OnWrite(func(ledger.Draft) ledgertest.Fault { return fault })
				if _, _, err := call(w.Service, asked("root", requestID), false); !errors.Is(err, ledger.ErrUnavailable) {
					t.Fatalf("got %v, want ErrUnavailable", err)
				}
				w.store.OnWrite(nil)
				_, oneTime, err := call(w.Service, asked("root", requestID), false)
				if err != nil {
					t.Fatal(err)
				}
				switch strings.Split(t.Name(), "/")[2] {
				case "CreateAccount":
					if w.good(t, "chen.jie", oneTime) != 1 {
						t.Error("nobody can sign in with the password of the repeat")
					}
				case "CreateAccount_with_a_password":
					if _, _, err := w.Login(t.Context(), accounts.SignIn{Username: "chen.jie", Password: "another horse battery"}); err != nil {
						t.Error(err)
					}
				case "ResetPassword":
					if w.good(t, "li.wei", oneTime) != 1 {
						t.Error("nobody can sign in with the password of the repeat")
					}
				}
				if n := w.store.Count(ledger.Accounts); n != 3 {
					t.Errorf("got %d entries, want 3", n)
				}
			})
		})
	}
}

// TestRepeatsAtOnce ensures that of repeats that come at once, to two servers, one makes
// the change, and that exactly one of the passwords that they are given is good.
func TestRepeatsAtOnce(t *testing.T) {
	repeats(t, func(t *testing.T, w *world, call func(*accounts.Service, accounts.By, bool) (string, string, error)) {
		servers := []*accounts.Service{w.Service, w.open(t)}
		answers, passwords := make([]string, 8), make([]string, 8)
		var group sync.WaitGroup
		for i := range answers {
			group.Go(func() {
				var err error
				if answers[i], passwords[i], err = call(servers[i%2], asked("root", requestID), false); err != nil {
					t.Error(err)
				}
			})
		}
		group.Wait()
		for _, a := range answers {
			if a != answers[0] {
				t.Errorf("got %s and %s, want one answer", a, answers[0])
			}
		}
		if n := w.store.Count(ledger.Accounts); n != 3 {
			t.Errorf("got %d entries, want 3", n)
		}
		if passwords[0] == "" {
			return
		}
		username := "li.wei"
		if answers[0] != "" {
			username = "chen.jie"
		}
		if n := w.good(t, username, passwords...); n != 1 {
			t.Errorf("%d of the passwords %q are good, want one", n, passwords)
		}
		kept := 0
		if err := w.store.Secrets(t.Context(), "password/", func(string, []byte) error { kept++; return nil }); err != nil || kept > 3 {
			t.Errorf("got %d passwords, %v, want those of three accounts at most", kept, err)
		}
	})
}

// TestRepeatVoidsNothing ensures that a repeat of a request gives no password, and voids
// none, once its own was used or another was given.
func TestRepeatVoidsNothing(t *testing.T) {
	const chosen = "a horse that was chosen"
	for name, later := range map[string]func(t *testing.T, w *world, id, oneTime string) (good accounts.SignIn, want error){
		"used": func(t *testing.T, w *world, _, oneTime string) (accounts.SignIn, error) {
			w.login(t, accounts.SignIn{Username: "chen.jie", Password: oneTime, NewPassword: chosen})
			return accounts.SignIn{Username: "chen.jie", Password: chosen}, nil
		},
		"reset once more": func(t *testing.T, w *world, id, _ string) (accounts.SignIn, error) {
			second, err := w.ResetPassword(t.Context(), accounts.By{Account: "root"}, id)
			if err != nil {
				t.Fatal(err)
			}
			return accounts.SignIn{Username: "chen.jie", Password: second}, accounts.ErrPasswordChange
		},
		"reset once more by a request": func(t *testing.T, w *world, id, _ string) (accounts.SignIn, error) {
			second, err := w.ResetPassword(t.Context(), asked("root", uuid.NewString()), id)
			if err != nil {
				t.Fatal(err)
			}
			return accounts.SignIn{Username: "chen.jie", Password: second}, accounts.ErrPasswordChange
		},
		"disabled": func(t *testing.T, w *world, id, _ string) (accounts.SignIn, error) {
			if _, err := w.Disable(t.Context(), accounts.By{Account: "root"}, id); err != nil {
				t.Fatal(err)
			}
			return accounts.SignIn{Username: "chen.jie", Password: chosen}, accounts.ErrSignIn
		},
	} {
		for _, first := range []string{"CreateAccount", "ResetPassword"} {
			t.Run(first+"/"+name, func(t *testing.T) {
				t.Parallel()
				w := newWorld(t)
				n := accounts.NewAccount{Username: "chen.jie", Role: accounts.Officer, Divisions: []sites.DivisionCode{"511602"}}
				created, _, err := w.Create(t.Context(), asked("root", uuid.NewString()), n)
				if err != nil {
					t.Fatal(err)
				}
				again := func() (p string, err error) {
					return w.ResetPassword(t.Context(), asked("root", requestID), created.ID)
				}
				if first == "CreateAccount" {
					w = newWorld(t)
					again = func() (p string, err error) {
						created, p, err = w.Create(t.Context(), asked("root", requestID), n)
						return p, err
					}
				}
				oneTime, err := again()
				if err != nil || oneTime == "" {
					t.Fatalf("got %q, %v", oneTime, err)
				}
				good, want := later(t, w, created.ID, oneTime)
				if p, err := again(); err != nil || p != "" {
					t.Errorf("got the password %q, %v, want none", p, err)
				}
				if _, _, err := w.Login(t.Context(), good); !errors.Is(err, want) {
					t.Errorf("got %v, want %v: what was good before the repeat is good after it", err, want)
				}
			})
		}
	}
}

// TestRepeatAgainstSignIn ensures that of a repeat and a sign-in with the first one-time
// password that come at once, one comes first: either the password is used, and the
// repeat gives none, or the repeat's is the only one that is good.
func TestRepeatAgainstSignIn(t *testing.T) {
	t.Parallel()
	for range 10 {
		w := newWorld(t)
		other := w.open(t)
		first, err := w.ResetPassword(t.Context(), asked("root", requestID), w.officer.ID)
		if err != nil {
			t.Fatal(err)
		}
		var second string
		var again, signedIn error
		var group sync.WaitGroup
		group.Go(func() { second, again = other.ResetPassword(t.Context(), asked("root", requestID), w.officer.ID) })
		group.Go(func() {
			_, _, signedIn = w.Login(t.Context(), accounts.SignIn{Username: "li.wei", Password: first, NewPassword: "another horse battery"})
		})
		group.Wait()
		switch {
		case again != nil:
			t.Fatal(again)
		case signedIn == nil && second != "":
			t.Error("the password was used, and the repeat has given another one")
		case signedIn != nil && (!errors.Is(signedIn, accounts.ErrSignIn) || w.good(t, "li.wei", second) != 1):
			t.Errorf("got %v, and the repeat's password %q is no good", signedIn, second)
		}
	}
}

// slowSecrets calls before a look at what is stored, and before storing anything.
type slowSecrets struct {
	*store
	beforeLook, beforePut func()
}

func (s *slowSecrets) Secret(ctx context.Context, name string) ([]byte, int64, error) {
	s.beforeLook()
	return s.store.Secret(ctx, name)
}

func (s *slowSecrets) PutSecret(ctx context.Context, name string, revision int64, value []byte) error {
	s.beforePut()
	return s.store.PutSecret(ctx, name, revision, value)
}

// TestRepeatBetween ensures that a request that comes twice, and is answered and its
// password used while a server has begun on the second, voids nothing.
func TestRepeatBetween(t *testing.T) {
	for _, when := range []string{"look", "put"} {
		t.Run(when, func(t *testing.T) {
			w := newWorld(t)
			other := w.open(t)
			hold, held := make(chan struct{}), make(chan struct{})
			secrets := &slowSecrets{w.store, func() {}, func() {}}
			slow, err := accounts.Open(t.Context(), accounts.Config{
				Ledger: w.store, Secrets: secrets, Now: w.clock, NewID: uuid.NewString, Random: rand.Reader,
			})
			if err != nil {
				t.Fatal(err)
			}
			wait := sync.OnceFunc(func() {
				close(held)
				<-hold
			})
			if secrets.beforeLook = wait; when == "put" {
				secrets.beforeLook, secrets.beforePut = func() {}, wait
			}
			var late string
			var lateErr error
			var group sync.WaitGroup
			group.Go(func() { late, lateErr = slow.ResetPassword(t.Context(), asked("root", requestID), w.officer.ID) })
			<-held
			first, err := other.ResetPassword(t.Context(), asked("root", requestID), w.officer.ID)
			if err != nil {
				t.Fatal(err)
			}
			if _, _, err := other.Login(t.Context(), accounts.SignIn{Username: "li.wei", Password: first, NewPassword: "another horse battery"}); err != nil {
				t.Fatal(err)
			}
			close(hold)
			group.Wait()
			if late != "" || lateErr != nil {
				t.Errorf("got %q, %v, want no password", late, lateErr)
			}
			if _, _, err := other.Login(t.Context(), accounts.SignIn{Username: "li.wei", Password: "another horse battery"}); err != nil {
				t.Errorf("the password that was chosen: %v", err)
			}
		})
	}
}

// TestRepeatComparesPasswords ensures that a repeat with another password of its own is a
// conflict while the first is in use, and that it is not compared later; and that neither
// is in the history.
func TestRepeatComparesPasswords(t *testing.T) {
	w := newWorld(t)
	create := func(own string) error {
		_, oneTime, err := w.Create(t.Context(), asked("root", requestID), accounts.NewAccount{
			Username: "chen.jie", Role: accounts.Officer, Divisions: []sites.DivisionCode{"511602"}, Password: own,
		})
		if oneTime != "" {
			t.Errorf("got the one-time password %q", oneTime)
		}
		return err
	}
	if err := create("another horse battery"); err != nil {
		t.Fatal(err)
	}
	if err := create("yet another horse battery"); !conflicts(err) {
		t.Errorf("another password: got %v, want a conflict", err)
	}
	if _, _, err := w.Create(t.Context(), asked("root", requestID), accounts.NewAccount{
		Username: "chen.jie", Role: accounts.Officer, Divisions: []sites.DivisionCode{"511602"},
	}); !conflicts(err) {
		t.Errorf("no password: got %v, want a conflict", err)
	}
	c, err := w.Verify(t.Context(), w.login(t, accounts.SignIn{Username: "chen.jie", Password: "another horse battery"}).Access)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.ChangePassword(t.Context(), c, "another horse battery", "a horse that was chosen"); err != nil {
		t.Fatal(err)
	}
	for _, own := range []string{"another horse battery", "yet another horse battery"} {
		if err := create(own); err != nil {
			t.Errorf("after it was changed: got %v", err)
		}
	}
	w.login(t, accounts.SignIn{Username: "chen.jie", Password: "a horse that was chosen"})
}
