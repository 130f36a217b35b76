// Package sitestest is the contract of sites.Rows as a test suite, and rows in
// memory. An engine joins with one line in a test of its own.
package sitestest

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"math/rand/v2"
	"strings"
	"testing"

	"xuncha/sites"
)

// Run tests the engine's promises. Open returns rows of which there are none, and
// reopen what has become of them after the server was started anew.
func Run[S sites.Rows](t *testing.T, open func(testing.TB) S, reopen func(testing.TB, S) S) {
	for name, test := range map[string]func(*testing.T, S){
		"Rows":                 func(t *testing.T, s S) { testRows(t, s, reopen) },
		"RowsKeepTheirOwnCopy": func(t *testing.T, s S) { testOwnCopy(t, s) },
		"RowsCancelled":        func(t *testing.T, s S) { testCancelled(t, s) },
	} {
		t.Run(name, func(t *testing.T) { test(t, open(t)) })
	}
}

func sum(rows []byte) string {
	s := sha256.Sum256(rows)
	return hex.EncodeToString(s[:])
}

func mustPut(t *testing.T, s sites.Rows, rows []byte) {
	t.Helper()
	if err := s.PutRows(t.Context(), sum(rows), rows); err != nil {
		t.Fatalf("PutRows of %d bytes: %v", len(rows), err)
	}
}

func want(t *testing.T, s sites.Rows, rows []byte) {
	t.Helper()
	got, err := s.Rows(t.Context(), sum(rows))
	if err != nil {
		t.Fatalf("Rows of %d bytes: %v", len(rows), err)
	}
	if !bytes.Equal(got, rows) {
		t.Errorf("got %d bytes of rows that differ from the %d stored", len(got), len(rows))
	}
}

// manyRows returns rows as long as those of a country's division table.
func manyRows() []byte {
	rows := make([]byte, 20<<20+1)
	rand.NewChaCha8([32]byte{1}).Read(rows)
	return rows
}

func testRows[S sites.Rows](t *testing.T, s S, reopen func(testing.TB, S) S) {
	if _, err := s.Rows(t.Context(), sum(nil)); !errors.Is(err, sites.ErrRowsUnknown) {
		t.Errorf("of nothing: got %v, want ErrRowsUnknown", err)
	}
	all := [][]byte{{}, []byte("code,name\n511602,广安区\n"), []byte("a\x00b\xff"), manyRows()}
	for _, rows := range all {
		mustPut(t, s, rows)
	}
	mustPut(t, s, all[1])
	mustPut(t, s, all[3])
	s = reopen(t, s)
	for _, rows := range all {
		want(t, s, rows)
	}
	if _, err := s.Rows(t.Context(), strings.Repeat("0", 64)); !errors.Is(err, sites.ErrRowsUnknown) {
		t.Errorf("got %v, want ErrRowsUnknown", err)
	}
}

func testOwnCopy(t *testing.T, s sites.Rows) {
	rows := []byte("code,name\n511602,广安区\n")
	given := bytes.Clone(rows)
	mustPut(t, s, given)
	clear(given)
	got, err := s.Rows(t.Context(), sum(rows))
	if err != nil {
		t.Fatal(err)
	}
	clear(got)
	want(t, s, rows)
}

func testCancelled(t *testing.T, s sites.Rows) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.PutRows(ctx, sum([]byte("rows")), []byte("rows")); !errors.Is(err, context.Canceled) {
		t.Errorf("PutRows: got %v, want context.Canceled", err)
	}
	mustPut(t, s, []byte("rows"))
	want(t, s, []byte("rows"))
}
