// Package client holds the commands that call a running server.
package client

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"xuncha/client"
	"xuncha/internal/texts"
)

// clientConfig holds the flags that all commands share that call a server.
type clientConfig struct {
	Server    string `default:"${address}" placeholder:"HOST:PORT" help:"Address of the server. Default: ${default}."`
	signInAs  `embed:""`
	clientTLS `embed:""`
	Timeout   time.Duration `default:"2m" help:"How long the command may take. Default: ${default}."`
}

// signInAs holds the flags that say who calls.
type signInAs struct {
	Username string `placeholder:"NAME" help:"Account to sign in with. Default: none, which a server without accounts takes."`
	Token    string `help:"Access token to call with instead, such as that of an identity provider. Better given as XUNCHA_TOKEN."`
	Password string `help:"The account's password. Better given as XUNCHA_PASSWORD, because others on the machine can read a command's arguments."`
}

// call calls f with a client of the server. If an account is named, the client is
// signed in to it. The error is for people to read.
func (c clientConfig) call(ctx context.Context, f func(context.Context, *client.Client) error) error {
	ctx, cancel := context.WithTimeout(ctx, c.Timeout)
	defer cancel()
	secure, err := c.clientTLS.config()
	if err != nil {
		return err
	}
	if c.Username != "" && c.Token != "" {
		return errors.New("--token: cannot be used together with --username")
	}
	server, err := client.New(client.Config{
		Address: c.Server, TLS: secure, Plaintext: secure == nil,
		// Without a password or a token, nothing that is sent is a secret.
		PlaintextAnywhere: c.Username == "" && c.Token == "",
		Now:               time.Now, NewID: uuid.NewString,
		Session: client.Session{AccessToken: c.Token},
	})
	if errors.Is(err, client.ErrPlaintext) {
		return fmt.Errorf("--server %s: a password or a token goes to another machine over TLS alone; give --tls or --tls-ca", c.Server)
	}
	if err != nil {
		return fmt.Errorf("--server: %w", err)
	}
	return errors.Join(Readable(c.signedIn(ctx, server, f)), server.Close())
}

// signedIn signs in if an account is named, calls f, and signs out again.
func (c clientConfig) signedIn(ctx context.Context, server *client.Client, f func(context.Context, *client.Client) error) error {
	if c.Username == "" {
		return f(ctx, server)
	}
	if c.Password == "" {
		return fmt.Errorf("--username %s: there is no password; give it as XUNCHA_PASSWORD", c.Username)
	}
	if err := SignIn(ctx, server, c.Username, c.Password); err != nil {
		return err
	}
	err := f(ctx, server)
	out := server.SignOut(ctx)
	switch status.Code(out) {
	case codes.Unavailable, codes.ResourceExhausted:
		// What the command has done stands, such as telling what is wrong with the server.
		// Nobody else has the tokens.
		out = nil
	}
	return cmp.Or(err, out)
}

// SignIn signs a client in to an account, under the device name of the commands.
func SignIn(ctx context.Context, server *client.Client, username, password string) error {
	_, err := server.SignIn(ctx, client.SignIn{Username: username, Password: password, DeviceName: "xuncha command"})
	return err
}

// Readable turns an error of the server into text with its reason and, a line each, the
// fields that it is about and does not name itself, or how to sign in. Any other error stays as it is.
func Readable(err error) error {
	st, ok := status.FromError(err)
	if err == nil || !ok {
		return err
	}
	var reason, count string
	var fields []*errdetails.BadRequest_FieldViolation
	for _, d := range st.Details() {
		switch d := d.(type) {
		case *errdetails.BadRequest:
			fields = d.FieldViolations
		case *errdetails.ErrorInfo:
			reason, count = d.Reason, d.Metadata["problem_count"]
		}
	}
	lines := []string{st.Message()}
	if st.Code() == codes.Unavailable && reason == "" { // no server has said this
		lines[0] = "no server answers; see whether it runs, and whether --server and --tls are right: " + lines[0]
	}
	if reason != "" {
		lines[0] += " (" + reason + ")"
	}
	for _, v := range fields {
		line := v.Field + ": " + v.Description
		if len(fields) > 1 {
			line += " (" + v.Reason + ")"
		}
		if line != st.Message() { // which says it already
			lines = append(lines, "  "+line)
		}
	}
	if reason == "TOKEN_INVALID" {
		lines = append(lines, "  sign in with --username and XUNCHA_PASSWORD, or give a token as XUNCHA_TOKEN")
	}
	if total, err := strconv.Atoi(count); err == nil && total > len(fields) {
		lines = append(lines, fmt.Sprintf("  and %d more", total-len(fields)))
	}
	return errors.New(texts.Spelled(strings.Join(lines, "\n")))
}
