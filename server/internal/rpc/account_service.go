package rpc

import (
	"context"
	"errors"

	xunchav1 "xuncha/proto/xuncha/v1"
	"xuncha/server/internal/accounts"
	"xuncha/sites"
)

var errNoAccounts = errors.New("the server has no accounts yet")

type accountService struct {
	xunchav1.UnimplementedAccountServiceServer
	config Config
}

func (s *accountService) Login(ctx context.Context, req *xunchav1.LoginRequest) (*xunchav1.LoginResponse, error) {
	if !s.config.Accounts.Any() {
		return nil, errNoAccounts
	}
	a, t, err := s.config.Accounts.Login(ctx, accounts.SignIn{
		Username: req.Username, Password: req.Password, NewPassword: req.NewPassword, DeviceName: req.DeviceName,
		DeviceToken: req.DeviceToken, Address: s.config.addressOf(ctx),
	})
	if err != nil {
		return nil, err
	}
	return &xunchav1.LoginResponse{
		AccessToken: t.Access, AccessExpireTime: stamp(t.AccessExpires),
		RefreshToken: t.Refresh, RefreshExpireTime: stamp(t.RefreshExpires), Account: fromAccount(a),
	}, nil
}

func (s *accountService) RefreshToken(ctx context.Context, req *xunchav1.RefreshTokenRequest) (*xunchav1.RefreshTokenResponse, error) {
	a, t, err := s.config.Accounts.Refresh(ctx, req.RefreshToken, lower(req.RetryId))
	if err != nil {
		return nil, err
	}
	return &xunchav1.RefreshTokenResponse{
		AccessToken: t.Access, AccessExpireTime: stamp(t.AccessExpires),
		RefreshToken: t.Refresh, RefreshExpireTime: stamp(t.RefreshExpires), Account: fromAccount(a),
	}, nil
}

// caller returns who calls, or an error where the server asks nobody.
func caller(ctx context.Context) (accounts.Caller, error) {
	if sc := scopeOf(ctx); sc.caller != nil {
		return *sc.caller, nil
	}
	return accounts.Caller{}, errNoAccounts
}

func (s *accountService) Logout(ctx context.Context, _ *xunchav1.LogoutRequest) (*xunchav1.LogoutResponse, error) {
	c, err := caller(ctx)
	if err != nil {
		return nil, err
	}
	return &xunchav1.LogoutResponse{}, s.config.Accounts.Logout(ctx, c)
}

func (s *accountService) ChangePassword(ctx context.Context, req *xunchav1.ChangePasswordRequest) (*xunchav1.ChangePasswordResponse, error) {
	c, err := caller(ctx)
	if err != nil {
		return nil, err
	}
	t, err := s.config.Accounts.ChangePassword(ctx, c, req.OldPassword, req.NewPassword)
	if err != nil {
		return nil, err
	}
	return &xunchav1.ChangePasswordResponse{
		AccessToken: t.Access, AccessExpireTime: stamp(t.AccessExpires),
		RefreshToken: t.Refresh, RefreshExpireTime: stamp(t.RefreshExpires),
	}, nil
}

func (s *accountService) GetMe(ctx context.Context, _ *xunchav1.GetMeRequest) (*xunchav1.GetMeResponse, error) {
	c, err := caller(ctx)
	if err != nil {
		return nil, err
	}
	return &xunchav1.GetMeResponse{Account: fromAccount(c.Account)}, nil
}

// changedBy returns who changes an account, by the request. A call may wait, and be decided
// after its caller has lost what it began with.
func changedBy(ctx context.Context, m requested) accounts.By {
	s, out := scopeOf(ctx), accounts.By{Account: account(ctx), Request: request(m)}
	if f, ok := m.(interface{ GetForce() bool }); ok {
		out.Force = f.GetForce()
	}
	if !s.all() {
		admin := func(by *accounts.Account) bool { return by.Role == accounts.Admin && by.Disabled.IsZero() }
		out.May = func(by *accounts.Account, code sites.DivisionCode) bool {
			return admin(by) && lies(s.config.Roster.Roster(), code, by.Divisions, s.config.Now())
		}
		out.KeepsLost = func(by *accounts.Account, code sites.DivisionCode) bool {
			return admin(by) && keepsLost(s.config.Roster.Roster(), code, by.Divisions, s.config.Now())
		}
	}
	return out
}

func (s *accountService) CreateAccount(ctx context.Context, req *xunchav1.CreateAccountRequest) (*xunchav1.CreateAccountResponse, error) {
	a, oneTime, err := s.config.Accounts.Create(ctx, changedBy(ctx, req), toNewAccount(req))
	if err != nil {
		return nil, inAccount(err)
	}
	return &xunchav1.CreateAccountResponse{Account: fromAccount(a), OneTimePassword: oneTime}, nil
}

func (s *accountService) UpdateAccount(ctx context.Context, req *xunchav1.UpdateAccountRequest) (*xunchav1.UpdateAccountResponse, error) {
	a, err := s.config.Accounts.Update(ctx, changedBy(ctx, req), lower(req.AccountId), toChange(req))
	if err != nil {
		return nil, err
	}
	return &xunchav1.UpdateAccountResponse{Account: fromAccount(a)}, nil
}

func (s *accountService) DisableAccount(ctx context.Context, req *xunchav1.DisableAccountRequest) (*xunchav1.DisableAccountResponse, error) {
	a, err := s.config.Accounts.Disable(ctx, changedBy(ctx, req), lower(req.AccountId))
	if err != nil {
		return nil, err
	}
	return &xunchav1.DisableAccountResponse{Account: fromAccount(a)}, nil
}

func (s *accountService) ResetPassword(ctx context.Context, req *xunchav1.ResetPasswordRequest) (*xunchav1.ResetPasswordResponse, error) {
	oneTime, err := s.config.Accounts.ResetPassword(ctx, changedBy(ctx, req), lower(req.AccountId))
	if err != nil {
		return nil, err
	}
	return &xunchav1.ResetPasswordResponse{OneTimePassword: oneTime}, nil
}

func (s *accountService) ListAccounts(ctx context.Context, req *xunchav1.ListAccountsRequest) (*xunchav1.ListAccountsResponse, error) {
	var cursor struct {
		After string `json:"a"`
	}
	query := queryOf(req)
	if err := readPageToken(req.PageToken, &cursor, query...); err != nil {
		return nil, err
	}
	sc := scopeOf(ctx)
	out, p := &xunchav1.ListAccountsResponse{}, page[*xunchav1.Account]{size: pageSize(req)}
	var err error
	for a := range s.config.Accounts.After(cursor.After) {
		if !p.offer(sc.seesAccount(a), func() *xunchav1.Account { return fromAccount(a) }) {
			out.NextPageToken, err = pageToken(cursor, query...)
			break
		}
		cursor.After = a.Username
	}
	out.Accounts = p.items
	spend(ctx, p.looked)
	return out, err
}
