package serve

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"image"
	"image/png"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"xuncha/inspections"
	"xuncha/inspections/photos"
	"xuncha/server/internal/clock"
	"xuncha/sites"
)

// storePurgeable stores a photo of which the order ended five days ago.
func storePurgeable(t *testing.T, config StoreConfig) {
	t.Helper()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	store, _, err := OpenEngine(t.Context(), config.name(), EngineOptions{})
	must(err)
	defer func() { must(store.Close()) }()
	roster, err := sites.Open(t.Context(), sites.Config{Ledger: store, Rows: store, Now: time.Now, NewID: uuid.NewString, Zone: time.UTC})
	must(err)
	checkIns := inspections.New(inspections.Config{Ledger: store, Claims: store.Photos(), Roster: roster, Now: time.Now})
	keeper, err := photos.New(photos.Config{Ledger: store, Store: store.Photos(), CheckIns: checkIns, Roster: roster, RetentionDays: 180, Now: time.Now})
	must(err)
	_, err = roster.ImportDivisions(t.Context(), sites.By{Account: "a"}, sites.Import{Effective: "2019-10-31"}, []sites.DivisionRow{
		{Row: 2, Code: "511600", Name: "a", Level: "city"}, {Row: 3, Code: "511602", Name: "b", Level: "county", Parent: "511600"},
		{Row: 4, Code: "511602001", Name: "c", Level: "township", Parent: "511602"},
		{Row: 5, Code: "511602001001", Name: "d", Level: "village", Parent: "511602001"},
	})
	must(err)
	start := time.Now().AddDate(0, 0, -10)
	order, err := roster.CreateOrder(t.Context(), sites.By{Account: "a"}, sites.ClosureOrder{
		Number: "1", Title: "t", IssuingAuthority: "a", LegalBasis: "b", Divisions: []sites.DivisionCode{"511600"},
		Start: start, End: start.AddDate(0, 0, 20), Interval: sites.Duration(24 * time.Hour),
	})
	must(err)
	_, err = roster.EndOrder(t.Context(), sites.By{Account: "a"}, order.ID, start.AddDate(0, 0, 5))
	must(err)
	site, err := roster.CreateSite(t.Context(), sites.By{Account: "a"}, sites.NewSite{RegistrationNo: "1", Name: "n", Division: "511602001001", Registered: start})
	must(err)
	var picture bytes.Buffer
	must(png.Encode(&picture, image.NewGray(image.Rect(0, 0, 40, 30))))
	c := inspections.CheckIn{
		ID: "11111111-1111-4111-8111-111111111111", Site: site.ID, Captured: start.Add(time.Hour), Finding: inspections.FoundClosed,
		Photos: []inspections.Photo{{SHA256: sha256.Sum256(picture.Bytes()), Size: int64(picture.Len()), ContentType: "image/png"}},
	}
	_, _, err = checkIns.Submit(t.Context(), inspections.By{Account: "a"}, c, time.Time{})
	must(err)
	ref := photos.Ref{CheckInRef: inspections.CheckInRef{Site: site.ID, CheckIn: c.ID}, SHA256: c.Photos[0].SHA256}
	u, err := keeper.BeginUpload(t.Context(), "a", ref, 0, nil)
	must(err)
	defer u.Close()
	must(u.Write(t.Context(), picture.Bytes()))
	if state, err := u.End(t.Context()); err != nil || !state.Stored {
		t.Fatal(state, err)
	}
}

// TestPurgeByHand holds that the command says what time it believes it to be, asks, and
// deletes nothing where the clocks disagree.
func TestPurgeByHand(t *testing.T) {
	t.Parallel()
	onOwnEngines(t, testPurgeByHand)
}

func testPurgeByHand(t *testing.T, config StoreConfig) {
	storePurgeable(t, config)
	clockIs := func(off time.Duration) func() time.Time { return func() time.Time { return time.Now().Add(off) } }
	answers := func(yes bool) func(context.Context, io.Writer) (bool, error) {
		return func(context.Context, io.Writer) (bool, error) { return yes, nil }
	}
	run := func(change func(*PurgeCommand), off time.Duration, ask func(context.Context, io.Writer) (bool, error)) (stdout, stderr string, err error) {
		t.Helper()
		c := PurgeCommand{StoreConfig: config, photoConfig: photoConfig{PhotoRetentionDays: 4}, TimeZone: "UTC"}
		if change != nil {
			change(&c)
		}
		var out, log bytes.Buffer
		err = c.run(t.Context(), &out, &log, clockIs(off), ask)
		return out.String(), log.String(), err
	}
	dryRun := func(c *PurgeCommand) { c.DryRun = true }
	yes := func(c *PurgeCommand) { c.Yes = true }
	wantLeft := func(what string, want string) {
		t.Helper()
		if out, _, err := run(dryRun, 0, nil); err != nil || !strings.Contains(out, want+" photos with") {
			t.Errorf("after %s: got %s, %v; want %s left", what, out, err, want)
		}
	}
	day := time.Now().UTC().Format("2006-")
	refused := func(what string, off time.Duration, says string) {
		t.Helper()
		_, _, err := run(yes, off, nil)
		shows := time.Now().Add(off).UTC().Format("2006-01-02T15")
		if err == nil || !strings.Contains(err.Error(), says) || !strings.Contains(err.Error(), day) ||
			!strings.Contains(err.Error(), shows) || !strings.Contains(err.Error(), "--accept-clock") {
			t.Errorf("%s: got %v; want both times and the flag", what, err)
		}
		wantLeft(what, "1")
	}
	_, log, err := run(nil, 0, answers(false))
	if err == nil || !strings.Contains(log, "clock shows "+day) || !strings.Contains(log, "newest entry is of "+day) ||
		!strings.Contains(log, "1 photos with") || !strings.Contains(log, "1 closure orders would be purged") {
		t.Errorf("got %v, %s", err, log)
	}
	if (config.Store != "") != strings.Contains(log, "of the database shows "+day) {
		t.Errorf("got %s", log)
	}
	wantLeft("a no", "1")
	if _, _, err := run(nil, 0, askTerminal); err == nil || !strings.Contains(err.Error(), "--yes") {
		t.Errorf("without a terminal: got %v", err)
	}
	wantLeft("a command without a terminal", "1")
	if config.Store != "" {
		refused("a clock behind the database's", -2*time.Hour, "that of the database")
		refused("a clock ahead of the database's", 2*365*24*time.Hour, "that of the database")
	} else {
		refused("a clock behind the newest entry", -2*time.Hour, "the newest entry")
		storeBeat(t, config, time.Now().Add(time.Hour))
		refused("a clock behind the last heartbeat", -time.Minute, "the last heartbeat")
	}
	// Somebody has looked at the clock, or only wants to see.
	out, log, err := run(func(c *PurgeCommand) { c.DryRun = true }, -24*time.Hour+time.Minute, nil)
	if err != nil || !strings.Contains(out, "would be purged") || !strings.Contains(log, "the clock looks wrong") {
		t.Errorf("got %s, %v, %s", out, err, log)
	}
	wantLeft("a dry run", "1")
	asked := 0
	out, _, err = run(func(c *PurgeCommand) { c.AcceptClock = true }, 0, func(context.Context, io.Writer) (bool, error) { asked++; return true, nil })
	if err != nil || asked != 1 || !strings.Contains(out, "1 photos with") || !strings.Contains(out, "were purged") {
		t.Errorf("asked %d times: got %s, %v", asked, out, err)
	}
	wantLeft("a yes", "0")
	// There is nothing to ask about.
	out, _, err = run(func(c *PurgeCommand) { c.AcceptClock = true }, 0, func(context.Context, io.Writer) (bool, error) {
		return false, errors.New("asked about nothing")
	})
	if err != nil || !strings.Contains(out, "0 photos with") {
		t.Errorf("got %s, %v", out, err)
	}
}

// storeBeat stores a heartbeat of a server whose clock shows the time.
func storeBeat(t *testing.T, config StoreConfig, at time.Time) {
	t.Helper()
	store, _, err := OpenEngine(t.Context(), config.name(), EngineOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	beats, err := clock.OpenHeartbeats(t.Context(), clock.HeartbeatsConfig{
		Notes: store, Now: func() time.Time { return at }, Read: func() (time.Time, time.Duration) { return at, 0 },
	})
	if err == nil {
		err = beats.Beat(t.Context())
	}
	if err != nil {
		t.Fatal(err)
	}
}

// Only a whole yes deletes.
func TestConfirmed(t *testing.T) {
	for answer, want := range map[string]bool{"yes\n": true, " YES \r\n": true, "y\n": false, "no\n": false, "\n": false, "": false, "yes": false} {
		var to bytes.Buffer
		if got := confirmed(strings.NewReader(answer), &to); got != want || !strings.Contains(to.String(), "Type yes") {
			t.Errorf("%q: got %v, %s", answer, got, to.String())
		}
	}
}
