package serve

import (
	"bytes"
	"crypto/x509"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	xunchav1 "xuncha/proto/xuncha/v1"
	"xuncha/server/internal/rpc"
	"xuncha/server/internal/testcert"
)

// A tlsWorld is a server's certificates, whose files a test replaces.
type tlsWorld struct {
	*certificates
	t         *testing.T
	authority *testcert.Authority
	cert, key string
	clock     time.Time
	log       bytes.Buffer
}

// newTLSWorld reads the files, those of a good certificate where there are none.
func newTLSWorld(t *testing.T, a *testcert.Authority, files tlsConfig) *tlsWorld {
	t.Helper()
	w := &tlsWorld{t: t, authority: a, cert: files.TLSCert, key: files.TLSKey, clock: time.Now()}
	if w.cert == "" {
		w.cert, w.key = a.Issue(t, "server")
	}
	files.TLSCert, files.TLSKey, files.TLSMin = w.cert, w.key, "1.3"
	var err error
	w.certificates, err = newCertificates(files, func() time.Time { return w.clock }, slog.New(slog.NewTextHandler(&w.log, nil)), new(rpc.Problems))
	if err != nil {
		t.Fatal(err)
	}
	return w
}

// pass looks at the files as often as in that many seconds.
func (w *tlsWorld) pass(seconds int) {
	for range seconds {
		w.clock = w.clock.Add(looksEvery)
		w.look()
	}
}

// serves returns the common name of the certificate that new connections get.
func (w *tlsWorld) serves() string {
	w.t.Helper()
	leaf, err := x509.ParseCertificate(w.config.Load().Certificates[0].Certificate[0])
	if err != nil {
		w.t.Fatal(err)
	}
	return leaf.Subject.CommonName
}

// issue replaces the files by those of another certificate.
func (w *tlsWorld) issue(a *testcert.Authority, name string, change ...func(*x509.Certificate)) {
	w.t.Helper()
	cert, key := a.Issue(w.t, name, change...)
	w.write(w.cert, cert)
	w.write(w.key, key)
}

// write writes the content of the other files into the file.
func (w *tlsWorld) write(name string, from ...string) {
	w.t.Helper()
	var content []byte
	for _, f := range from {
		b, err := os.ReadFile(f)
		if err != nil {
			w.t.Fatal(err)
		}
		content = append(content, b...)
	}
	if err := os.WriteFile(name, content, 0o600); err != nil {
		w.t.Fatal(err)
	}
}

// logged counts the lines of the log that say it.
func (w *tlsWorld) logged(what string) int { return strings.Count(w.log.String(), what) }

const (
	staysMessage = "the new certificate cannot be used; the one before stays"
	takenMessage = "the certificate was read again"
)

// TestRenewalRefused ensures that a certificate that clients would refuse does not replace one
// that they take, that this is said once for each, not amid a renewal, and among the
// problems, and that a good one is taken afterwards.
func TestRenewalRefused(t *testing.T) {
	a := testcert.New(t)
	under := a.Under(t)
	for name, c := range map[string]struct {
		write func(w *tlsWorld)
		want  string
	}{
		"Expired": {func(w *tlsWorld) {
			w.issue(a, "bad", func(c *x509.Certificate) { c.NotAfter = w.clock.Add(-time.Minute) })
		}, "it has expired"},
		"NotYetValid": {func(w *tlsWorld) {
			w.issue(a, "bad", func(c *x509.Certificate) { c.NotBefore = w.clock.Add(time.Hour) })
		}, "it is not valid before"},
		"ForClients": {func(w *tlsWorld) {
			w.issue(a, "bad", func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth} })
		}, "it is not for servers"},
		"NoHost": {func(w *tlsWorld) {
			w.issue(a, "bad", func(c *x509.Certificate) { c.IPAddresses = nil })
		}, "it names no host"},
		"OtherHost": {func(w *tlsWorld) {
			w.issue(a, "bad", func(c *x509.Certificate) { c.IPAddresses, c.DNSNames = nil, []string{"other.example.org"} })
		}, "it is for other hosts (other.example.org) than the one before (127.0.0.1"},
		"OtherKey":   {func(w *tlsWorld) { cert, _ := a.Issue(t, "bad"); w.write(w.cert, cert) }, "private key does not match"},
		"NoKey":      {func(w *tlsWorld) { _ = os.Remove(w.key) }, "no such file"},
		"NoPEM":      {func(w *tlsWorld) { _ = os.WriteFile(w.cert, []byte("half a file"), 0o600) }, "failed to find any PEM data"},
		"Incomplete": {func(w *tlsWorld) { w.issue(under, "bad") }, "its file lacks the certificate of CN=intermediate"},
		"CutOff": {func(w *tlsWorld) {
			cert, key := under.Issue(t, "bad")
			w.write(w.cert, cert, under.File)
			whole, _ := os.ReadFile(w.cert)
			_ = os.Truncate(w.cert, int64(len(whole)-100)) // certificates differ in length
			w.write(w.key, key)
		}, "ends in the middle of a certificate"},
		"OtherChain": {func(w *tlsWorld) {
			cert, key := under.Issue(t, "bad")
			w.write(w.cert, cert, testcert.New(t).File)
			w.write(w.key, key)
		}, "none of the other certificates in its file has signed it"},
		"Huge": {func(w *tlsWorld) { _ = os.Truncate(w.cert, maxTLSFile+1) }, "is larger than 4 MiB"},
	} {
		t.Run(name, func(t *testing.T) {
			first, key := under.Issue(t, "first")
			w := newTLSWorld(t, a, tlsConfig{TLSCert: filepath.Join(t.TempDir(), "cert"), TLSKey: key}.with(t, first, under.File))
			c.write(w)
			w.pass(4)
			if w.serves() != "first" || w.log.Len() > 0 {
				t.Errorf("a moment later it serves %s and says %s", w.serves(), &w.log)
			}
			w.pass(60)
			if w.serves() != "first" || w.logged(staysMessage) != 1 || w.logged("level=ERROR") != 1 || !strings.Contains(w.log.String(), c.want) {
				t.Errorf("it serves %s and says %s; want one error that says %q", w.serves(), &w.log, c.want)
			}
			if p := w.problems.All(); len(p) != 1 || p[0].Kind != xunchav1.ProblemKind_PROBLEM_KIND_CERTIFICATE {
				t.Errorf("got the problems %+v", p)
			}
			if strings.Contains(fmt.Sprint(w.problems.All()), w.cert) {
				t.Errorf("a problem tells callers where files lie: %+v", w.problems.All())
			}
			cert, key := under.Issue(t, "good")
			w.write(w.cert, cert, under.File)
			w.write(w.key, key)
			w.pass(2)
			if w.serves() != "good" || w.logged("level=INFO msg=\""+takenMessage) != 1 || len(w.problems.All()) > 0 {
				t.Errorf("after a good one it serves %s, says %s, and has the problems %+v", w.serves(), &w.log, w.problems.All())
			}
		})
	}
}

// with writes the certificates into the file of c.
func (c tlsConfig) with(t *testing.T, from ...string) tlsConfig {
	(&tlsWorld{t: t}).write(c.TLSCert, from...)
	return c
}

// TestRenewalNoise ensures that each content is refused once, that the one in use is said to
// be back, and that one which was too early is taken when its time has come.
func TestRenewalNoise(t *testing.T) {
	a := testcert.New(t)
	w := newTLSWorld(t, a, tlsConfig{})
	good, _ := os.ReadFile(w.cert)
	for range 2 {
		for _, text := range []string{"half a file", "another half"} {
			if err := os.WriteFile(w.cert, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			w.pass(10)
		}
		if err := os.WriteFile(w.cert, good, 0o600); err != nil {
			t.Fatal(err)
		}
		w.pass(10)
	}
	if w.logged(staysMessage) != 4 || w.logged("have the one in use again") != 2 || len(w.problems.All()) > 0 {
		t.Errorf("it says %s", &w.log)
	}
	w.issue(a, "early", func(c *x509.Certificate) { c.NotBefore = w.clock.Add(time.Minute) })
	w.pass(50)
	if w.serves() != "server" {
		t.Errorf("it serves %s, which is not valid yet", w.serves())
	}
	w.pass(15)
	if w.serves() != "early" || w.logged(staysMessage) != 5 || w.logged(takenMessage) != 1 {
		t.Errorf("it serves %s and says %s", w.serves(), &w.log)
	}
}

// TestRenewalInSteps ensures that nothing is said of files that are replaced one after the
// other.
func TestRenewalInSteps(t *testing.T) {
	a := testcert.New(t)
	w := newTLSWorld(t, a, tlsConfig{})
	cert, key := a.Issue(t, "next")
	w.write(w.cert, cert)
	w.pass(3)
	w.write(w.key, key)
	w.pass(2)
	if w.serves() != "next" || w.logged("level=ERROR")+w.logged("level=WARN") > 0 {
		t.Errorf("it serves %s and says %s", w.serves(), &w.log)
	}
}

// TestRenewalByContent ensures that a renewal is noticed whose files have the size and the
// time of those before, and one that only moves a link.
func TestRenewalByContent(t *testing.T) {
	a := testcert.New(t)
	w := newTLSWorld(t, a, tlsConfig{})
	at := time.Now().Add(-time.Hour)
	pad := func(names ...string) {
		for _, name := range names {
			b, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			b = append(b, bytes.Repeat([]byte("\n"), 2000-len(b))...)
			if err := os.WriteFile(name, b, 0o600); err != nil {
				t.Fatal(err)
			}
			if err := os.Chtimes(name, at, at); err != nil {
				t.Fatal(err)
			}
		}
	}
	pad(w.cert, w.key)
	w.pass(2)
	w.issue(a, "same size")
	pad(w.cert, w.key)
	w.pass(2)
	if w.serves() != "same size" {
		t.Errorf("files of the same size and time: it serves %s", w.serves())
	}

	// As Kubernetes does: a link to a folder is replaced by one to another.
	folder := t.TempDir()
	for _, name := range []string{"one", "two"} {
		if err := os.Mkdir(filepath.Join(folder, name), 0o700); err != nil {
			t.Fatal(err)
		}
		cert, key := a.Issue(t, name)
		w.write(filepath.Join(folder, name, "tls.crt"), cert)
		w.write(filepath.Join(folder, name, "tls.key"), key)
		link := filepath.Join(folder, "new")
		if err := os.Symlink(name, link); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(link, filepath.Join(folder, "data")); err != nil {
			t.Fatal(err)
		}
		if name == "one" {
			w = newTLSWorld(t, a, tlsConfig{TLSCert: filepath.Join(folder, "data", "tls.crt"), TLSKey: filepath.Join(folder, "data", "tls.key")})
		}
	}
	w.pass(2)
	if w.serves() != "two" {
		t.Errorf("after a link has moved: it serves %s", w.serves())
	}
}

// TestStartWithABadCertificate ensures that a server starts with a certificate that clients
// refuse and says so, takes one that is better, and none that is worse.
func TestStartWithABadCertificate(t *testing.T) {
	a := testcert.New(t)
	expired := func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Minute) }
	cert, key := a.Issue(t, "expired", expired)
	w := newTLSWorld(t, a, tlsConfig{TLSCert: cert, TLSKey: key})
	w.pass(60)
	if w.logged("clients refuse the server's certificate") != 1 || w.logged("level=ERROR") != 1 || !strings.Contains(w.log.String(), "it has expired at") {
		t.Errorf("at the start it says %s", &w.log)
	}
	if p := w.problems.All(); len(p) != 1 || !strings.Contains(p[0].Message, "it has expired at") {
		t.Errorf("got the problems %+v", p)
	}
	w.issue(a, "worse", func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth} })
	w.pass(10)
	if w.serves() != "expired" || w.logged(staysMessage) != 1 {
		t.Errorf("after a worse one it serves %s and says %s", w.serves(), &w.log)
	}
	// While clients take none, one for another host may be what the operator wants.
	w.issue(a, "other", func(c *x509.Certificate) { c.IPAddresses, c.DNSNames = nil, []string{"new.example.org"} })
	w.pass(2)
	if w.serves() != "other" || len(w.problems.All()) > 0 || w.logged("is as clients need it again") != 1 {
		t.Errorf("after a good one it serves %s, says %s, and has the problems %+v", w.serves(), &w.log, w.problems.All())
	}
}

// TestExpiresSoon ensures that it is said in time, and once, that a certificate was not
// renewed, and again when it has expired.
func TestExpiresSoon(t *testing.T) {
	a := testcert.New(t)
	lasts := func(d time.Duration) func(*x509.Certificate) {
		return func(c *x509.Certificate) { c.NotBefore, c.NotAfter = time.Now().Add(-time.Minute), time.Now().Add(d) }
	}
	const day = 24 * time.Hour
	cert, key := a.Issue(t, "server", lasts(90*day))
	w := newTLSWorld(t, a, tlsConfig{TLSCert: cert, TLSKey: key})
	for _, c := range []struct {
		days                   int
		warnings, errors, open int
	}{{60, 0, 0, 0}, {8, 0, 0, 0}, {2, 1, 0, 1}, {19, 1, 0, 1}, {2, 1, 1, 1}} {
		w.clock = w.clock.Add(time.Duration(c.days) * day)
		w.pass(3)
		if w.logged("level=WARN msg=\"the server's certificate expires soon") != c.warnings || w.logged("level=ERROR") != c.errors || len(w.problems.All()) != c.open {
			t.Errorf("%d days later it says %s, with the problems %+v", c.days, &w.log, w.problems.All())
		}
	}
	short, shortKey := a.Issue(t, "short", lasts(4*time.Hour))
	w = newTLSWorld(t, a, tlsConfig{TLSCert: short, TLSKey: shortKey})
	w.clock = w.clock.Add(2 * time.Hour)
	w.pass(1)
	if w.log.Len() > 0 {
		t.Errorf("of one that lasts four hours, after two it says %s", &w.log)
	}
}

// TestFewerHosts ensures that a renewed certificate may name fewer hosts, and that this is
// said.
func TestFewerHosts(t *testing.T) {
	a := testcert.New(t)
	names := func(names ...string) func(*x509.Certificate) {
		return func(c *x509.Certificate) { c.IPAddresses, c.DNSNames = nil, names }
	}
	cert, key := a.Issue(t, "server", names("a.example.org", "*.city.example.org", "b.example.org"))
	w := newTLSWorld(t, a, tlsConfig{TLSCert: cert, TLSKey: key})
	w.issue(a, "fewer", names("A.example.org", "*.city.example.org"))
	w.pass(2)
	if w.serves() != "fewer" || w.logged("level=WARN") != 1 || !strings.Contains(w.log.String(), "missing=b.example.org") {
		t.Errorf("it serves %s and says %s", w.serves(), &w.log)
	}
}

// TestChainInOrder ensures that clients get a chain in which each certificate is signed by
// the next, in whatever order the file has them.
func TestChainInOrder(t *testing.T) {
	a := testcert.New(t)
	under := a.Under(t)
	cert, key := under.Issue(t, "server")
	for _, files := range [][]string{{cert, a.File, under.File}, {a.File, under.File, cert}, {under.File, cert, a.File}} {
		w := newTLSWorld(t, a, tlsConfig{TLSCert: filepath.Join(t.TempDir(), "chain"), TLSKey: key}.with(t, files...))
		var got []string
		for _, der := range w.config.Load().Certificates[0].Certificate {
			c, err := x509.ParseCertificate(der)
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, c.Subject.CommonName)
		}
		if want := "server intermediate authority"; strings.Join(got, " ") != want || w.log.Len() > 0 {
			t.Errorf("got %s, want %s; it says %s", got, want, &w.log)
		}
	}
}
