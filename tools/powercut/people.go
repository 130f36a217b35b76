package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/google/uuid"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	xunchav1 "xuncha/proto/xuncha/v1"
)

const (
	rootName = "root"
	// rootPassword is also that of everybody in the deployment that an earlier version
	// made.
	rootPassword = "correct horse battery staple"
	// tokenTime is for how long an access token is used here; it is valid for 15 minutes.
	tokenTime = 10 * time.Minute
)

// A stage is how far an account has come.
type stage int

const (
	unborn stage = iota
	created
	signedIn
	renewed
	changed
	ended // it was disabled, or its device signed out
)

// A person is an account and one device of it, and what was acknowledged of both.
type person struct {
	name, password string
	id             string
	role           xunchav1.Role
	stage          stage
	changes        int // that were acknowledged
	access         string
	refresh        string
	retryID        string // of the renewal that is under way, if there is one
	signedInAt     time.Time
	// wanted is the password that a change under way makes.
	wanted string
	// disabled tells that the account is disabled in the end, and otherwise that its
	// device is signed out.
	disabled bool
}

// A registrar is the administrator who creates accounts, and has each go through its
// stages.
type registrar struct {
	random  *rand.Rand
	root    *person
	current *person
	made    int
}

// step notes that a stage was reached.
func (p *person) step(b *book, to stage, more func()) {
	b.record(func() {
		p.stage = to
		p.changes++
		more()
	})
}

// signIn signs a device of the person in.
func (p *person) signIn(ctx context.Context, b *book, s services) error {
	answer, err := once(ctx, "", s.accounts.Login, &xunchav1.LoginRequest{Username: p.name, Password: p.password, DeviceName: "d"})
	if err != nil {
		return whatCame(err, "signing %s in", p.name)
	}
	p.step(b, signedIn, func() {
		p.access, p.refresh, p.signedInAt = answer.AccessToken, answer.RefreshToken, time.Now()
	})
	return nil
}

// fresh signs the person in unless the token is good for some time. An account of
// nobody needs none.
func (p *person) fresh(ctx context.Context, b *book, s services) error {
	if p == nil || time.Since(p.signedInAt) < tokenTime {
		return nil
	}
	return p.signIn(ctx, b, s)
}

// token returns the access token, which is empty without accounts.
func (p *person) token() string {
	if p == nil {
		return ""
	}
	return p.access
}

// create creates the account of a person, unless the call before this one has.
func (r *registrar) create(ctx context.Context, b *book, s services, p *person) error {
	answer, err := once(ctx, r.root.token(), s.accounts.CreateAccount, &xunchav1.CreateAccountRequest{
		Account:  &xunchav1.Account{Username: p.name, DisplayName: p.name, Role: p.role, DivisionCodes: []string{cityCode}},
		Password: p.password,
	})
	if status.Code(err) == codes.AlreadyExists {
		// An earlier call that had no answer has made it.
		all, err := listAccounts(ctx, r.root.token(), s)
		if err != nil {
			return err
		}
		p.step(b, created, func() { p.id = all[p.name].GetAccountId() })
		return nil
	}
	if err != nil {
		return whatCame(err, "creating %s", p.name)
	}
	p.step(b, created, func() { p.id = answer.Account.AccountId })
	return nil
}

// ensure has a person of the name, who is signed in.
func (r *registrar) ensure(ctx context.Context, b *book, s services, p *person) error {
	if p.stage == unborn {
		if err := r.create(ctx, b, s, p); err != nil {
			return err
		}
	}
	return p.fresh(ctx, b, s)
}

// work creates accounts until ctx ends.
func (r *registrar) work(ctx context.Context, b *book, s services) error {
	for ctx.Err() == nil {
		if r.current == nil {
			r.made++
			r.current = &person{name: fmt.Sprintf("p%d", r.made), password: "a password for the first day", role: xunchav1.Role_ROLE_OFFICER, disabled: r.random.IntN(2) == 0}
			b.note(func() { b.people = append(b.people, r.current) })
		}
		if err := r.advance(ctx, b, s, r.current); err != nil {
			if unanswered(err) {
				return nil
			}
			return err
		}
		if r.current.stage == ended {
			r.current = nil
		}
	}
	return nil
}

// settle has the account that is under way come to its end.
func (r *registrar) settle(ctx context.Context, b *book, s services) error {
	for r.current != nil && r.current.stage != ended {
		if err := r.advance(ctx, b, s, r.current); err != nil {
			return err
		}
	}
	return nil
}

// advance takes the person to the next stage.
func (r *registrar) advance(ctx context.Context, b *book, s services, p *person) error {
	switch p.stage {
	case unborn:
		return r.create(ctx, b, s, p)
	case created:
		return p.signIn(ctx, b, s)
	case signedIn:
		return p.renew(ctx, b, s)
	case renewed:
		return p.changePassword(ctx, b, s)
	default:
		return r.end(ctx, b, s, p)
	}
}

// renew spends the refresh token. An attempt without an answer is repeated with the same
// retry id.
func (p *person) renew(ctx context.Context, b *book, s services) error {
	if p.retryID == "" {
		p.retryID = uuid.NewString()
	}
	answer, err := once(ctx, "", s.accounts.RefreshToken, &xunchav1.RefreshTokenRequest{RefreshToken: p.refresh, RetryId: p.retryID})
	if err != nil {
		return whatCame(err, "renewing the tokens of %s", p.name)
	}
	p.step(b, renewed, func() { p.access, p.refresh, p.retryID = answer.AccessToken, answer.RefreshToken, "" })
	return nil
}

// changePassword changes the password. Where an attempt had no answer, either password may
// be the one.
func (p *person) changePassword(ctx context.Context, b *book, s services) error {
	if p.wanted != "" {
		_, err := once(ctx, "", s.accounts.Login, &xunchav1.LoginRequest{Username: p.name, Password: p.wanted, DeviceName: "d"})
		if err == nil {
			b.note(func() { p.password = p.wanted })
		} else if unanswered(err) {
			return err
		}
		if err := p.signInAgain(ctx, b, s); err != nil {
			return err
		}
		if p.password == p.wanted {
			p.step(b, changed, func() { p.wanted = "" })
			return nil
		}
	}
	wanted := "another password, of the second day"
	b.note(func() { p.wanted = wanted })
	answer, err := once(ctx, p.access, s.accounts.ChangePassword, &xunchav1.ChangePasswordRequest{OldPassword: p.password, NewPassword: wanted})
	if err != nil {
		return whatCame(err, "changing the password of %s", p.name)
	}
	p.step(b, changed, func() {
		p.password, p.wanted, p.access, p.refresh = wanted, "", answer.AccessToken, answer.RefreshToken
	})
	return nil
}

// signInAgain signs a new device in and leaves the stage as it is.
func (p *person) signInAgain(ctx context.Context, b *book, s services) error {
	before := p.stage
	err := p.signIn(ctx, b, s)
	b.note(func() { p.stage = before })
	return err
}

// end disables the account or signs its device out.
func (r *registrar) end(ctx context.Context, b *book, s services, p *person) error {
	var err error
	if p.disabled {
		_, err = once(ctx, r.root.token(), s.accounts.DisableAccount, &xunchav1.DisableAccountRequest{AccountId: p.id})
	} else {
		_, err = once(ctx, p.access, s.accounts.Logout, &xunchav1.LogoutRequest{})
		if status.Code(err) == codes.Unauthenticated {
			err = nil // an earlier call that had no answer has done it
		}
	}
	if err != nil {
		return whatCame(err, "ending %s", p.name)
	}
	p.step(b, ended, func() {})
	return nil
}

// listAccounts returns all accounts by their usernames.
func listAccounts(ctx context.Context, token string, s services) (map[string]*xunchav1.Account, error) {
	out := map[string]*xunchav1.Account{}
	for page := ""; ; {
		answer, err := once(ctx, token, s.accounts.ListAccounts, &xunchav1.ListAccountsRequest{PageSize: 1000, PageToken: page})
		if err != nil {
			return nil, whatCame(err, "the list of accounts")
		}
		for _, a := range answer.Accounts {
			out[a.Username] = a
		}
		if page = answer.NextPageToken; page == "" {
			return out, nil
		}
	}
}
