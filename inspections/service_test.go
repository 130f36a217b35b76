package inspections_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"xuncha/inspections"
	"xuncha/inspections/coverage"
	"xuncha/inspections/inspectionstest"
	"xuncha/ledger"
	"xuncha/ledger/ledgertest"
	"xuncha/sites"
)

const (
	city    = sites.DivisionCode("511600")
	village = sites.DivisionCode("511602001003")
)

var (
	start = time.Date(2020, 2, 1, 0, 0, 0, 0, time.UTC)
	day   = 24 * time.Hour
)

// A world is one site under an order from start on, for 30 days, to be visited
// every day. The clock stands at the order's third day, at noon.
type world struct {
	*inspections.Service
	roster *sites.Service
	store  *inspectionstest.Memory
	now    time.Time
	site   *sites.Site
	order  *sites.ClosureOrder
}

func newWorld(t testing.TB) *world {
	t.Helper()
	w := &world{store: inspectionstest.New(t), now: start.Add(60 * time.Hour)}
	ids := 0
	var err error
	w.roster, err = sites.Open(t.Context(), sites.Config{
		Ledger: w.store, Rows: &w.store.MemoryRows, Zone: time.UTC, Now: func() time.Time { return w.now },
		NewID: func() string { ids++; return fmt.Sprintf("00000000-0000-4000-8000-%012d", ids) },
	})
	must(t, err)
	_, err = w.roster.ImportDivisions(t.Context(), "test", sites.Import{Effective: "2019-10-31"}, []sites.DivisionRow{
		{Row: 2, Code: "511600", Name: "广安市", Level: "city"},
		{Row: 3, Code: "511602", Name: "广安区", Level: "county", Parent: "511600"},
		{Row: 4, Code: "511602001", Name: "浓洄街道", Level: "township", Parent: "511602"},
		{Row: 5, Code: string(village), Name: "柑子园社区居委会", Level: "village", Parent: "511602001"},
	})
	must(t, err)
	w.site, err = w.roster.CreateSite(t.Context(), "test", sites.NewSite{
		RegistrationNo: "1", Name: "样例", Division: village, Registered: start.Add(-30 * day),
		Position: &sites.Position{Latitude: 30.5, Longitude: 106.6},
	})
	must(t, err)
	w.order, err = w.roster.CreateOrder(t.Context(), "test", sites.ClosureOrder{
		Number: "1", Title: "t", IssuingAuthority: "a", LegalBasis: "b", Divisions: []sites.DivisionCode{city},
		Start: start, End: start.Add(30 * day), Interval: sites.Duration(day),
	})
	must(t, err)
	w.store.Now = func() time.Time { return w.now }
	w.Service = w.open(t)
	return w
}

// open opens the world's store once more, as after a restart.
func (w *world) open(t testing.TB) *inspections.Service {
	t.Helper()
	s, err := inspections.New(inspections.Config{
		Ledger: w.store, Photos: w.store.Photos(), Roster: w.roster, RetentionDays: inspections.DefaultRetentionDays,
		Now: func() time.Time { return w.now },
	})
	must(t, err)
	must(t, ledger.NewFollower(w.store, "", s.Take).CatchUp(t.Context()))
	return s
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// checkIn returns a check-in made now, with the number in its id.
func (w *world) checkIn(n int) inspections.CheckIn {
	return inspections.CheckIn{
		ID: inspections.CheckInID(fmt.Sprintf("11111111-0000-4000-8000-%012d", n)), Site: w.site.ID, Captured: w.now,
		Finding: inspections.FoundClosed, CancelledEvents: 2, DispersedPeople: 100,
	}
}

// submit submits a check-in that must be stored.
func (w *world) submit(t testing.TB, c inspections.CheckIn) *inspections.Stored {
	t.Helper()
	stored, duplicate, err := w.Submit(t.Context(), "test", c, time.Time{})
	must(t, err)
	if duplicate {
		t.Fatalf("%s is a duplicate", c.ID)
	}
	return stored
}

// TestVillageLeftOut ensures that a site whose village a corrected table of the
// same day leaves out is due and inspected as before.
func TestVillageLeftOut(t *testing.T) {
	w := newWorld(t)
	_, err := w.roster.ImportDivisions(t.Context(), "test", sites.Import{Effective: "2019-10-31"}, []sites.DivisionRow{
		{Row: 2, Code: "511600", Name: "广安市", Level: "city"},
	})
	must(t, err)
	w.submit(t, w.checkIn(1))
	today := inspections.Question{Division: city, Start: w.now.Truncate(day), End: w.now.Truncate(day).Add(day)}
	r, _, err := w.Coverage(t.Context(), today)
	must(t, err)
	if r.SitesDue != 1 || r.SitesInspected != 1 {
		t.Errorf("got %+v, want one site due and inspected", r.Figures)
	}
	list, _, err := w.List(t.Context(), inspections.Question{Start: today.Start, End: today.End}, coverage.VisitFilter{Site: w.site.ID}, coverage.VisitRef{}, 10)
	if err != nil || len(list) != 1 {
		t.Errorf("got %d check-ins of the site, %v; want one", len(list), err)
	}
	history, _, err := w.History(t.Context(), w.site.ID, inspections.HistoryCursor{}, 10)
	if err != nil || len(history) != 5 {
		t.Errorf("got %d entries, %v; want two imports, the site, the order and the check-in", len(history), err)
	}
}

func TestSubmitRefuses(t *testing.T) {
	w := newWorld(t)
	gone, err := w.roster.CreateSite(t.Context(), "test", sites.NewSite{RegistrationNo: "2", Name: "样例", Division: village, Registered: start})
	must(t, err)
	_, err = w.roster.DeregisterSite(t.Context(), "test", gone.ID, "", start.Add(day))
	must(t, err)
	photo := inspections.Photo{Size: 1, ContentType: "image/jpeg"}
	for _, test := range []struct {
		name   string
		change func(*inspections.CheckIn)
		want   error
		field  string
	}{
		{"NULInNote", func(c *inspections.CheckIn) { c.Note = "a\x00b" }, sites.ErrInvalid, "note"},
		{"EscapeInNote", func(c *inspections.CheckIn) { c.Note = "\x1b[2J" }, sites.ErrInvalid, "note"},
		{"OtherDirectionInNote", func(c *inspections.CheckIn) { c.Note = "a\u202eb" }, sites.ErrInvalid, "note"},
		{"UnknownSite", func(c *inspections.CheckIn) { c.Site = "nowhere" }, sites.ErrSiteUnknown, "site_id"},
		{"SiteStruckOff", func(c *inspections.CheckIn) { c.Site = gone.ID }, inspections.ErrNotRegistered, "site_id"},
		{"SiteNotYetRegistered", func(c *inspections.CheckIn) { c.Captured = start.Add(-31 * day) }, inspections.ErrNotRegistered, "site_id"},
		{"BeforeTheOrder", func(c *inspections.CheckIn) { c.Captured = start.Add(-1) }, inspections.ErrBeforeOrder, "capture_time"},
		{"InTheFuture", func(c *inspections.CheckIn) { c.Captured = w.now.Add(5*time.Minute + 1) }, inspections.ErrFuture, "capture_time"},
		{"NoTime", func(c *inspections.CheckIn) { c.Captured = time.Time{} }, sites.ErrInvalid, "capture_time"},
		{"NoFinding", func(c *inspections.CheckIn) { c.Finding = "" }, sites.ErrInvalid, "finding"},
		{"NegativeEvents", func(c *inspections.CheckIn) { c.CancelledEvents = -1 }, sites.ErrInvalid, "cancelled_event_count"},
		{"TooManyEvents", func(c *inspections.CheckIn) { c.CancelledEvents = 1001 }, sites.ErrInvalid, "cancelled_event_count"},
		{"NegativePeople", func(c *inspections.CheckIn) { c.DispersedPeople = -1 }, sites.ErrInvalid, "dispersed_people_count"},
		{"TooManyPeople", func(c *inspections.CheckIn) { c.DispersedPeople = 100_001 }, sites.ErrInvalid, "dispersed_people_count"},
		{"NoteTooLong", func(c *inspections.CheckIn) { c.Note = strings.Repeat("门", 501) }, sites.ErrInvalid, "note"},
		{"NoteNotUTF8", func(c *inspections.CheckIn) { c.Note = "\xff" }, sites.ErrInvalid, "note"},
		{"TooManyPhotos", func(c *inspections.CheckIn) { c.Photos = somePhotos(11) }, sites.ErrInvalid, "photos"},
		{"PhotoTwice", func(c *inspections.CheckIn) { c.Photos = []inspections.Photo{photo, photo} }, sites.ErrInvalid, "photos[1].sha256"},
		{"PhotoTooLarge", func(c *inspections.CheckIn) {
			c.Photos = []inspections.Photo{{Size: 20<<20 + 1, ContentType: "image/png"}}
		}, sites.ErrInvalid, "photos[0].size_bytes"},
		{"NoPhoto", func(c *inspections.CheckIn) { c.Photos = []inspections.Photo{{Size: 1, ContentType: "text/html"}} }, sites.ErrInvalid, "photos[0].content_type"},
		{"Latitude", func(c *inspections.CheckIn) {
			c.Location = &inspections.Location{Point: sites.Position{Latitude: 91}}
		}, sites.ErrInvalid, "location.latitude"},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := w.checkIn(1)
			test.change(&c)
			_, _, err := w.Submit(t.Context(), "test", c, time.Time{})
			var f *sites.FieldError
			if !errors.Is(err, test.want) || !errors.As(err, &f) || f.Field != test.field {
				t.Errorf("got %v, want %v in field %s", err, test.want, test.field)
			}
			if n := w.store.Count(c.Site.History()); n != 0 {
				t.Errorf("%d entries were stored", n)
			}
		})
	}
	t.Run("NoOrderInForce", func(t *testing.T) {
		w := newWorld(t)
		w.now = w.order.End
		_, _, err := w.Submit(t.Context(), "test", w.checkIn(1), time.Time{})
		if !errors.Is(err, inspections.ErrNoOrder) {
			t.Errorf("got %v, want ErrNoOrder", err)
		}
	})
}

// somePhotos returns n different photos.
func somePhotos(n int) (out []inspections.Photo) {
	for i := range n {
		out = append(out, inspections.Photo{SHA256: inspections.Digest{byte(i)}, Size: 1, ContentType: "image/jpeg"})
	}
	return out
}

func TestSubmitAcceptsTheBounds(t *testing.T) {
	for name, change := range map[string]func(*world, *inspections.CheckIn){
		"FirstMomentOfTheOrder": func(_ *world, c *inspections.CheckIn) { c.Captured = start },
		"FiveMinutesAhead":      func(w *world, c *inspections.CheckIn) { c.Captured = w.now.Add(5 * time.Minute) },
		"MostCounts":            func(_ *world, c *inspections.CheckIn) { c.CancelledEvents, c.DispersedPeople = 1000, 100_000 },
		"LongestNote":           func(_ *world, c *inspections.CheckIn) { c.Note = strings.Repeat("门", 500) },
		"TenPhotos":             func(_ *world, c *inspections.CheckIn) { c.Photos = somePhotos(10) },
		"LargestPhoto": func(_ *world, c *inspections.CheckIn) {
			c.Photos = somePhotos(1)
			c.Photos[0].Size = 20 << 20
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			c := w.checkIn(1)
			change(w, &c)
			stored := w.submit(t, c)
			got, err := w.Get(t.Context(), c.Site, c.ID)
			must(t, err)
			if got.Note != c.Note || got.CancelledEvents != c.CancelledEvents || got.DispersedPeople != c.DispersedPeople ||
				!slices.Equal(got.Photos, c.Photos) || !got.VisitTime.Equal(c.Captured) {
				t.Errorf("got %+v, want what was submitted: %+v", got, c)
			}
			if got.Entry.Hash != stored.Entry.Hash || got.Order != w.order.ID {
				t.Errorf("got %+v, want the entry of the receipt under order %s", got.Entry, w.order.ID)
			}
		})
	}
}

func TestClockCorrection(t *testing.T) {
	for _, test := range []struct {
		name      string
		phone     time.Duration // how far its clock is off
		corrected bool
	}{
		{"Right", 0, false},
		{"SlowNetwork", -2 * time.Minute, false},
		{"SlowerThanAnyNetwork", -2*time.Minute - 1, true},
		{"TwoMinutesAhead", 2 * time.Minute, false},
		{"MoreThanTwoMinutesAhead", 2*time.Minute + 1, true},
		{"ThreeHoursBehind", -3 * time.Hour, true},
		{"ADayAhead", day, true},
		{"BatteryWasEmpty", -50 * 365 * day, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			w := newWorld(t)
			c := w.checkIn(1)
			visit := w.now.Add(-10 * time.Minute)
			c.Captured = visit.Add(test.phone)
			stored, _, err := w.Submit(t.Context(), "test", c, w.now.Add(test.phone))
			must(t, err)
			if stored.Has(inspections.ClockCorrected) != test.corrected {
				t.Errorf("flags %v", stored.Flags)
			}
			if test.corrected && !stored.VisitTime.Equal(visit) {
				t.Errorf("visit at %v, want %v", stored.VisitTime, visit)
			}
			if !stored.Captured.Equal(c.Captured) {
				t.Errorf("the phone's own time %v was not kept: %v", c.Captured, stored.Captured)
			}
		})
	}
}

func TestFlags(t *testing.T) {
	at := func(lat, lon, accuracy float64, gcj bool) *inspections.Location {
		return &inspections.Location{Point: sites.Position{Latitude: lat, Longitude: lon}, Accuracy: accuracy, GCJ02: gcj}
	}
	// north makes of a check-in a visit that is not late, so many metres north of
	// the site.
	north := func(metres, accuracy float64) func(*world, *inspections.CheckIn) {
		return func(w *world, c *inspections.CheckIn) {
			const degree = 6_371_008.8 * math.Pi / 180 // metres
			w.now = start.Add(day)
			c.Captured, c.Location = w.now, at(30.5+metres/degree, 106.6, accuracy, false)
		}
	}
	for _, test := range []struct {
		name   string
		change func(*world, *inspections.CheckIn)
		want   []inspections.Flag
	}{
		// The order is 60 hours old and its interval a day: the first visit is late.
		{"FirstVisit", func(*world, *inspections.CheckIn) {}, []inspections.Flag{inspections.VisitedLate}},
		{"AtTheEndOfTheInterval", func(w *world, c *inspections.CheckIn) { w.now = start.Add(day); c.Captured = w.now }, nil},
		{"JustAfterTheInterval", func(w *world, c *inspections.CheckIn) { w.now = start.Add(day + 1); c.Captured = w.now }, []inspections.Flag{inspections.VisitedLate}},
		{"SyncedAnHourLater", func(w *world, c *inspections.CheckIn) {
			c.Captured = start.Add(day)
			w.now = start.Add(day + time.Hour)
		}, nil},
		{"SyncedLate", func(w *world, c *inspections.CheckIn) {
			c.Captured = start.Add(day)
			w.now = start.Add(day + time.Hour + 1)
		}, []inspections.Flag{inspections.SyncedLate}},
		{"AtTheSite", func(w *world, c *inspections.CheckIn) {
			w.now = start.Add(day)
			c.Captured, c.Location = w.now, at(30.5, 106.6, 10, false)
		}, nil},
		{"AtTheSiteOnAChineseMap", func(w *world, c *inspections.CheckIn) {
			w.now = start.Add(day)
			c.Captured, c.Location = w.now, at(30.497412, 106.603551, 10, true)
		}, nil},
		{"ThatPointInWGS84", func(w *world, c *inspections.CheckIn) {
			w.now = start.Add(day)
			c.Captured, c.Location = w.now, at(30.497412, 106.603551, 10, false)
		}, []inspections.Flag{inspections.AwayFromSite}},
		{"ThreeHundredMetresAway", north(300, 0), nil},
		{"JustTooFarAway", north(301, 0), []inspections.Flag{inspections.AwayFromSite}},
		{"ThreeHundredMetresBeyondItsError", north(340, 40), nil},
		{"JustTooFarBeyondItsError", north(341, 40), []inspections.Flag{inspections.AwayFromSite}},
		{"AwayButUnsure", func(w *world, c *inspections.CheckIn) {
			w.now = start.Add(day)
			c.Captured, c.Location = w.now, at(30.497412, 106.603551, 500, false)
		}, nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			w := newWorld(t)
			c := w.checkIn(1)
			test.change(w, &c)
			if got := w.submit(t, c).Flags; !slices.Equal(got, test.want) {
				t.Errorf("got %v, want %v", got, test.want)
			}
		})
	}
}

// TestPositionIsDropped ensures that of where the phone was nothing but the
// distance is kept.
func TestPositionIsDropped(t *testing.T) {
	w := newWorld(t)
	c := w.checkIn(1)
	c.Location = &inspections.Location{Point: sites.Position{Latitude: 30.512345, Longitude: 106.612345}, Accuracy: 17.25}
	stored := w.submit(t, c)
	if stored.Location != nil || stored.Distance == nil {
		t.Fatalf("got location %v and distance %v, want the distance alone", stored.Location, stored.Distance)
	}
	for _, trace := range []string{"12345", "17.25", "latitude", "longitude", "accuracy"} {
		if bytes.Contains(stored.Entry.Record, []byte(trace)) {
			t.Errorf("the record has %q of the position: %s", trace, stored.Entry.Record)
		}
	}
}

func TestRepeat(t *testing.T) {
	w := newWorld(t)
	c := w.checkIn(1)
	c.Photos = []inspections.Photo{{SHA256: [32]byte{1}, Size: 5, ContentType: "image/jpeg"}}
	first := w.submit(t, c)

	again := func(t *testing.T, c inspections.CheckIn) (*inspections.Stored, bool, error) {
		t.Helper()
		return w.Submit(t.Context(), "test", c, time.Time{})
	}
	t.Run("EqualContent", func(t *testing.T) {
		w.now = w.now.Add(time.Hour)
		got, duplicate, err := again(t, c)
		if err != nil || !duplicate || got.Entry.Hash != first.Entry.Hash || !got.Entry.Time.Equal(first.Entry.Time) {
			t.Errorf("got %+v, %v, %v; want the first receipt", got, duplicate, err)
		}
	})
	for name, change := range map[string]func(*inspections.CheckIn){
		"OtherCount":   func(c *inspections.CheckIn) { c.CancelledEvents++ },
		"OtherTime":    func(c *inspections.CheckIn) { c.Captured = c.Captured.Add(-1) },
		"OtherFinding": func(c *inspections.CheckIn) { c.Finding = inspections.FoundOpen },
		"OtherNote":    func(c *inspections.CheckIn) { c.Note = "x" },
		"OtherPhoto":   func(c *inspections.CheckIn) { c.Photos = []inspections.Photo{{Size: 5, ContentType: "image/jpeg"}} },
	} {
		t.Run(name, func(t *testing.T) {
			c := c
			change(&c)
			if _, _, err := again(t, c); !errors.Is(err, inspections.ErrConflict) {
				t.Errorf("got %v, want ErrConflict", err)
			}
		})
	}
	t.Run("AfterTheOrderEndedAndTheSiteWasStruckOff", func(t *testing.T) {
		_, err := w.roster.EndOrder(t.Context(), "test", w.order.ID, start.Add(time.Hour))
		must(t, err)
		_, err = w.roster.DeregisterSite(t.Context(), "test", w.site.ID, "", start.Add(time.Hour))
		must(t, err)
		if _, duplicate, err := again(t, c); err != nil || !duplicate {
			t.Errorf("got %v, %v; want the first receipt", duplicate, err)
		}
	})
	if n := w.store.Count(w.site.ID.History()); n != 1 {
		t.Errorf("got %d entries, want 1", n)
	}
}

// TestLostReply ensures that a check-in that was stored while its reply was
// lost is not doubled.
func TestLostReply(t *testing.T) {
	w := newWorld(t)
	w.store.OnWrite(func(ledger.Draft) ledgertest.Fault { return ledgertest.FailedButStored })
	if _, _, err := w.Submit(t.Context(), "test", w.checkIn(1), time.Time{}); !errors.Is(err, ledger.ErrUnavailable) {
		t.Fatalf("got %v, want ErrUnavailable", err)
	}
	w.store.OnWrite(nil)
	stored, duplicate, err := w.Submit(t.Context(), "test", w.checkIn(1), time.Time{})
	if err != nil || !duplicate || stored.Entry.Sequence != 1 {
		t.Errorf("got %+v, %v, %v; want the entry stored at first", stored, duplicate, err)
	}
}

func TestSubmitTogether(t *testing.T) {
	w := newWorld(t)
	var group sync.WaitGroup
	hashes := make([]ledger.Hash, 100)
	for i := range hashes {
		group.Go(func() {
			stored, _, err := w.Submit(context.Background(), "test", w.checkIn(1), time.Time{})
			if err != nil {
				t.Error(err)
				return
			}
			hashes[i] = stored.Entry.Hash
		})
	}
	group.Wait()
	if n := w.store.Count(w.site.ID.History()); n != 1 || len(slices.Compact(hashes)) != 1 {
		t.Errorf("got %d entries and the receipts %x, want one and 100 equal ones", n, slices.Compact(hashes))
	}
}

func TestReopen(t *testing.T) {
	w := newWorld(t)
	for i := range 5 {
		c := w.checkIn(i)
		c.Captured = start.Add(time.Duration(i) * 12 * time.Hour)
		w.submit(t, c)
	}
	q := inspections.Question{Division: city, Start: start, End: start.Add(3 * day), Depth: 3}
	before, _, err := w.Coverage(t.Context(), q)
	must(t, err)
	after, _, err := w.open(t).Coverage(t.Context(), q)
	must(t, err)
	if fmt.Sprint(before) != fmt.Sprint(after) || before.CheckIns != 5 || before.SitesInspected != 1 {
		t.Errorf("got %+v after a restart, want %+v with 5 check-ins", after, before)
	}
}

// TestHistoryPages ensures that pages of any size give each entry once, in
// order, also while entries arrive.
func TestHistoryPages(t *testing.T) {
	for size := 1; size <= 8; size++ {
		w := newWorld(t)
		for i := range 6 {
			w.now = w.now.Add(time.Minute)
			w.submit(t, w.checkIn(i))
			if i == 3 {
				w.now = w.now.Add(time.Minute)
				name := "样例·新名"
				_, err := w.roster.UpdateSite(t.Context(), "test", w.site.ID, "", sites.SiteUpdate{Name: &name})
				must(t, err)
			}
		}
		var got []string
		var cursor inspections.HistoryCursor
		for {
			page, next, err := w.History(t.Context(), w.site.ID, cursor, size)
			must(t, err)
			for _, e := range page {
				got = append(got, fmt.Sprint(strings.SplitN(string(e.History), "/", 2)[0], e.Sequence))
			}
			w.now = w.now.Add(time.Minute)
			w.submit(t, w.checkIn(100+len(got)))
			if cursor = next; cursor == (inspections.HistoryCursor{}) {
				break
			}
		}
		want := []string{"site6", "site5", "roster4", "site4", "site3", "site2", "site1", "roster3", "roster2", "roster1"}
		if !slices.Equal(got, want) {
			t.Errorf("pages of %d: got %v, want %v", size, got, want)
		}
	}
}

func TestList(t *testing.T) {
	w := newWorld(t)
	for i := range 5 {
		c := w.checkIn(i)
		c.Captured = start.Add(time.Duration(i) * time.Hour)
		if i == 2 {
			c.Finding = inspections.FoundOpen
		}
		w.submit(t, c)
	}
	q := inspections.Question{Division: city, Start: start, End: start.Add(day)}
	var got []time.Time
	var after coverage.VisitRef
	for {
		page, next, err := w.List(t.Context(), q, coverage.VisitFilter{}, after, 2)
		must(t, err)
		for _, s := range page {
			got = append(got, s.VisitTime)
		}
		if after = next; after == (coverage.VisitRef{}) {
			break
		}
	}
	if len(got) != 5 || !slices.IsSortedFunc(got, func(a, b time.Time) int { return b.Compare(a) }) {
		t.Errorf("got %v, want 5, the newest first", got)
	}
	open, _, err := w.List(t.Context(), inspections.Question{Start: q.Start, End: q.End}, coverage.VisitFilter{Site: w.site.ID, Open: true}, coverage.VisitRef{}, 10)
	must(t, err)
	if len(open) != 1 || open[0].Finding != inspections.FoundOpen {
		t.Errorf("got %v, want the one that found it open", open)
	}
}
