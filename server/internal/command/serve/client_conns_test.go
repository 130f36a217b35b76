package serve

import (
	"crypto/tls"
	"io"
	"net"
	"os"
	"path/filepath"
	"testing"

	"xuncha/server/internal/testcert"
)

// dial connects a client to the server's credentials, and returns what the client reads with
// and whether the server has taken it.
func (w *tlsWorld) dial(config *tls.Config) (client net.Conn, server net.Conn, err error) {
	w.t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		w.t.Fatal(err)
	}
	defer listener.Close()
	raw, err := net.Dial("tcp", listener.Addr().String())
	if err != nil {
		w.t.Fatal(err)
	}
	accepted, err := listener.Accept()
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { raw.Close(); accepted.Close() })
	config.InsecureSkipVerify, config.NextProtos = true, []string{"h2"}
	conn := tls.Client(raw, config)
	go func() { _ = conn.Handshake() }()
	server, _, err = w.credentials().ServerHandshake(accepted)
	if err == nil {
		_, err = server.Write([]byte("x"))
	}
	if err == nil {
		_, err = io.ReadFull(conn, make([]byte, 1))
	}
	return conn, server, err
}

// TestClientCAWithdrawn ensures that the connections of clients end whose authority is no
// longer among those of the file, and no others, and that a file that is half written ends
// none.
func TestClientCAWithdrawn(t *testing.T) {
	a, withdrawn, stays := testcert.New(t), testcert.New(t), testcert.New(t)
	file := filepath.Join(t.TempDir(), "clients.pem")
	(&tlsWorld{t: t}).write(file, withdrawn.File, stays.File)
	w := newTLSWorld(t, a, tlsConfig{TLSClientCA: file})
	of := func(a *testcert.Authority) *tls.Config {
		pair, err := tls.LoadX509KeyPair(a.Issue(t, "phone"))
		if err != nil {
			t.Fatal(err)
		}
		return &tls.Config{Certificates: []tls.Certificate{pair}}
	}
	resumes := of(withdrawn)
	resumes.ClientSessionCache = tls.NewLRUClientSessionCache(1)
	ends := map[string]*tls.Config{"with a session": resumes, "another": of(withdrawn)}
	lasts := map[string]*tls.Config{"of the other authority": of(stays), "without a certificate": {}}
	clients, servers := map[string]net.Conn{}, map[string]net.Conn{}
	for _, set := range []map[string]*tls.Config{ends, lasts} {
		for name, config := range set {
			var err error
			if clients[name], servers[name], err = w.dial(config); err != nil {
				t.Fatalf("%s: %v", name, err)
			}
		}
	}
	open := func(name string) bool {
		if _, err := servers[name].Write([]byte("x")); err != nil {
			return false
		}
		_, err := io.ReadFull(clients[name], make([]byte, 1))
		return err == nil
	}
	if err := os.WriteFile(file, []byte("-----BEGIN CERTIFICATE-----\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	w.pass(2)
	w.write(file, stays.File, withdrawn.File)
	info, err := os.Stat(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(file, info.Size()-40); err != nil {
		t.Fatal(err)
	}
	w.pass(10)
	for name := range clients {
		if !open(name) {
			t.Errorf("%s: a file that was half written has ended its connection", name)
		}
	}
	const refused = "the new certificates that sign those of clients cannot be used; those before stay"
	if w.logged(refused) != 1 || len(w.problems.All()) != 1 {
		t.Errorf("it says %s, with the problems %+v", &w.log, w.problems.All())
	}

	w.write(file, stays.File)
	w.pass(2)
	for name := range ends {
		if open(name) {
			t.Errorf("%s: the connection is still open", name)
		}
		servers[name].Close() // as whoever serves it does
		if _, _, err := w.dial(ends[name]); err == nil {
			t.Errorf("%s: a new connection is taken", name)
		}
	}
	for name := range lasts {
		if !open(name) {
			t.Errorf("%s: the connection was ended", name)
		}
	}
	if w.logged("connections_ended=2") != 1 || len(w.problems.All()) > 0 {
		t.Errorf("it says %s, with the problems %+v", &w.log, w.problems.All())
	}
	for _, conn := range servers {
		conn.Close()
	}
	if n := len(w.clients.open); n > 0 {
		t.Errorf("%d connections are held after their end", n)
	}
}
