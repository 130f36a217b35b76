package mongotest

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
	"go.mongodb.org/mongo-driver/v2/mongo/readpref"
)

// ErrCalm means that the server can only be disturbed by whoever runs it.
var ErrCalm = errors.New("a standalone that is not ours cannot be disturbed")

// electionTimeout is how long a replica set may take to have a primary again.
const electionTimeout = time.Minute

// Disturb takes the database away for a moment, and returns once it is back. A
// server of our own is killed and started again. A replica set elects another
// primary, and so does each shard of a sharded cluster.
func (s *Server) Disturb(ctx context.Context) error {
	if s.process != nil {
		return errors.Join(s.Kill(), s.Restart())
	}
	ctx, cancel := context.WithTimeout(ctx, 2*electionTimeout)
	defer cancel()
	var hello struct {
		Set     string `bson:"setName"`
		Message string `bson:"msg"`
	}
	var cluster struct {
		Shards []struct {
			Host string `bson:"host"` // SET/HOST:PORT,…
		} `bson:"shards"`
	}
	err := s.with(ctx, "", func(admin *mongo.Database) error {
		err := admin.RunCommand(ctx, bson.D{{Key: "hello", Value: 1}}).Decode(&hello)
		if err != nil || hello.Message != "isdbgrid" {
			return err
		}
		return admin.RunCommand(ctx, bson.D{{Key: "listShards", Value: 1}}).Decode(&cluster)
	})
	switch {
	case err != nil:
		return err
	case hello.Message == "isdbgrid":
		for _, shard := range cluster.Shards {
			if err := s.with(ctx, shard.Host, func(admin *mongo.Database) error { return elect(ctx, admin) }); err != nil {
				return fmt.Errorf("shard %s: %w", shard.Host, err)
			}
		}
		return nil
	case hello.Set != "":
		return s.with(ctx, "", func(admin *mongo.Database) error { return elect(ctx, admin) })
	}
	return ErrCalm
}

// with connects to the server as who tests run, or to the replica set of a shard.
func (s *Server) with(ctx context.Context, shard string, f func(admin *mongo.Database) error) error {
	o := options.Client().ApplyURI(s.uri)
	if set, hosts, ok := strings.Cut(shard, "/"); ok {
		o.SetHosts(strings.Split(hosts, ",")).SetReplicaSet(set)
	}
	client, err := mongo.Connect(o.SetServerSelectionTimeout(electionTimeout))
	if err != nil {
		return err
	}
	return errors.Join(f(client.Database("admin")), client.Disconnect(context.WithoutCancel(ctx)))
}

// elect has a replica set's primary step down, and waits for the next one. That is
// the same one, after a few seconds, where the set has no other member.
func elect(ctx context.Context, admin *mongo.Database) error {
	err := admin.RunCommand(ctx, bson.D{
		{Key: "replSetStepDown", Value: 4}, {Key: "secondaryCatchUpPeriodSecs", Value: 2}, {Key: "force", Value: true},
	}).Err()
	if err != nil {
		return fmt.Errorf("stepping down: %w", err)
	}
	return admin.Client().Ping(ctx, readpref.Primary())
}
