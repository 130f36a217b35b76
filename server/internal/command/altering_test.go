package command_test

import (
	"bytes"
	"context"
	"fmt"
	"path/filepath"
	"testing"

	"go.mongodb.org/mongo-driver/v2/bson"
	driver "go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
	"go.mongodb.org/mongo-driver/v2/x/mongo/driver/connstring"
	"zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"

	"xuncha/server/internal/mongostore"
	"xuncha/server/internal/sqlitestore"
)

// An alterer changes what is stored behind the back of Xuncha, as somebody with access
// to the file or the database can.
type alterer interface {
	// record returns what is stored as the record.
	record(t testing.TB, history string, sequence int) []byte
	// set changes a field of an entry.
	set(t testing.TB, history string, sequence int, field string, value any)
	remove(t testing.TB, history string, sequence int)
	// insert stores another entry that is like the one there, with a sequence and a record.
	insert(t testing.TB, history string, like, sequence int, record []byte)
}

// alter returns the alterer of the store that the flags of "xuncha serve" name.
func alter(t testing.TB, store []string) alterer {
	t.Helper()
	if store[0] == "--data" {
		return sqliteAlterer(store[1])
	}
	client, err := driver.Connect(options.Client().ApplyURI(store[1]))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Disconnect(context.Background()) })
	address, err := connstring.Parse(store[1])
	if err != nil {
		t.Fatal(err)
	}
	name := address.Database
	if name == "" {
		name = mongostore.DefaultDatabase
	}
	return mongoAlterer{client.Database(name)}
}

// swap lets two entries have each other's sequences.
func swap(t testing.TB, a alterer, history string, one, other int) {
	t.Helper()
	a.set(t, history, one, "sequence", 999)
	a.set(t, history, other, "sequence", one)
	a.set(t, history, 999, "sequence", other)
}

type sqliteAlterer string

func (a sqliteAlterer) exec(t testing.TB, sql string, result func(*sqlite.Stmt) error, args ...any) {
	t.Helper()
	conn, err := sqlite.OpenConn(filepath.Join(string(a), sqlitestore.File), sqlite.OpenReadWrite)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := sqlitex.Execute(conn, sql, &sqlitex.ExecOptions{Args: args, ResultFunc: result}); err != nil {
		t.Fatal(err)
	}
}

const ofHistory = ` WHERE history = (SELECT id FROM histories WHERE name = ?) AND sequence = ?`

func (a sqliteAlterer) record(t testing.TB, history string, sequence int) (record []byte) {
	t.Helper()
	a.exec(t, `SELECT record FROM entries`+ofHistory, func(stmt *sqlite.Stmt) error {
		record = make([]byte, stmt.ColumnLen(0))
		stmt.ColumnBytes(0, record)
		return nil
	}, history, sequence)
	return record
}

func (a sqliteAlterer) set(t testing.TB, history string, sequence int, field string, value any) {
	t.Helper()
	a.exec(t, `UPDATE entries SET `+field+` = ?`+ofHistory, nil, value, history, sequence)
}

func (a sqliteAlterer) remove(t testing.TB, history string, sequence int) {
	t.Helper()
	a.exec(t, `DELETE FROM entries`+ofHistory, nil, history, sequence)
}

func (a sqliteAlterer) insert(t testing.TB, history string, like, sequence int, record []byte) {
	t.Helper()
	a.exec(t, `INSERT INTO entries (history, sequence, id, kind, time, account, hash, record)
		SELECT history, ?, id || '-2', kind, time, account, hash, ? FROM entries`+ofHistory, nil, sequence, record, history, like)
}

type mongoAlterer struct{ *driver.Database }

func at(history string, sequence int) bson.D {
	return bson.D{{Key: "history", Value: history}, {Key: "sequence", Value: int64(sequence)}}
}

func (a mongoAlterer) document(t testing.TB, history string, sequence int) (doc bson.M) {
	t.Helper()
	if err := a.Collection("entries").FindOne(t.Context(), at(history, sequence)).Decode(&doc); err != nil {
		t.Fatal(err)
	}
	return doc
}

func (a mongoAlterer) record(t testing.TB, history string, sequence int) []byte {
	t.Helper()
	return a.document(t, history, sequence)["record"].(bson.Binary).Data
}

func (a mongoAlterer) set(t testing.TB, history string, sequence int, field string, value any) {
	t.Helper()
	if n, ok := value.(int); ok {
		value = int64(n)
	}
	_, err := a.Collection("entries").UpdateOne(t.Context(), at(history, sequence),
		bson.D{{Key: "$set", Value: bson.D{{Key: field, Value: value}}}})
	if err != nil {
		t.Fatal(err)
	}
}

func (a mongoAlterer) remove(t testing.TB, history string, sequence int) {
	t.Helper()
	if _, err := a.Collection("entries").DeleteOne(t.Context(), at(history, sequence)); err != nil {
		t.Fatal(err)
	}
}

func (a mongoAlterer) insert(t testing.TB, history string, like, sequence int, record []byte) {
	t.Helper()
	doc := a.document(t, history, like)
	doc["_id"] = fmt.Sprintf("%s/%016x", "somebody", sequence)
	doc["sequence"], doc["id"], doc["record"] = int64(sequence), fmt.Sprint(doc["id"], "-2"), record
	if _, err := a.Collection("entries").InsertOne(t.Context(), doc); err != nil {
		t.Fatal(err)
	}
}

// doctored returns the record with more people dispersed.
func doctored(record []byte) []byte {
	return bytes.Replace(record, []byte(`"dispersed_people_count":10,`), []byte(`"dispersed_people_count":99,`), 1)
}
