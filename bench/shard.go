package main

import (
	"context"
	"errors"
	"fmt"

	"go.mongodb.org/mongo-driver/v2/bson"
)

// A bad is something that may befall a shard, and how to undo it.
type bad struct {
	name     string
	do, undo bson.E
	least    float64 // 0 promises nothing
}

// bads are what may befall a shard, of which the sites on another should notice nothing.
var bads = []bad{
	{"has no primary", bson.E{Key: "primary", Value: false}, bson.E{Key: "primary", Value: true}, 0.9},
	{fmt.Sprintf("takes %s to a majority", slowMajority), bson.E{Key: "commit", Value: slowMajority.String()}, bson.E{Key: "commit", Value: toMajority.String()}, 0},
}

// badShard is the shard that bads befall, of two.
const badShard = 1

// harmShard measures what the callers of one shard's sites notice when something befalls
// the other. Half of the callers of each of two servers submit check-ins of either.
func harmShard(ctx context.Context, o options, b binaries) (rows []row, err error) {
	before, after := make([]runs, len(bads)), make([]runs, len(bads))
	beside := make([]outcome, len(bads)) // the callers of the shard's own sites
	for range o.rounds {
		for i, bad := range bads {
			quiet, harmed, others, err := harmOnce(ctx, o, b, bad)
			if err != nil {
				return rows, fmt.Errorf("a shard that %s: %w", bad.name, err)
			}
			before[i], after[i] = append(before[i], quiet), append(after[i], harmed)
			beside[i] = merge([]outcome{beside[i], others})
		}
	}
	for i, bad := range bads {
		failed := 0
		for _, r := range after[i] {
			failed += r.failed
		}
		times := after[i].against(before[i], rateOf)
		r := row{
			name: fmt.Sprintf("SubmitCheckIn of one shard's sites, while the other %s", bad.name),
			measured: fmt.Sprintf("%.2f × before (%.0f a second, p99 %.1f ms, of %.0f and %.1f), %d failed; of the other's %d stored, %d failed",
				times, after[i].median(rateOf), after[i].median(tailOf), before[i].median(rateOf), before[i].median(tailOf),
				failed, beside[i].done, beside[i].failed),
		}
		if bad.least > 0 {
			r.bar, r.met = fmt.Sprintf("≥ %.1f × before, none failed", bad.least), times >= bad.least && failed == 0
		}
		rows = append(rows, r)
	}
	return rows, nil
}

// harmOnce measures the callers of one shard's sites before something befalls the other,
// and after. It returns also what came of the calls about the sites of that other.
func harmOnce(ctx context.Context, o options, b binaries, bad bad) (before, after run, beside outcome, err error) {
	c, err := startCluster(ctx, b, 2, "-shards", "2")
	if err != nil {
		return before, after, beside, err
	}
	defer func() { err = errors.Join(err, c.stop()) }()
	sites, err := c.sitesByShard(ctx, 2)
	if err != nil {
		return before, after, beside, err
	}
	half := max(1, o.callers/2)
	groups := append(c.each(half, sites[1-badShard]), c.each(half, sites[badShard])...)
	for i := range groups {
		groups[i].patient = true
	}
	measure := func() (r run, others outcome, err error) {
		out, cost, err := c.load(ctx, o.window, groups)
		if err != nil {
			return r, others, err
		}
		n := len(c.servers)
		return run{merge(out[:n]), cost}, merge(out[n:]), nil
	}
	var quiet outcome
	if before, quiet, err = measure(); err != nil {
		return before, after, beside, err
	}
	if n := before.failed + quiet.failed; n > 0 {
		return before, after, beside, fmt.Errorf("%d calls failed before anything befell the shard: %w", n, errors.Join(before.err, quiet.err))
	}
	shard := bson.E{Key: "shard", Value: badShard}
	if err := c.standIn.tell(ctx, nil, shard, bad.do); err != nil {
		return before, after, beside, err
	}
	after, beside, err = measure()
	err = errors.Join(err, c.standIn.tell(ctx, nil, shard, bad.undo))
	if err != nil {
		return before, after, beside, err
	}
	return before, after, beside, c.agree(ctx)
}

// sitesByShard returns the ids of the sites of each shard.
func (c *cluster) sitesByShard(ctx context.Context, shards int) ([][]string, error) {
	out := make([][]string, shards)
	for _, id := range c.sites {
		shard, err := c.standIn.shardOf(ctx, "site/"+id)
		if err != nil {
			return nil, err
		}
		if shard < 0 || shard >= shards {
			return nil, fmt.Errorf("the stand-in has a shard %d of %d", shard, shards)
		}
		out[shard] = append(out[shard], id)
	}
	for shard, sites := range out {
		if len(sites) == 0 {
			return nil, fmt.Errorf("shard %d has no site", shard)
		}
	}
	return out, nil
}
