package rpc

import (
	"context"
	"slices"

	"xuncha/ledger"
	xunchav1 "xuncha/proto/xuncha/v1"
	"xuncha/sites"
)

// RevokeChange takes a change back.
func (s *rosterService) RevokeChange(ctx context.Context, req *xunchav1.RevokeChangeRequest) (*xunchav1.RevokeChangeResponse, error) {
	revision := ledger.Sequence(req.Revision)
	r, err := s.config.Roster.Revoke(ctx, requestBy(ctx, req), revision, req.Reason)
	if err != nil {
		return nil, err
	}
	e, err := s.config.Roster.Entry(ctx, revision)
	if err != nil {
		return nil, err
	}
	change, err := fromChange(r, e)
	if err != nil {
		return nil, err
	}
	by := r.Event(r.Event(revision).RevokedBy)
	if r, err = s.config.Roster.RosterKnown(ctx, by.Time); err != nil { // so that a repeat shows all as it was then
		return nil, err
	}
	people, err := s.orphaned(scopeOf(ctx), lostBy(r, e.Kind, by), by.Time)
	return &xunchav1.RevokeChangeResponse{
		Revision: int64(by.Sequence), Change: change,
		OrphanedAccounts: first(1, people, fromAccount), OrphanedAccountCount: int32(len(people)),
	}, err
}

// lostBy returns the codes of the divisions, in order, that only the import had which the
// entry took back.
func lostBy(r *sites.Roster, kind ledger.Kind, by sites.Event) (out []sites.DivisionCode) {
	if kind != sites.KindDivisionsImported {
		return nil
	}
	for code := range r.StillTouched(by, by.Time) {
		if len(r.Versions(code)) == 0 {
			out = append(out, code)
		}
	}
	slices.Sort(out)
	return out
}

// ListChanges lists changes of the roster.
func (s *rosterService) ListChanges(ctx context.Context, req *xunchav1.ListChangesRequest) (*xunchav1.ListChangesResponse, error) {
	query := queryOf(req)
	var cursor sequenceCursor
	if err := cursor.read(req.PageToken, query); err != nil {
		return nil, err
	}
	sc := scopeOf(ctx)
	r, everything := sc.rosterAt, sc.everything() == nil
	out, p := &xunchav1.ListChangesResponse{}, page[*xunchav1.RosterChange]{size: pageSize(req)}
	q := r.Revision()
	if cursor.Before != 0 {
		q = min(q, cursor.Before-1)
	}
	var failed error
	for ; q > 0; q-- {
		event := r.Event(q)
		if !p.offer(sc.seesChange(event, everything), func() *xunchav1.RosterChange {
			e, err := s.config.Roster.Entry(ctx, q)
			if err != nil {
				failed = err
				return nil
			}
			change, err := fromChange(r, e)
			failed = err
			return change
		}) {
			var err error
			if out.NextPageToken, err = cursor.token(q+1, query); err != nil {
				return nil, err
			}
			break
		}
		if failed != nil {
			return nil, failed
		}
	}
	out.Changes = p.items
	spend(ctx, p.looked+len(p.items)*costOfEntry)
	return out, failed
}

// seesChange reports whether the caller sees all divisions that the change touched. What
// touched none, as a repair, is for those who see everything, and what was set aside for
// nobody: nothing says what it was.
func (s *scope) seesChange(e sites.Event, everything bool) bool {
	if e.Kind == ledger.KindSetAside {
		return false
	}
	if everything {
		return true
	}
	touched := false
	for code := range s.rosterAt.StillTouched(e, s.now) {
		if !s.seesDivision(code) {
			return false
		}
		touched = true
	}
	return touched
}
