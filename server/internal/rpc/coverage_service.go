package rpc

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"xuncha/inspections/coverage"
	"xuncha/ledger"
	xunchav1 "xuncha/proto/xuncha/v1"
	"xuncha/sites"
)

type coverageService struct {
	xunchav1.UnimplementedCoverageServiceServer
	config Config

	// ready holds answers for as long as they hold. Heads of bureaus look at
	// the same few windows, so the answer is nearly always there.
	ready sync.Map // readyKey → readyAnswer
	count int
	mu    sync.Mutex // of count
}

type readyKey struct {
	division   string
	start, end int64
	depth      int32
	// revision is that of the roster: an answer by another one is not the answer.
	revision ledger.Sequence
	// altered is that of what does not verify.
	altered uint64
}

type readyAnswer struct {
	response *xunchav1.GetCoverageResponse
	stamp    coverage.Stamp
}

const (
	// maxReady is how many answers are kept; past it all are thrown away.
	maxReady = 1000
	// maxReadyBytes is how long one may be at most.
	maxReadyBytes = 64 << 10
)

func (s *coverageService) GetCoverage(ctx context.Context, req *xunchav1.GetCoverageRequest) (*xunchav1.GetCoverageResponse, error) {
	q, err := s.config.question(sites.DivisionCode(req.DivisionCode), req.StartTime, req.EndTime, req.KnownTime)
	if err != nil {
		return nil, err
	}
	q.Depth, q.MaxRows = int(req.Depth), s.config.ReportRows
	key := readyKey{req.DivisionCode, q.Start.UnixNano(), q.End.UnixNano(), req.Depth, s.config.Roster.Roster().Revision(), s.config.Altered.Revision()}
	if q.Known.IsZero() {
		if a, ok := s.ready.Load(key); ok && a.(readyAnswer).stamp.Fresh(s.config.Now()) {
			return a.(readyAnswer).response, nil
		}
	}
	done, err := ask(ctx)
	if err != nil {
		return nil, err
	}
	defer done()
	answer, err := s.config.Inspections.Coverage(ctx, q)
	spend(ctx, int(answer.Cost))
	if err != nil {
		return nil, err
	}
	report := fromReport(answer.Report, answer.SitesAltered)
	report.RosterAltered = answer.RosterAltered
	out, err := encoded(report)
	if err == nil && proto.Size(out) > maxAnswer {
		return nil, &sites.FieldError{Field: "depth", Err: tooLargeReport(report, q.Depth)}
	}
	if err == nil && q.Known.IsZero() && len(ready(out)) <= maxReadyBytes {
		s.keep(key, readyAnswer{out, answer.Stamp})
	}
	return out, err
}

// errReportTooLarge is what errors.Is finds in a reportTooLargeError.
var errReportTooLarge = errors.New("report is too large")

// A reportTooLargeError means that a report is longer than what clients take.
type reportTooLargeError struct {
	// fits is the greatest depth at which it is not.
	fits int
}

func (e *reportTooLargeError) Error() string {
	return fmt.Sprintf("%v: more than %d MiB; depth %d fits", errReportTooLarge, maxAnswer>>20, e.fits)
}

func (e *reportTooLargeError) Is(target error) bool { return target == errReportTooLarge }

// tooLargeReport returns the error of a report that is too large at the depth. A row
// alone never is.
func tooLargeReport(r *xunchav1.GetCoverageResponse, depth int) error {
	for depth--; depth > 0 && sizeDownTo(depth, r) > maxAnswer; depth-- {
	}
	return &reportTooLargeError{depth}
}

// sizeDownTo is how many bytes the report has with so many levels below its first row.
func sizeDownTo(depth int, r *xunchav1.GetCoverageResponse) int {
	n := protowire.SizeTag(1) + protowire.SizeBytes(proto.Size(r.Row))
	if depth > 0 {
		for _, c := range r.Children {
			n += protowire.SizeTag(2) + protowire.SizeBytes(sizeDownTo(depth-1, c))
		}
	}
	return n
}

func (s *coverageService) keep(key readyKey, a readyAnswer) {
	if _, had := s.ready.Swap(key, a); had {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.count++; s.count > maxReady {
		s.ready.Clear()
		s.count = 0
	}
}

func (s *coverageService) ListDueSites(ctx context.Context, req *xunchav1.ListDueSitesRequest) (*xunchav1.ListDueSitesResponse, error) {
	q, err := s.config.question(sites.DivisionCode(req.DivisionCode), req.StartTime, req.EndTime, req.KnownTime)
	if err != nil {
		return nil, err
	}
	var cursor struct {
		Day     time.Time `json:",omitzero"`
		Village sites.DivisionCode
		After   string
	}
	query := queryOf(req)
	if err := readPageToken(req.PageToken, &cursor, query...); err != nil {
		return nil, err
	}
	if err := s.config.resume(&q, req.StartTime, req.EndTime, &cursor.Day); err != nil {
		return nil, err
	}
	done, err := ask(ctx)
	if err != nil {
		return nil, err
	}
	defer done()
	after := coverage.SiteRef{Village: cursor.Village, RegistrationNo: cursor.After}
	page, err := s.config.Inspections.DueSites(ctx, q, states[req.State], after, pageSize(req))
	spend(ctx, int(page.Cost))
	if err != nil {
		return nil, err
	}
	out := &xunchav1.ListDueSitesResponse{TotalSize: int32(page.Total)}
	for _, status := range page.Sites {
		due := fromStatus(status, q.End)
		due.Altered = s.config.Inspections.SiteAltered(status.Site.ID)
		out.DueSites = append(out.DueSites, due)
	}
	if page.Next != (coverage.SiteRef{}) {
		cursor.Village, cursor.After = page.Next.Village, page.Next.RegistrationNo
		if out.NextPageToken, err = pageToken(cursor, query...); err != nil {
			return nil, err
		}
	}
	return encoded(out) // as long as the question has its turn
}
