package serve

import (
	"crypto/rand"
	"log/slog"
	"testing"
	"time"

	"github.com/google/uuid"

	"xuncha/server/internal/accounts"
	"xuncha/server/internal/clock"
	"xuncha/sites"
)

// TestDevicesByHeartbeats holds that devices that have expired go, and that a server whose
// clock is two years ahead signs nobody out for good who can still sign in with what the
// right clock shows.
func TestDevicesByHeartbeats(t *testing.T) {
	t.Parallel()
	onOwnEngines(t, testDevicesByHeartbeats)
}

func testDevicesByHeartbeats(t *testing.T, config StoreConfig) {
	const day = 24 * time.Hour
	const step = 2 * time.Minute
	store, _, err := OpenEngine(t.Context(), config.name(), EngineOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := store.Close(); err != nil {
			t.Error(err)
		}
	})
	start := time.Now()
	var ran, off time.Duration
	now := func() time.Time { return start.Add(ran + off) }
	r := &Running{log: slog.New(slog.DiscardHandler), time: &timekeeper{}}
	restart := func() {
		t.Helper()
		if r.time.hearts, err = clock.OpenHeartbeats(t.Context(), clock.HeartbeatsConfig{
			Notes: store, Read: func() (time.Time, time.Duration) { return now(), ran }, Now: now,
		}); err != nil {
			t.Fatal(err)
		}
	}
	restart()
	people, err := accounts.Open(t.Context(), accounts.Config{Ledger: store, Secrets: store, Now: now, NewID: uuid.NewString, Random: rand.Reader})
	if err != nil {
		t.Fatal(err)
	}
	const password = "correct horse battery"
	if _, _, err := people.Create(t.Context(), accounts.By{Account: "local"}, accounts.NewAccount{
		Username: "root", Role: accounts.Admin, Divisions: []sites.DivisionCode{"511600"}, Password: password,
	}); err != nil {
		t.Fatal(err)
	}
	run := func(d time.Duration) {
		t.Helper()
		for end := ran + d; ran < end; ran += step {
			if err := r.time.hearts.Beat(t.Context()); err != nil {
				t.Fatal(err)
			}
			if ran%(6*time.Hour) == 0 {
				r.forgetDevices(t.Context(), people, "")
			}
		}
	}
	want := func(when string, want int) {
		t.Helper()
		n := 0
		if err := store.Secrets(t.Context(), "device/", func(string, []byte) error { n++; return nil }); err != nil || n != want {
			t.Errorf("%s: %d devices are stored, %v; want %d", when, n, err, want)
		}
	}
	login := func() {
		t.Helper()
		if _, _, err := people.Login(t.Context(), accounts.SignIn{Username: "root", Password: password}); err != nil {
			t.Fatal(err)
		}
	}
	for range 3 {
		login()
	}
	run(2 * day)
	want("at first", 3)
	off = 730 * day
	restart()
	run(day - time.Hour)
	want("after a day two years ahead", 3)
	off = 28 * day // the machine was off for so long
	restart()
	login()
	run(time.Hour)
	want("right again", 4)
	run(3 * day)
	want("when three have expired", 1)
}
