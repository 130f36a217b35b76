package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	mongooptions "go.mongodb.org/mongo-driver/v2/mongo/options"
)

// standInSource is where the stand-in for MongoDB is, from the repository's root. It is a
// module of its own.
const standInSource = "tools/fakemongo"

// toMajority is how long the stand-in takes until a majority has a write.
const toMajority = 5 * time.Millisecond

// buildStandIn builds the stand-in.
func buildStandIn(ctx context.Context, folder string) (string, error) {
	binary, err := filepath.Abs(filepath.Join(folder, "standin"))
	if err != nil {
		return "", err
	}
	command := exec.CommandContext(ctx, "go", "build", "-o", binary, ".")
	command.Dir, command.Stderr = standInSource, os.Stderr
	if err := command.Run(); err != nil {
		return "", fmt.Errorf("go build in %s (run this from the repository's root): %w", standInSource, err)
	}
	return binary, nil
}

// A standIn is a database in memory that stands in for MongoDB. It takes as long as the
// flags say, and does what it is told: lose a shard's primary, for example.
type standIn struct {
	child
	client *mongo.Client
}

// startStandIn starts a stand-in that is empty.
func startStandIn(ctx context.Context, binary string, flags ...string) (*standIn, error) {
	process := exec.CommandContext(ctx, binary, append([]string{"-listen", "127.0.0.1:0", "-commit", toMajority.String()}, flags...)...)
	c, err := startProcess(process, "listening ")
	if err != nil {
		return nil, err
	}
	client, err := mongo.Connect(mongooptions.Client().ApplyURI(c.address))
	if err != nil {
		return nil, errors.Join(err, c.stop())
	}
	return &standIn{c, client}, nil
}

// database returns the address of the database that the servers share.
func (s *standIn) database() string { return strings.TrimSuffix(s.address, "/") + "/xuncha" }

// tell gives the stand-in an order, and reads its answer into reply unless that is nil.
func (s *standIn) tell(ctx context.Context, reply any, order ...bson.E) error {
	result := s.client.Database("admin").RunCommand(ctx, append(bson.D{{Key: "standIn", Value: 1}}, order...))
	if reply == nil {
		return result.Err()
	}
	return result.Decode(reply)
}

// shardOf returns the shard on which a history lies.
func (s *standIn) shardOf(ctx context.Context, history string) (int, error) {
	var reply struct {
		Shard int `bson:"shard"`
	}
	err := s.tell(ctx, &reply, bson.E{Key: "shardOf", Value: history})
	return reply.Shard, err
}

// asked returns how often each command was asked for since the start.
func (s *standIn) asked(ctx context.Context) (questions, error) {
	var reply struct {
		Counts map[string]int64 `bson:"counts"`
	}
	err := s.tell(ctx, &reply, bson.E{Key: "counts", Value: true})
	return reply.Counts, err
}

// stop ends the stand-in, and with it all that it had stored.
func (s *standIn) stop() error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	return errors.Join(s.client.Disconnect(ctx), s.child.stop())
}
