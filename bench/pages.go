package main

import (
	"context"
	"fmt"
	"time"

	"xuncha/client"
	xunchav1 "xuncha/proto/xuncha/v1"
)

// pageNames are where in a list its pages are measured.
var pageNames = [3]string{"start", "middle", "end"}

// A pageCost is the server's CPU time of the dearest page of a list.
type pageCost struct {
	list string
	cpu  time.Duration
}

// A list is one that is asked for page by page.
type list struct {
	name string
	// size is how many a page has by default, and most how many it can have.
	size, most int32
	// page asks for a page and returns how many it has, and the token of the next.
	page func(ctx context.Context, size int32, token string) (n int, next string, err error)
}

// lists returns the lists of the whole country that heads page through.
func (c *country) lists(conn *client.Client) []list {
	past := dayAgo(pastDays)
	due := func(state xunchav1.DueState) func(context.Context, int32, string) (int, string, error) {
		return func(ctx context.Context, size int32, token string) (int, string, error) {
			answer, err := xunchav1.NewCoverageServiceClient(conn).ListDueSites(ctx, &xunchav1.ListDueSitesRequest{
				DivisionCode: c.land.root, State: state, PageSize: size, PageToken: token,
			})
			return len(answer.GetDueSites()), answer.GetNextPageToken(), err
		}
	}
	checkIns := func(open bool) func(context.Context, int32, string) (int, string, error) {
		return func(ctx context.Context, size int32, token string) (int, string, error) {
			answer, err := xunchav1.NewInspectionServiceClient(conn).ListCheckIns(ctx, &xunchav1.ListCheckInsRequest{
				DivisionCode: c.land.root, StartTime: past.start, EndTime: past.end, FoundOpen: open, PageSize: size, PageToken: token,
			})
			return len(answer.GetItems()), answer.GetNextPageToken(), err
		}
	}
	return []list{
		{"ListDueSites, all, today", 100, 1000, due(xunchav1.DueState_DUE_STATE_DUE)},
		{"ListDueSites, overdue, today", 100, 1000, due(xunchav1.DueState_DUE_STATE_OVERDUE)},
		{"ListCheckIns, all, a past day", 50, 200, checkIns(false)},
		{"ListCheckIns, found open, a past day", 50, 200, checkIns(true)},
	}
}

// walk pages through the list with the largest pages, and returns how long it is and the
// tokens with which a page of the default size begins at its start, in its middle and
// near its end.
func (l list) walk(ctx context.Context) (total int, tokens [3]string, err error) {
	all, at := []string{""}, []int{0}
	for {
		n, next, err := l.page(ctx, l.most, all[len(all)-1])
		if err != nil {
			return 0, tokens, err
		}
		if total += n; next == "" {
			break
		}
		all, at = append(all, next), append(at, total)
	}
	last := len(all) - 1
	for last > 0 && total-at[last] < int(l.size) {
		last-- // so that the page at the end is a full one
	}
	return total, [3]string{all[0], all[len(all)/2], all[last]}, nil
}

// measurePages measures pages of the lists, at their start, in their middle and at
// their end.
func (c *country) measurePages(ctx context.Context) (rows []row, costs []pageCost, err error) {
	for _, l := range c.lists(c.conns[0]) {
		total, tokens, err := l.walk(ctx)
		if err != nil {
			return rows, costs, fmt.Errorf("%s: %w", l.name, err)
		}
		r := row{name: "a page of " + l.name, bar: "≤ 1 ms CPU"}
		dearest := time.Duration(0)
		for i, token := range tokens {
			spent, err := c.cost(ctx, func() error {
				_, _, err := l.page(ctx, l.size, token)
				return err
			})
			if err != nil {
				return rows, costs, fmt.Errorf("%s, %s: %w", l.name, pageNames[i], err)
			}
			if i > 0 {
				r.cpu += ", "
			}
			r.cpu += milliseconds(spent)
			dearest = max(dearest, spent)
		}
		r.cpu += " ms"
		r.measured = fmt.Sprintf("%d of %d, at the start, the middle, the end", min(int(l.size), total), total)
		r.met = dearest <= time.Millisecond
		rows, costs = append(rows, r), append(costs, pageCost{l.name, dearest})
	}
	return rows, costs, nil
}
