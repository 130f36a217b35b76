package accounts

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/go-jose/go-jose/v4"
)

// algorithms are those that can be checked with a public key (RFC 7518 section 3.1,
// RFC 8037), with the curve that the key must be of.
var algorithms = map[string]string{
	"RS256": "RSA", "RS384": "RSA", "RS512": "RSA", "PS256": "RSA", "PS384": "RSA", "PS512": "RSA",
	"ES256": "P-256", "ES384": "P-384", "ES512": "P-521", "EdDSA": "Ed25519",
}

// A providerKey is a public key with which the provider signs.
type providerKey struct {
	id, algorithm string // as the provider names them; may be empty
	curve         string // one of algorithms
	public        crypto.PublicKey
	// print tells it from any other key, and from itself under another name.
	print string
}

// allows reports whether tokens that are signed by the algorithm can rest on the key.
func (k *providerKey) allows(algorithm string) bool {
	return k.curve == algorithms[algorithm] && (k.algorithm == "" || k.algorithm == algorithm)
}

// A keySet is what the provider has published, by one answer. It never changes.
type keySet struct {
	keys []providerKey
	// unread are the ids of keys that could not be read, with why.
	unread map[string]error
	// asked is when the provider was asked for it, by the server's clock.
	asked time.Time
}

// has reports whether the key with the print is among them.
func (s *keySet) has(print string) bool {
	return s != nil && slices.ContainsFunc(s.keys, func(k providerKey) bool { return k.print == print })
}

// signer returns the key that has signed the token, or nil.
func (s *keySet) signer(t *identityToken) *providerKey {
	tried := 0
	for i := range s.keys {
		k := &s.keys[i]
		if t.keyID != "" && k.id != t.keyID || !k.allows(t.algorithm) {
			continue
		}
		if t.signed.Method.Verify(t.text, t.signed.Signature, k.public) == nil {
			return k
		}
		if tried++; tried == maxTried {
			break
		}
	}
	return nil
}

// behindAllowance is by how much a provider's clock may be behind before its tokens look older
// than keys that are newer than they.
const behindAllowance = 5 * time.Minute

// judges reports whether the set has the keys of all tokens that were given when this one
// was, also by a clock that is behind.
func (s *keySet) judges(t *identityToken) bool {
	return t.span.issued.Add(behindAllowance).Before(s.asked)
}

// parseKeySet reads a JSON web key set (RFC 7517 section 5). Keys that cannot be read,
// and those that sign nothing that can be checked, are passed over. It is an error where
// no key is left.
func parseKeySet(b []byte, asked time.Time) (*keySet, error) {
	var set struct {
		Keys []json.RawMessage `json:"keys"`
	}
	if err := json.Unmarshal(b, &set); err != nil {
		return nil, troubled("its key set is not what RFC 7517 says: %v", err)
	}
	if n := len(set.Keys); n > maxProviderKeys {
		return nil, troubled("its key set has %d keys, more than %d", n, maxProviderKeys)
	}
	out := &keySet{unread: map[string]error{}, asked: asked}
	var why error
	for _, raw := range set.Keys {
		k, id, err := parseProviderKey(raw)
		switch {
		case err == nil:
			out.keys = append(out.keys, k)
		case errors.Is(err, errNoSignatures):
			why = err
		default:
			out.unread[id], why = err, err
		}
	}
	switch {
	case len(set.Keys) == 0:
		return nil, troubled("its key set is empty")
	case len(out.keys) == 0:
		return nil, troubled("none of the %d keys of its set can be used, such as one that %v", len(set.Keys), why)
	}
	return out, nil
}

// errNoSignatures means that a key is none of those with which tokens are checked.
var errNoSignatures = errors.New("is not for signatures that can be checked")

// The least and the greatest size of an RSA key, in bits. Smaller ones sign nothing (RFC
// 7518 section 3.3), and larger ones only take time.
const minRSA, maxRSA = 2048, 16384

// parseProviderKey reads one key of a set. It returns its id also where it cannot be read.
func parseProviderKey(raw []byte) (k providerKey, id string, err error) {
	var named struct {
		ID  string          `json:"kid"`
		Use string          `json:"use"`
		Ops []string        `json:"key_ops"`
		Alg string          `json:"alg"`
		D   json.RawMessage `json:"d"`
		K   json.RawMessage `json:"k"`
	}
	if err := json.Unmarshal(raw, &named); err != nil {
		return k, named.ID, errors.New("is not what RFC 7517 says of a key")
	}
	_, checked := algorithms[named.Alg]
	switch {
	case named.D != nil || named.K != nil: // a secret that everybody knows
	case named.Use != "" && named.Use != "sig":
	case named.Ops != nil && !slices.Contains(named.Ops, "verify"):
	case named.Alg != "" && !checked:
	default:
		var key jose.JSONWebKey
		if err := key.UnmarshalJSON(raw); errors.Is(err, jose.ErrUnsupportedKeyType) {
			return k, named.ID, errNoSignatures
		} else if err != nil {
			return k, named.ID, fmt.Errorf("is not what RFC 7517 says of a key: %s", spelled(err.Error()))
		}
		k = providerKey{id: named.ID, algorithm: named.Alg, public: key.Key}
		switch public := key.Key.(type) {
		case *rsa.PublicKey:
			k.curve = "RSA"
			if n := public.N.BitLen(); n < minRSA || n > maxRSA {
				return k, k.id, fmt.Errorf("has %d bits; want %d to %d", n, minRSA, maxRSA)
			}
		case *ecdsa.PublicKey:
			k.curve = public.Params().Name
		case ed25519.PublicKey:
			k.curve = "Ed25519"
		default:
			return k, k.id, errNoSignatures
		}
		print, err := key.Thumbprint(crypto.SHA256)
		if err != nil {
			return k, k.id, fmt.Errorf("is not what RFC 7517 says of a key: %s", spelled(err.Error()))
		}
		k.print = base64.RawURLEncoding.EncodeToString(print) + " " + k.algorithm + " " + k.id
		return k, k.id, nil
	}
	return k, named.ID, errNoSignatures
}
