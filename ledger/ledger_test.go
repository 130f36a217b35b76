package ledger_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"xuncha/ledger"
)

var noon = time.Date(2020, 2, 1, 4, 0, 0, 500_000_000, time.UTC)

func draft(id string, at time.Time) ledger.Draft {
	return ledger.Draft{
		History: "site/1", ID: id, Kind: "check_in", Time: at, Account: "local", Content: []byte(`{"note":"门口"}`),
	}
}

// chain seals drafts one after the other.
func chain(drafts ...ledger.Draft) []ledger.Entry {
	var head ledger.Head
	var out []ledger.Entry
	for _, d := range drafts {
		e := head.Seal(d)
		head = e.Head()
		out = append(out, e)
	}
	return out
}

// TestSealGolden holds the record format, which is a promise: whoever has a
// file of records checks it with any SHA-256 program.
func TestSealGolden(t *testing.T) {
	entries := chain(draft("a", noon), draft("b", noon.Add(time.Second)))
	want := []string{
		`{"format":1,"history":"site/1","sequence":1,"kind":"check_in","id":"a","receive_time":"2020-02-01T04:00:00.5Z","account":"local","content":{"note":"门口"}}`,
		`{"format":1,"history":"site/1","sequence":2,"kind":"check_in","id":"b","receive_time":"2020-02-01T04:00:01.5Z","account":"local","content":{"note":"门口"}}`,
	}
	before := make([]byte, 32)
	for i, e := range entries {
		if string(e.Record) != want[i] {
			t.Errorf("record %d:\ngot  %s\nwant %s", i+1, e.Record, want[i])
		}
		hash := sha256.Sum256(slices.Concat([]byte("xuncha entry v1\n"), before, e.Record))
		if e.Hash != hash {
			t.Errorf("hash %d: got %x, want %x", i+1, e.Hash, hash)
		}
		before = hash[:]
	}
	if got := ledger.Content(entries[0].Record); string(got) != `{"note":"门口"}` {
		t.Errorf("Content: got %s", got)
	}
}

// TestSealTimeNeverRunsBack ensures that a server whose clock is behind does
// not make a history that runs backwards.
func TestSealTimeNeverRunsBack(t *testing.T) {
	entries := chain(draft("a", noon), draft("b", noon.Add(-time.Hour)))
	if got := entries[1].Time; !got.Equal(noon) {
		t.Errorf("got %v, want %v", got, noon)
	}
}

func TestFollow(t *testing.T) {
	whole := func() []ledger.Entry {
		return chain(draft("a", noon), draft("b", noon.Add(1)), draft("c", noon.Add(2)), draft("d", noon.Add(3)))
	}
	for _, test := range []struct {
		name string
		harm func([]ledger.Entry) []ledger.Entry
		want string // in the error; empty for none
	}{
		{"OK", func(e []ledger.Entry) []ledger.Entry { return e }, ""},
		{"ByteChanged", func(e []ledger.Entry) []ledger.Entry {
			e[1].Record = bytes.Replace(e[1].Record, []byte("门口"), []byte("门外"), 1)
			return e
		}, "site/1 at sequence 2"},
		{"Removed", func(e []ledger.Entry) []ledger.Entry { return slices.Delete(e, 2, 3) }, "site/1 at sequence 3"},
		{"Swapped", func(e []ledger.Entry) []ledger.Entry { e[1], e[2] = e[2], e[1]; return e }, "site/1 at sequence 2"},
		{"Inserted", func(e []ledger.Entry) []ledger.Entry {
			return slices.Insert(e, 1, e[0].Head().Seal(draft("x", noon)))
		}, "site/1 at sequence 3"},
		{"RewrittenButNotItsSuccessors", func(e []ledger.Entry) []ledger.Entry {
			d := draft("b", noon.Add(1))
			d.Content = []byte(`{}`)
			e[1] = e[0].Head().Seal(d)
			return e
		}, "site/1 at sequence 3"},
		{"ColumnsDifferFromRecord", func(e []ledger.Entry) []ledger.Entry { e[3].ID = "e"; return e }, "site/1 at sequence 4"},
	} {
		t.Run(test.name, func(t *testing.T) {
			var head ledger.Head
			var err error
			for _, e := range test.harm(whole()) {
				if head, err = head.Follow(e); err != nil {
					break
				}
			}
			if test.want == "" && err != nil {
				t.Fatal(err)
			}
			if test.want != "" && (!errors.Is(err, ledger.ErrBroken) || !strings.Contains(err.Error(), test.want)) {
				t.Errorf("got %v, want ErrBroken naming %q", err, test.want)
			}
		})
	}
}

func TestParseRefuses(t *testing.T) {
	good := string(chain(draft("a", noon))[0].Record)
	for name, record := range map[string]string{
		"Empty":         "",
		"NoJSON":        "hello",
		"Space":         strings.Replace(good, `,"history"`, `, "history"`, 1),
		"KeysSwapped":   strings.Replace(good, `"id":"a","receive_time":"2020-02-01T04:00:00.5Z"`, `"receive_time":"2020-02-01T04:00:00.5Z","id":"a"`, 1),
		"UnknownKey":    strings.Replace(good, `,"content"`, `,"more":1,"content"`, 1),
		"NoSequence":    strings.Replace(good, `"sequence":1`, `"sequence":0`, 1),
		"LaterFormat":   strings.Replace(good, `"format":1`, `"format":2`, 1),
		"OtherTimeForm": strings.Replace(good, `00.5Z`, `00.500Z`, 1),
		"Trailing":      good + "\n",
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := ledger.Parse([]byte(record)); !errors.Is(err, ledger.ErrBadRecord) {
				t.Errorf("got %v, want ErrBadRecord", err)
			}
		})
	}
}

// FuzzParse ensures that what is read is exactly what would be written, and
// that texts of any kind come back as they were.
func FuzzParse(f *testing.F) {
	f.Add([]byte(chain(draft("a", noon))[0].Record), "门口\u2028\x00\"\\")
	f.Fuzz(func(t *testing.T, record []byte, text string) {
		if e, err := ledger.Parse(record); err == nil {
			again := ledger.Head{Sequence: e.Sequence - 1}.Seal(ledger.Draft{
				History: e.History, ID: e.ID, Kind: e.Kind, Time: e.Time, Account: e.Account, Content: ledger.Content(e.Record),
			})
			if !bytes.Equal(again.Record, record) {
				t.Errorf("got %s, want %s", again.Record, record)
			}
		}
		d := draft(text, noon)
		d.Account = text
		e := ledger.Head{}.Seal(d)
		if !json.Valid(e.Record) {
			t.Fatalf("no JSON: %s", e.Record)
		}
		if read, err := ledger.Parse(e.Record); err != nil {
			t.Error(err)
		} else if utf8.ValidString(text) && (read.ID != text || read.Account != text) {
			t.Errorf("got %q, want %q", read.ID, text)
		}
	})
}
