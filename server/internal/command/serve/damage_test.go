package serve

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"xuncha/inspections"
	"xuncha/server/internal/accounts"
	"xuncha/server/internal/sqlitestore"
	"xuncha/sites"
)

// startIn starts a server on a data folder.
func startIn(t *testing.T, folder string, log *lines) (*Running, error) {
	t.Helper()
	return Start(t.Context(), StoreConfig{Data: folder}, Config{
		Listen: "127.0.0.1:0", TimeZone: "UTC", LogLevel: "info", LogFormat: "text", MaxMessageBytes: 1 << 20,
		photoConfig: photoConfig{PhotoRetentionDays: 30}, ShutdownTimeout: time.Minute,
	}, log)
}

// fillForDamage lets a server have accounts, a roster and check-ins.
func fillForDamage(t *testing.T, r *Running) {
	t.Helper()
	ctx := t.Context()
	if _, _, err := r.people.Create(ctx, accounts.By{Account: "local"}, accounts.NewAccount{
		Username: "root", Role: accounts.Admin, Divisions: []sites.DivisionCode{"511600"}, Password: "a password of some length",
	}); err != nil {
		t.Fatal(err)
	}
	rows := []sites.DivisionRow{
		{Row: 2, Code: "511600", Name: "a", Level: "city"}, {Row: 3, Code: "511602", Name: "b", Level: "county", Parent: "511600"},
		{Row: 4, Code: "511602001", Name: "c", Level: "township", Parent: "511602"},
		{Row: 5, Code: "511602001001", Name: "d", Level: "village", Parent: "511602001"},
	}
	if _, err := r.roster.ImportDivisions(ctx, sites.By{Account: "a"}, sites.Import{Effective: "2019-10-31"}, rows); err != nil {
		t.Fatal(err)
	}
	if _, err := r.roster.CreateOrder(ctx, sites.By{Account: "a"}, sites.ClosureOrder{
		Number: "1", Title: "t", IssuingAuthority: "a", LegalBasis: "b", Divisions: []sites.DivisionCode{"511600"},
		Start: time.Now().Add(-time.Hour), End: time.Now().Add(1000 * time.Hour), Interval: sites.Duration(24 * time.Hour),
	}); err != nil {
		t.Fatal(err)
	}
	for i := range 8 {
		site, err := r.roster.CreateSite(ctx, sites.By{Account: "a"}, sites.NewSite{RegistrationNo: fmt.Sprint("no", i), Name: "n", Division: "511602001001", Registered: time.Now().Add(-2 * time.Hour)})
		if err != nil {
			t.Fatal(err)
		}
		for n := range 12 {
			c := inspections.CheckIn{
				ID: inspections.CheckInID(fmt.Sprintf("10000000-0000-4000-8000-%06d%06d", i, n)), Site: site.ID,
				Captured: time.Now(), Finding: inspections.FoundClosed, Note: "门口",
			}
			if _, _, err := r.checkIns.Submit(ctx, inspections.By{Account: "a"}, c, time.Time{}); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// TestStartWithFlippedBits starts servers on a data folder in which one bit was changed,
// wherever it is behind the header and the schema: in histories, in the roster's rows, in
// what accounts sign in with, in indexes.
func TestStartWithFlippedBits(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	if text := os.Getenv("XUNCHA_TEST_SEED"); text != "" {
		var err error
		if seed, err = strconv.ParseUint(text, 10, 64); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("XUNCHA_TEST_SEED=%d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	flips := 20
	if text := os.Getenv("XUNCHA_TEST_FLIPS"); text != "" {
		var err error
		if flips, err = strconv.Atoi(text); err != nil {
			t.Fatal(err)
		}
	}
	folder := t.TempDir()
	r, err := startIn(t, folder, &lines{})
	if err != nil {
		t.Fatal(err)
	}
	<-r.Ready
	fillForDamage(t, r)
	if err := r.Stop(); err != nil {
		t.Fatal(err)
	}
	whole, err := os.ReadFile(filepath.Join(folder, sqlitestore.File))
	if err != nil {
		t.Fatal(err)
	}
	for range flips {
		at, bit := 4096+random.IntN(len(whole)-4096), random.IntN(8)
		if random.IntN(2) == 0 {
			at = at&^4095 + random.IntN(48) // where the header of a page and its pointers are
		}
		t.Run(fmt.Sprintf("at=%d/bit=%d", at, bit), func(t *testing.T) {
			b := bytes.Clone(whole)
			b[at] ^= 1 << bit
			folder, log := t.TempDir(), &lines{}
			if err := os.WriteFile(filepath.Join(folder, sqlitestore.File), b, 0o600); err != nil {
				t.Fatal(err)
			}
			r, err := startIn(t, folder, log)
			if err != nil {
				t.Fatalf("does not start: %v", err)
			}
			select {
			case <-r.Ready:
			case err := <-r.Failed:
				t.Fatalf("does not come to serve: %v", err)
			case <-time.After(time.Minute):
				t.Fatalf("does not come to serve: %s", log)
			}
			if !r.people.Any() {
				t.Error("it asks nobody who they are")
			}
			if err := r.verification.round(context.WithoutCancel(t.Context()), r.store, 0, nil); err != nil {
				t.Errorf("a round: %v", err)
			}
			if err := r.Stop(); err != nil {
				t.Errorf("stopping: %v", err)
			}
		})
	}
}
