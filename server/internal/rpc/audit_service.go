package rpc

import (
	"context"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"

	"xuncha/inspections"
	"xuncha/inspections/coverage"
	"xuncha/ledger"
	xunchav1 "xuncha/proto/xuncha/v1"
	"xuncha/server/internal/accounts"
	"xuncha/sites"
)

type auditService struct {
	xunchav1.UnimplementedAuditServiceServer
	config Config

	// read holds entries that were turned into messages lately, encoded. An entry
	// never changes, and its hash names it, so what is here is always right.
	read *lru.Cache[ledger.Hash, *xunchav1.HistoryEntry]
	// newest holds answers with the newest page of a history, encoded.
	newest *lru.Cache[pageKey, newestPage]
}

type pageKey struct {
	site sites.SiteID
	size int
	// altered is the revision of what does not verify.
	altered uint64
}

// A newestPage is an answer that holds for one version of a site's history.
type newestPage struct {
	version  inspections.HistoryVersion
	response *xunchav1.ListSiteHistoryResponse
}

const (
	// maxRead is how many entries are kept as messages, of about a kilobyte each.
	maxRead = 8192
	// maxNewest is how many newest pages are kept, of at most maxNewestBytes each.
	maxNewest      = 256
	maxNewestBytes = 32 << 10
)

// costOfEntry is how many sites or visits could be looked at in the time in which an
// entry is read from the store and understood.
const costOfEntry = 20

func newAuditService(c Config) (*auditService, error) {
	read, err := lru.New[ledger.Hash, *xunchav1.HistoryEntry](maxRead)
	if err != nil {
		return nil, err
	}
	newest, err := lru.New[pageKey, newestPage](maxNewest)
	return &auditService{config: c, read: read, newest: newest}, err
}

func (s *auditService) ListSiteHistory(ctx context.Context, req *xunchav1.ListSiteHistoryRequest) (*xunchav1.ListSiteHistoryResponse, error) {
	if req.PageToken != "" || req.IncludeRecords {
		out, _, err := s.page(ctx, req)
		return out, err
	}
	// Everybody who may see it sees the same, but for photos that were used before, and
	// most look at nothing else.
	key := pageKey{sites.SiteID(lower(req.SiteId)), pageSize(req), s.config.Altered.Revision()}
	version, err := s.config.Inspections.HistoryVersion(ctx, key.site)
	if err != nil {
		return nil, err
	}
	if p, ok := s.newest.Get(key); ok && p.version == version {
		return p.response, nil
	}
	out, personal, err := s.page(ctx, req)
	if err != nil || personal {
		return out, err
	}
	if out, err = encoded(out); err == nil && len(ready(out)) <= maxNewestBytes {
		// An entry that has come since the version was read makes another one, and so
		// another page, of the next answer.
		s.newest.Add(key, newestPage{version, out})
	}
	return out, err
}

// page makes the answer, which is personal where others may see another one.
func (s *auditService) page(ctx context.Context, req *xunchav1.ListSiteHistoryRequest) (out *xunchav1.ListSiteHistoryResponse, personal bool, err error) {
	id := lower(req.SiteId)
	var cursor inspections.HistoryCursor
	query := queryOf(req)
	if err := readPageToken(req.PageToken, &cursor, query...); err != nil {
		return nil, false, err
	}
	if cursor.Site < 0 || cursor.Roster < 0 {
		return nil, false, errBadToken
	}
	out = &xunchav1.ListSiteHistoryResponse{}
	for size := pageSize(req); ; size = len(out.Entries) {
		entries, next, err := s.config.Inspections.History(ctx, sites.SiteID(id), cursor, size)
		if err != nil {
			return nil, false, err
		}
		if out.Entries, personal, err = s.fitting(ctx, entries, req.IncludeRecords); err != nil {
			return nil, false, err
		}
		if len(out.Entries) < len(entries) {
			continue // with as many as fit, whose end is known then
		}
		if next != (inspections.HistoryCursor{}) {
			out.NextPageToken, err = pageToken(next, query...)
		}
		return out, personal, err
	}
}

// fitting returns as many of the entries, from the first on, as fit on a page, and whether
// others may see one of them otherwise.
func (s *auditService) fitting(ctx context.Context, entries []ledger.Entry, withRecords bool) (_ []*xunchav1.HistoryEntry, personal bool, err error) {
	p := page[*xunchav1.HistoryEntry]{items: make([]*xunchav1.HistoryEntry, 0, len(entries)), size: len(entries)}
	for _, e := range entries {
		m, err := s.reuse(ctx, e, withRecords)
		if err != nil {
			return nil, false, err
		}
		if personal = personal || m != nil; m == nil {
			m = s.entry(e, withRecords)
		}
		if !p.offer(true, func() *xunchav1.HistoryEntry { return m }) {
			break
		}
	}
	return p.items, personal, nil
}

// entry returns the entry as a message that is not to be changed. One that cannot be read
// is shown as it is stored.
func (s *auditService) entry(e ledger.Entry, withRecord bool) *xunchav1.HistoryEntry {
	altered, aside := s.config.Altered.OfEntry(e)
	var revoked ledger.Sequence
	if e.History == ledger.Roster {
		revoked = s.config.Roster.Roster().Event(e.Sequence).RevokedBy
	}
	plain := !altered && !aside && !withRecord && revoked == 0
	if plain {
		if out, ok := s.read.Get(e.Hash); ok {
			return out
		}
	}
	out, err := fromEntry(e)
	if err != nil {
		return fromUnreadable(e, aside)
	}
	out.Altered, out.SetAside, out.RevokedBySequence = altered, aside, int64(revoked)
	if withRecord {
		out.Record = e.Record
	}
	ready, err := encoded(out)
	if err != nil { // of a text that was altered
		return fromUnreadable(e, aside)
	}
	if plain {
		s.read.Add(e.Hash, ready)
	}
	return ready
}

// span returns the time between which accesses are asked for; zero is open.
func span(req *xunchav1.ListAccessesRequest) (start, end time.Time, err error) {
	start, early := timeOf("start_time", req.StartTime)
	end, late := timeOf("end_time", req.EndTime)
	if err = sites.JoinFaults(early, late); err == nil && !start.IsZero() && !end.IsZero() && !start.Before(end) {
		err = &sites.FieldError{Field: "end_time", Err: coverage.ErrWindow}
	}
	return start, end, err
}

func (s *auditService) ListAccesses(ctx context.Context, req *xunchav1.ListAccessesRequest) (*xunchav1.ListAccessesResponse, error) {
	start, end, err := span(req)
	if err != nil {
		return nil, err
	}
	sc, site, division := scopeOf(ctx), sites.SiteID(lower(req.SiteId)), sites.DivisionCode(req.DivisionCode)
	if division != "" {
		if _, err := sc.rosterAt.Division(division, sc.now); err != nil {
			return nil, &sites.FieldError{Field: "division_code", Err: err}
		}
	}
	if site != "" {
		if _, err := sc.rosterAt.SiteEver(site); err != nil {
			return nil, &sites.FieldError{Field: "site_id", Err: err}
		}
	}
	query := queryOf(req)
	var cursor accounts.AccessCursor
	if err := readPageToken(req.PageToken, &cursor, query...); err != nil {
		return nil, err
	}
	asked := accounts.AccessQuery{Account: req.Account, Start: start, End: end}
	if req.PageToken != "" && !asked.Takes(cursor) {
		return nil, errBadToken
	}
	page, err := s.config.Accounts.Accesses(ctx, asked, cursor, pageSize(req), func(a *accounts.RecordedAccess) bool {
		in := sc.divisionOf(a)
		return (site == "" || a.Site == site) && (division == "" || sc.rosterAt.Within(in, division, sc.now)) && sc.seesDivision(in)
	})
	if err != nil {
		return nil, err
	}
	spend(ctx, page.Looked*costOfEntry)
	out := &xunchav1.ListAccessesResponse{}
	for _, a := range page.Accesses {
		out.Accesses = append(out.Accesses, &xunchav1.Access{
			History: string(a.History), Sequence: int64(a.Sequence), AccessTime: stamp(a.Time), Account: a.Account, Method: a.Method,
			SiteId: string(a.Site), DivisionCode: string(a.Division), CheckInId: a.CheckIn, PhotoSha256: unhex(a.Photo), EntryHash: a.Hash[:],
		})
	}
	if page.Next != nil {
		out.NextPageToken, err = pageToken(page.Next, query...)
	}
	return out, err
}

func (s *auditService) ListAccountHistory(ctx context.Context, req *xunchav1.ListAccountHistoryRequest) (*xunchav1.ListAccountHistoryResponse, error) {
	id := lower(req.AccountId)
	query := queryOf(req)
	var cursor sequenceCursor
	if err := cursor.read(req.PageToken, query); err != nil {
		return nil, err
	}
	sc := scopeOf(ctx)
	looked := 0
	defer func() { spend(ctx, looked*costOfEntry) }()
	events, next, err := s.config.Accounts.History(ctx, cursor.Before, pageSize(req), func(e *accounts.Event) bool {
		looked++
		if e.Unreadable || e.Entry.Kind == ledger.KindRepaired { // which is about no one account
			return id == "" && sc.everything() == nil
		}
		if id != "" && e.AccountID != id {
			return false
		}
		a, err := s.config.Accounts.Get(e.AccountID)
		return err == nil && sc.seesAccount(a)
	})
	if err != nil {
		return nil, err
	}
	out := &xunchav1.ListAccountHistoryResponse{}
	for _, e := range events {
		altered, aside := s.config.Altered.OfEntry(e.Entry)
		if e.Unreadable {
			out.Entries = append(out.Entries, fromUnreadable(e.Entry, aside))
			continue
		}
		if e.Entry.Kind == ledger.KindRepaired {
			out.Entries = append(out.Entries, s.entry(e.Entry, req.IncludeRecords))
			continue
		}
		entry := fromHead(e.Entry)
		entry.Altered, entry.SetAside = altered, aside
		entry.Content = &xunchav1.HistoryEntry_AccountEvent{AccountEvent: &xunchav1.AccountEvent{
			AccountId: e.AccountID, Username: e.Username, DisplayName: e.DisplayName, Role: fromRole(e.Role),
			DivisionCodes: fromCodes(e.Divisions), DeviceId: e.Device, Reason: e.Reason, Issuer: e.Issuer, Subject: e.Subject,
		}}
		if req.IncludeRecords {
			entry.Record = e.Entry.Record
		}
		out.Entries = append(out.Entries, entry)
	}
	out.NextPageToken, err = cursor.token(next, query)
	return out, err
}
