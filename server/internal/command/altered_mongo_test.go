package command_test

import (
	"testing"

	"go.mongodb.org/mongo-driver/v2/bson"

	xunchav1 "xuncha/proto/xuncha/v1"
)

// A document that is none of an entry any more, whatever its fields have become, is one
// entry that does not verify. It keeps no server from starting and no round from ending,
// and all other sites go on.
func TestAlteredDocuments(t *testing.T) {
	t.Parallel()
	store := []string{"--store", mongo(t).Database(t)}
	address, stop := serveOn(t, store...)
	ids := fill(t, address)
	a := alter(t, store).(mongoAlterer)
	change := func(history string, sequence int, how, field string, value any) {
		t.Helper()
		if _, err := a.Collection("entries").UpdateOne(t.Context(), at(history, sequence), bson.M{how: bson.M{field: value}}); err != nil {
			t.Fatal(err)
		}
	}
	ways := []struct {
		name string
		do   func(history string)
	}{
		{"a short hash", func(h string) { change(h, 2, "$set", "hash", []byte("short")) }},
		{"the newest one's hash is short", func(h string) { change(h, 3, "$set", "hash", []byte("short")) }},
		{"a hash that is text", func(h string) { change(h, 2, "$set", "hash", "text") }},
		{"no record", func(h string) { change(h, 2, "$unset", "record", "") }},
		{"a record that is a number", func(h string) { change(h, 3, "$set", "record", 7) }},
		{"a time that is a fraction", func(h string) { change(h, 2, "$set", "time", 1.5) }},
		{"a sequence far ahead", func(h string) { change(h, 3, "$set", "sequence", int64(1)<<62) }},
		{"the newest one's sequence is the next", func(h string) { change(h, 3, "$set", "sequence", int64(4)) }},
		{"the newest one's sequence is a bit ahead", func(h string) { change(h, 3, "$set", "sequence", int64(6)) }},
		{"a sequence that is a bit ahead", func(h string) { change(h, 2, "$set", "sequence", int64(5)) }},
		{"a name that is no mark", func(h string) {
			doc := a.document(t, h, 3)
			doc["_id"], doc["sequence"], doc["id"] = "no mark", int64(4), "another"
			if _, err := a.Collection("entries").InsertOne(t.Context(), doc); err != nil {
				t.Fatal(err)
			}
		}},
	}
	conn := connect(t, address)
	for range 3 {
		for i := range ways {
			submit(t, conn, newCheckIn(ids[i]))
		}
	}
	for i, w := range ways {
		w.do("site/" + ids[i])
	}
	want := func(when string) {
		t.Helper()
		if out, status := checkOf(t, "--server", address); status != 1 {
			t.Errorf("%s: got the status %d, want 1: %s", when, status, out)
		}
		got, err := xunchav1.NewOperationServiceClient(conn).GetServerStatus(t.Context(), &xunchav1.GetServerStatusRequest{})
		if err != nil {
			t.Fatal(err)
		}
		named := map[string]bool{}
		for _, p := range got.Problems {
			named[p.SiteId] = true
		}
		for i, w := range ways {
			if !named[ids[i]] {
				t.Errorf("%s: %s is not named in %v", when, w.name, got)
			}
		}
		submit(t, conn, newCheckIn(ids[len(ways)]))
	}
	want("while the server runs")
	stop()
	address, stop = serveOn(t, store...)
	conn = connect(t, address)
	want("after a start")
	if out, stderr, err := xuncha(t, append([]string{"repair", "--yes"}, store...)...); err != nil {
		t.Fatal(out, stderr, err)
	}
	if out, status := checkOf(t, store...); status != 0 {
		t.Errorf("after the repair: got the status %d, want 0: %s", status, out)
	}
	if out, status := checkOf(t, "--server", address); status != 0 {
		t.Errorf("after the repair, through the server: got the status %d, want 0: %s", status, out)
	}
	// Also where servers have what was moved before them, and the history grows.
	for range 2 {
		for i := range ways {
			submit(t, conn, newCheckIn(ids[i]))
		}
		if out, status := checkOf(t, "--server", address); status != 0 {
			t.Errorf("after more was stored: got the status %d, want 0: %s", status, out)
		}
		stop()
		address, stop = serveOn(t, store...)
		conn = connect(t, address)
	}
	stop()
	if out, status := checkOf(t, store...); status != 0 {
		t.Errorf("after more was stored: got the status %d, want 0: %s", status, out)
	}
}
