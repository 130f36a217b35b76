package mongostore

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"xuncha/ledger"
)

// Somebody who changes or deletes documents past the servers keeps nobody from reading
// all others, and each change is named where it was made.
func TestAlteredDocuments(t *testing.T) {
	of := func(site int) ledger.History { return ledger.History(fmt.Sprint("site/", site)) }
	set := func(field string, value any) bson.D { return bson.D{{Key: "$set", Value: bson.D{is(field, value)}}} }
	for name, change := range map[string]bson.D{
		"record": set("record", []byte(`{"format":1}`)), "record of another type": set("record", "text"),
		"hash": set("hash", make([]byte, 32)), "short hash": set("hash", []byte{1}), "no hash": set("hash", nil),
		"time": set("time", int64(1)), "time of another type": set("time", "yesterday"), "id": set("id", "other"), "kind": set("kind", "other"),
		"account": set("account", "other"), "deleted": nil,
	} {
		t.Run(name, func(t *testing.T) {
			uri := server.Database(t)
			s := openAt(t, uri)
			for n := range 5 {
				for site := range 3 {
					d := draft(fmt.Sprint("id-", n))
					d.History = of(site)
					mustAppendDraft(t, s, d)
				}
			}
			there := bson.D{is("history", string(of(1))), is("sequence", int64(3))}
			var err error
			if change == nil {
				_, err = s.entries.DeleteOne(t.Context(), there)
			} else {
				_, err = s.entries.UpdateOne(t.Context(), there, change)
			}
			if err != nil {
				t.Fatal(err)
			}
			fresh := openAt(t, uri)
			v := ledger.NewVerifier(time.Now)
			verified := map[ledger.History]int{}
			for e, err := range fresh.Feed(t.Context(), "") {
				if errors.Is(err, ledger.ErrWaiting) {
					break
				}
				if err != nil {
					t.Fatalf("the feed: %v", err)
				}
				if v.Take(e.Entry) {
					verified[e.History]++
				}
			}
			if flaws := v.Flaws(); len(flaws) == 0 || flaws[0].History != of(1) || flaws[0].Sequence != 3 || slices.ContainsFunc(flaws, func(f ledger.Flaw) bool { return f.History != of(1) }) {
				t.Errorf("got %+v, want %s at 3", flaws, of(1))
			}
			if verified[of(0)] != 5 || verified[of(2)] != 5 {
				t.Errorf("of the others %v verify, want all", verified)
			}
			for _, site := range []int{0, 2} {
				d := draft("new")
				d.History = of(site)
				mustAppendDraft(t, fresh, d)
			}
			if _, err := fresh.Newest(t.Context(), of(1), 0, 10); err != nil {
				t.Errorf("reading what was altered: %v", err)
			}
		})
	}
}

// Behind a newest entry of which not even the hash can be read, nothing is appended.
func TestAppendBehindAnAlteredHead(t *testing.T) {
	uri := server.Database(t)
	s := openAt(t, uri)
	for _, id := range []string{"a", "b"} {
		mustAppend(t, s, id)
	}
	_, err := s.entries.UpdateOne(t.Context(), bson.D{is("history", string(site.History())), is("sequence", int64(2))},
		bson.D{{Key: "$set", Value: bson.D{is("hash", []byte{1})}}})
	if err != nil {
		t.Fatal(err)
	}
	fresh := openAt(t, uri)
	if _, _, err := fresh.Append(t.Context(), draft("c")); !errors.Is(err, ledger.ErrAltered) {
		t.Errorf("got %v, want ErrAltered", err)
	}
}

// A secret in whose place somebody has put something else is one that nobody can read,
// and keeps nobody from the others. It can be replaced.
func TestAlteredSecret(t *testing.T) {
	s := openAt(t, server.Database(t))
	for _, name := range []string{"a", "b", "c"} {
		if err := s.PutSecret(t.Context(), name, 0, []byte(name)); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := s.secrets.UpdateOne(t.Context(), bson.D{is("name", "b")}, bson.D{{Key: "$set", Value: bson.D{is("value", "text")}}}); err != nil {
		t.Fatal(err)
	}
	got := ""
	if err := s.Secrets(t.Context(), "", func(name string, value []byte) error { got += name + "=" + string(value) + " "; return nil }); err != nil || got != "a=a b= c=c " {
		t.Errorf("got %s, %v", got, err)
	}
	value, revision, err := s.Secret(t.Context(), "b")
	if err != nil || len(value) > 0 || revision != 1 {
		t.Errorf("got %q at %d, %v", value, revision, err)
	}
	if err := s.PutSecret(t.Context(), "b", 1, []byte("new")); err != nil {
		t.Error(err)
	}
	if _, err := s.secrets.UpdateOne(t.Context(), bson.D{is("name", "a")}, bson.D{{Key: "$set", Value: bson.D{is("revision", "one")}}}); err != nil {
		t.Fatal(err)
	}
	if _, _, err := s.Secret(t.Context(), "a"); !errors.Is(err, ledger.ErrDamaged) {
		t.Errorf("got %v, want ErrDamaged", err)
	}
}
