package client

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	xunchav1 "xuncha/proto/xuncha/v1"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestSignIn(t *testing.T) {
	s := newServer(t)
	p := newPhone(t, s)
	if err := p.me(); err != nil {
		t.Errorf("signed in: %v", err)
	}
	b, err := json.Marshal(p.kept)
	if err != nil {
		t.Fatal(err)
	}
	var read Session
	if err := json.Unmarshal(b, &read); err != nil || read != p.Session() {
		t.Errorf("read %s again as %#v, %v; want %#v", b, read, err, p.Session())
	}
	if text := fmt.Sprintf("%v %+v", read, read); strings.Contains(text, "access 0") || strings.Contains(text, "device") {
		t.Errorf("a token is printed: %s", text)
	}
	p.start(s) // once more, with what it kept
	if err := p.me(); err != nil || s.counted("Login") != 1 {
		t.Errorf("after a restart: %v, and %d sign-ins", err, s.counted("Login"))
	}
	if err := p.SignOut(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := p.me(); !tokenInvalid(err) || p.kept.SignedIn() || p.Session() != p.kept {
		t.Errorf("signed out: %v, and %#v is kept", err, p.kept)
	}
	for in, want := range map[SignIn]xunchav1.ErrorReason{
		{Username: "wang", Password: "wrong"}: xunchav1.ErrorReason_ERROR_REASON_SIGN_IN_FAILED,
		{Username: "wang", Password: oneTime}: xunchav1.ErrorReason_ERROR_REASON_PASSWORD_CHANGE_REQUIRED,
	} {
		if _, err := p.SignIn(t.Context(), in); !hasReason(err, want) {
			t.Errorf("%s: got %v, want %v", in.Password, err, want)
		}
	}
	if a, err := p.SignIn(t.Context(), SignIn{Username: "wang", Password: oneTime, NewPassword: password}); err != nil || a.Username != "wang" {
		t.Errorf("with a one-time password and a new one: %v, %v", a, err)
	}
	// It shows each time that it was signed in before, also after it was started anew.
	if got := strings.Join(s.shown, ", "); got != ", device 1., device 1., device 1." {
		t.Errorf("the sign-ins have shown %q, want what the device had", got)
	}
}

// TestRenewedInTime ensures that tokens are renewed before they expire, once for
// all calls that come at the same time.
func TestRenewedInTime(t *testing.T) {
	s := newServer(t)
	p := newPhone(t, s)
	for round := range 3 {
		const later = accessLifetime - time.Minute
		s.advance(later)
		p.mu.Lock()
		p.now = p.now.Add(later)
		p.mu.Unlock()
		var group sync.WaitGroup
		for range 20 {
			group.Go(func() {
				if err := p.me(); err != nil {
					t.Error(err)
				}
			})
		}
		group.Wait()
		if got := s.counted("RefreshToken"); got != round+1 {
			t.Errorf("the tokens were renewed %d times, want %d", got, round+1)
		}
	}
	if s.counted("GetMe") != 60 {
		t.Errorf("%d calls were made, want 60: none was refused", s.counted("GetMe"))
	}
}

// TestRefusedToken ensures that a call goes on whose token is not valid any more,
// and that many calls together renew it once.
func TestRefusedToken(t *testing.T) {
	s := newServer(t)
	p := newPhone(t, s)
	s.forget()
	var group sync.WaitGroup
	for range 20 {
		group.Go(func() {
			if err := p.me(); err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
	if got := s.counted("RefreshToken"); got != 1 {
		t.Errorf("the tokens were renewed %d times, want once", got)
	}
}

// TestWrongClock ensures that a phone whose clock is wrong renews its tokens when
// the server refuses them, and not at every call.
func TestWrongClock(t *testing.T) {
	for _, off := range []time.Duration{-20 * time.Hour, accessLifetime - time.Second, 20 * time.Minute, 20 * time.Hour} {
		s := newServer(t)
		p := &phone{t: t, now: s.now.Add(off)}
		p.start(s)
		if _, err := p.SignIn(t.Context(), SignIn{Username: "wang", Password: password}); err != nil {
			t.Fatal(err)
		}
		for range 5 {
			if err := p.me(); err != nil {
				t.Error(err)
			}
		}
		if got := s.counted("RefreshToken"); got != 0 {
			t.Errorf("%v off: the tokens were renewed %d times", off, got)
		}
		s.advance(accessLifetime)
		if err := p.me(); err != nil || s.counted("RefreshToken") != 1 {
			t.Errorf("%v off, when the token has expired: %v, and renewed %d times", off, err, s.counted("RefreshToken"))
		}
	}
}

// TestLostRefreshAnswer ensures that a refresh token is sent again with the same
// id when the answer was lost, also by the app's next run and after a run that
// could not write what it got. Else the server would sign the device out.
func TestLostRefreshAnswer(t *testing.T) {
	for name, lose := range map[string]func(p *phone, s *server){
		"OnTheWay": func(p *phone, s *server) {
			s.lost["RefreshToken"] = 1
		},
		"AndTheAppEnds": func(p *phone, s *server) {
			s.lost["RefreshToken"] = refreshTries
			if err := p.me(); status.Code(err) != codes.Unavailable {
				t.Errorf("without an answer: got %v", err)
			}
			p.start(s)
		},
		"DiskFull": func(p *phone, s *server) {
			p.full = errors.New("the disk is full")
			if err := p.me(); err == nil || !strings.Contains(err.Error(), "the disk is full") {
				t.Errorf("with a full disk: got %v", err)
			}
			p.full = nil
			p.start(s)
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := newServer(t)
			p := newPhone(t, s)
			before := p.kept
			s.forget()
			lose(p, s)
			for range 2 {
				if err := p.me(); err != nil {
					t.Fatal(err)
				}
				s.forget()
			}
			var sent []string
			for _, r := range s.refreshes {
				sent = append(sent, r.RefreshToken+" with "+r.RetryId)
			}
			n := len(sent)
			if n < 3 || sent[0] != before.RefreshToken+" with "+before.RetryID || before.RetryID == "" {
				t.Fatalf("sent %q, want first %s with %s", sent, before.RefreshToken, before.RetryID)
			}
			for _, again := range sent[1 : n-1] {
				if again != sent[0] {
					t.Errorf("sent %q, want the same again until the answer is there", sent)
				}
			}
			if s.refreshes[n-1].RefreshToken == before.RefreshToken || s.refreshes[n-1].RetryId == before.RetryID {
				t.Errorf("sent %q, want another token with another id at the end", sent)
			}
		})
	}
}

// TestLateRenewal ensures that a call that finds out late that the tokens were renewed
// does not spend an older token again, which would sign the device out.
func TestLateRenewal(t *testing.T) {
	s := newServer(t)
	p := newPhone(t, s)
	old := p.Session()
	for range 2 {
		s.forget()
		if err := p.me(); err != nil {
			t.Fatal(err)
		}
	}
	token, err := p.session.renew(old)
	if err != nil || token != p.Session().AccessToken || s.counted("RefreshToken") != 2 {
		t.Errorf("got %q, %v, after %d renewals; want the present token", token, err, s.counted("RefreshToken"))
	}
}

// TestStillValidToken ensures that calls go on with a token that is valid while the
// tokens cannot be renewed.
func TestStillValidToken(t *testing.T) {
	s := newServer(t)
	p := newPhone(t, s)
	p.now = p.now.Add(accessLifetime - time.Minute)
	s.before = func(method string) error {
		if method == "RefreshToken" {
			return status.Error(codes.Unavailable, "not now")
		}
		return nil
	}
	for range 5 {
		if err := p.me(); err != nil || s.counted("RefreshToken") != refreshTries {
			t.Errorf("got %v, after %d tries to renew, want %d", err, s.counted("RefreshToken"), refreshTries)
		}
	}
	s.forget()
	if err := p.me(); status.Code(err) != codes.Unavailable || p.kept.RefreshToken == "" {
		t.Errorf("once it is not valid: got %v, and %#v is kept", err, p.kept)
	}
}

// TestSignedOutByServer ensures that a phone whose device was signed out forgets
// its tokens and asks no more.
func TestSignedOutByServer(t *testing.T) {
	s := newServer(t)
	p := newPhone(t, s)
	if _, err := s.Logout(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := p.me(); !tokenInvalid(err) {
			t.Errorf("got %v, want TOKEN_INVALID", err)
		}
	}
	if p.kept.SignedIn() || p.kept.DeviceToken == "" || s.counted("RefreshToken") != 1 {
		t.Errorf("%#v is kept, and the server was asked %d times", p.kept, s.counted("RefreshToken"))
	}
	p.start(s)
	if _, err := p.SignIn(t.Context(), SignIn{Username: "wang", Password: password}); err != nil {
		t.Fatal(err)
	}
	if shown := s.shown[len(s.shown)-1]; shown == "" {
		t.Error("the next sign-in does not show that the device was signed in before")
	}
}

// TestProvidersToken ensures that a token that somebody else gave is sent as it is.
func TestProvidersToken(t *testing.T) {
	s := newServer(t)
	s.valid["theirs"] = s.now.Add(time.Hour)
	p := &phone{t: t, kept: Session{AccessToken: "theirs"}}
	p.start(s)
	if err := p.me(); err != nil {
		t.Error(err)
	}
	s.forget()
	if err := p.me(); !tokenInvalid(err) || s.counted("RefreshToken") != 0 || s.counted("GetMe") != 2 {
		t.Errorf("got %v after %d calls, and %d tries to renew", err, s.counted("GetMe"), s.counted("RefreshToken"))
	}
}
