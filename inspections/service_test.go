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
	"xuncha/inspections/photos/photostest"
	"xuncha/ledger"
	"xuncha/ledger/ledgertest"
	"xuncha/sites"
	"xuncha/sites/sitestest"
)

const (
	city    = sitestest.City
	village = sitestest.Village
	day     = 24 * time.Hour
)

var start = sitestest.Start

// A world is where a service takes check-ins, and who used which picture there.
type world struct {
	*sitestest.World
	*inspections.Service
	claims *photostest.Memory
}

func newWorld(t testing.TB) *world {
	t.Helper()
	w := &world{World: sitestest.NewWorld(t), claims: new(photostest.Memory)}
	w.Service = w.open(t)
	return w
}

// open opens the world's store once more, as after a restart.
func (w *world) open(t testing.TB) *inspections.Service {
	t.Helper()
	s := inspections.New(inspections.Config{Ledger: w.Ledger, Claims: w.claims, Roster: w.Roster, Now: w.Clock})
	must(t, ledger.NewFollower(w.Ledger, "", s.Take).CatchUp(t.Context()))
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
		ID: inspections.CheckInID(fmt.Sprintf("11111111-0000-4000-8000-%012d", n)), Site: w.Site.ID, Captured: w.Now,
		Finding: inspections.FoundClosed, CancelledEvents: 2, DispersedPeople: 100,
	}
}

// submit submits a check-in that must be stored.
func (w *world) submit(t testing.TB, c inspections.CheckIn) *inspections.Stored {
	t.Helper()
	stored, duplicate, err := w.Submit(t.Context(), inspections.By{Account: "test"}, c, time.Time{})
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
	_, err := w.Roster.ImportDivisions(t.Context(), sites.By{Account: "test"}, sites.Import{Effective: "2019-10-31"}, []sites.DivisionRow{
		{Row: 2, Code: "511600", Name: "广安市", Level: "city"},
	})
	must(t, err)
	w.submit(t, w.checkIn(1))
	today := inspections.Question{Division: city, Start: w.Now.Truncate(day), End: w.Now.Truncate(day).Add(day)}
	r, err := w.Coverage(t.Context(), today)
	must(t, err)
	if r.SitesDue != 1 || r.SitesInspected != 1 {
		t.Errorf("got %+v, want one site due and inspected", r.Figures)
	}
	list, err := w.List(t.Context(), inspections.Question{Start: today.Start, End: today.End}, coverage.VisitFilter{Site: w.Site.ID}, coverage.VisitRef{}, 10)
	if err != nil || len(list.CheckIns) != 1 {
		t.Errorf("got %d check-ins of the site, %v; want one", len(list.CheckIns), err)
	}
	history, _, err := w.History(t.Context(), w.Site.ID, inspections.HistoryCursor{}, 10)
	if err != nil || len(history) != 5 {
		t.Errorf("got %d entries, %v; want two imports, the site, the order and the check-in", len(history), err)
	}
}

func TestSubmitRefuses(t *testing.T) {
	w := newWorld(t)
	gone, err := w.Roster.CreateSite(t.Context(), sites.By{Account: "test"}, sites.NewSite{RegistrationNo: "2", Name: "样例", Division: village, Registered: start})
	must(t, err)
	_, err = w.Roster.DeregisterSite(t.Context(), sites.By{Account: "test"}, gone.ID, "", start.Add(day))
	must(t, err)
	for _, test := range []struct {
		name   string
		change func(*inspections.CheckIn)
		want   error
		field  string
	}{
		{"UnknownSite", func(c *inspections.CheckIn) { c.Site = "nowhere" }, sites.ErrSiteUnknown, "site_id"},
		{"SiteStruckOff", func(c *inspections.CheckIn) { c.Site = gone.ID }, inspections.ErrNotRegistered, "site_id"},
		{"SiteNotYetRegistered", func(c *inspections.CheckIn) { c.Captured = start.Add(-31 * day) }, inspections.ErrNotRegistered, "site_id"},
		{"BeforeTheOrder", func(c *inspections.CheckIn) { c.Captured = start.Add(-1) }, inspections.ErrBeforeOrder, "capture_time"},
		{"InTheFuture", func(c *inspections.CheckIn) { c.Captured = w.Now.Add(5*time.Minute + 1) }, inspections.ErrFuture, "capture_time"},
		{"NoTime", func(c *inspections.CheckIn) { c.Captured = time.Time{} }, sites.ErrInvalid, "capture_time"},
		{"NoFinding", func(c *inspections.CheckIn) { c.Finding = "" }, sites.ErrInvalid, "finding"},
		{"NegativeEvents", func(c *inspections.CheckIn) { c.CancelledEvents = -1 }, sites.ErrInvalid, "cancelled_event_count"},
		{"TooManyEvents", func(c *inspections.CheckIn) { c.CancelledEvents = 1001 }, sites.ErrInvalid, "cancelled_event_count"},
		{"NegativePeople", func(c *inspections.CheckIn) { c.DispersedPeople = -1 }, sites.ErrInvalid, "dispersed_people_count"},
		{"TooManyPeople", func(c *inspections.CheckIn) { c.DispersedPeople = 100_001 }, sites.ErrInvalid, "dispersed_people_count"},
		{"NoteTooLong", func(c *inspections.CheckIn) { c.Note = strings.Repeat("门", 501) }, sites.ErrTooLong, "note"},
		{"NoteNotUTF8", func(c *inspections.CheckIn) { c.Note = "\xff" }, sites.ErrInvalid, "note"},
		{"TooManyPhotos", func(c *inspections.CheckIn) { c.Photos = somePhotos(101) }, sites.ErrInvalid, "photos"},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := w.checkIn(1)
			test.change(&c)
			_, _, err := w.Submit(t.Context(), inspections.By{Account: "test"}, c, time.Time{})
			var f *sites.FieldError
			if !errors.Is(err, test.want) || !errors.As(err, &f) || f.Field != test.field {
				t.Errorf("got %v, want %v in field %s", err, test.want, test.field)
			}
			if n := w.Ledger.Count(c.Site.History()); n != 0 {
				t.Errorf("%d entries were stored", n)
			}
		})
	}
	t.Run("NoOrderInForce", func(t *testing.T) {
		w := newWorld(t)
		w.Now = w.Order.End
		_, _, err := w.Submit(t.Context(), inspections.By{Account: "test"}, w.checkIn(1), time.Time{})
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
		"FiveMinutesAhead":      func(w *world, c *inspections.CheckIn) { c.Captured = w.Now.Add(5 * time.Minute) },
		"MostCounts":            func(_ *world, c *inspections.CheckIn) { c.CancelledEvents, c.DispersedPeople = 1000, 100_000 },
		"LongestNote":           func(_ *world, c *inspections.CheckIn) { c.Note = strings.Repeat("门", 500) },
		"TenPhotos":             func(_ *world, c *inspections.CheckIn) { c.Photos = somePhotos(10) },
		"LargestPhoto": func(_ *world, c *inspections.CheckIn) {
			c.Photos = somePhotos(1)
			c.Photos[0].Size, c.Photos[0].Width, c.Photos[0].Height = 40<<20, 20_000, 12_500
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
				!slices.Equal(got.Photos, c.Photos) || !got.Corrected.Equal(c.Captured) {
				t.Errorf("got %+v, want what was submitted: %+v", got, c)
			}
			if got.Entry.Hash != stored.Entry.Hash || got.Order != w.Order.ID {
				t.Errorf("got %+v, want the entry of the receipt under order %s", got.Entry, w.Order.ID)
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
			visit := w.Now.Add(-10 * time.Minute)
			c.Captured = visit.Add(test.phone)
			stored, _, err := w.Submit(t.Context(), inspections.By{Account: "test"}, c, w.Now.Add(test.phone))
			must(t, err)
			if stored.Has(inspections.ClockCorrected) != test.corrected {
				t.Errorf("flags %v", stored.Flags)
			}
			if test.corrected && !stored.VisitTime().Equal(visit) {
				t.Errorf("visit at %v, want %v", stored.VisitTime(), visit)
			}
			if !stored.Captured.Equal(c.Captured) {
				t.Errorf("the phone's own time %v was not kept: %v", c.Captured, stored.Captured)
			}
		})
	}
}

// TestPhoneAhead ensures that no visit lies after its receipt, whatever the phone says,
// and that the record keeps what it says.
func TestPhoneAhead(t *testing.T) {
	const ahead = 110 * time.Second
	w := newWorld(t)
	figures := func(from time.Time, want coverage.Figures) {
		t.Helper()
		w.Now = w.Now.Add(time.Second)
		r, err := w.Coverage(t.Context(), inspections.Question{Division: city, Start: from, End: from.Add(day)})
		must(t, err)
		got := coverage.Figures{
			SitesInspected: r.SitesInspected, SitesNeverInspected: r.SitesNeverInspected, CheckIns: r.CheckIns,
		}
		if got != want {
			t.Errorf("%s: got %+v, want %+v", from.Format(time.DateOnly), got, want)
		}
	}
	today := w.Now.Truncate(day)
	figures(today, coverage.Figures{SitesNeverInspected: 1})
	// A minute before midnight the phone says that it is tomorrow.
	w.Now = today.Add(day - time.Minute)
	receipt := w.Now
	c := w.checkIn(1)
	c.Captured = receipt.Add(ahead)
	stored, _, err := w.Submit(t.Context(), inspections.By{Account: "test"}, c, receipt.Add(ahead))
	must(t, err)
	read, err := w.Get(t.Context(), c.Site, c.ID)
	must(t, err)
	for _, s := range []*inspections.Stored{stored, read} {
		if !s.VisitTime().Equal(receipt) || !s.Captured.Equal(c.Captured) || !s.Corrected.Equal(c.Captured) || len(s.Flags) != 1 {
			t.Errorf("visited at %v, captured at %v, corrected %v, flags %v; want the receipt's time %v and the phone's %v",
				s.VisitTime(), s.Captured, s.Corrected, s.Flags, receipt, c.Captured)
		}
	}
	figures(today, coverage.Figures{SitesInspected: 1, CheckIns: 1})
	figures(today.Add(day), coverage.Figures{}) // whose window has not begun
	list, err := w.List(t.Context(), inspections.Question{Division: city, Start: receipt, End: receipt.Add(1)}, coverage.VisitFilter{}, coverage.VisitRef{}, 10)
	if err != nil || len(list.CheckIns) != 1 {
		t.Errorf("got %d check-ins in the minute of the receipt, %v; want one", len(list.CheckIns), err)
	}
	// The same after a restart, from the record, as from those of earlier versions.
	w.Service = w.open(t)
	figures(today, coverage.Figures{SitesInspected: 1, CheckIns: 1})

	// No order that is still to come closes the site already because of the phone.
	_, err = w.Roster.EndOrder(t.Context(), sites.By{Account: "test"}, w.Order.ID, w.Now)
	must(t, err)
	next := *w.Order
	next.ID, next.Number, next.Start, next.End, next.PlannedEnd = "", "next", w.Now.Add(time.Minute), w.Now.Add(9*day), time.Time{}
	_, err = w.Roster.CreateOrder(t.Context(), sites.By{Account: "test"}, next)
	must(t, err)
	c = w.checkIn(2)
	c.Captured = w.Now.Add(ahead)
	if _, _, err := w.Submit(t.Context(), inspections.By{Account: "test"}, c, time.Time{}); !errors.Is(err, inspections.ErrNoOrder) {
		t.Errorf("got %v, want %v", err, inspections.ErrNoOrder)
	}
}

func TestFlags(t *testing.T) {
	at := func(lat, lon, accuracy float64, gcj bool) *inspections.Location {
		datum := inspections.WGS84
		if gcj {
			datum = inspections.GCJ02
		}
		return &inspections.Location{Point: sites.Position{Latitude: lat, Longitude: lon}, Accuracy: accuracy, Datum: datum}
	}
	// north makes of a check-in a visit that is not late, so many metres north of
	// the site.
	north := func(metres, accuracy float64) func(*world, *inspections.CheckIn) {
		return func(w *world, c *inspections.CheckIn) {
			const degree = 6_371_008.8 * math.Pi / 180 // metres
			w.Now = start.Add(day)
			c.Captured, c.Location = w.Now, at(30.5+metres/degree, 106.6, accuracy, false)
		}
	}
	for _, test := range []struct {
		name   string
		change func(*world, *inspections.CheckIn)
		want   []inspections.Flag
	}{
		// The order is 60 hours old and its interval a day: the first visit is late.
		{"FirstVisit", func(*world, *inspections.CheckIn) {}, []inspections.Flag{inspections.VisitedLate}},
		{"AtTheEndOfTheInterval", func(w *world, c *inspections.CheckIn) { w.Now = start.Add(day); c.Captured = w.Now }, nil},
		{"JustAfterTheInterval", func(w *world, c *inspections.CheckIn) { w.Now = start.Add(day + 1); c.Captured = w.Now }, []inspections.Flag{inspections.VisitedLate}},
		{"SyncedAnHourLater", func(w *world, c *inspections.CheckIn) {
			c.Captured = start.Add(day)
			w.Now = start.Add(day + time.Hour)
		}, nil},
		{"SyncedLate", func(w *world, c *inspections.CheckIn) {
			c.Captured = start.Add(day)
			w.Now = start.Add(day + time.Hour + 1)
		}, []inspections.Flag{inspections.SyncedLate}},
		{"AtTheSite", func(w *world, c *inspections.CheckIn) {
			w.Now = start.Add(day)
			c.Captured, c.Location = w.Now, at(30.5, 106.6, 10, false)
		}, nil},
		{"AtTheSiteOnAChineseMap", func(w *world, c *inspections.CheckIn) {
			w.Now = start.Add(day)
			c.Captured, c.Location = w.Now, at(30.497412, 106.603551, 10, true)
		}, nil},
		{"ThatPointInWGS84", func(w *world, c *inspections.CheckIn) {
			w.Now = start.Add(day)
			c.Captured, c.Location = w.Now, at(30.497412, 106.603551, 10, false)
		}, []inspections.Flag{inspections.AwayFromSite}},
		{"ThreeHundredMetresAway", north(300, 0), nil},
		{"JustTooFarAway", north(301, 0), []inspections.Flag{inspections.AwayFromSite}},
		{"ThreeHundredMetresBeyondItsError", north(340, 40), nil},
		{"JustTooFarBeyondItsError", north(341, 40), []inspections.Flag{inspections.AwayFromSite}},
		{"AwayButUnsure", func(w *world, c *inspections.CheckIn) {
			w.Now = start.Add(day)
			c.Captured, c.Location = w.Now, at(30.497412, 106.603551, 500, false)
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
	c.Location = &inspections.Location{Point: sites.Position{Latitude: 30.512345, Longitude: 106.612345}, Accuracy: 17.25, Datum: inspections.WGS84}
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
		return w.Submit(t.Context(), inspections.By{Account: "test"}, c, time.Time{})
	}
	t.Run("EqualContent", func(t *testing.T) {
		w.Now = w.Now.Add(time.Hour)
		got, duplicate, err := again(t, c)
		if err != nil || !duplicate || got.Entry.Hash != first.Entry.Hash || !got.Entry.Time.Equal(first.Entry.Time) {
			t.Errorf("got %+v, %v, %v; want the first receipt", got, duplicate, err)
		}
	})
	for name, change := range map[string]func(*inspections.CheckIn){
		"OtherCount":   func(c *inspections.CheckIn) { c.CancelledEvents++ },
		"OtherTime":    func(c *inspections.CheckIn) { c.Captured = c.Captured.Add(-time.Millisecond) },
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
		_, err := w.Roster.EndOrder(t.Context(), sites.By{Account: "test"}, w.Order.ID, start.Add(time.Hour))
		must(t, err)
		_, err = w.Roster.DeregisterSite(t.Context(), sites.By{Account: "test"}, w.Site.ID, "", start.Add(time.Hour))
		must(t, err)
		if _, duplicate, err := again(t, c); err != nil || !duplicate {
			t.Errorf("got %v, %v; want the first receipt", duplicate, err)
		}
	})
	if n := w.Ledger.Count(w.Site.ID.History()); n != 1 {
		t.Errorf("got %d entries, want 1", n)
	}
}

// TestLostReply ensures that a check-in that was stored while its reply was
// lost is not doubled.
func TestLostReply(t *testing.T) {
	w := newWorld(t)
	w.Ledger.OnWrite(func(ledger.Draft) ledgertest.Fault { return ledgertest.FailedButStored })
	if _, _, err := w.Submit(t.Context(), inspections.By{Account: "test"}, w.checkIn(1), time.Time{}); !errors.Is(err, ledger.ErrUnavailable) {
		t.Fatalf("got %v, want ErrUnavailable", err)
	}
	w.Ledger.OnWrite(nil)
	stored, duplicate, err := w.Submit(t.Context(), inspections.By{Account: "test"}, w.checkIn(1), time.Time{})
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
			stored, _, err := w.Submit(context.Background(), inspections.By{Account: "test"}, w.checkIn(1), time.Time{})
			if err != nil {
				t.Error(err)
				return
			}
			hashes[i] = stored.Entry.Hash
		})
	}
	group.Wait()
	if n := w.Ledger.Count(w.Site.ID.History()); n != 1 || len(slices.Compact(hashes)) != 1 {
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
	before, err := w.Coverage(t.Context(), q)
	must(t, err)
	after, err := w.open(t).Coverage(t.Context(), q)
	must(t, err)
	if fmt.Sprint(before.Report) != fmt.Sprint(after.Report) || before.CheckIns != 5 || before.SitesInspected != 1 {
		t.Errorf("got %+v after a restart, want %+v with 5 check-ins", after, before)
	}
}

// TestHistoryPages ensures that pages of any size give each entry once, in
// order, also while entries arrive.
func TestHistoryPages(t *testing.T) {
	for size := 1; size <= 8; size++ {
		w := newWorld(t)
		for i := range 6 {
			w.Now = w.Now.Add(time.Minute)
			w.submit(t, w.checkIn(i))
			if i == 3 {
				w.Now = w.Now.Add(time.Minute)
				name := "样例·新名"
				_, err := w.Roster.UpdateSite(t.Context(), sites.By{Account: "test"}, w.Site.ID, "", sites.SiteUpdate{Name: &name})
				must(t, err)
			}
		}
		var got []string
		var cursor inspections.HistoryCursor
		for {
			page, next, err := w.History(t.Context(), w.Site.ID, cursor, size)
			must(t, err)
			for _, e := range page {
				got = append(got, fmt.Sprint(strings.SplitN(string(e.History), "/", 2)[0], e.Sequence))
			}
			w.Now = w.Now.Add(time.Minute)
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
		page, err := w.List(t.Context(), q, coverage.VisitFilter{}, after, 2)
		must(t, err)
		for _, s := range page.CheckIns {
			got = append(got, s.VisitTime())
		}
		if after = page.Next; after == (coverage.VisitRef{}) {
			break
		}
	}
	if len(got) != 5 || !slices.IsSortedFunc(got, func(a, b time.Time) int { return b.Compare(a) }) {
		t.Errorf("got %v, want 5, the newest first", got)
	}
	open, err := w.List(t.Context(), inspections.Question{Start: q.Start, End: q.End}, coverage.VisitFilter{Site: w.Site.ID, Open: true}, coverage.VisitRef{}, 10)
	must(t, err)
	if len(open.CheckIns) != 1 || open.CheckIns[0].Finding != inspections.FoundOpen {
		t.Errorf("got %v, want the one that found it open", open)
	}
}

// TestNewerKinds holds that entries of kinds that this version does not know are
// left alone.
func TestNewerKinds(t *testing.T) {
	w := newWorld(t)
	w.submit(t, w.checkIn(1))
	_, _, err := w.Ledger.Append(t.Context(), ledger.Draft{History: w.Site.ID.History(), ID: "x", Kind: "newer", Account: "test", Time: w.Now, Content: []byte(`{"a":1}`)})
	must(t, err)
	w.Service = w.open(t)
	w.submit(t, w.checkIn(2))
	today := inspections.Question{Division: city, Start: w.Now.Truncate(day), End: w.Now.Truncate(day).Add(day)}
	r, err := w.Coverage(t.Context(), today)
	if err != nil || r.CheckIns != 2 {
		t.Errorf("got %d check-ins, %v; want 2", r.CheckIns, err)
	}
	history, _, err := w.History(t.Context(), w.Site.ID, inspections.HistoryCursor{}, 10)
	if err != nil || len(history) < 3 || history[1].Kind != "newer" {
		t.Errorf("got %v, %v", history, err)
	}
}

// withPhoto returns a check-in made now that declares the photo with the hash.
func (w *world) withPhoto(n int, sums ...inspections.Digest) inspections.CheckIn {
	c := w.checkIn(n)
	for _, sum := range sums {
		c.Photos = append(c.Photos, inspections.Photo{SHA256: sum, Size: 5, ContentType: "image/jpeg"})
	}
	return c
}

func TestPhotoReused(t *testing.T) {
	w := newWorld(t)
	first := w.submit(t, w.withPhoto(1, inspections.Digest{1}))
	if first.Has(inspections.PhotoReused) || len(first.Reused) != 0 {
		t.Errorf("the first has the flag: %+v", first)
	}
	again := w.submit(t, w.withPhoto(2, inspections.Digest{2}, inspections.Digest{1}))
	if !again.Has(inspections.PhotoReused) || !slices.Equal(again.Reused, []inspections.ReusedPhoto{{SHA256: inspections.Digest{1}, FirstUse: inspections.UseOf(first.Ref())}}) {
		t.Errorf("got %+v, want the flag and the first check-in", again)
	}
	read, err := w.Get(t.Context(), again.Site, again.ID)
	must(t, err)
	// The record has its name alone, by which it is found.
	for _, id := range []string{string(first.ID), string(first.Site) + `","check_in_id`} {
		if bytes.Contains(ledger.Content(again.Entry.Record), []byte(id)) {
			t.Errorf("the record has %s: %s", id, again.Entry.Record)
		}
	}
	if read.Reused[0].First != (inspections.CheckInRef{}) || !bytes.Contains(again.Entry.Record, []byte(inspections.UseOf(first.Ref()).Name.String())) {
		t.Errorf("got %+v of the record %s", read.Reused, again.Entry.Record)
	}
	must(t, w.FindReused(t.Context(), first, read))
	if !slices.Equal(read.Reused, again.Reused) || !read.Has(inspections.PhotoReused) {
		t.Errorf("read back, got %+v", read)
	}
	// Whoever used it first by another store's account is not who is named.
	read.Reused[0].FirstUse = inspections.FirstUse{Name: inspections.UseOf(again.Ref()).Name}
	must(t, w.FindReused(t.Context(), read))
	if read.Reused[0].First != (inspections.CheckInRef{}) {
		t.Errorf("got %+v, want nobody of another name", read.Reused)
	}
	// A repeat of the first is still the first.
	repeated, duplicate, err := w.Submit(t.Context(), inspections.By{Account: "test"}, first.CheckIn, time.Time{})
	if err != nil || !duplicate || repeated.Has(inspections.PhotoReused) {
		t.Errorf("got %+v, %v, %v", repeated, duplicate, err)
	}
}

// wantUnused submits a check-in with the photos, none of which counts as used.
func (w *world) wantUnused(t *testing.T, n int, sums ...inspections.Digest) {
	t.Helper()
	if got := w.submit(t, w.withPhoto(n, sums...)); got.Has(inspections.PhotoReused) {
		t.Errorf("an honest photo counts as used by %v", got.Reused)
	}
}

// TestRefusedUsesNoPhoto ensures that a check-in that was not stored has used none
// of its photos.
func TestRefusedUsesNoPhoto(t *testing.T) {
	t.Run("StoreFails", func(t *testing.T) {
		for _, fault := range []ledgertest.Fault{ledgertest.Failed, ledgertest.Refused} {
			w := newWorld(t)
			w.Ledger.OnWrite(func(ledger.Draft) ledgertest.Fault { return fault })
			if _, _, err := w.Submit(t.Context(), inspections.By{Account: "test"}, w.withPhoto(1, inspections.Digest{1}), time.Time{}); !errors.Is(err, fault.Err) {
				t.Fatalf("got %v, want %v", err, fault.Err)
			}
			w.Ledger.OnWrite(nil)
			w.wantUnused(t, 2, inspections.Digest{1})
		}
	})
	t.Run("IDIsTaken", func(t *testing.T) {
		w := newWorld(t)
		w.submit(t, w.checkIn(1))
		if _, _, err := w.Submit(t.Context(), inspections.By{Account: "test"}, w.withPhoto(1, inspections.Digest{1}), time.Time{}); !errors.Is(err, inspections.ErrConflict) {
			t.Fatalf("got %v, want ErrConflict", err)
		}
		w.wantUnused(t, 2, inspections.Digest{1})
	})
	t.Run("AnotherWriterWasFirst", func(t *testing.T) {
		w := newWorld(t)
		taken := w.submit(t, w.checkIn(1)).Entry
		content := ledger.Content(taken.Record)
		c := w.withPhoto(2, inspections.Digest{1})
		w.Ledger.OnWrite(func(d ledger.Draft) ledgertest.Fault {
			d.Content = content
			return ledgertest.Moved(d)
		})
		if _, _, err := w.Submit(t.Context(), inspections.By{Account: "test"}, c, time.Time{}); !errors.Is(err, inspections.ErrConflict) {
			t.Fatalf("got %v, want ErrConflict", err)
		}
		w.Ledger.OnWrite(nil)
		w.wantUnused(t, 3, inspections.Digest{1})
	})
}

// TestLostReplyUsesThePhoto ensures that a check-in that was stored, but whose
// reply was lost, has used its photos once the phone has asked again.
func TestLostReplyUsesThePhoto(t *testing.T) {
	w := newWorld(t)
	c := w.withPhoto(1, inspections.Digest{1})
	w.Ledger.OnWrite(func(ledger.Draft) ledgertest.Fault { return ledgertest.FailedButStored })
	if _, _, err := w.Submit(t.Context(), inspections.By{Account: "test"}, c, time.Time{}); !errors.Is(err, ledger.ErrUnavailable) {
		t.Fatalf("got %v, want ErrUnavailable", err)
	}
	w.Ledger.OnWrite(nil)
	if first, duplicate, err := w.Submit(t.Context(), inspections.By{Account: "test"}, c, time.Time{}); err != nil || !duplicate || first.Has(inspections.PhotoReused) {
		t.Errorf("got %+v, %v, %v; want the entry stored at first", first, duplicate, err)
	}
	if again := w.submit(t, w.withPhoto(2, inspections.Digest{1})); len(again.Reused) != 1 || again.Reused[0].First != c.Ref() {
		t.Errorf("got %+v, want the first check-in", again.Reused)
	}
}

// failingClaims fail to note a claim while fail is set.
type failingClaims struct {
	inspections.Claims
	fail error
}

func (c *failingClaims) Claim(ctx context.Context, sums []inspections.Digest, by inspections.CheckInRef) error {
	if c.fail != nil {
		return c.fail
	}
	return c.Claims.Claim(ctx, sums, by)
}

// TestClaimFails ensures that the phone is not told of success, so that it asks
// again, where its check-in is stored and the use of its photos is not noted.
func TestClaimFails(t *testing.T) {
	w := newWorld(t)
	claims := &failingClaims{Claims: w.claims, fail: ledger.ErrUnavailable}
	w.Service = inspections.New(inspections.Config{Ledger: w.Ledger, Claims: claims, Roster: w.Roster, Now: w.Clock})
	c := w.withPhoto(1, inspections.Digest{1})
	if _, _, err := w.Submit(t.Context(), inspections.By{Account: "test"}, c, time.Time{}); !errors.Is(err, ledger.ErrUnavailable) {
		t.Fatalf("got %v, want ErrUnavailable", err)
	}
	claims.fail = nil
	if _, duplicate, err := w.Submit(t.Context(), inspections.By{Account: "test"}, c, time.Time{}); err != nil || !duplicate {
		t.Errorf("got %v, %v; want the entry stored at first", duplicate, err)
	}
	if again := w.submit(t, w.withPhoto(2, inspections.Digest{1})); len(again.Reused) != 1 || again.Reused[0].First != c.Ref() {
		t.Errorf("got %+v, want the first check-in", again.Reused)
	}
}

// TestClaimedByNobody ensures that a claim which an earlier version left for a
// check-in that was never stored flags nothing.
func TestClaimedByNobody(t *testing.T) {
	w := newWorld(t)
	nobody := inspections.CheckInRef{Site: w.Site.ID, CheckIn: "never stored"}
	must(t, w.claims.Claim(t.Context(), []inspections.Digest{{1}}, nobody))
	w.wantUnused(t, 1, inspections.Digest{1})
}

// away is a store that cannot be read just now.
type away struct{ ledger.Store }

func (away) Entry(context.Context, ledger.History, string) (ledger.Entry, error) {
	return ledger.Entry{}, ledger.ErrUnavailable
}

// TestSubmitCannotTell ensures that a check-in that was accepted before is not
// refused for good where nobody can look it up.
func TestSubmitCannotTell(t *testing.T) {
	w := newWorld(t)
	c := w.checkIn(1)
	w.submit(t, c)
	_, err := w.Roster.EndOrder(t.Context(), sites.By{Account: "test"}, w.Order.ID, w.Now.Add(-time.Hour))
	must(t, err)
	s := inspections.New(inspections.Config{Ledger: away{w.Ledger}, Claims: w.claims, Roster: w.Roster, Now: w.Clock})
	if _, _, err := s.Submit(t.Context(), inspections.By{Account: "test"}, c, time.Time{}); !errors.Is(err, ledger.ErrUnavailable) {
		t.Errorf("got %v, want ErrUnavailable", err)
	}
	if _, duplicate, err := w.Submit(t.Context(), inspections.By{Account: "test"}, c, time.Time{}); err != nil || !duplicate {
		t.Errorf("once it can be: duplicate %v, %v", duplicate, err)
	}
}
