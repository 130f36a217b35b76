package main

import (
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
)

// standIn steers and tells, as one field beside the command says:
//
//	{standIn: 1, shard: 0, primary: false}  takes a shard's primary away, or gives it back
//	{standIn: 1, shard: 0, commit: "31s"}   is how long what comes later takes to a majority
//	{standIn: 1, loseReply: true}           stores the next insert into entries, and hangs up
//	{standIn: 1, counts: true}              answers {counts: {"find entries": 12, …}}
//	{standIn: 1, shardOf: "a history"}      answers {shard: 0}
//
// What needs a shard without a primary waits until there is one, for 15 seconds, for
// its maxTimeMS, or until the client goes, which is counted as "gone".
func (c *call) standIn() (bson.D, error) {
	if key := c.cmd.Lookup("shardOf"); !key.IsZero() {
		return bson.D{{Key: "shard", Value: int32(c.shardOf(keyOf(key)))}}, nil
	}
	if truthy(c.cmd.Lookup("counts")) {
		return bson.D{{Key: "counts", Value: c.copyCounts()}}, nil
	}
	if lose := c.cmd.Lookup("loseReply"); !lose.IsZero() {
		c.loseReply.Store(truthy(lose))
		return nil, nil
	}
	n, ok := c.cmd.Lookup("shard").AsInt64OK()
	if !ok || n < 0 || n >= int64(len(c.shards)) {
		return nil, fail(codeBadValue, "standIn: there is no such shard: %s", c.cmd)
	}
	shard := c.shards[n]
	if text, ok := c.cmd.Lookup("commit").StringValueOK(); ok {
		d, err := time.ParseDuration(text)
		if err != nil || d < 0 {
			return nil, fail(codeBadValue, "standIn: commit is %q", text)
		}
		shard.mu.Lock()
		defer shard.mu.Unlock()
		shard.commit = d
		return nil, nil
	}
	there, ok := c.cmd.Lookup("primary").BooleanOK()
	if !ok {
		return nil, fail(codeBadValue, "standIn: nothing known is asked for: %s", c.cmd)
	}
	shard.setPrimary(there)
	return nil, nil
}

func (c *call) copyCounts() map[string]int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	out := make(map[string]int64, len(c.counts))
	for k, n := range c.counts {
		out[k] = n
	}
	return out
}

// setPrimary takes the primary away or gives it back.
func (h *shard) setPrimary(there bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	switch {
	case there && h.absent != nil:
		close(h.absent)
		h.absent = nil
	case !there && h.absent == nil:
		h.absent = make(chan struct{})
	}
}
