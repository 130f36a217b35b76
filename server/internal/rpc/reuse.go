package rpc

import (
	"bytes"
	"context"

	"xuncha/inspections"
	"xuncha/inspections/photos"
	"xuncha/ledger"
	xunchav1 "xuncha/proto/xuncha/v1"
)

// This file shows entries that say of a photo for which check-in it was used before. That
// one may be of a site that the caller cannot see, who then learns that there is one, and
// nothing else of it.

// What such entries have, as records are written. Others may have it too.
var (
	reusedMark = []byte(`"reused":[`)
	firstMark  = []byte(`"first`)
)

// reuse returns an entry of a site's history of which others may see something else: it
// says of a photo that it was used before. It is nil where e is another entry.
func (s *auditService) reuse(ctx context.Context, e ledger.Entry, withRecord bool) (*xunchav1.HistoryEntry, error) {
	seen := scopeOf(ctx).seesSiteNamed
	out := fromHead(e)
	var named []inspections.CheckInRef // by the record itself
	switch {
	case e.Kind == inspections.KindCheckIn && bytes.Contains(e.Record, reusedMark):
		c, err := inspections.Parse(e)
		if err != nil || len(c.Reused) == 0 {
			return nil, nil // and whoever shows it finds the error
		}
		for _, r := range c.Reused {
			named = append(named, r.First)
		}
		if err := s.config.Inspections.FindReused(ctx, c); err != nil {
			return nil, err
		}
		out.Content = &xunchav1.HistoryEntry_CheckIn{CheckIn: fromCheckIn(c, seen)}
	case e.Kind == photos.KindStored && bytes.Contains(e.Record, firstMark):
		event, err := photos.ParseEvent(e)
		if err != nil || !event.Reused() {
			return nil, nil
		}
		named = append(named, event.First)
		if err := s.config.Photos.FindFirst(ctx, event); err != nil {
			return nil, err
		}
		out.Content = fromPhotoEvent(event, seen)
	default:
		return nil, nil
	}
	out.Altered, out.SetAside = s.config.Altered.OfEntry(e)
	if withRecord {
		out.Record = e.Record
		for _, first := range named {
			if first != (inspections.CheckInRef{}) && !seen(first.Site) {
				out.Record, out.RecordWithheld = nil, true
			}
		}
	}
	if _, err := encoded(out); err != nil { // of a text that was altered
		return nil, nil
	}
	return out, nil
}
