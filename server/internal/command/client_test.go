package command_test

import (
	"io"
	"net"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"

	"xuncha/client"
	xunchav1 "xuncha/proto/xuncha/v1"
)

// A deafLink passes connections on to a server, and can lose answers: it cuts a
// connection when the next one comes.
type deafLink struct {
	listener net.Listener
	lose     atomic.Int64 // answers
}

// shortestAnswer is fewer bytes than an answer with tokens has, and more than HTTP/2
// sends of its own.
const shortestAnswer = 300

func newDeafLink(t testing.TB, to string) *deafLink {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l := &deafLink{listener: listener}
	var all sync.WaitGroup
	all.Go(func() {
		for {
			near, err := listener.Accept()
			if err != nil {
				return
			}
			far, err := net.Dial("tcp", to)
			if err != nil {
				near.Close()
				continue
			}
			both := func() {
				near.Close()
				far.Close()
			}
			all.Go(func() {
				_, _ = io.Copy(far, near) // until either side is cut
				both()
			})
			all.Go(func() {
				defer both()
				buffer := make([]byte, 64<<10)
				for {
					n, err := far.Read(buffer)
					if err != nil {
						return
					}
					if l.lose.Load() > 0 && n >= shortestAnswer {
						l.lose.Add(-1)
						return
					}
					if _, err := near.Write(buffer[:n]); err != nil {
						return
					}
				}
			})
		}
	})
	t.Cleanup(func() {
		listener.Close()
		all.Wait()
	})
	return l
}

// TestRefreshOverABadLink ensures that a phone stays signed in at a server whose
// answers with new tokens get lost, also when the app ends before one arrives.
func TestRefreshOverABadLink(t *testing.T) {
	folder, file := t.TempDir(), filepath.Join(t.TempDir(), "password")
	const password = "correct horse battery"
	if err := os.WriteFile(file, []byte(password), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, stderr, err := xuncha(t, "account", "create", "--data", folder, "--role", "admin", "--username", "root", "--division", "511600", "--password-file", file); err != nil {
		t.Fatal(err, stderr)
	}
	address, _ := serveFolder(t, folder)
	link := newDeafLink(t, address)
	var ahead time.Duration // of the phone's clock
	var kept client.Session
	start := func() *client.Client {
		t.Helper()
		c, err := client.New(client.Config{
			Address: link.listener.Addr().String(), Plaintext: true, NewID: uuid.NewString, Session: kept,
			Now:  func() time.Time { return time.Now().Add(ahead) },
			Keep: func(s client.Session) error { kept = s; return nil },
		})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		return c
	}
	me := func(c *client.Client) {
		t.Helper()
		if _, err := xunchav1.NewAccountServiceClient(c).GetMe(t.Context(), &xunchav1.GetMeRequest{}); err != nil {
			t.Fatal(err)
		}
	}
	c := start()
	if _, err := c.SignIn(t.Context(), client.SignIn{Username: "root", Password: password}); err != nil {
		t.Fatal(err)
	}
	before := kept
	me(c)
	if kept != before {
		t.Error("the tokens were renewed at once")
	}
	link.lose.Store(1)
	ahead = 12 * time.Minute
	me(c)
	if kept == before || link.lose.Load() != 0 {
		t.Errorf("the tokens were not renewed, or no answer was lost")
	}
	// As many answers are lost as the client waits for.
	before = kept
	link.lose.Store(3)
	ahead += 150 * time.Second
	me(c) // with the token of before, which is valid yet
	if kept != before || link.lose.Load() != 0 {
		t.Errorf("the tokens were renewed, or %d answers were not lost", link.lose.Load())
	}
	c.Close()
	// What the next run of the app keeps is good for another renewal.
	c = start()
	me(c)
	if kept == before {
		t.Error("the tokens were not renewed by the next run")
	}
	before = kept
	c.Close()
	kept.AccessToken = "" // so that the next one has to renew
	c = start()
	me(c)
	if kept == before {
		t.Error("the tokens were not renewed at last")
	}
}
