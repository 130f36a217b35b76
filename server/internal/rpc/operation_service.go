package rpc

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"golang.org/x/time/rate"
	"google.golang.org/grpc"

	"xuncha/ledger"
	xunchav1 "xuncha/proto/xuncha/v1"
	"xuncha/sites"
)

type operationService struct {
	xunchav1.UnimplementedOperationServiceServer
	config Config
	// checking has an element while a check of all histories is under way.
	checking chan struct{}
}

const (
	// maxProblems is how many problems an answer has.
	maxProblems = 1000
	// progressEvery is how often a check says how far it is.
	progressEvery = time.Second
)

// errChecking means that somebody else's check is under way. Each reads all that is
// stored, so there is one at a time.
var errChecking = errors.New("another check of all histories is under way")

func newOperationService(c Config) *operationService {
	return &operationService{config: c, checking: make(chan struct{}, 1)}
}

func (s *operationService) GetServerStatus(ctx context.Context, _ *xunchav1.GetServerStatusRequest) (*xunchav1.GetServerStatusResponse, error) {
	problems := slices.Concat(s.config.Problems.All(), alteredHistories(s.config.Altered.All()))
	problems = slices.DeleteFunc(problems, func(p Problem) bool { return !scopeOf(ctx).seesProblem(p) })
	slices.SortStableFunc(problems, func(a, b Problem) int { return a.Since.Compare(b.Since) })
	out := &xunchav1.GetServerStatusResponse{Problems: fromServerProblems(problems), ServerTime: stamp(s.config.Now())}
	if s.config.VerifyTime != nil {
		out.VerifyTime = stamp(s.config.VerifyTime())
	}
	return out, nil
}

// seesProblem reports whether the problem is the caller's concern: those of one site are
// where the site is, and all others are everybody's.
func (s *scope) seesProblem(p Problem) bool {
	if p.Site == "" {
		return true
	}
	site, err := s.rosterAt.SiteEver(p.Site)
	if err != nil {
		return s.everything() == nil // where it stands, nobody knows
	}
	return s.seesSite(site)
}

// alteredHistories returns a problem for each history that does not verify, with the
// first of its faults.
func alteredHistories(faults []ledger.Fault) (out []Problem) {
	for len(faults) > 0 {
		first, more := faults[0], 1
		for more < len(faults) && faults[more].History == first.History {
			more++
		}
		p := ofFault(first)
		if more > 1 {
			p.Message += fmt.Sprintf(" (and %d more entries of this history)", more-1)
		}
		out, faults = append(out, p), faults[more:]
	}
	return out
}

// ofFault returns the problem that a fault is.
func ofFault(f ledger.Fault) Problem {
	p := Problem{
		Kind:    xunchav1.ProblemKind_PROBLEM_KIND_HISTORY_ALTERED,
		Message: f.Why,
		Since:   f.Since, History: f.History, Sequence: f.Sequence,
	}
	p.Site, _ = sites.SiteOf(f.History)
	return p
}

func (s *operationService) CheckHistories(_ *xunchav1.CheckHistoriesRequest, stream grpc.ServerStreamingServer[xunchav1.CheckHistoriesResponse]) error {
	if s.config.CheckHistories == nil {
		return errUnimplemented
	}
	select {
	case s.checking <- struct{}{}:
		defer func() { <-s.checking }()
	default:
		return errChecking
	}
	last := &xunchav1.CheckHistoriesResponse{}
	said := rate.Sometimes{Interval: progressEvery}
	histories, faults, err := s.config.CheckHistories(stream.Context(), func(checked, total int64) {
		said.Do(func() {
			// Where it cannot be sent, the call's context ends.
			_ = stream.Send(&xunchav1.CheckHistoriesResponse{EntriesChecked: checked, EntriesTotal: total})
		})
		last.EntriesChecked, last.EntriesTotal = checked, total
	})
	if err != nil {
		return err
	}
	problems := make([]Problem, min(len(faults), maxProblems))
	for i := range problems {
		problems[i] = ofFault(faults[i])
	}
	last.Done, last.Histories, last.Problems = true, histories, fromServerProblems(problems)
	return stream.Send(last)
}

func (s *operationService) ConfirmClock(context.Context, *xunchav1.ConfirmClockRequest) (*xunchav1.ConfirmClockResponse, error) {
	if s.config.ConfirmClock == nil {
		return nil, errUnimplemented
	}
	return &xunchav1.ConfirmClockResponse{ServerTime: stamp(s.config.ConfirmClock())}, nil
}

func fromServerProblems(problems []Problem) (out []*xunchav1.ServerProblem) {
	for _, p := range problems[:min(len(problems), maxProblems)] {
		out = append(out, &xunchav1.ServerProblem{
			Kind: p.Kind, Message: text(p.Message), SinceTime: stamp(p.Since),
			History: text(string(p.History)), Sequence: int64(p.Sequence), SiteId: text(string(p.Site)),
		})
	}
	return out
}
