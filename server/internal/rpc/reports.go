package rpc

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"sync"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"xuncha/inspections"
	"xuncha/inspections/coverage"
	xunchav1 "xuncha/proto/xuncha/v1"
	"xuncha/sites"
)

// lower brings a UUID to the one spelling that records have.
func lower(id string) string { return strings.ToLower(id) }

// unhex reads what the roster's records spell in hexadecimal.
func unhex(s string) []byte {
	b, err := hex.DecodeString(s)
	if err != nil {
		return nil
	}
	return b
}

type inspectionService struct {
	xunchav1.UnimplementedInspectionServiceServer
	config Config
}

func (s *inspectionService) SubmitCheckIn(ctx context.Context, req *xunchav1.SubmitCheckInRequest) (*xunchav1.SubmitCheckInResponse, error) {
	clientTime, err := timeOf("client_time", req.ClientTime)
	if err != nil {
		return nil, err
	}
	checkIn, err := toCheckIn(req.CheckIn)
	if err != nil {
		return nil, inField("check_in", err)
	}
	stored, duplicate, err := s.config.Inspections.Submit(ctx, account(ctx), checkIn, clientTime)
	if err != nil {
		return nil, inField("check_in", err)
	}
	receipt := fromReceipt(stored, nil)
	if duplicate {
		// Of a new one no photo can have come.
		states, err := s.config.Inspections.PhotoStates(ctx, []*inspections.Stored{stored})
		if err != nil {
			return nil, err
		}
		receipt = fromReceipt(stored, states[0])
		receipt.Duplicate = true
	}
	return &xunchav1.SubmitCheckInResponse{Receipt: receipt}, nil
}

// inField puts the field of an error into the field that holds it.
func inField(outer string, err error) error {
	var f *sites.FieldError
	if !errors.As(err, &f) {
		return err
	}
	return &sites.FieldError{Field: outer + "." + f.Field, Err: f.Err}
}

func (s *inspectionService) GetCheckIn(ctx context.Context, req *xunchav1.GetCheckInRequest) (*xunchav1.GetCheckInResponse, error) {
	stored, err := s.config.Inspections.Get(ctx, sites.SiteID(lower(req.SiteId)), inspections.CheckInID(lower(req.CheckInId)))
	if err != nil {
		return nil, err
	}
	states, err := s.config.Inspections.PhotoStates(ctx, []*inspections.Stored{stored})
	if err != nil {
		return nil, err
	}
	return &xunchav1.GetCheckInResponse{CheckIn: fromCheckIn(stored), Receipt: fromReceipt(stored, states[0])}, nil
}

func (s *inspectionService) ListCheckIns(ctx context.Context, req *xunchav1.ListCheckInsRequest) (*xunchav1.ListCheckInsResponse, error) {
	if (req.DivisionCode == "") == (req.SiteId == "") {
		return nil, &sites.FieldError{Field: "division_code", Err: fmt.Errorf("exactly one of it and site_id is given: %w", errInvalid)}
	}
	question, err := s.config.question(sites.DivisionCode(req.DivisionCode), req.StartTime, req.EndTime, req.KnownTime)
	if err != nil {
		return nil, err
	}
	var cursor struct {
		coverage.VisitRef
		Day time.Time `json:",omitzero"`
	}
	query := []string{"ListCheckIns", req.DivisionCode, lower(req.SiteId), spell(req.StartTime), spell(req.EndTime),
		spell(req.KnownTime), req.Flag.String(), strconv.FormatBool(req.FoundOpen)}
	if err := readPageToken(req.PageToken, &cursor, query...); err != nil {
		return nil, err
	}
	if cursor.Sequence < 0 || cursor.Sequence > math.MaxUint32 {
		return nil, errBadToken
	}
	if err := s.config.resume(&question, req.StartTime, req.EndTime, &cursor.Day); err != nil {
		return nil, err
	}
	stored, last, err := s.config.Inspections.List(ctx, question, coverage.VisitFilter{
		Site: sites.SiteID(lower(req.SiteId)), Open: req.FoundOpen,
		VisitedLate: req.Flag == xunchav1.Flag_FLAG_VISITED_LATE, SyncedLate: req.Flag == xunchav1.Flag_FLAG_SYNCED_LATE,
	}, cursor.VisitRef, pageSize(req.PageSize, 50, 200))
	if err != nil {
		return nil, err
	}
	out := &xunchav1.ListCheckInsResponse{}
	states, err := s.config.Inspections.PhotoStates(ctx, stored)
	if err != nil {
		return nil, err
	}
	for i, c := range stored {
		out.Items = append(out.Items, &xunchav1.CheckInItem{CheckIn: fromCheckIn(c), Receipt: fromReceipt(c, states[i])})
	}
	if last != (coverage.VisitRef{}) {
		cursor.VisitRef = last
		out.NextPageToken, err = pageToken(cursor, query...)
	}
	return out, err
}

// question reads what all coverage queries have. A window without a start
// begins today, one without an end ends with its first day.
func (c *Config) question(code sites.DivisionCode, start, end, known *timestamppb.Timestamp) (q inspections.Question, err error) {
	q.Division = code
	if q.Start, err = timeOf("start_time", start); err != nil {
		return q, err
	}
	if q.End, err = timeOf("end_time", end); err != nil {
		return q, err
	}
	if q.Known, err = timeOf("known_time", known); err != nil {
		return q, err
	}
	if q.Start.IsZero() {
		q.Start = midnight(c.Now().In(c.Zone), 0)
	}
	if q.End.IsZero() {
		q.End = midnight(q.Start.In(c.Zone), 1)
	}
	return q, nil
}

// midnight returns the first moment of t's day, or of the day some days later.
func midnight(t time.Time, days int) time.Time {
	y, m, d := t.Date()
	return time.Date(y, m, d+days, 0, 0, 0, 0, t.Location())
}

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
}

type readyAnswer struct {
	response *xunchav1.GetCoverageResponse
	stamp    coverage.Stamp
}

// maxReady is how many answers are kept; past it all are thrown away.
const maxReady = 1000

func (s *coverageService) GetCoverage(ctx context.Context, req *xunchav1.GetCoverageRequest) (*xunchav1.GetCoverageResponse, error) {
	q, err := s.config.question(sites.DivisionCode(req.DivisionCode), req.StartTime, req.EndTime, req.KnownTime)
	if err != nil {
		return nil, err
	}
	q.Depth = int(req.Depth)
	key := readyKey{req.DivisionCode, q.Start.UnixNano(), q.End.UnixNano(), req.Depth}
	if q.Known.IsZero() {
		if a, ok := s.ready.Load(key); ok && a.(readyAnswer).stamp.Fresh(s.config.Now()) {
			return a.(readyAnswer).response, nil
		}
	}
	report, stamp, err := s.config.Inspections.Coverage(ctx, q)
	if err != nil {
		return nil, err
	}
	out, err := encoded(fromReport(report))
	if err == nil && q.Known.IsZero() {
		s.keep(key, readyAnswer{out, stamp})
	}
	return out, err
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

var states = map[xunchav1.DueState]coverage.State{
	xunchav1.DueState_DUE_STATE_UNSPECIFIED:     coverage.Due,
	xunchav1.DueState_DUE_STATE_DUE:             coverage.Due,
	xunchav1.DueState_DUE_STATE_DONE:            coverage.Done,
	xunchav1.DueState_DUE_STATE_OVERDUE:         coverage.Overdue,
	xunchav1.DueState_DUE_STATE_NEVER_INSPECTED: coverage.NeverInspected,
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
	query := []string{"ListDueSites", req.DivisionCode, req.State.String(), spell(req.StartTime), spell(req.EndTime), spell(req.KnownTime)}
	if err := readPageToken(req.PageToken, &cursor, query...); err != nil {
		return nil, err
	}
	if err := s.config.resume(&q, req.StartTime, req.EndTime, &cursor.Day); err != nil {
		return nil, err
	}
	list, err := s.config.Inspections.DueSites(ctx, q, states[req.State])
	if err != nil {
		return nil, err
	}
	out := &xunchav1.ListDueSitesResponse{TotalSize: int32(len(list))}
	for _, status := range list {
		village := status.Path[0]
		if village < cursor.Village || village == cursor.Village && status.Site.RegistrationNo <= cursor.After {
			continue
		}
		if len(out.DueSites) == pageSize(req.PageSize, 100, 1000) {
			last := out.DueSites[len(out.DueSites)-1].Site
			cursor.Village, cursor.After = sites.DivisionCode(last.DivisionCode), last.RegistrationNo
			out.NextPageToken, err = pageToken(cursor, query...)
			break
		}
		out.DueSites = append(out.DueSites, fromStatus(status, q.End))
	}
	return out, err
}
