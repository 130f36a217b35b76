package serve

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"xuncha/ledger"
	"xuncha/ledger/ledgertest"
	"xuncha/server/internal/accounts"
	"xuncha/server/internal/accounts/accountstest"
	"xuncha/server/internal/clock/clocktest"
	"xuncha/server/internal/mongostore"
	"xuncha/sites/sitestest"
)

// Somebody who signs in while a store is copied makes no entry, and is noticed.
func TestCopyNoticesSignIns(t *testing.T) {
	ctx := t.Context()
	newStore := func() memoryEngine {
		return memoryEngine{ledgertest.New(t), new(sitestest.MemoryRows), new(accountstest.MemorySecrets), new(clocktest.MemoryNotes)}
	}
	from, to := newStore(), newStore()
	job := ledger.CopyJob{From: from, To: to}
	check := func() error {
		t.Helper()
		plan, err := job.Plan(ctx)
		if err == nil {
			err = job.Copy(ctx, plan)
		}
		if err == nil {
			err = accounts.CopySecrets(ctx, from, to)
		}
		if err != nil {
			t.Fatal(err)
		}
		if err := from.PutSecret(ctx, "keys", 1, []byte("of tomorrow")); err != nil && !errors.Is(err, ledger.ErrMoved) {
			t.Fatal(err)
		}
		return checkSource(ctx, job, plan, from, to, "the old store")
	}
	if err := from.PutSecret(ctx, "keys", 0, []byte("of today")); err != nil {
		t.Fatal(err)
	}
	err := check()
	if !errors.Is(err, ledger.ErrSourceChanged) || !strings.Contains(err.Error(), "sign in with: 1") || !strings.Contains(err.Error(), "writes to the old store") {
		t.Errorf("got %v, want ErrSourceChanged", err)
	}
	if err := check(); err != nil {
		t.Errorf("the next copy: %v", err)
	}
}

// reports are what the servers of a source have said, by the second.
type reports struct {
	begun time.Time
	at    func(second int) map[string]int64
}

func (r reports) Servers(context.Context) (map[string]int64, error) {
	return r.at(int(time.Since(r.begun) / time.Second)), nil
}

// A server is at work if it says anything while the copy looks, which is long enough for
// each to do so. Where there is none that may be, the copy does not wait.
func TestSourceWatch(t *testing.T) {
	for _, c := range []struct {
		name  string
		at    func(second int) map[string]int64
		n     int
		after time.Duration
	}{
		{"none", func(int) map[string]int64 { return nil }, 0, 0},
		{"one that ends meanwhile", func(s int) map[string]int64 {
			if s > 3 {
				return nil
			}
			return map[string]int64{"a": 1}
		}, 0, 4 * time.Second},
		{"one that died", func(int) map[string]int64 { return map[string]int64{"a": 1} }, 0, mongostore.SeenEvery + 2*time.Second},
		{"one of two", func(s int) map[string]int64 { return map[string]int64{"a": 1, "b": int64(s / 7)} }, 1, 7 * time.Second},
		{"a new one", func(s int) map[string]int64 {
			if s < 2 {
				return map[string]int64{"a": 1}
			}
			return map[string]int64{"a": 1, "c": 1}
		}, 1, 2 * time.Second},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := reports{time.Now(), c.at}
				var stderr bytes.Buffer
				n, err := sourceWatch{servers: r, before: c.at(0), begun: r.begun}.atWork(t.Context(), &stderr)
				if took := time.Since(r.begun); n != c.n || err != nil || took != c.after {
					t.Errorf("got %d, %v after %v, want %d after %v", n, err, took, c.n, c.after)
				}
				if waited := stderr.Len() > 0; waited != (c.after > 0) {
					t.Errorf("it waited %v and said %q", c.after, stderr.String())
				}
			})
		})
	}
	if n, err := (sourceWatch{}).atWork(t.Context(), nil); n != 0 || err != nil {
		t.Errorf("a data folder: got %d, %v", n, err)
	}
}
