package serve

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// A certificate is what the server proves with who it is.
type certificate struct {
	pair tls.Certificate // in the order in which each is signed by the next
	leaf *x509.Certificate
	// others are all behind the leaf, of which issuers sign it.
	others, issuers []*x509.Certificate
	// chain says what is wrong with the others; empty for nothing.
	chain string
}

// A faultKind is a way in which a certificate is not as clients need it.
type faultKind int

const (
	faultExpired faultKind = iota
	faultNotYet
	faultUsage
	faultNames
	faultChain
)

// A fault is what makes clients refuse a certificate.
type fault struct {
	kind faultKind
	text string
}

// readCertificate reads a certificate and its key, both in PEM. The error is that of a pair
// with which no connection can be made. What else is wrong is in faults.
func readCertificate(cert, key []byte) (*certificate, error) {
	pair, err := pairOf(cert, key)
	if err != nil {
		return nil, err
	}
	c := &certificate{pair: pair}
	if c.leaf, err = x509.ParseCertificate(pair.Certificate[0]); err != nil {
		return nil, err
	}
	c.pair.Leaf = c.leaf
	for i, der := range pair.Certificate[1:] {
		other, err := x509.ParseCertificate(der)
		if err != nil {
			c.chain = fmt.Sprintf("number %d of the certificates in its file cannot be read: %v", i+2, err)
			return c, nil
		}
		c.others = append(c.others, other)
	}
	c.arrange()
	switch {
	case cutOff(cert):
		c.chain = "its file ends in the middle of a certificate"
	case len(c.others) > 0 && len(c.issuers) == 0 && !signs(c.leaf, c.leaf):
		c.chain = "none of the other certificates in its file has signed it"
	}
	return c, nil
}

// maxBefore is how many certificates may stand before the one that fits the key.
const maxBefore = 10

// pairOf returns the certificate that fits the key, and behind it the others of the file, of
// which any may stand first. The error is that of the first.
func pairOf(cert, key []byte) (tls.Certificate, error) {
	pair, err := tls.X509KeyPair(cert, key)
	if err == nil {
		return pair, nil
	}
	var before []byte
	for range maxBefore {
		block, rest := pem.Decode(cert)
		if block == nil || len(rest) == 0 {
			break
		}
		before = append(before, pem.EncodeToMemory(block)...)
		if pair, wrong := tls.X509KeyPair(append(rest[:len(rest):len(rest)], before...), key); wrong == nil {
			return pair, nil
		}
		cert = rest
	}
	return tls.Certificate{}, err
}

// cutOff reports whether something that has begun in a PEM file does not end.
func cutOff(file []byte) bool {
	return bytes.Count(file, []byte("-----BEGIN ")) != bytes.Count(file, []byte("-----END "))
}

// signs reports whether a has signed b.
func signs(a, b *x509.Certificate) bool {
	return bytes.Equal(a.RawSubject, b.RawIssuer) && b.CheckSignatureFrom(a) == nil
}

// arrange puts the certificates in the order of RFC 8446, section 4.4.2, which older clients
// need: each is signed by the next. Those that sign none of them stand at the end.
func (c *certificate) arrange() {
	rest := slices.Clone(c.others)
	for at := c.leaf; !signs(at, at); {
		i := slices.IndexFunc(rest, func(other *x509.Certificate) bool { return signs(other, at) })
		if i < 0 {
			break
		}
		at = rest[i]
		c.issuers, rest = append(c.issuers, at), slices.Delete(rest, i, i+1)
	}
	c.pair.Certificate = c.pair.Certificate[:1:1]
	for _, other := range slices.Concat(c.issuers, rest) {
		c.pair.Certificate = append(c.pair.Certificate, other.Raw)
	}
}

// faults returns why clients refuse the certificate at the time.
func (c *certificate) faults(now time.Time) (out []fault) {
	leaf := c.leaf
	add := func(kind faultKind, format string, args ...any) {
		out = append(out, fault{kind, fmt.Sprintf(format, args...)})
	}
	if now.After(leaf.NotAfter) {
		add(faultExpired, "it has expired at %s", leaf.NotAfter.UTC().Format(time.RFC3339))
	}
	if now.Before(leaf.NotBefore) {
		add(faultNotYet, "it is not valid before %s", leaf.NotBefore.UTC().Format(time.RFC3339))
	}
	if len(leaf.ExtKeyUsage)+len(leaf.UnknownExtKeyUsage) > 0 && !slices.ContainsFunc(leaf.ExtKeyUsage, func(u x509.ExtKeyUsage) bool {
		return u == x509.ExtKeyUsageServerAuth || u == x509.ExtKeyUsageAny
	}) {
		add(faultUsage, "it is not for servers: its extended key usage lacks serverAuth")
	}
	if len(leaf.DNSNames)+len(leaf.IPAddresses) == 0 {
		add(faultNames, "it names no host: it has no subject alternative name")
	}
	if c.chain != "" {
		add(faultChain, "%s", c.chain)
	}
	return out
}

// mayReplace returns why the certificate may not take the place of the one in use, or nil. It
// must have no kind of fault that the one in use does not have. Where that has none at all, it
// must also be for the same server, and come with what leads to its authority.
func (c *certificate) mayReplace(used *certificate, now time.Time) error {
	known := used.faults(now)
	for _, f := range c.faults(now) {
		if !slices.ContainsFunc(known, func(k fault) bool { return k.kind == f.kind }) {
			return errors.New(f.text)
		}
	}
	if len(known) > 0 {
		return nil
	}
	if len(c.leaf.DNSNames)+len(c.leaf.IPAddresses) > 0 && len(used.missing(c)) == len(used.hosts()) && len(c.missing(used)) == len(c.hosts()) {
		return fmt.Errorf("it is for other hosts (%s) than the one before (%s); a new start takes it", strings.Join(c.hosts(), ", "), strings.Join(used.hosts(), ", "))
	}
	between := func(c *certificate) bool { return len(c.issuers) > 0 && !signs(c.issuers[0], c.issuers[0]) }
	if between(used) && !between(c) && bytes.Equal(c.leaf.RawIssuer, used.leaf.RawIssuer) {
		return fmt.Errorf("its file lacks the certificate of %s, which has signed it and which the file before had", c.leaf.Issuer)
	}
	return nil
}

// hosts returns the hosts that the certificate names.
func (c *certificate) hosts() []string {
	out := slices.Clone(c.leaf.DNSNames)
	for _, ip := range c.leaf.IPAddresses {
		out = append(out, ip.String())
	}
	return out
}

// missing returns the hosts of the certificate that the other one does not name. A name with
// a wildcard counts as one of the names that it stands for.
func (c *certificate) missing(other *certificate) (out []string) {
	for _, host := range c.hosts() {
		if other.leaf.VerifyHostname(strings.Replace(host, "*", "wildcard", 1)) != nil {
			out = append(out, host)
		}
	}
	return out
}

// The time before its end at which a certificate is said to expire soon: three weeks, and
// of one that lasts less than three months a quarter of that.
const (
	soonBefore  = 21 * 24 * time.Hour
	soonPortion = 4
)

// expiresSoon reports whether the certificate should have been renewed by now.
func (c *certificate) expiresSoon(now time.Time) bool {
	left := min(soonBefore, c.leaf.NotAfter.Sub(c.leaf.NotBefore)/soonPortion)
	return now.After(c.leaf.NotAfter.Add(-left))
}
