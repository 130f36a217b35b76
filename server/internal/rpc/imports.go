package rpc

import (
	"context"
	"errors"
	"fmt"
	"io"
	"runtime/debug"
	"slices"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	xunchav1 "xuncha/proto/xuncha/v1"
	"xuncha/server/internal/accounts"
	"xuncha/sites"
)

// An importRequest is a message of either import.
type importRequest[R any] interface {
	GetHeader() *xunchav1.ImportHeader
	GetRow() R
}

// maxImport is how many bytes the rows of one import can have, which are held in
// memory until all are there.
const maxImport = 256 << 20

// awaited returns recv, with which an import ends that sends nothing for too long.
func awaited[Req any](ctx context.Context, recv func() (Req, error)) func() (Req, error) {
	w := scopeOf(ctx).watch
	return func() (Req, error) {
		w.expect(importSilence)
		defer w.got()
		return recv()
	}
}

// A tableKind is how the rows of an import are read: cells gives those of a message, and
// row makes one of the domain of them.
type tableKind[R proto.Message, Row any] struct {
	cells func(held *heldRows, row R)
	width int
	row   func(number int, cells []string) Row
}

// receiveImport reads an import's stream: one header, then rows. They are held while they
// come; hold is told how many bytes they are before each.
func receiveImport[Req importRequest[R], R interface {
	comparable
	proto.Message
}, Row any](recv func() (Req, error), hold func(bytes int) error, kind tableKind[R, Row]) (header *xunchav1.ImportHeader, rows []Row, err error) {
	var none R
	var held heldRows
	size := 0
	for {
		req, err := recv()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, nil, err
		}
		h, row := req.GetHeader(), req.GetRow()
		switch {
		case h != nil && header == nil && held.count == 0:
			header = h
		case h != nil:
			return nil, nil, sites.Invalid("header", "must come first, and once")
		case header == nil:
			return nil, nil, &sites.FieldError{Field: "header", Err: fmt.Errorf("%w: it comes before the rows", sites.ErrMissing)}
		case row != none && held.count == sites.MaxImportRows:
			return nil, nil, &sites.FieldError{Field: "row", Err: fmt.Errorf("%w: an import has at most %d rows", sites.ErrTooLong, sites.MaxImportRows)}
		case row != none:
			if size += proto.Size(row); size > maxImport {
				return nil, nil, &sites.FieldError{Field: "row", Err: fmt.Errorf("%w: the rows of an import are at most %d MiB", errTooLarge, maxImport>>20)}
			}
			if err := hold(size); err != nil {
				return nil, nil, err
			}
			kind.cells(&held, row)
		}
	}
	if header == nil {
		return nil, nil, &sites.FieldError{Field: "header", Err: sites.ErrMissing}
	}
	rows = make([]Row, 0, held.count)
	held.each(kind.width, func(number int32, cells []string) { rows = append(rows, kind.row(int(number), cells)) })
	return header, rows, nil
}

// divisionTable and siteTable are the kinds of imports.
var (
	divisionTable = tableKind[*xunchav1.DivisionRow, sites.DivisionRow]{
		width: 4,
		cells: func(held *heldRows, r *xunchav1.DivisionRow) { held.add(r.Row, r.Code, r.Name, r.Level, r.ParentCode) },
		row: func(number int, c []string) sites.DivisionRow {
			return sites.DivisionRow{Row: number, Code: c[0], Name: c[1], Level: c[2], Parent: c[3]}
		},
	}
	siteTable = tableKind[*xunchav1.SiteRow, sites.SiteRow]{
		width: 8,
		cells: func(held *heldRows, r *xunchav1.SiteRow) {
			held.add(r.Row, r.RegistrationNo, r.Name, r.DivisionCode, r.Address, r.Latitude, r.Longitude, r.RegisteredOn, r.DeregisteredOn)
		},
		row: func(number int, c []string) sites.SiteRow {
			return sites.SiteRow{
				Row: number, RegistrationNo: c[0], Name: c[1], Division: c[2], Address: c[3],
				Latitude: c[4], Longitude: c[5], RegisteredOn: c[6], DeregisteredOn: c[7],
			}
		},
	}
)

func (s *rosterService) ImportDivisions(stream grpc.ClientStreamingServer[xunchav1.ImportDivisionsRequest, xunchav1.ImportDivisionsResponse]) error {
	slot := s.slotOf(stream.Context())
	defer slot.leave()
	err := s.importDivisions(stream, slot)
	giveBack(slot)
	return err
}

func (s *rosterService) importDivisions(stream grpc.ClientStreamingServer[xunchav1.ImportDivisionsRequest, xunchav1.ImportDivisionsResponse], slot *importSlot) error {
	header, rows, err := receiveImport(awaited(stream.Context(), stream.Recv), slot.hold(stream.Context()), divisionTable)
	if err != nil {
		return err
	}
	decided, err := slot.decide(stream.Context())
	if err != nil {
		return err
	}
	defer decided()
	before := s.config.Roster.Roster().Revision()
	done, err := s.config.Roster.ImportDivisions(stream.Context(), requestBy(stream.Context(), header), toImport(header), rows)
	var rejected *sites.ImportError
	if header.DryRun && errors.As(err, &rejected) {
		return stream.SendAndClose(&xunchav1.ImportDivisionsResponse{
			Problems: fromProblems(rejected.Problems), ProblemCount: int32(rejected.Total), Revision: int64(before),
		})
	}
	if err != nil {
		return inImport(err)
	}
	out := &xunchav1.ImportDivisionsResponse{
		Changed: done.Changed, Revision: int64(done.Roster.Revision()),
		Created: int32(done.Created), Ended: int32(done.Ended), Renamed: int32(done.Renamed),
		Regrouped: int32(done.Regrouped), Unchanged: int32(done.Unchanged),
	}
	now, sc := s.config.Now(), scopeOf(stream.Context())
	sc.rosterAt = s.config.Roster.Roster() // another server may have made what a repeat is about just now
	if done.Changed {                      // so that a repeat shows all as it was then
		now = done.Roster.Time()
	}
	displaced := slices.DeleteFunc(done.Displaced, func(site *sites.Site) bool { return !sc.seesSite(site) })
	orders := slices.DeleteFunc(done.Orphaned, func(o *sites.ClosureOrder) bool { return !sc.seesOrder(o) })
	people, err := s.orphaned(sc, done.EndedCodes, now)
	if err != nil {
		return err
	}
	out.DisplacedSites = first(3, displaced, func(site *sites.Site) *xunchav1.Site { return fromSite(site, now) })
	out.OrphanedOrders = first(3, orders, func(o *sites.ClosureOrder) *xunchav1.ClosureOrder {
		return fromOrder(o, done.Roster.OrderRevision(o.ID))
	})
	out.OrphanedAccounts = first(3, people, fromAccount)
	out.DisplacedSiteCount, out.OrphanedOrderCount = int32(len(displaced)), int32(len(orders))
	out.OrphanedAccountCount = int32(len(people))
	return stream.SendAndClose(out)
}

// orphaned returns the accounts in use at a time that are bound to one of the divisions,
// which end, and that the caller keeps.
func (s *rosterService) orphaned(sc *scope, ended []sites.DivisionCode, at time.Time) (out []*accounts.Account, err error) {
	if len(ended) == 0 {
		return nil, nil
	}
	people, err := s.config.Accounts.Known(sc.ctx, at)
	if err != nil {
		return nil, err
	}
	ends := func(code sites.DivisionCode) bool { _, ok := slices.BinarySearch(ended, code); return ok }
	for a := range people {
		if a.Disabled.IsZero() && slices.ContainsFunc(a.Divisions, ends) && sc.seesAccount(a) {
			out = append(out, a)
		}
	}
	return out, nil
}

func (s *rosterService) ImportSites(stream grpc.ClientStreamingServer[xunchav1.ImportSitesRequest, xunchav1.ImportSitesResponse]) error {
	slot := s.slotOf(stream.Context())
	defer slot.leave()
	err := s.importSites(stream, slot)
	giveBack(slot)
	return err
}

func (s *rosterService) importSites(stream grpc.ClientStreamingServer[xunchav1.ImportSitesRequest, xunchav1.ImportSitesResponse], slot *importSlot) error {
	header, rows, err := receiveImport(awaited(stream.Context(), stream.Recv), slot.hold(stream.Context()), siteTable)
	if err != nil {
		return err
	}
	decided, err := slot.decide(stream.Context())
	if err != nil {
		return err
	}
	defer decided()
	before := s.config.Roster.Roster().Revision()
	done, err := s.config.Roster.ImportSites(stream.Context(), requestBy(stream.Context(), header), toImport(header), rows)
	var rejected *sites.ImportError
	if header.DryRun && errors.As(err, &rejected) {
		return stream.SendAndClose(&xunchav1.ImportSitesResponse{
			Problems: fromProblems(rejected.Problems), ProblemCount: int32(rejected.Total), Revision: int64(before),
		})
	}
	if err != nil {
		return inImport(err)
	}
	return stream.SendAndClose(&xunchav1.ImportSitesResponse{
		Changed: done.Changed, Revision: int64(done.Roster.Revision()),
		Registered: int32(done.Registered), Deregistered: int32(done.Deregistered), Moved: int32(done.Moved),
		Updated: int32(done.Updated), Unchanged: int32(done.Unchanged),
	})
}

// giveBack gives memory back to the system after an import that was large, however it ended.
// A country's leaves hundreds of megabytes, which nobody needs until the next one.
func giveBack(slot *importSlot) {
	if slot.large {
		debug.FreeOSMemory()
	}
}

// slotOf returns the place of an import of the caller.
func (s *rosterService) slotOf(ctx context.Context) *importSlot {
	account := ""
	if caller := scopeOf(ctx).caller; caller != nil {
		account = caller.Account.ID
	}
	return s.imports.slotOf(account)
}

// first returns as many of the values, as messages, as fill one of so many parts of an
// answer.
func first[V any, M proto.Message](parts int, values []V, message func(V) M) []M {
	p := page[M]{size: len(values), used: maxPageBytes - maxPageBytes/parts}
	for _, v := range values {
		if !p.offer(true, func() M { return message(v) }) {
			break
		}
	}
	return p.items
}
