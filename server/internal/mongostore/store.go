// Package mongostore is the engine to grow into: a MongoDB database that one
// or several servers write to and read from, on a standalone, a replica set or
// a sharded cluster.
//
// An entry is one document, and the two unique indexes of entries, by place and
// by id, are all that keeps servers apart: whoever is second at a place reads
// the history's newest entry again and takes the next one. Nothing needs a
// transaction over several documents, a lock or a leader.
//
// What is acknowledged has been written to the journals of a majority, and only
// what a majority has is read, so nobody is told of an entry that a failover
// could take back. All reads go to the primary: a server must see what it has
// just written, and one that has been lagging must not build on old heads.
package mongostore

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
	"go.mongodb.org/mongo-driver/v2/mongo/readconcern"
	"go.mongodb.org/mongo-driver/v2/mongo/readpref"
	"go.mongodb.org/mongo-driver/v2/mongo/writeconcern"
	"go.mongodb.org/mongo-driver/v2/x/mongo/driver/connstring"

	"xuncha/ledger"
	"xuncha/server/internal/engine"
	"xuncha/sites"
)

var (
	_ ledger.Store = (*Store)(nil)
	_ sites.Rows   = (*Store)(nil)
)

const (
	// DefaultDatabase is used where the address names none.
	DefaultDatabase = "xuncha"

	// opTimeout is how long one operation may take where its caller has more
	// patience.
	opTimeout = 10 * time.Second
	// selectTimeout is how long an operation looks for a server that can take
	// it. An election takes longer at times; the caller is told to try again.
	selectTimeout = 5 * time.Second
	// maxConnections is how many connections there are, unless the address says: enough
	// for all writes that a part of the database holds up, and for all else beside them.
	maxConnections = 2 * (maxTurns + maxSlow)
)

// Options are what can be chosen beside the address.
type Options struct {
	// KeepSchema forbids making collections, indexes and shard keys, and noting the
	// version of the schema. Open fails then where one is missing, and where the
	// version is not this one's.
	KeepSchema bool
	// ReadOnly promises that nothing will be stored. Open then neither makes nor checks
	// indexes and shard keys, so that the user of the address need not be allowed to. It
	// writes nothing, and fails where nothing was ever stored, or by a newer version.
	ReadOnly bool
	// Log is told what keeps Open waiting; nil where nobody wants to know.
	Log *slog.Logger

	// dialer connects to the database where tests look at what is sent.
	dialer options.ContextDialer
}

// A Store is a connection to a database. It is safe for concurrent use.
type Store struct {
	client  *mongo.Client
	db      *mongo.Database
	entries *mongo.Collection
	rows    *mongo.Collection
	writers *mongo.Collection
	secrets *mongo.Collection
	notes   *mongo.Collection
	photos  *photoStore
	where   string // the address without credentials
	sharded bool   // whether the other side is a router of a sharded cluster
	heads   *heads
	missing missing
	writer  *writer
	gate    engine.Gate

	// readers is what readers of the feed knew last.
	readers struct {
		sync.Mutex
		list []remembered
	}
	// heard is what each server has said last.
	heard struct {
		sync.Mutex
		last map[string]said
	}
	// silentAfter and askSilent are the constants of that name, except in tests.
	silentAfter, askSilent time.Duration
}

// Is reports whether a store's name is an address of this engine.
func Is(name string) bool {
	return strings.HasPrefix(name, "mongodb://") || strings.HasPrefix(name, "mongodb+srv://")
}

// Redact returns an address without its credentials and options, for people to
// read. What is no address at all gives a text that says only that.
func Redact(uri string) string {
	scheme, rest, ok := strings.Cut(uri, "://")
	if !ok {
		return "(no address)"
	}
	rest, _, _ = strings.Cut(rest, "?")
	// A password may hold any character where it was not escaped.
	if i := strings.LastIndex(rest, "@"); i >= 0 {
		rest = rest[i+1:]
	}
	return scheme + "://" + rest
}

// Open connects to the database at a mongodb:// or mongodb+srv:// address,
// makes what collections, indexes and shard keys are missing, and checks those
// that are there, as far as the options allow it. It fails within ten seconds where nobody answers. No error
// holds the address's credentials.
func Open(ctx context.Context, uri string, o Options) (_ *Store, err error) {
	where := Redact(uri)
	defer func() {
		if err != nil {
			err = fmt.Errorf("database %s: %w", where, err)
		}
	}()
	address, err := connstring.ParseAndValidate(uri)
	if err != nil {
		return nil, unreadable(uri, err)
	}
	name := address.Database
	if name == "" {
		name = DefaultDatabase
	}
	journal := true
	concern := writeconcern.Majority()
	concern.Journal = &journal
	how := options.Client().
		SetAppName("xuncha").
		SetServerSelectionTimeout(selectTimeout).
		SetConnectTimeout(selectTimeout).
		SetMaxPoolSize(maxConnections).
		ApplyURI(uri).
		// These are the engine's promises, whatever the address says.
		SetWriteConcern(concern).
		SetReadConcern(readconcern.Majority()).
		SetReadPreference(readpref.Primary())
	if o.dialer != nil {
		how.SetDialer(o.dialer)
	}
	client, err := mongo.Connect(how)
	if err != nil {
		return nil, unreadable(uri, err)
	}
	db := client.Database(name)
	s := &Store{
		client: client, db: db, where: where,
		entries: db.Collection("entries"), rows: db.Collection("rows"), writers: db.Collection("writers"),
		secrets: db.Collection("secrets"), notes: db.Collection("notes"), heads: newHeads(),
	}
	s.photos = newPhotoStore(s)
	s.heard.last = map[string]said{}
	s.silentAfter, s.askSilent = silentAfter, askSilent
	defer func() {
		if err != nil {
			err = errors.Join(err, s.disconnect())
		}
	}()
	ping, cancel := context.WithTimeout(ctx, opTimeout-time.Second)
	defer cancel()
	if err := client.Ping(ping, readpref.Primary()); err != nil {
		return nil, fmt.Errorf("does not answer: %w", withoutSecrets(uri, err))
	}
	if err := s.prepare(ctx, o); err != nil {
		return nil, withoutSecrets(uri, err)
	}
	s.writer = newWriter(s)
	s.writer.startTelling()
	return s, nil
}

// unreadable says that an address cannot be read. Why, is only told of one
// without credentials, because the driver quotes parts of what it cannot read.
func unreadable(uri string, err error) error {
	if strings.Contains(uri, "@") {
		return errors.New("is no valid address; in a user name or a password, every character that is no letter or digit is written as %XX")
	}
	return err
}

// withoutSecrets takes the credentials of an address out of an error's text.
func withoutSecrets(uri string, err error) error {
	_, rest, _ := strings.Cut(uri, "://")
	i := strings.LastIndex(rest, "@")
	if i < 0 {
		return err
	}
	text := err.Error()
	clean := strings.ReplaceAll(text, rest[:i], "…")
	_, password, _ := strings.Cut(rest[:i], ":")
	if address, bad := connstring.Parse(uri); bad == nil && address.PasswordSet {
		password = address.Password
	}
	if password != "" {
		clean = strings.ReplaceAll(clean, password, "…")
	}
	if clean == text {
		return err
	}
	return errors.New(clean)
}

// Close waits for the calls that are under way, then disconnects. A call that
// comes later gives ledger.ErrUnavailable.
func (s *Store) Close() error {
	return s.gate.Close(func() error {
		s.writer.stop()
		return s.disconnect()
	})
}

// Shared tells that other servers may write to the database too.
func (s *Store) Shared() bool { return true }

func (s *Store) disconnect() error {
	ctx, cancel := context.WithTimeout(context.Background(), opTimeout)
	defer cancel()
	return s.client.Disconnect(ctx)
}

// do runs one operation of a call within opTimeout, and gives its error the
// meaning that callers know.
func (s *Store) do(ctx context.Context, f func(context.Context) error) error {
	leave, err := s.gate.Enter(ctx)
	if err != nil {
		return err
	}
	defer leave()
	inner, cancel := context.WithTimeout(ctx, opTimeout)
	defer cancel()
	return translate(ctx, f(inner))
}
