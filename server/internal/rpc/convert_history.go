package rpc

import (
	"time"

	"xuncha/inspections"
	"xuncha/inspections/photos"
	"xuncha/ledger"
	xunchav1 "xuncha/proto/xuncha/v1"
	"xuncha/server/internal/accounts"
	"xuncha/sites"
)

// This file holds all that turns entries of histories into messages.

var kinds = map[ledger.Kind]xunchav1.EntryKind{
	inspections.KindCheckIn:      xunchav1.EntryKind_ENTRY_KIND_CHECK_IN,
	sites.KindDivisionsImported:  xunchav1.EntryKind_ENTRY_KIND_DIVISIONS_IMPORTED,
	sites.KindSitesImported:      xunchav1.EntryKind_ENTRY_KIND_SITES_IMPORTED,
	sites.KindSiteRegistered:     xunchav1.EntryKind_ENTRY_KIND_SITE_REGISTERED,
	sites.KindSiteUpdated:        xunchav1.EntryKind_ENTRY_KIND_SITE_UPDATED,
	sites.KindSiteMoved:          xunchav1.EntryKind_ENTRY_KIND_SITE_MOVED,
	sites.KindSiteDeregistered:   xunchav1.EntryKind_ENTRY_KIND_SITE_DEREGISTERED,
	sites.KindOrderIssued:        xunchav1.EntryKind_ENTRY_KIND_CLOSURE_ORDER_ISSUED,
	sites.KindOrderEnded:         xunchav1.EntryKind_ENTRY_KIND_CLOSURE_ORDER_ENDED,
	sites.KindChangeRevoked:      xunchav1.EntryKind_ENTRY_KIND_CHANGE_REVOKED,
	accounts.KindCreated:         xunchav1.EntryKind_ENTRY_KIND_ACCOUNT_CREATED,
	accounts.KindChanged:         xunchav1.EntryKind_ENTRY_KIND_ACCOUNT_CHANGED,
	accounts.KindDisabled:        xunchav1.EntryKind_ENTRY_KIND_ACCOUNT_DISABLED,
	accounts.KindPasswordChanged: xunchav1.EntryKind_ENTRY_KIND_PASSWORD_CHANGED,
	accounts.KindPasswordReset:   xunchav1.EntryKind_ENTRY_KIND_PASSWORD_RESET,
	accounts.KindDeviceRevoked:   xunchav1.EntryKind_ENTRY_KIND_DEVICE_REVOKED,
	photos.KindStored:            xunchav1.EntryKind_ENTRY_KIND_PHOTO_STORED,
	photos.KindPurged:            xunchav1.EntryKind_ENTRY_KIND_PHOTO_PURGED,
	ledger.KindRepaired:          xunchav1.EntryKind_ENTRY_KIND_HISTORY_REPAIRED,
}

// fromHead writes what every entry has, without what it says.
func fromHead(e ledger.Entry) *xunchav1.HistoryEntry {
	return &xunchav1.HistoryEntry{
		History: string(e.History), Sequence: int64(e.Sequence), EntryId: e.ID, Kind: kinds[e.Kind],
		ReceiveTime: stamp(e.Time), Account: e.Account, EntryHash: e.Hash[:],
	}
}

// seesNone reports no site to be the caller's: what is made with it may be shown to anybody.
func seesNone(sites.SiteID) bool { return false }

// fromEntry writes an entry, of a site's history or of the roster's, without
// its record. It tells nobody which check-in used a photo before.
func fromEntry(e ledger.Entry) (*xunchav1.HistoryEntry, error) {
	out := fromHead(e)
	if out.Kind == xunchav1.EntryKind_ENTRY_KIND_UNSPECIFIED {
		return out, nil // a newer server has written it
	}
	switch e.Kind {
	case inspections.KindCheckIn:
		stored, err := inspections.Parse(e)
		if err != nil {
			return nil, err
		}
		out.Content = &xunchav1.HistoryEntry_CheckIn{CheckIn: fromCheckIn(stored, seesNone)}
		return out, nil
	case photos.KindStored, photos.KindPurged:
		event, err := photos.ParseEvent(e)
		if err != nil {
			return nil, err
		}
		out.Content = fromPhotoEvent(event, seesNone)
		return out, nil
	case ledger.KindRepaired:
		repair, err := ledger.ParseRepair(e)
		if err != nil {
			return nil, err
		}
		out.Content = fromRepair(repair)
		return out, nil
	}
	c, err := sites.ParseContent(e)
	if err != nil {
		return nil, err
	}
	switch {
	case c.Site != nil:
		at := c.Site.Places[len(c.Site.Places)-1].From
		if e.Kind == sites.KindSiteUpdated {
			at = e.Time // whose place is what was corrected, also before a move to come
		}
		site := fromSite(c.Site, at)
		site.Revision = int64(e.Sequence)
		out.Content = &xunchav1.HistoryEntry_Site{Site: site}
	case c.Order != nil:
		out.Content = &xunchav1.HistoryEntry_ClosureOrder{ClosureOrder: fromOrder(c.Order, e.Sequence)}
	case c.Revoked != nil:
		out.Content = &xunchav1.HistoryEntry_RevokeEvent{RevokeEvent: &xunchav1.RevokeEvent{
			Revision: int64(c.Revoked.Revision), Reason: c.Revoked.Reason,
		}}
	case c.Divisions != nil:
		d := c.Divisions
		out.Content = fromImport(d.Source, d.Effective, d.Rows, d.Created, d.Ended, d.Renamed+d.Regrouped)
	case c.Sites != nil:
		s := c.Sites
		out.Content = fromImport(s.Source, s.Effective, s.Rows, s.Registered, s.Deregistered, s.Updated+s.Moved)
	}
	return out, nil
}

// fromChange writes an entry of the roster's history for the list of changes.
func fromChange(r *sites.Roster, e ledger.Entry) (*xunchav1.RosterChange, error) {
	out := &xunchav1.RosterChange{
		Revision: int64(e.Sequence), Kind: kinds[e.Kind], ReceiveTime: stamp(e.Time), Account: e.Account,
		RevokedByRevision: int64(r.Event(e.Sequence).RevokedBy),
	}
	if e.Kind == ledger.KindRepaired {
		repair, err := ledger.ParseRepair(e)
		out.Reason = repair.Reason
		return out, err
	}
	c, err := sites.ParseContent(e)
	if err != nil {
		return nil, err
	}
	switch {
	case c.Site != nil:
		out.SiteId, out.RegistrationNo = string(c.Site.ID), c.Site.RegistrationNo
	case c.Order != nil:
		out.ClosureOrderId, out.ClosureOrderNumber = string(c.Order.ID), c.Order.Number
	case c.Divisions != nil:
		out.Source, out.EffectiveTime = c.Divisions.Source, stamp(c.Divisions.Effective)
	case c.Sites != nil:
		out.Source, out.EffectiveTime = c.Sites.Source, stamp(c.Sites.Effective)
	case c.Revoked != nil:
		out.RevokedRevision, out.Reason = int64(c.Revoked.Revision), c.Revoked.Reason
	}
	return out, nil
}

func fromRepair(r ledger.Repair) *xunchav1.HistoryEntry_RepairEvent {
	event := &xunchav1.RepairEvent{Reason: r.Reason}
	for _, a := range r.SetAside {
		event.Sequences = append(event.Sequences, int64(a.Sequence))
	}
	return &xunchav1.HistoryEntry_RepairEvent{RepairEvent: event}
}

// fromUnreadable writes an entry that cannot be read: what was stored of it as it is, and
// its kind as one that is not known.
func fromUnreadable(e ledger.Entry, aside bool) *xunchav1.HistoryEntry {
	out := fromHead(e)
	out.History, out.EntryId, out.Account = text(out.History), text(out.EntryId), text(out.Account)
	if !out.ReceiveTime.IsValid() {
		out.ReceiveTime = nil
	}
	out.Kind, out.Record = xunchav1.EntryKind_ENTRY_KIND_UNSPECIFIED, e.Record
	out.Altered, out.SetAside = !aside, aside
	return out
}

func fromImport(source string, effective time.Time, sum string, created, ended, changed int) *xunchav1.HistoryEntry_ImportEvent {
	return &xunchav1.HistoryEntry_ImportEvent{ImportEvent: &xunchav1.ImportEvent{
		Source: source, EffectiveTime: stamp(effective), RowsSha256: unhex(sum),
		Created: int32(created), Ended: int32(ended), Changed: int32(changed),
	}}
}

// fromPhotoEvent writes what has become of a photo; seen is that of fromCheckIn.
func fromPhotoEvent(e *photos.Event, seen func(sites.SiteID) bool) *xunchav1.HistoryEntry_PhotoEvent {
	var first inspections.CheckInRef
	if e.First.Site != "" && seen(e.First.Site) {
		first = e.First
	}
	return &xunchav1.HistoryEntry_PhotoEvent{PhotoEvent: &xunchav1.PhotoEvent{
		CheckInId: string(e.CheckIn), Sha256: e.SHA256[:], StoredSha256: e.Stored[:], StoredSizeBytes: e.Size, ContentType: e.ContentType,
		Reused: e.Reused(), FirstSiteId: string(first.Site), FirstCheckInId: string(first.CheckIn),
		ClosureOrderId: string(e.Order), ClosureOrderEndTime: stamp(e.OrderEnd), RetentionDays: int32(e.RetentionDays),
	}}
}
