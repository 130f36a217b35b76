package slow

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"xuncha/ledger"
)

// Rows is what is read of the rows that imports name. A sites.Rows has it.
type Rows interface {
	// Rows returns the bytes stored under the SHA-256.
	Rows(ctx context.Context, sum string) ([]byte, error)
}

// A World is all that the entries of a store say about coverage, with the time
// at which each was received.
type World struct {
	changes  []change
	checkIns []CheckIn
}

// A change is what one entry of the roster's history says.
type change struct {
	sequence ledger.Sequence
	received time.Time
	// revokes is the sequence of the change that it takes back; 0 for none.
	revokes ledger.Sequence

	// divisions begin or end on the day effective.
	divisions []divisionRow
	effective time.Time
	// sites and orders are as they are after the entry.
	sites  []*Site
	orders []*Order
}

type divisionRow struct {
	Op     string `json:"op"` // "begin" or "end"
	Code   string `json:"code"`
	Name   string `json:"name"`
	Level  string `json:"level"`
	Parent string `json:"parent_code"` // empty for a root
}

// A Site is a site as the roster has it.
type Site struct {
	ID             string `json:"site_id"`
	RegistrationNo string `json:"registration_no"`
	// Registered is the first moment of the registration, and Deregistered the
	// first moment after it; zero while the site is registered.
	Registered   time.Time `json:"registered_time"`
	Deregistered time.Time `json:"deregistered_time"`
	// Places are where the site stood, oldest first.
	Places []Place `json:"places"`
}

// A Place is the village in which a site stands from a moment on.
type Place struct {
	From    time.Time `json:"from"`
	Village string    `json:"division_code"`
}

// An Order closes the sites in its divisions, and in all below them, from Start
// until End.
type Order struct {
	ID        string    `json:"closure_order_id"`
	Number    string    `json:"number"`
	Divisions []string  `json:"division_codes"`
	Start     time.Time `json:"start_time"`
	End       time.Time `json:"end_time"`
	Interval  Interval  `json:"inspection_interval"`
}

// An Interval is how long a site may go without a visit. Records spell it as Go
// does: "24h0m0s".
type Interval time.Duration

// UnmarshalText reads what time.ParseDuration reads.
func (i *Interval) UnmarshalText(b []byte) error {
	d, err := time.ParseDuration(string(b))
	*i = Interval(d)
	return err
}

// A CheckIn is what one entry of a site's history says.
type CheckIn struct {
	Site     string
	Sequence ledger.Sequence
	ID       string
	// Received is when the server received it, Captured when the visit was: by the
	// phone's corrected clock, and not after it was received.
	Received, Captured               time.Time
	Open, SyncedLate                 bool
	CancelledEvents, DispersedPeople int64
	// VisitedLate is computed by a Window, and false before. What the record says
	// of it is how it looked on receipt, and does not count.
	VisitedLate bool
}

// Read reads every entry of the store that coverage is made of.
func Read(ctx context.Context, store ledger.Store, rows Rows) (*World, error) {
	w := &World{}
	var histories []ledger.History
	if err := store.Heads(ctx, func(h ledger.History, _ ledger.Head) error {
		histories = append(histories, h)
		return nil
	}); err != nil {
		return nil, err
	}
	for _, h := range histories {
		site, ofSite := strings.CutPrefix(string(h), "site/")
		entries, err := all(ctx, store, h)
		if err != nil {
			return nil, err
		}
		for _, e := range entries {
			switch {
			case h == ledger.Roster:
				err = w.readChange(ctx, rows, e)
			case ofSite && e.Kind == "check_in":
				err = w.readCheckIn(site, e)
			}
			if err != nil {
				return nil, fmt.Errorf("%s at sequence %d: %w", h, e.Sequence, err)
			}
		}
	}
	return w, nil
}

// all returns every entry of the history.
func all(ctx context.Context, store ledger.Store, h ledger.History) ([]ledger.Entry, error) {
	var out []ledger.Entry
	for {
		page, err := store.Span(ctx, h, ledger.Sequence(len(out)), 1000)
		if err != nil || len(page) == 0 {
			return out, err
		}
		out = append(out, page...)
	}
}

func (w *World) readCheckIn(site string, e ledger.Entry) error {
	var content struct {
		VisitTime       time.Time `json:"visit_time"`
		Finding         string    `json:"finding"`
		CancelledEvents int64     `json:"cancelled_event_count"`
		DispersedPeople int64     `json:"dispersed_people_count"`
		Flags           []string  `json:"flags"`
	}
	if err := json.Unmarshal(ledger.Content(e.Record), &content); err != nil {
		return err
	}
	captured := content.VisitTime
	if e.Time.Before(captured) {
		captured = e.Time
	}
	w.checkIns = append(w.checkIns, CheckIn{
		Site: site, Sequence: e.Sequence, ID: e.ID, Received: e.Time, Captured: captured,
		Open: content.Finding == "open", SyncedLate: slices.Contains(content.Flags, "synced_late"),
		CancelledEvents: content.CancelledEvents, DispersedPeople: content.DispersedPeople,
	})
	return nil
}

func (w *World) readChange(ctx context.Context, rows Rows, e ledger.Entry) error {
	type imported struct {
		Effective time.Time `json:"effective_time"`
		Rows      string    `json:"rows_sha256"`
	}
	var content struct {
		Site      *Site    `json:"site"`
		Order     *Order   `json:"closure_order"`
		Divisions imported `json:"divisions"`
		Sites     imported `json:"sites"`
		Revoked   struct {
			Revision ledger.Sequence `json:"revision"`
		} `json:"revoked"`
	}
	if err := json.Unmarshal(ledger.Content(e.Record), &content); err != nil {
		return err
	}
	c := change{sequence: e.Sequence, received: e.Time}
	var err error
	switch e.Kind {
	case "divisions_imported":
		c.effective = content.Divisions.Effective
		c.divisions, err = readRows[divisionRow](ctx, rows, content.Divisions.Rows)
	case "sites_imported":
		c.sites, err = readRows[*Site](ctx, rows, content.Sites.Rows)
	case "site_registered", "site_updated", "site_moved", "site_deregistered":
		c.sites = []*Site{content.Site}
	case "closure_order_issued", "closure_order_ended":
		c.orders = []*Order{content.Order}
	case "change_revoked":
		c.revokes = content.Revoked.Revision
	default:
		err = fmt.Errorf("unknown kind %q", e.Kind)
	}
	w.changes = append(w.changes, c)
	return err
}

// readRows reads the JSON lines stored under the SHA-256.
func readRows[T any](ctx context.Context, rows Rows, sum string) ([]T, error) {
	stored, err := rows.Rows(ctx, sum)
	if err != nil {
		return nil, err
	}
	var out []T
	for line := range bytes.Lines(stored) {
		var row T
		if err := json.Unmarshal(line, &row); err != nil {
			return nil, err
		}
		out = append(out, row)
	}
	return out, nil
}
