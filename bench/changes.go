package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	xunchav1 "xuncha/proto/xuncha/v1"
)

// measureChanges measures changes of one site each, and the question after each.
func (c *country) measureChanges(ctx context.Context) (rows []row, err error) {
	coverage := xunchav1.NewCoverageServiceClient(c.conns[0])
	question := func() error {
		_, err := coverage.GetCoverage(ctx, c.coverageRequest(span{}, 1))
		return err
	}
	for _, m := range []struct {
		name, after string
		change      func(i int) error
	}{
		{"UpdateSite, a name", "UpdateSite", func(i int) error { return c.rename(ctx, i) }},
		{"MoveSite, to another village", "MoveSite", func(i int) error { return c.move(ctx, i) }},
	} {
		if err := question(); err != nil {
			return rows, err
		}
		var changes, questions time.Duration
		n := 0
		for begun := time.Now(); n < mostCalls && time.Since(begun) < mostTime; n++ {
			spent, err := c.spent(func() error { return m.change(n) })
			if err != nil {
				return rows, fmt.Errorf("%s: %w", m.name, err)
			}
			changes += spent
			if spent, err = c.spent(question); err != nil {
				return rows, err
			}
			questions += spent
		}
		change, after := changes/time.Duration(n), questions/time.Duration(n)
		rows = append(rows,
			row{name: m.name, measured: fmt.Sprintf("%d times", n), cpu: milliseconds(change) + " ms", bar: "≤ 1 ms CPU", met: change <= time.Millisecond},
			row{name: "the next GetCoverage of the root, depth 1, after " + m.after, cpu: milliseconds(after) + " ms", bar: "≤ 5 ms CPU", met: after <= 5*time.Millisecond})
	}
	return rows, nil
}

// changed returns the site that the i-th change is of. They lie all over the country.
func (c *country) changed(i int) string { return c.ids[(i+1)*7919%len(c.ids)] }

// rename gives a site another name.
func (c *country) rename(ctx context.Context, i int) error {
	_, err := xunchav1.NewRosterServiceClient(c.conns[0]).UpdateSite(ctx, &xunchav1.UpdateSiteRequest{
		SiteId: c.changed(i), Name: proto.String(fmt.Sprintf("更名场所%d", time.Now().UnixNano())),
	})
	return err
}

// move moves a site to a village at the beginning of the country.
func (c *country) move(ctx context.Context, i int) error {
	_, err := xunchav1.NewRosterServiceClient(c.conns[0]).MoveSite(ctx, &xunchav1.MoveSiteRequest{
		SiteId: c.changed(i), DivisionCode: c.land.code(village, i%c.land.counts[village]),
	})
	return err
}

// measureKnown asks for figures as they were known before roster changes.
func (c *country) measureKnown(ctx context.Context) ([]row, error) {
	known := time.Now()
	if err := errors.Join(c.rename(ctx, mostCalls), c.move(ctx, mostCalls)); err != nil {
		return nil, err
	}
	coverage := xunchav1.NewCoverageServiceClient(c.conns[0])
	req := c.coverageRequest(span{}, 1)
	req.KnownTime = timestamppb.New(known)
	question := func() error {
		_, err := coverage.GetCoverage(ctx, req)
		return err
	}
	first, err := c.spent(question)
	if err != nil {
		return nil, err
	}
	again, err := c.cost(ctx, question)
	return []row{{
		name: "GetCoverage of the root, known_time before a roster change, asked again", measured: "first " + milliseconds(first) + " ms CPU",
		cpu: milliseconds(again) + " ms", bar: "≤ 1 ms CPU", met: again <= time.Millisecond,
	}}, err
}
