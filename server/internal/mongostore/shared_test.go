package mongostore

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"xuncha/inspections"
	"xuncha/ledger"
	"xuncha/sites"
)

const site = sites.SiteID("00000000-0000-4000-8000-000000000001")

func draft(id string) ledger.Draft {
	return ledger.Draft{
		History: site.History(), ID: id, Kind: inspections.KindCheckIn, Time: time.Unix(1580515200, 0),
		Account: "local", Content: []byte(`{"finding":"closed"}`),
	}
}

func mustAppend(tb testing.TB, s *Store, id string) ledger.Entry {
	tb.Helper()
	e, existed, err := s.Append(tb.Context(), draft(id))
	if err != nil || existed {
		tb.Fatalf("existed %v, error %v", existed, err)
	}
	return e
}

// two opens one database twice, as two servers do.
func two(tb testing.TB) (a, b *Store) {
	tb.Helper()
	uri := server.Database(tb)
	return openAt(tb, uri), openAt(tb, uri)
}
func mustAppendDraft(t *testing.T, s *Store, d ledger.Draft) {
	t.Helper()
	if _, _, err := s.Append(t.Context(), d); err != nil {
		t.Fatal(err)
	}
}

func TestSchemaIsChecked(t *testing.T) {
	create := func(t *testing.T, s *Store, name string, unique bool, keys bson.D) {
		t.Helper()
		_, err := s.entries.Indexes().CreateOne(t.Context(), mongo.IndexModel{Keys: keys, Options: options.Index().SetName(name).SetUnique(unique)})
		if err != nil {
			t.Fatal(err)
		}
	}
	drop := func(t *testing.T, s *Store) {
		t.Helper()
		if err := s.entries.Indexes().DropOne(t.Context(), "history_id"); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct {
		name   string
		change func(*testing.T, *Store)
		keep   bool
		want   error
		says   string
	}{
		{"as it was", func(*testing.T, *Store) {}, true, nil, ""},
		{"missing", drop, false, nil, ""},
		{"missing and to be kept so", drop, true, ErrSchema, "history_id on [history:1 id:1]"},
		{"not unique", func(t *testing.T, s *Store) {
			drop(t, s)
			create(t, s, "mine", false, collections[0].indexes[1].keys)
		}, false, ErrSchema, "index mine on [history:1 id:1]"},
		{"other keys", func(t *testing.T, s *Store) {
			drop(t, s)
			create(t, s, "history_id", true, bson.D{{Key: "history", Value: 1}, {Key: "hash", Value: 1}})
		}, false, ErrSchema, "history_id on [history:1 hash:1], want it on [history:1 id:1]"},
		{"a newer version", func(t *testing.T, s *Store) {
			_, err := s.db.Collection("meta").UpdateOne(t.Context(), bson.D{}, bson.D{{Key: "$set", Value: bson.D{{Key: "version", Value: 97}}}})
			if err != nil {
				t.Fatal(err)
			}
		}, false, ErrNewer, "schema version 97"},
	} {
		t.Run(c.name, func(t *testing.T) {
			uri := server.Database(t)
			c.change(t, openAt(t, uri))
			s, err := Open(t.Context(), uri, Options{KeepSchema: c.keep})
			if !errors.Is(err, c.want) || err != nil && !strings.Contains(err.Error(), c.says) {
				t.Errorf("got %v, want %v that says %q", err, c.want, c.says)
			}
			if err != nil {
				return
			}
			mustAppend(t, s, "a")
			if _, existed, err := s.Append(t.Context(), draft("a")); err != nil || !existed {
				t.Errorf("the same id: existed %v, error %v", existed, err)
			}
			if err := s.Close(); err != nil {
				t.Error(err)
			}
		})
	}
}

// Heads come in the order of names, from whatever range that they are read in.
func TestHeadsOfAllRanges(t *testing.T) {
	a, _ := two(t)
	want := []string{"a", "accesses/3", "roster", "site", "site/", "site/!"}
	for c := range 16 {
		want = append(want, fmt.Sprintf("site/%x", c), fmt.Sprintf("site/%xf00", c))
	}
	want = append(want, "site/g", "site/x", "zzz")
	for i, h := range want {
		mustAppendDraft(t, a, of(ledger.History(h), "1"))
		if i%2 == 0 {
			mustAppendDraft(t, a, of(ledger.History(h), "2"))
		}
	}
	var got []string
	err := a.Heads(t.Context(), func(h ledger.History, head ledger.Head) error {
		if n := 2 - len(got)%2; head.Sequence != ledger.Sequence(n) {
			t.Errorf("%s is at %d, want %d", h, head.Sequence, n)
		}
		got = append(got, string(h))
		return nil
	})
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("got %q, %v, want %q", got, err, want)
	}
}

func TestRedact(t *testing.T) {
	for uri, want := range map[string]string{
		"mongodb://db.example:27017/city?tls=true":      "mongodb://db.example:27017/city",
		"mongodb://u:geheim@a,b:2/city?replicaSet=r":    "mongodb://a,b:2/city",
		"mongodb+srv://u:ge%40heim@cluster.example":     "mongodb+srv://cluster.example",
		"mongodb://u:ge@heim@a/":                        "mongodb://a/",
		"mongodb://a/?authMechanismProperties=X:geheim": "mongodb://a/",
		"geheim": "(no address)",
		"mongodb://u:geheim@%2Ftmp%2Fmongodb-27017.sock/x": "mongodb://%2Ftmp%2Fmongodb-27017.sock/x",
	} {
		if got := Redact(uri); got != want {
			t.Errorf("%s: got %s, want %s", uri, got, want)
		}
	}
}

func TestWithoutSecrets(t *testing.T) {
	const uri = "mongodb://officer:ge%40heim@a/"
	for _, text := range []string{"dial officer:ge%40heim@a", "bad password ge@heim", "nothing to hide"} {
		got := withoutSecrets(uri, errors.New(text)).Error()
		if strings.Contains(got, "heim") || !strings.Contains(text, "heim") && got != text {
			t.Errorf("%q became %q", text, got)
		}
	}
}
