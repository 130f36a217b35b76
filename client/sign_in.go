package client

import (
	"context"

	xunchav1 "xuncha/proto/xuncha/v1"
)

// A SignIn is what somebody signs in with.
type SignIn struct {
	Username, Password string
	// NewPassword replaces a one-time password: 15 to 128 characters. With any other
	// password it must be empty.
	NewPassword string
	// DeviceName is what the user calls the device. The server keeps 64 characters of at
	// most 1,000.
	DeviceName string
}

// SignIn signs this device in, in the place of whoever was, and returns the account.
// It is tried once: each attempt that succeeds is a device of its own. The server learns
// whether this device was signed in before, so that nobody else's failures keep it waiting.
func (c *Client) SignIn(ctx context.Context, in SignIn) (*xunchav1.Account, error) {
	answer, err := c.session.accounts.Login(ctx, &xunchav1.LoginRequest{
		Username: in.Username, Password: in.Password, NewPassword: in.NewPassword, DeviceName: in.DeviceName,
		DeviceToken: c.session.get().signedOut().DeviceToken,
	})
	if err != nil {
		return nil, err
	}
	if err := c.session.set(c.session.made(answer.AccessToken, answer.RefreshToken, answer.AccessExpireTime.AsTime())); err != nil {
		return nil, err
	}
	return answer.Account, nil
}

// SignOut signs this device out, at the server and here. With an error, it is still
// signed in.
func (c *Client) SignOut(ctx context.Context) error {
	_, err := xunchav1.NewAccountServiceClient(c).Logout(ctx, &xunchav1.LogoutRequest{})
	if err != nil && !tokenInvalid(err) {
		return err
	}
	return c.session.set(c.session.get().signedOut())
}

// Session returns the present session, which Config.Keep was given last.
func (c *Client) Session() Session { return c.session.get() }
