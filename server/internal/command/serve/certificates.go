package serve

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
	"sync/atomic"
	"time"

	"google.golang.org/grpc/credentials"

	xunchav1 "xuncha/proto/xuncha/v1"
	"xuncha/server/internal/rpc"
)

const (
	// looksEvery is how often the files are read.
	looksEvery = time.Second
	// complainAfter is how long files stay as they are before it is said that they cannot be
	// used: whoever replaces them writes one after the other.
	complainAfter = 5 * time.Second
	// maxTLSFile is the greatest size of a file that is read.
	maxTLSFile = 4 << 20
)

// The names of the problems that certificates are.
const (
	certificateProblem = "certificate"
	renewalProblem     = "certificate renewal"
	clientCAProblem    = "client certificates renewal"
)

// certificates are the server's certificate and those that sign the clients', read again
// when the content of a file changes. No handshake waits for a file. Its methods but those
// of credentials are called one at a time.
type certificates struct {
	files    tlsConfig
	now      func() time.Time
	log      *slog.Logger
	problems *rpc.Problems

	config  atomic.Pointer[tls.Config] // for new connections
	clients *clientConns

	used            *certificate
	pair, clientCAs renewal
	told            string // what was said last of the certificate in use
}

// newCertificates reads the files. It returns nil for plaintext. The error is that of files
// with which no connection could be made; what else is wrong is said, and used all the same:
// clients that warn or refuse are told what to do, and nobody is told by a server that does
// not start.
func newCertificates(files tlsConfig, now func() time.Time, log *slog.Logger, problems *rpc.Problems) (*certificates, error) {
	if files.TLSCert == "" {
		return nil, nil
	}
	k := &certificates{files: files, now: now, log: log, problems: problems}
	pair, err := k.readPair()
	if err == nil {
		k.used, err = readCertificate(pair[0], pair[1])
	}
	if err != nil {
		return nil, fmt.Errorf("--tls-cert %s, --tls-key %s: %w", files.TLSCert, files.TLSKey, err)
	}
	k.pair.used = sumOf(pair, nil)
	var pool *x509.CertPool
	if files.TLSClientCA != "" {
		content, err := k.readClientCAs()
		if err == nil {
			pool, err = readPool(files.TLSClientCA, content[0])
		}
		if err != nil {
			return nil, fmt.Errorf("--tls-client-ca: %w", err)
		}
		k.clientCAs.used = sumOf(content, nil)
	}
	k.use(pool)
	// What is asked first hands each connection what is in use then.
	first := k.config.Load().Clone()
	first.GetConfigForClient = func(*tls.ClientHelloInfo) (*tls.Config, error) { return k.config.Load(), nil }
	k.clients = newClientConns(credentials.NewTLS(first), k.verifyClient)
	k.tell()
	return k, nil
}

// credentials returns what secures connections; nil for plaintext.
func (k *certificates) credentials() credentials.TransportCredentials {
	if k == nil {
		return nil
	}
	return k.clients
}

// watch looks at the files until ctx ends. Nobody waits for it: a file system that does not
// answer keeps no server from stopping.
func (k *certificates) watch(ctx context.Context) {
	if k == nil {
		return
	}
	go func() {
		ticker := time.NewTicker(looksEvery)
		defer ticker.Stop()
		for {
			select {
			case <-ticker.C:
				k.look()
			case <-ctx.Done():
				return
			}
		}
	}()
}

// readFile reads a file that is not too large.
func readFile(name string) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	content, err := io.ReadAll(io.LimitReader(f, maxTLSFile+1))
	if err == nil && len(content) > maxTLSFile {
		err = fmt.Errorf("%s is larger than %d MiB", name, maxTLSFile>>20)
	}
	return content, err
}

func readFiles(names ...string) (out [][]byte, err error) {
	for _, name := range names {
		content, err := readFile(name)
		if err != nil {
			return nil, err
		}
		out = append(out, content)
	}
	return out, nil
}

func (k *certificates) readPair() ([][]byte, error) {
	return readFiles(k.files.TLSCert, k.files.TLSKey)
}

func (k *certificates) readClientCAs() ([][]byte, error) { return readFiles(k.files.TLSClientCA) }

// readPool reads certificates that sign those of clients.
func readPool(name string, file []byte) (*x509.CertPool, error) {
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(file) {
		return nil, fmt.Errorf("%s has no certificate in PEM", name)
	}
	return pool, nil
}

// sumOf returns the SHA-256 of what was read, or of why nothing was.
func sumOf(content [][]byte, err error) [sha256.Size]byte {
	h := sha256.New()
	if err != nil {
		fmt.Fprintf(h, "error\n%v", err)
	}
	for _, b := range content {
		h.Write(binary.BigEndian.AppendUint64(nil, uint64(len(b))))
		h.Write(b)
	}
	return [sha256.Size]byte(h.Sum(nil))
}

// use lets new connections have the certificate, and trust the clients' that pool signs.
func (k *certificates) use(pool *x509.CertPool) {
	c := &tls.Config{Time: k.now, Certificates: []tls.Certificate{k.used.pair}, MinVersion: tls.VersionTLS13, NextProtos: []string{"h2"}}
	if k.files.TLSMin == "1.2" {
		c.MinVersion = tls.VersionTLS12
	}
	if pool != nil {
		c.ClientCAs, c.ClientAuth = pool, tls.VerifyClientCertIfGiven
		if k.files.TLSRequireClientCert {
			c.ClientAuth = tls.RequireAndVerifyClientCert
		}
	}
	k.config.Store(c)
}

// verifyClient returns an error where nobody vouches for a client's certificate now.
func (k *certificates) verifyClient(shown []*x509.Certificate) error {
	o := x509.VerifyOptions{
		Roots: k.config.Load().ClientCAs, Intermediates: x509.NewCertPool(), CurrentTime: k.now(),
		KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	for _, c := range shown[1:] {
		o.Intermediates.AddCert(c)
	}
	_, err := shown[0].Verify(o)
	return err
}

// look reads the files, and takes in what has changed.
func (k *certificates) look() {
	k.renewPair()
	if k.files.TLSClientCA != "" {
		k.renewClientCAs()
	}
	k.tell()
}

// renewPair takes in another certificate with its key, unless clients would refuse it.
func (k *certificates) renewPair() {
	now := k.now()
	content, err := k.readPair()
	changed, back := k.pair.found(sumOf(content, err), now)
	if back {
		k.problems.Clear(renewalProblem)
		k.log.Info("the files of the certificate have the one in use again")
	}
	if !changed {
		return
	}
	var next *certificate
	if err == nil {
		next, err = readCertificate(content[0], content[1])
	}
	if err == nil {
		err = next.mayReplace(k.used, now)
	}
	if err != nil {
		if k.pair.refuse(now) {
			k.log.Error("the new certificate cannot be used; the one before stays", "error", err.Error(), "expires", k.used.leaf.NotAfter)
			k.problem(renewalProblem, fmt.Sprintf("The files of the certificate have changed and cannot be used; the log says why. The certificate before stays, and is valid until %s.",
				k.used.leaf.NotAfter.UTC().Format(time.RFC3339)))
		}
		return
	}
	if lost := k.used.missing(next); len(lost) > 0 {
		k.log.Warn("the new certificate does not name all hosts that the one before did", "missing", strings.Join(lost, " "))
	}
	k.used = next
	k.use(k.config.Load().ClientCAs)
	k.pair.take()
	k.problems.Clear(renewalProblem)
	k.log.Info("the certificate was read again", "expires", next.leaf.NotAfter)
}

// renewClientCAs takes in other certificates that sign those of clients, and ends the
// connections of clients that nobody vouches for any more.
func (k *certificates) renewClientCAs() {
	now := k.now()
	content, err := k.readClientCAs()
	changed, back := k.clientCAs.found(sumOf(content, err), now)
	if back {
		k.problems.Clear(clientCAProblem)
		k.log.Info("the file of the certificates that sign those of clients has those in use again")
	}
	if !changed {
		return
	}
	var pool *x509.CertPool
	if err == nil {
		pool, err = readPool(k.files.TLSClientCA, content[0])
	}
	if err == nil && cutOff(content[0]) {
		err = fmt.Errorf("%s ends in the middle of a certificate", k.files.TLSClientCA)
	}
	if err != nil {
		if k.clientCAs.refuse(now) {
			k.log.Error("the new certificates that sign those of clients cannot be used; those before stay", "error", err.Error())
			k.problem(clientCAProblem, "The file of the certificates that sign those of clients has changed and cannot be used; the log says why. Those before stay.")
		}
		return
	}
	k.use(pool)
	k.clientCAs.take()
	k.problems.Clear(clientCAProblem)
	k.log.Info("the certificates that sign those of clients were read again", "connections_ended", k.clients.endUntrusted())
}

// tell says what is wrong with the certificate in use, once, and when nothing is any more.
func (k *certificates) tell() {
	now := k.now()
	var what []string
	for _, f := range k.used.faults(now) {
		what = append(what, f.text)
	}
	refused := len(what) > 0
	if !refused && k.used.expiresSoon(now) {
		what = append(what, "it expires at "+k.used.leaf.NotAfter.UTC().Format(time.RFC3339))
	}
	text := strings.Join(what, "; ")
	if text == k.told {
		return
	}
	k.told = text
	switch {
	case text == "":
		k.problems.Clear(certificateProblem)
		k.log.Info("the certificate is as clients need it again")
	case refused:
		k.problem(certificateProblem, "Clients refuse the server's certificate: "+text+".")
		k.log.Error("clients refuse the server's certificate", "error", text)
	default:
		k.problem(certificateProblem, "The server's certificate was not renewed yet: "+text+".")
		k.log.Warn("the server's certificate expires soon and was not renewed yet", "expires", k.used.leaf.NotAfter)
	}
}

func (k *certificates) problem(name, message string) {
	k.problems.Set(name, rpc.Problem{Kind: xunchav1.ProblemKind_PROBLEM_KIND_CERTIFICATE, Message: message, Since: k.now()})
}

// A renewal is how far files that may have changed are taken in, by the SHA-256 of their
// content: their size and their times may be what they were.
type renewal struct {
	used  [sha256.Size]byte // content that is in use
	seen  [sha256.Size]byte // other content, which the look before has found
	since time.Time         // when that was first found
	said  [sha256.Size]byte // content of which it was said that it is not taken
}

// found notes which content a look has found. It reports whether that is other content than
// is in use, which the look before has found too: so it was not read amid being written. back
// tells that it is what is in use again, after it was said that other content is not taken.
func (r *renewal) found(sum [sha256.Size]byte, now time.Time) (changed, back bool) {
	switch {
	case sum == r.used:
		back = r.said != [sha256.Size]byte{}
		*r = renewal{used: sum}
	case sum != r.seen:
		r.seen, r.since = sum, now
	default:
		changed = true
	}
	return changed, back
}

// refuse reports whether it is to be said now that the content is not taken: once for each,
// and not before it has stayed for a while.
func (r *renewal) refuse(now time.Time) bool {
	if now.Sub(r.since) < complainAfter || r.said == r.seen {
		return false
	}
	r.said = r.seen
	return true
}

// take notes that the content is in use.
func (r *renewal) take() { *r = renewal{used: r.seen} }
