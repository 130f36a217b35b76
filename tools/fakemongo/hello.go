package main

import (
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
)

// hello says what this is: one server by itself, or a router of a sharded cluster.
func (c *call) hello() (bson.D, error) {
	out := bson.D{
		{Key: "helloOk", Value: true}, {Key: "ismaster", Value: true}, {Key: "isWritablePrimary", Value: true},
		{Key: "maxBsonObjectSize", Value: int32(16 << 20)}, {Key: "maxMessageSizeBytes", Value: int32(maxMessage)},
		{Key: "maxWriteBatchSize", Value: int32(100_000)}, {Key: "localTime", Value: time.Now()},
		{Key: "logicalSessionTimeoutMinutes", Value: int32(30)},
		{Key: "minWireVersion", Value: int32(0)}, {Key: "maxWireVersion", Value: int32(21)}, // MongoDB 7
		{Key: "readOnly", Value: false},
	}
	if c.sharded() {
		out = append(out, bson.E{Key: "msg", Value: "isdbgrid"})
	}
	return out, nil
}

func (c *call) buildInfo() (bson.D, error) {
	return bson.D{
		{Key: "version", Value: "7.0.0"}, {Key: "versionArray", Value: bson.A{int32(7), int32(0), int32(0), int32(0)}},
		{Key: "modules", Value: bson.A{"a stand-in in memory"}},
	}, nil
}

func (c *call) nothing() (bson.D, error) { return nil, nil }

// endSessions forgets what came of the last writes of sessions.
func (c *call) endSessions() (bson.D, error) {
	ids, err := valuesOf(c.cmd.Lookup("endSessions"))
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, id := range ids {
		delete(c.sessions, keyOf(id))
	}
	return nil, nil
}
