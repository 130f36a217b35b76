package rpc

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"xuncha/inspections"
	"xuncha/inspections/coverage"
	"xuncha/inspections/photos"
	"xuncha/ledger"
	xunchav1 "xuncha/proto/xuncha/v1"
	"xuncha/server/internal/accounts"
	"xuncha/sites"
)

// This file holds all that turns messages into the domain's values and back.

// timeOf reads a timestamp; absent gives the zero time, which for that reason
// no timestamp can be.
func timeOf(field string, t *timestamppb.Timestamp) (time.Time, error) {
	if t == nil {
		return time.Time{}, nil
	}
	if !t.IsValid() || t.AsTime().IsZero() {
		return time.Time{}, &sites.FieldError{Field: field, Err: fmt.Errorf("is no valid time: %w", sites.ErrOutOfRange)}
	}
	return t.AsTime(), nil
}

// stamp writes a time; the zero time is absent.
func stamp(t time.Time) *timestamppb.Timestamp {
	if t.IsZero() {
		return nil
	}
	return timestamppb.New(t)
}

// lower brings a UUID to the one spelling that records have.
func lower(id string) string { return strings.ToLower(id) }

// text makes a text that was altered one that a message can have.
func text(s string) string { return strings.ToValidUTF8(s, "\uFFFD") }

// unhex reads what the roster's records spell in hexadecimal.
func unhex(s string) []byte {
	b, err := hex.DecodeString(s)
	if err != nil {
		return nil
	}
	return b
}

// inField puts the field that the domain names in an error into the request's
// field that holds the value. The request's id stands beside that, but for an import's.
func inField(outer string, err error) error {
	return eachField(err, func(field string) string {
		if field == "request_id" && outer != "header" {
			return field
		}
		return outer + "." + field
	})
}

// eachField gives the fields that an error is about other paths.
func eachField(err error, path func(field string) string) error {
	all := sites.FieldErrorsOf(err)
	if all == nil {
		return err
	}
	var f sites.Faults
	for _, e := range all {
		f.Add(path(e.Field), e.Err)
	}
	return f.Err()
}

// inImport is inField for the stream of an import: its rows come one by one, and
// the rest is in its header.
func inImport(err error) error {
	return eachField(err, func(field string) string {
		if field == "rows" {
			return "row"
		}
		return "header." + field
	})
}

// inAccount is inField for a new account, whose password is beside it, as is the request's id.
func inAccount(err error) error {
	return eachField(err, func(field string) string {
		if field == "password" || field == "request_id" {
			return field
		}
		return "account." + field
	})
}

// levels are the API's names of the domain's levels.
var levels = map[sites.Level]xunchav1.Level{
	sites.Nation:   xunchav1.Level_LEVEL_NATION,
	sites.Province: xunchav1.Level_LEVEL_PROVINCE,
	sites.City:     xunchav1.Level_LEVEL_CITY,
	sites.County:   xunchav1.Level_LEVEL_COUNTY,
	sites.Township: xunchav1.Level_LEVEL_TOWNSHIP,
	sites.Village:  xunchav1.Level_LEVEL_VILLAGE,
}

func fromLevel(l sites.Level) xunchav1.Level { return levels[l] }

func toCodes(codes []string) (out []sites.DivisionCode) {
	for _, c := range codes {
		out = append(out, sites.DivisionCode(c))
	}
	return out
}

func fromCodes(codes []sites.DivisionCode) (out []string) {
	for _, c := range codes {
		out = append(out, string(c))
	}
	return out
}

func fromDivision(d sites.Division) *xunchav1.Division {
	return &xunchav1.Division{
		Code: string(d.Code), Name: d.Name, Level: fromLevel(d.Level), ParentCode: string(d.Parent),
		StartTime: stamp(d.From), EndTime: stamp(d.To),
	}
}

// fromSite writes the site as it stands at the time.
func fromSite(s *sites.Site, at time.Time) *xunchav1.Site {
	place := s.PlaceAt(at)
	out := &xunchav1.Site{
		SiteId: string(s.ID), RegistrationNo: s.RegistrationNo, Name: s.Name,
		DivisionCode: string(place.Division), Address: place.Address,
		RegisteredTime: stamp(s.Registered), DeregisteredTime: stamp(s.Deregistered), Etag: s.Etag(), Revision: int64(s.Revision()),
	}
	if p := place.Position; p != nil {
		out.Latitude, out.Longitude = &p.Latitude, &p.Longitude
	}
	return out
}

// positionOf reads a pair of coordinates; none gives nil, one alone an error.
func positionOf(lat, lon *float64) (*sites.Position, error) {
	switch {
	case lat == nil && lon == nil:
		return nil, nil
	case lat == nil:
		return nil, &sites.FieldError{Field: "latitude", Err: sites.ErrMissing}
	case lon == nil:
		return nil, &sites.FieldError{Field: "longitude", Err: sites.ErrMissing}
	}
	return &sites.Position{Latitude: *lat, Longitude: *lon}, nil
}

func toNewSite(s *xunchav1.Site) (sites.NewSite, error) {
	out := sites.NewSite{
		RegistrationNo: s.RegistrationNo, Name: s.Name, Division: sites.DivisionCode(s.DivisionCode), Address: s.Address,
	}
	var position, registered error
	out.Position, position = positionOf(s.Latitude, s.Longitude)
	out.Registered, registered = timeOf("registered_time", s.RegisteredTime)
	return out, sites.JoinFaults(position, registered)
}

// toPlace reads where a site is to be moved.
func toPlace(m *xunchav1.MoveSiteRequest) (sites.Place, error) {
	out := sites.Place{Division: sites.DivisionCode(m.DivisionCode), Address: m.Address}
	var from, position error
	out.From, from = timeOf("effective_time", m.EffectiveTime)
	out.Position, position = positionOf(m.Latitude, m.Longitude)
	return out, sites.JoinFaults(from, position)
}

// fromOrder writes the order with the newest change that made it what it is.
func fromOrder(o *sites.ClosureOrder, revision ledger.Sequence) *xunchav1.ClosureOrder {
	out := &xunchav1.ClosureOrder{
		ClosureOrderId: string(o.ID), Number: o.Number, Title: o.Title,
		IssuingAuthority: o.IssuingAuthority, LegalBasis: o.LegalBasis,
		StartTime: stamp(o.Start), EndTime: stamp(o.End), PlannedEndTime: stamp(o.PlannedEnd),
		InspectionInterval: durationpb.New(time.Duration(o.Interval)), Revision: int64(revision),
	}
	out.DivisionCodes = fromCodes(o.Divisions)
	return out
}

func toOrder(o *xunchav1.ClosureOrder) (sites.ClosureOrder, error) {
	out := sites.ClosureOrder{
		Number: o.Number, Title: o.Title, IssuingAuthority: o.IssuingAuthority, LegalBasis: o.LegalBasis,
	}
	var start, end, interval error
	out.Start, start = timeOf("start_time", o.StartTime)
	out.End, end = timeOf("end_time", o.EndTime)
	switch {
	case o.InspectionInterval == nil: // which the domain finds missing
	case o.InspectionInterval.CheckValid() != nil:
		interval = &sites.FieldError{Field: "inspection_interval", Err: sites.ErrOutOfRange}
	default:
		out.Interval = sites.Duration(o.InspectionInterval.AsDuration())
	}
	out.Divisions = toCodes(o.DivisionCodes)
	return out, sites.JoinFaults(start, end, interval)
}

var findings = map[xunchav1.Finding]inspections.Finding{
	xunchav1.Finding_FINDING_CLOSED:           inspections.FoundClosed,
	xunchav1.Finding_FINDING_CLOSED_NO_NOTICE: inspections.FoundNoNotice,
	xunchav1.Finding_FINDING_OPEN:             inspections.FoundOpen,
	xunchav1.Finding_FINDING_INACCESSIBLE:     inspections.FoundInaccessible,
}

var datums = map[xunchav1.Datum]inspections.Datum{
	xunchav1.Datum_DATUM_WGS84: inspections.WGS84,
	xunchav1.Datum_DATUM_GCJ02: inspections.GCJ02,
}

func fromFinding(f inspections.Finding) xunchav1.Finding {
	for k, v := range findings {
		if v == f {
			return k
		}
	}
	return xunchav1.Finding_FINDING_UNSPECIFIED
}

func fromFlags(flags []inspections.Flag) []xunchav1.Flag {
	var out []xunchav1.Flag
	for _, f := range flags {
		switch f {
		case inspections.SyncedLate:
			out = append(out, xunchav1.Flag_FLAG_SYNCED_LATE)
		case inspections.VisitedLate:
			out = append(out, xunchav1.Flag_FLAG_VISITED_LATE)
		case inspections.AwayFromSite:
			out = append(out, xunchav1.Flag_FLAG_AWAY_FROM_SITE)
		case inspections.ClockCorrected:
			out = append(out, xunchav1.Flag_FLAG_CLOCK_CORRECTED)
		case inspections.PhotoReused:
			out = append(out, xunchav1.Flag_FLAG_PHOTO_REUSED)
		}
	}
	return out
}

func toCheckIn(c *xunchav1.CheckIn) (inspections.CheckIn, error) {
	out := inspections.CheckIn{
		ID: inspections.CheckInID(lower(c.CheckInId)), Site: sites.SiteID(lower(c.SiteId)),
		Finding: findings[c.Finding], DutyStaffPresent: c.DutyStaffPresent,
		CancelledEvents: c.CancelledEventCount, DispersedPeople: c.DispersedPeopleCount, Note: c.Note,
	}
	var err error
	if out.Captured, err = timeOf("capture_time", c.CaptureTime); err != nil {
		return out, err
	}
	if l := c.Location; l != nil {
		out.Location = &inspections.Location{
			Point:    sites.Position{Latitude: l.Latitude, Longitude: l.Longitude},
			Accuracy: l.AccuracyM, Datum: datums[l.Datum],
		}
	}
	for _, p := range c.Photos {
		photo := inspections.Photo{Size: p.SizeBytes, ContentType: p.ContentType, Width: p.Width, Height: p.Height}
		copy(photo.SHA256[:], p.Sha256)
		out.Photos = append(out.Photos, photo)
	}
	return out, nil
}

// fromCheckIn writes a check-in. Which one used a photo before is said of the sites that
// seen reports to be the caller's.
func fromCheckIn(s *inspections.Stored, seen func(sites.SiteID) bool) *xunchav1.CheckIn {
	out := &xunchav1.CheckIn{
		CheckInId: string(s.ID), SiteId: string(s.Site), CaptureTime: stamp(s.VisitTime()),
		Finding: fromFinding(s.Finding), DutyStaffPresent: s.DutyStaffPresent,
		CancelledEventCount: s.CancelledEvents, DispersedPeopleCount: s.DispersedPeople,
		Note: s.Note, DistanceM: s.Distance, Flags: fromFlags(s.Flags),
	}
	for _, p := range s.Photos {
		photo := &xunchav1.Photo{Sha256: p.SHA256[:], SizeBytes: p.Size, ContentType: p.ContentType, Width: p.Width, Height: p.Height}
		if p.Refused != "" {
			photo.RefusedReason = meaningOf(p.Refused.Err()).reason
		}
		for _, r := range s.Reused {
			if r.SHA256 != p.SHA256 {
				continue
			}
			photo.Reused = true
			if r.First.Site != "" && seen(r.First.Site) {
				photo.FirstSiteId, photo.FirstCheckInId = string(r.First.Site), string(r.First.CheckIn)
			}
		}
		out.Photos = append(out.Photos, photo)
	}
	return out
}

// fromReceipt writes a receipt, with what refused says of a photo that is not taken.
// Without states, nothing of the photos has come.
func fromReceipt(s *inspections.Stored, states []photos.State, refused func(inspections.Photo) *xunchav1.PhotoRefusal) *xunchav1.Receipt {
	out := &xunchav1.Receipt{
		CheckInId: string(s.ID), SiteId: string(s.Site), Sequence: int64(s.Entry.Sequence),
		EntryHash: s.Entry.Hash[:], ReceiveTime: stamp(s.Entry.Time), Flags: fromFlags(s.Flags),
	}
	for i, p := range s.Photos {
		photo := &xunchav1.PhotoReceipt{Sha256: p.SHA256[:], Refused: refused(p)}
		if states != nil {
			photo.Stored, photo.ReceivedBytes, photo.Purged = states[i].Stored, states[i].Received, states[i].Purged
		}
		out.Photos = append(out.Photos, photo)
	}
	return out
}

// photosAs lets the receipt have a photo for each of those that a call declares, in the
// call's order: a file may have been declared twice, or in another order the first time.
func photosAs(declared []*xunchav1.Photo, r *xunchav1.Receipt) *xunchav1.Receipt {
	stored := r.Photos
	r.Photos = make([]*xunchav1.PhotoReceipt, 0, len(declared))
	for _, p := range declared {
		i := slices.IndexFunc(stored, func(q *xunchav1.PhotoReceipt) bool { return bytes.Equal(p.Sha256, q.Sha256) })
		if i >= 0 { // as it is of every check-in with the same content
			r.Photos = append(r.Photos, stored[i])
		}
	}
	return r
}

func toPhotoRef(site, checkIn string, sha256 []byte) (ref photos.Ref) {
	ref.Site, ref.CheckIn = sites.SiteID(lower(site)), inspections.CheckInID(lower(checkIn))
	copy(ref.SHA256[:], sha256)
	return ref
}

// question reads what all coverage queries have. A window without a start
// begins today, one without an end ends with its first day.
func (c *Config) question(code sites.DivisionCode, start, end, known *timestamppb.Timestamp) (q inspections.Question, err error) {
	q.Division = code
	var wrong [3]error
	q.Start, wrong[0] = timeOf("start_time", start)
	q.End, wrong[1] = timeOf("end_time", end)
	q.Known, wrong[2] = timeOf("known_time", known)
	if err = sites.JoinFaults(wrong[:]...); err != nil {
		return q, err
	}
	if q.Start.IsZero() {
		q.Start = sites.DayOf(c.Now(), c.Zone, 0)
	}
	if q.End.IsZero() {
		q.End = sites.DayOf(q.Start, c.Zone, 1)
	}
	return q, nil
}

// fromReport writes a report. How many sites are altered is by division.
func fromReport(r coverage.Report, altered map[sites.DivisionCode]int64) *xunchav1.GetCoverageResponse {
	out := &xunchav1.GetCoverageResponse{Row: &xunchav1.CoverageRow{
		DivisionCode: string(r.Division), DivisionName: r.Name, Level: fromLevel(r.Level),
		SitesDue: r.SitesDue, SitesInspected: r.SitesInspected, SitesOverdue: r.SitesOverdue,
		SitesNeverInspected: r.SitesNeverInspected, SitesFoundOpen: r.SitesFoundOpen,
		CheckIns: r.CheckIns, VisitedLate: r.VisitedLate, SyncedLate: r.SyncedLate,
		CancelledEvents: r.CancelledEvents, DispersedPeople: r.DispersedPeople,
		LastCaptureTime: stamp(r.LastCapture), SitesAltered: altered[r.Division],
	}}
	for _, c := range r.Children {
		out.Children = append(out.Children, fromReport(c, altered))
	}
	return out
}

var states = map[xunchav1.DueState]coverage.State{
	xunchav1.DueState_DUE_STATE_UNSPECIFIED:     coverage.Due,
	xunchav1.DueState_DUE_STATE_DUE:             coverage.Due,
	xunchav1.DueState_DUE_STATE_DONE:            coverage.Done,
	xunchav1.DueState_DUE_STATE_OVERDUE:         coverage.Overdue,
	xunchav1.DueState_DUE_STATE_NEVER_INSPECTED: coverage.NeverInspected,
}

// fromStatus writes a due site where it counts in a window with the end.
func fromStatus(s coverage.SiteStatus, end time.Time) *xunchav1.DueSite {
	site := fromSite(s.Site, end.Add(-1))
	site.DivisionCode = string(s.Path[0])
	return &xunchav1.DueSite{
		Site: site, ClosureOrderId: string(s.Order.ID),
		Inspected: s.Inspected, Overdue: s.Overdue, NeverInspected: s.NeverInspected, FoundOpen: s.FoundOpen,
		LastCaptureTime: stamp(s.LastCapture), DueTime: stamp(s.DueSince), OverdueTime: stamp(s.OverdueSince),
	}
}

func toImport(h *xunchav1.ImportHeader) sites.Import {
	return sites.Import{Effective: h.EffectiveDate, Source: h.Source, DryRun: h.DryRun}
}

func fromProblems(problems []sites.Problem) []*xunchav1.ImportProblem {
	var out []*xunchav1.ImportProblem
	for _, p := range problems {
		out = append(out, &xunchav1.ImportProblem{Row: int32(p.Row), Column: p.Column, Description: p.Err.Error()})
	}
	return out
}

func toNewAccount(m *xunchav1.CreateAccountRequest) accounts.NewAccount {
	return accounts.NewAccount{
		Username: m.Account.Username, DisplayName: m.Account.DisplayName, Role: roles[m.Account.Role],
		Divisions: toCodes(m.Account.DivisionCodes), Password: m.Password,
	}
}

func toChange(m *xunchav1.UpdateAccountRequest) accounts.Change {
	change := accounts.Change{DisplayName: m.DisplayName, Divisions: toCodes(m.DivisionCodes)}
	if role, ok := roles[m.Role]; ok {
		change.Role = &role
	}
	return change
}

var roles = map[xunchav1.Role]accounts.Role{
	xunchav1.Role_ROLE_OFFICER: accounts.Officer,
	xunchav1.Role_ROLE_HEAD:    accounts.Head,
	xunchav1.Role_ROLE_AUDITOR: accounts.Auditor,
	xunchav1.Role_ROLE_ADMIN:   accounts.Admin,
}

func fromAccount(a *accounts.Account) *xunchav1.Account {
	return &xunchav1.Account{
		AccountId: a.ID, Username: a.Username, DisplayName: a.DisplayName, Role: fromRole(a.Role),
		CreateTime: stamp(a.Created), DisableTime: stamp(a.Disabled), DivisionCodes: fromCodes(a.Divisions),
	}
}

func fromRole(r accounts.Role) xunchav1.Role {
	for k, v := range roles {
		if v == r {
			return k
		}
	}
	return xunchav1.Role_ROLE_UNSPECIFIED
}
