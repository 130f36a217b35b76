package photos

import (
	"encoding/json"
	"fmt"
	"time"

	"xuncha/inspections"
	"xuncha/ledger"
	"xuncha/sites"
)

// The kinds of a photo's entries.
const (
	// KindStored says that a declared photo has arrived. Its content is
	// storedRecord.
	KindStored ledger.Kind = "photo_stored"
	// KindPurged says that it was deleted, by which rule. Its content is
	// purgedRecord.
	KindPurged ledger.Kind = "photo_purged"
)

// Keeper is the account that the entries about photos have that nobody but the
// server makes. No user can have its name.
const Keeper = "retention"

// storedRecord is the content of the entry of a photo that has arrived. Keys
// keep their order for ever; a new one goes to the end and is left out where it
// says nothing.
type storedRecord struct {
	CheckIn      inspections.CheckInID `json:"check_in_id"`
	SHA256       string                `json:"sha256"`
	StoredSHA256 string                `json:"stored_sha256"`
	StoredSize   int64                 `json:"stored_size_bytes"`
	ContentType  string                `json:"content_type"`
	Order        sites.OrderID         `json:"closure_order_id"`
	First        *firstRecord          `json:"first,omitempty"` // by earlier versions
	FirstSHA256  string                `json:"first_sha256,omitempty"`
}

// A firstRecord names the check-in that a picture was first stored for, by its ids. Records
// have had inspections.UseOf in its place since.
type firstRecord struct {
	Site    sites.SiteID          `json:"site_id"`
	CheckIn inspections.CheckInID `json:"check_in_id"`
}

// purgedRecord is the content of the entry of a photo that was purged.
type purgedRecord struct {
	CheckIn       inspections.CheckInID `json:"check_in_id"`
	SHA256        string                `json:"sha256"`
	StoredSHA256  string                `json:"stored_sha256"`
	Order         sites.OrderID         `json:"closure_order_id"`
	OrderEnd      time.Time             `json:"closure_order_end_time"`
	RetentionDays int                   `json:"retention_days"`
}

// entryID is that of the photo's entry of a kind. A photo has one of each.
func (r Ref) entryID(k ledger.Kind) string {
	return string(k) + "/" + string(r.CheckIn) + "/" + r.SHA256.String()
}

// An Event is what an entry says of a photo.
type Event struct {
	Kept
	// FirstUse names the check-in for which the same picture was stored first, of a
	// photo that has arrived; zero where that is its own.
	inspections.FirstUse
	// OrderEnd and RetentionDays are of a purge: it came that many days after the
	// order's end, or after it was taken back.
	OrderEnd      time.Time
	RetentionDays int
}

// Reused reports whether another check-in used the same picture before.
func (e *Event) Reused() bool { return e.FirstUse != (inspections.FirstUse{}) }

// ParseEvent reads an entry about a photo. What is not one gives an error that
// wraps ledger.ErrBadRecord.
func ParseEvent(e ledger.Entry) (*Event, error) {
	bad := func(why any) error {
		return fmt.Errorf("%w: %s at sequence %d: %v", ledger.ErrBadRecord, e.History, e.Sequence, why)
	}
	site, ok := sites.SiteOf(e.History)
	if !ok {
		return nil, bad("not a site's history")
	}
	out := &Event{}
	var sum, stored string
	switch e.Kind {
	case KindStored:
		var r storedRecord
		if err := json.Unmarshal(ledger.Content(e.Record), &r); err != nil {
			return nil, bad(err)
		}
		sum, stored = r.SHA256, r.StoredSHA256
		out.CheckIn, out.Size, out.ContentType, out.Order = r.CheckIn, r.StoredSize, r.ContentType, r.Order
		if r.First == nil {
			r.First = &firstRecord{}
		}
		var err error
		if out.FirstUse, err = inspections.ParseFirstUse(r.First.Site, r.First.CheckIn, r.FirstSHA256); err != nil {
			return nil, bad(err)
		}
	case KindPurged:
		var r purgedRecord
		if err := json.Unmarshal(ledger.Content(e.Record), &r); err != nil {
			return nil, bad(err)
		}
		sum, stored = r.SHA256, r.StoredSHA256
		out.CheckIn, out.Order, out.Purged = r.CheckIn, r.Order, true
		out.OrderEnd, out.RetentionDays = r.OrderEnd, r.RetentionDays
	default:
		return nil, bad(fmt.Sprintf("kind %q", e.Kind))
	}
	out.Site = site
	var err error
	if out.SHA256, err = inspections.ParseDigest(sum); err != nil {
		return nil, bad(err)
	}
	if out.Stored, err = inspections.ParseDigest(stored); err != nil {
		return nil, bad(err)
	}
	return out, nil
}
