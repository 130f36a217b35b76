package inspections

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"xuncha/inspections/coverage"
	"xuncha/ledger"
	"xuncha/sites"
)

var (
	// ErrNotFound means that a site's history has no such check-in.
	ErrNotFound = errors.New("no such check-in")
	// ErrConflict means that the id was used for a check-in with other content.
	ErrConflict = errors.New("check-in id was used for other content")
	// ErrNoOrder means that no closure order closes the site at the time.
	ErrNoOrder = errors.New("no closure order closes the site at that time")
	// ErrBeforeOrder means that the visit lies before the order that closes
	// the site.
	ErrBeforeOrder = errors.New("lies before the closure order")
	// ErrFuture means that the visit lies in the future.
	ErrFuture = errors.New("lies in the future")
	// ErrNotRegistered means that the site is not registered at the time.
	ErrNotRegistered = errors.New("site is not registered at that time")
)

// A CheckInID names a check-in of a site. The phone mints it, a UUID in
// lower-case text, and sends the same one for ever.
type CheckInID string

// A Finding is what an officer found at the premises.
type Finding string

// The findings, as records spell them.
const (
	FoundClosed       Finding = "closed"
	FoundNoNotice     Finding = "closed_no_notice"
	FoundOpen         Finding = "open"
	FoundInaccessible Finding = "inaccessible"
)

var findings = []Finding{FoundClosed, FoundNoNotice, FoundOpen, FoundInaccessible}

// A Flag is something notable about a check-in beside what it reports.
type Flag string

// The flags, as records spell them.
const (
	// SyncedLate: received later than SyncedLateAfter after the visit.
	SyncedLate Flag = "synced_late"
	// VisitedLate: visited later than the order's interval allows, as it looked on
	// receipt.
	VisitedLate Flag = "visited_late"
	// AwayFromSite: the phone was farther than AwayFromSiteBeyond away.
	AwayFromSite Flag = "away_from_site"
	// ClockCorrected: the phone's clock was off by more than ClockTolerance.
	ClockCorrected Flag = "clock_corrected"
	// PhotoReused: a picture was declared for another visit before.
	PhotoReused Flag = "photo_reused"
)

// A Location is where the phone was. Nothing of it is kept.
type Location struct {
	// Point is in the Datum.
	Point sites.Position
	// Accuracy is the phone's estimate of its error in metres.
	Accuracy float64
	// Datum is what the coordinates of Point refer to.
	Datum Datum
}

// A Datum is what coordinates refer to.
type Datum string

// The datums. One that is not known is none of them.
const (
	WGS84 Datum = "wgs84"
	GCJ02 Datum = "gcj02"
)

// A CheckIn is what an officer reports of one visit to one site.
type CheckIn struct {
	ID   CheckInID
	Site sites.SiteID
	// Captured is when the visit was, by the phone's clock.
	Captured time.Time
	Finding  Finding
	// DutyStaffPresent tells whether the duty staff of the premises were there.
	DutyStaffPresent bool
	// CancelledEvents is how many planned events were called off since the
	// last check-in, 0 to MaxCancelledEvents.
	CancelledEvents int32
	// DispersedPeople is a head-count, 0 to MaxDispersedPeople.
	DispersedPeople int32
	// Location is nil where the phone does not know it. One that says nothing is as none.
	Location *Location
	// Note has at most MaxNote characters once texts.Clean has cleaned it, which Submit
	// does.
	Note string
	// Photos are at most MaxDeclaredPhotos.
	Photos []Photo
}

// A ReusedPhoto is a picture that another check-in declared before.
type ReusedPhoto struct {
	SHA256 Digest
	FirstUse
}

// A Stored is a check-in as the site's history has it.
type Stored struct {
	// CheckIn is what was reported, without Location.
	CheckIn
	// Corrected is Captured, corrected by how far the phone's clock was off.
	Corrected time.Time
	// Distance from the site in metres; nil where the phone or the roster gave
	// no position.
	Distance *float64
	Flags    []Flag
	// Reused are those of the photos that were used before.
	Reused []ReusedPhoto
	// Order is the closure order in force at the time of the visit.
	Order sites.OrderID
	// Entry is its entry, in full.
	Entry ledger.Entry
}

// VisitTime is when the visit was, which all judgements go by: not after the receipt.
// The record keeps what the phone said.
func (s *Stored) VisitTime() time.Time { return visitTime(s.Corrected, s.Entry.Time) }

// Ref names the check-in.
func (c *CheckIn) Ref() CheckInRef { return CheckInRef{c.Site, c.ID} }

// Sums are the hashes of the photos that are taken, in their order.
func (c *CheckIn) Sums() []Digest {
	out := make([]Digest, 0, len(c.Photos))
	for _, p := range c.Photos {
		if p.Refused == "" {
			out = append(out, p.SHA256)
		}
	}
	return out
}

// Has reports whether the check-in has the flag.
func (s *Stored) Has(f Flag) bool { return slices.Contains(s.Flags, f) }

// KindCheckIn is the kind of a check-in's entry. Its content is record.
const KindCheckIn ledger.Kind = "check_in"

// record is the content of a check-in's entry. Keys keep their order for ever;
// a new one goes to the end and is left out where it says nothing.
type record struct {
	CaptureTime      time.Time      `json:"capture_time"`
	Corrected        time.Time      `json:"visit_time"` // also where it lies after the receipt
	Order            sites.OrderID  `json:"closure_order_id"`
	Finding          Finding        `json:"finding"`
	DutyStaffPresent bool           `json:"duty_staff_present"`
	CancelledEvents  int32          `json:"cancelled_event_count"`
	DispersedPeople  int32          `json:"dispersed_people_count"`
	Distance         *float64       `json:"distance_m"`
	Note             string         `json:"note"`
	Photos           []photoRecord  `json:"photos"`
	Flags            []Flag         `json:"flags"`
	Reused           []reusedRecord `json:"reused,omitempty"`
}

// A photoRecord is a declared photo. What is said of one that is not taken is judged once,
// by the limits of the server that stored the check-in.
type photoRecord struct {
	SHA256      string  `json:"sha256"`
	Size        int64   `json:"size_bytes"`
	ContentType string  `json:"content_type"`
	Width       int32   `json:"width,omitempty"`
	Height      int32   `json:"height,omitempty"`
	Refused     Refusal `json:"refused,omitempty"`
}

// A reusedRecord names the check-in that a declared photo was first used for: by its ids
// in records of earlier versions, and by the hash of them in others.
type reusedRecord struct {
	SHA256  string       `json:"sha256"`
	Site    sites.SiteID `json:"site_id,omitempty"`
	CheckIn CheckInID    `json:"check_in_id,omitempty"`
	First   string       `json:"first_sha256,omitempty"`
}

// newRecord returns the content of the check-in's entry.
func newRecord(s *Stored) record {
	r := record{
		CaptureTime: s.Captured.UTC(), Corrected: s.Corrected.UTC(), Order: s.Order,
		Finding: s.Finding, DutyStaffPresent: s.DutyStaffPresent,
		CancelledEvents: s.CancelledEvents, DispersedPeople: s.DispersedPeople,
		Distance: s.Distance, Note: s.Note,
		Photos: make([]photoRecord, len(s.Photos)), Flags: s.Flags,
	}
	if r.Flags == nil {
		r.Flags = []Flag{}
	}
	for i, p := range s.Photos {
		r.Photos[i] = photoRecord{p.SHA256.String(), p.Size, p.ContentType, p.Width, p.Height, p.Refused}
	}
	for _, p := range s.Reused {
		if p.Name == (Digest{}) {
			r.Reused = append(r.Reused, reusedRecord{SHA256: p.SHA256.String(), Site: p.First.Site, CheckIn: p.First.CheckIn})
		} else {
			r.Reused = append(r.Reused, reusedRecord{SHA256: p.SHA256.String(), First: p.Name.String()})
		}
	}
	return r
}

// Parse reads a check-in's entry. What is not one gives an error that wraps
// ledger.ErrBadRecord.
func Parse(e ledger.Entry) (*Stored, error) {
	bad := func(why any) error {
		return fmt.Errorf("%w: %s at sequence %d: %v", ledger.ErrBadRecord, e.History, e.Sequence, why)
	}
	if e.Kind != KindCheckIn {
		return nil, bad(fmt.Sprintf("kind %q", e.Kind))
	}
	site, ok := sites.SiteOf(e.History)
	if !ok {
		return nil, bad("not a site's history")
	}
	if s, ok := scanStored(e, site); ok {
		return s, nil
	}
	return parseAny(e, site, bad)
}

// parseAny is Parse for records of every form.
func parseAny(e ledger.Entry, site sites.SiteID, bad func(why any) error) (*Stored, error) {
	var r record
	if err := json.Unmarshal(ledger.Content(e.Record), &r); err != nil {
		return nil, bad(err)
	}
	for _, t := range []time.Time{r.CaptureTime, r.Corrected} {
		if y := t.UTC().Year(); y < 0 || y > 9999 {
			return nil, bad("a time that no record can have")
		}
	}
	s := &Stored{
		CheckIn: CheckIn{
			ID: CheckInID(e.ID), Site: site, Captured: r.CaptureTime,
			Finding: r.Finding, DutyStaffPresent: r.DutyStaffPresent,
			CancelledEvents: r.CancelledEvents, DispersedPeople: r.DispersedPeople, Note: r.Note,
		},
		Corrected: r.Corrected, Distance: r.Distance, Flags: r.Flags, Order: r.Order, Entry: e,
	}
	for _, p := range r.Photos {
		sum, err := ParseDigest(p.SHA256)
		if err != nil {
			return nil, bad(err)
		}
		s.Photos = append(s.Photos, Photo{sum, p.Size, p.ContentType, p.Width, p.Height, p.Refused})
	}
	for _, p := range r.Reused {
		sum, err := ParseDigest(p.SHA256)
		if err != nil {
			return nil, bad(err)
		}
		use, err := ParseFirstUse(p.Site, p.CheckIn, p.First)
		if err != nil {
			return nil, bad(err)
		}
		s.Reused = append(s.Reused, ReusedPhoto{sum, use})
	}
	return s, nil
}

// visit returns what the coverage index needs of a check-in.
func visit(s *Stored) coverage.Visit {
	return coverage.Visit{
		Site: s.Site, Sequence: s.Entry.Sequence, Capture: s.VisitTime(), Receive: s.Entry.Time,
		Open: s.Finding == FoundOpen, SyncedLate: s.Has(SyncedLate),
		CancelledEvents: s.CancelledEvents, DispersedPeople: s.DispersedPeople,
	}
}
