package main

import (
	"context"
	"encoding/base64"
	"fmt"
	"math/rand/v2"
	"strings"
	"time"

	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/reflection/grpc_reflection_v1"
	"google.golang.org/protobuf/proto"

	xunchav1 "xuncha/proto/xuncha/v1"
)

// What the crowd calls.
const (
	loginMethod   = xunchav1.AccountService_Login_FullMethodName
	reflectMethod = grpc_reflection_v1.ServerReflection_ServerReflectionInfo_FullMethodName
	watchMethod   = grpc_health_v1.Health_Watch_FullMethodName
)

// longMessages sends a message of 16 MiB on each of many streams, a part of each in turn.
func (h *hostile) longMessages(ctx context.Context, c *rawConn, _ *rand.Rand) error {
	part := make([]byte, 16<<10)
	left := map[uint32]int{}
	for {
		for len(left) < streamsEach {
			if err := h.actions.Wait(ctx); err != nil {
				return err
			}
			id, err := c.open(loginMethod, false)
			if err != nil {
				return err
			}
			left[id] = longMessage
			if err := c.send(id, prefix(longMessage, false), false); err != nil && err != errReset {
				return err
			}
		}
		sent := false
		for id := range left {
			switch {
			case !c.alive(id):
				delete(left, id)
				continue
			case c.blocked(id):
				continue
			}
			if err := h.bytes.WaitN(ctx, len(part)); err != nil {
				return err
			}
			err := c.send(id, part, false)
			if left[id] -= len(part); err == errReset || left[id] <= 0 {
				delete(left, id)
			} else if err != nil {
				return err
			}
			sent = true
		}
		if err := c.ended(); err != nil {
			return err
		}
		if !sent {
			pause(ctx, 50*time.Millisecond)
		}
	}
}

// bombs signs in with messages that unpack to a thousand times their length.
func (h *hostile) bombs(ctx context.Context, c *rawConn, _ *rand.Rand) error {
	return h.hold(ctx, c, streamsEach, func() (uint32, error) {
		id, err := c.open(loginMethod, false, "grpc-encoding", "gzip")
		if err == nil {
			if err = c.send(id, h.bomb, true); err == errReset {
				err = nil
			}
		}
		return id, err
	})
}

// headersAlone opens streams on which nothing follows.
func (h *hostile) headersAlone(ctx context.Context, c *rawConn, _ *rand.Rand) error {
	return h.hold(ctx, c, streamsIdle, func() (uint32, error) {
		return c.open(xunchav1.InspectionService_SubmitCheckIn_FullMethodName, false)
	})
}

// longHeaders opens such streams with fields that no table of the header compression keeps.
func (h *hostile) longHeaders(ctx context.Context, c *rawConn, source *rand.Rand) error {
	return h.hold(ctx, c, streamsEach, func() (uint32, error) {
		if err := h.bytes.WaitN(ctx, 12<<10); err != nil {
			return 0, err
		}
		return c.open(loginMethod, false, fmt.Sprintf("x-%d", source.Uint64()), strings.Repeat("long", 3<<10))
	})
}

// ask is a request of reflection for all that there is to say of a service.
func ask() []byte {
	raw, err := proto.Marshal(&grpc_reflection_v1.ServerReflectionRequest{
		MessageRequest: &grpc_reflection_v1.ServerReflectionRequest_FileContainingSymbol{FileContainingSymbol: "xuncha.v1.RosterService"},
	})
	if err != nil {
		panic(err) // a message of constants
	}
	return framed(raw, false)
}

// openReflection keeps streams of reflection open after a question on each.
func (h *hostile) openReflection(ctx context.Context, c *rawConn, _ *rand.Rand) error {
	question := ask()
	return h.hold(ctx, c, streamsEach, func() (uint32, error) {
		id, err := c.open(reflectMethod, false)
		if err == nil {
			if err = c.send(id, question, false); err == errReset {
				err = nil
			}
		}
		return id, err
	})
}

// openHealth keeps watching the server's health on many streams.
func (h *hostile) openHealth(ctx context.Context, c *rawConn, _ *rand.Rand) error {
	return h.hold(ctx, c, streamsIdle, func() (uint32, error) {
		id, err := c.open(watchMethod, false)
		if err == nil {
			if err = c.send(id, framed(nil, false), true); err == errReset {
				err = nil
			}
		}
		return id, err
	})
}

// unknownMethods calls what does not exist.
func (h *hostile) unknownMethods(ctx context.Context, c *rawConn, source *rand.Rand) error {
	return h.repeat(ctx, c, func() error {
		_, err := c.open(fmt.Sprintf("/nothing.Here/Do%d", source.IntN(1000)), true)
		return err
	})
}

// repeat does it again and again.
func (h *hostile) repeat(ctx context.Context, c *rawConn, do func() error) error {
	for {
		if err := h.actions.Wait(ctx); err != nil {
			return err
		}
		if err := do(); err != nil && err != errReset {
			return err
		}
		if err := c.ended(); err != nil {
			return err
		}
	}
}

// forgedTokens calls with tokens that say to be the provider's, each by another key.
func (h *hostile) forgedTokens(ctx context.Context, c *rawConn, source *rand.Rand) error {
	e := base64.RawURLEncoding
	return h.repeat(ctx, c, func() error {
		now := time.Now().Unix()
		head := fmt.Sprintf(`{"alg":"RS256","kid":"%d"}`, source.Uint64())
		claims := fmt.Sprintf(`{"iss":%q,"aud":"bench","sub":"%d","iat":%d,"exp":%d}`, h.issuer, source.Uint64(), now, now+600)
		token := e.EncodeToString([]byte(head)) + "." + e.EncodeToString([]byte(claims)) + "." + e.EncodeToString(make([]byte, 256))
		id, err := c.open(xunchav1.AccountService_GetMe_FullMethodName, false, "authorization", "Bearer "+token)
		if err != nil {
			return err
		}
		return c.send(id, framed(nil, false), true)
	})
}

// readNothing asks reflection for much on every stream and reads no answer.
func (h *hostile) readNothing(ctx context.Context, c *rawConn, _ *rand.Rand) error {
	question := ask()
	for range streamsEach {
		id, err := c.open(reflectMethod, false)
		if err != nil {
			return err
		}
		// The windows of a connection that reads nothing never grow, so no more fits.
		for range 10 {
			if err := h.actions.Wait(ctx); err != nil {
				return err
			}
			if err := c.send(id, question, false); err != nil {
				return err
			}
		}
	}
	pause(ctx, turn)
	return nil
}

// sayNothing opens a connection and makes no call.
func (h *hostile) sayNothing(ctx context.Context, c *rawConn, _ *rand.Rand) error {
	return c.idle(ctx)
}

// trickle sends a request byte by byte.
func (h *hostile) trickle(ctx context.Context, c *rawConn, _ *rand.Rand) error {
	id, err := c.open(loginMethod, false)
	if err != nil {
		return err
	}
	if err := c.send(id, prefix(1000, false), false); err != nil {
		return err
	}
	for range 1000 {
		if err := c.send(id, []byte{0}, false); err != nil {
			return err
		}
		pause(ctx, time.Second)
		if err := ctx.Err(); err != nil {
			return err
		}
	}
	return nil
}

// signInAs sends a sign-in with a wrong password.
func (h *hostile) signInAs(ctx context.Context, c *rawConn, source *rand.Rand) (uint32, error) {
	if err := h.password.Wait(ctx); err != nil {
		return 0, err
	}
	names := []string{admin, head, fmt.Sprintf("nobody%d", source.Uint64())}
	raw, err := proto.Marshal(&xunchav1.LoginRequest{Username: names[source.IntN(len(names))], Password: "correct horse battery stable"})
	if err != nil {
		return 0, err
	}
	id, err := c.open(loginMethod, false)
	if err != nil {
		return 0, err
	}
	if err := c.send(id, framed(raw, false), true); err != nil && err != errReset {
		return 0, err
	}
	return id, nil
}

// wrongPasswords signs in with wrong passwords, under names that exist and others.
func (h *hostile) wrongPasswords(ctx context.Context, c *rawConn, source *rand.Rand) error {
	return h.repeat(ctx, c, func() error {
		_, err := h.signInAs(ctx, c, source)
		return err
	})
}

// cancelledLogins does the same and gives each call up at once.
func (h *hostile) cancelledLogins(ctx context.Context, c *rawConn, source *rand.Rand) error {
	return h.repeat(ctx, c, func() error {
		id, err := h.signInAs(ctx, c, source)
		if err != nil {
			return err
		}
		return c.reset(id)
	})
}
