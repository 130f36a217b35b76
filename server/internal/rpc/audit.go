package rpc

import (
	"context"

	lru "github.com/hashicorp/golang-lru/v2"

	"xuncha/inspections"
	"xuncha/ledger"
	xunchav1 "xuncha/proto/xuncha/v1"
	"xuncha/sites"
)

type auditService struct {
	xunchav1.UnimplementedAuditServiceServer
	config Config

	// read holds entries that were turned into messages lately, encoded. An entry
	// never changes, and its hash names it, so what is here is always right.
	read *lru.Cache[ledger.Hash, *xunchav1.HistoryEntry]
}

// maxRead is how many entries are kept as messages, of about a kilobyte each.
const maxRead = 8192

func newAuditService(c Config) (*auditService, error) {
	read, err := lru.New[ledger.Hash, *xunchav1.HistoryEntry](maxRead)
	return &auditService{config: c, read: read}, err
}

func (s *auditService) ListSiteHistory(ctx context.Context, req *xunchav1.ListSiteHistoryRequest) (*xunchav1.ListSiteHistoryResponse, error) {
	id := lower(req.SiteId)
	var cursor inspections.HistoryCursor
	query := []string{"ListSiteHistory", id}
	if err := readPageToken(req.PageToken, &cursor, query...); err != nil {
		return nil, err
	}
	if cursor.Site < 0 || cursor.Roster < 0 {
		return nil, errBadToken
	}
	entries, next, err := s.config.Inspections.History(ctx, sites.SiteID(id), cursor, pageSize(req.PageSize, 50, 200))
	if err != nil {
		return nil, err
	}
	out := &xunchav1.ListSiteHistoryResponse{Entries: make([]*xunchav1.HistoryEntry, len(entries))}
	for i, e := range entries {
		if out.Entries[i], err = s.entry(e, req.IncludeRecords); err != nil {
			return nil, err
		}
	}
	if next != (inspections.HistoryCursor{}) {
		out.NextPageToken, err = pageToken(next, query...)
	}
	return out, err
}

// entry returns the entry as a message that is not to be changed.
func (s *auditService) entry(e ledger.Entry, withRecord bool) (*xunchav1.HistoryEntry, error) {
	if withRecord {
		out, err := fromEntry(e)
		if err == nil {
			out.Record = e.Record
		}
		return out, err
	}
	if out, ok := s.read.Get(e.Hash); ok {
		return out, nil
	}
	out, err := fromEntry(e)
	if err != nil {
		return nil, err
	}
	if out, err = encoded(out); err == nil {
		s.read.Add(e.Hash, out)
	}
	return out, err
}
