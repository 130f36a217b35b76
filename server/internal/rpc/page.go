package rpc

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"

	"xuncha/sites"
)

// A page token is the base64url of 8 bytes that name the query, then the
// cursor as JSON. It holds nothing that the caller may not know, and a forged
// one leads at most to another page of the same query.

// queryName is how many bytes of its SHA-256 name a query in a token.
const queryName = 8

func nameQuery(query []string) []byte {
	h := sha256.New()
	for _, part := range query {
		fmt.Fprintf(h, "%d:%s", len(part), part)
	}
	return h.Sum(nil)[:queryName]
}

// pageToken returns the token for the page of the query that begins at cursor.
func pageToken(cursor any, query ...string) (string, error) {
	b, err := json.Marshal(cursor)
	if err != nil {
		return "", err
	}
	return base64.RawURLEncoding.EncodeToString(append(nameQuery(query), b...)), nil
}

// readPageToken reads the cursor of a token into cursor, which stays as it is
// for an empty token.
func readPageToken(token string, cursor any, query ...string) error {
	if token == "" {
		return nil
	}
	bad := &sites.FieldError{Field: "page_token", Err: errPageToken}
	b, err := base64.RawURLEncoding.DecodeString(token)
	if err != nil || len(b) < queryName || !bytes.Equal(b[:queryName], nameQuery(query)) {
		return bad
	}
	dec := json.NewDecoder(bytes.NewReader(b[queryName:]))
	dec.DisallowUnknownFields()
	if dec.Decode(cursor) != nil {
		return bad
	}
	if _, err := dec.Token(); err != io.EOF {
		return bad
	}
	return nil
}

// pageSize returns how many items a page has: what was asked for, standard for
// 0, and never more than most.
func pageSize(asked int32, standard, most int) int {
	if asked == 0 {
		return standard
	}
	return min(int(asked), most)
}
