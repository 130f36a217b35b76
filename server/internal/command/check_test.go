package command_test

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"testing"

	"xuncha/client"
	xunchav1 "xuncha/proto/xuncha/v1"
	"xuncha/server/internal/command"
)

// checkOf runs "xuncha check" and returns what it printed and its status.
func checkOf(t testing.TB, args ...string) (out string, status int) {
	t.Helper()
	out, stderr, err := xuncha(t, append([]string{"check"}, args...)...)
	if err != nil {
		out += fmt.Sprintf("%s%v\n", stderr, err)
	}
	return out, command.ExitCode(err)
}

// An alteration is one of a history that has 8 entries, and what is said of it: the
// first sequences at which something does not verify, and words of the line about the
// first. More tells that there may be others.
type alteration struct {
	name      string
	do        func(t testing.TB, a alterer, history string)
	sequences []int
	says      string
	more      bool
}

// alterations are those that can be made in either engine.
var alterations = []alteration{
	{"a record", func(t testing.TB, a alterer, h string) { a.set(t, h, 4, "record", doctored(a.record(t, h, 4))) },
		[]int{4}, "does not follow from", false},
	{"the newest record", func(t testing.TB, a alterer, h string) { a.set(t, h, 8, "record", doctored(a.record(t, h, 8))) },
		[]int{8}, "its hash does not follow from its record", false},
	{"a hash", func(t testing.TB, a alterer, h string) { a.set(t, h, 4, "hash", bytes.Repeat([]byte{7}, 32)) },
		[]int{4}, "hash stored with it was changed", false},
	{"a column", func(t testing.TB, a alterer, h string) { a.set(t, h, 4, "account", "somebody") },
		[]int{4}, "account stored beside its record", false},
	{"the first one removed", func(t testing.TB, a alterer, h string) { a.remove(t, h, 1) },
		[]int{1, 2}, "it is missing", false},
	{"one removed", func(t testing.TB, a alterer, h string) { a.remove(t, h, 4) },
		[]int{4, 5}, "it is missing", false},
	{"two swapped", func(t testing.TB, a alterer, h string) { swap(t, a, h, 4, 5) },
		[]int{4}, "", true},
	{"one slipped in behind", func(t testing.TB, a alterer, h string) { a.insert(t, h, 8, 9, doctored(a.record(t, h, 8))) },
		[]int{9}, "", false},
}

func TestCheckAndRepair(t *testing.T) {
	t.Parallel()
	onBothEngines(t, testCheckAndRepair)
}

func testCheckAndRepair(t *testing.T, store ...string) {
	address, stop := serveOn(t, store...)
	ids := fill(t, address)
	conn := connect(t, address)
	tests := slices.Clone(alterations)
	if store[0] == "--data" {
		tests = append(tests, alteration{"a second one with the sequence",
			func(t testing.TB, a alterer, h string) { a.insert(t, h, 4, 4, doctored(a.record(t, h, 4))) }, []int{4}, "second entry", false},
			alteration{"the newest one removed", func(t testing.TB, a alterer, h string) { a.remove(t, h, 8) }, []int{8}, "it is missing", false})
	}
	photo := cameraPhoto(t, 1)
	with := newCheckIn(ids[len(tests)])
	with.Photos = []*xunchav1.Photo{client.Declare(photo)}
	submit(t, conn, with)
	if err := newClient(t, address).UploadPhoto(t.Context(), photoOf(with, photo)); err != nil {
		t.Fatal(err)
	}
	for i := range tests {
		for range 8 {
			submit(t, conn, newCheckIn(ids[i]))
		}
	}
	stop()
	if out, status := checkOf(t, store...); status != 0 || !strings.Contains(out, "the rows of 2 imports, 1 photos; all is well.") {
		t.Fatalf("got status %d, want 0: %s", status, out)
	}
	a := alter(t, store)
	for i, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			history := "site/" + ids[i]
			test.do(t, a, history)
			out, status := checkOf(t, store...)
			if status != 1 {
				t.Fatalf("got status %d, want 1: %s", status, out)
			}
			lines := strings.Split(out, "\n")
			for n, q := range test.sequences {
				if want := fmt.Sprintf(", sequence %d: ", q); !strings.HasPrefix(lines[n], history+" (SC-GA-") || !strings.Contains(lines[n], want) {
					t.Errorf("line %d is %q, want %s and %s", n, lines[n], history, want)
				}
			}
			if !strings.Contains(lines[0], test.says) || !test.more && !strings.Contains(out, fmt.Sprintf("; findings: %d", len(test.sequences))) {
				t.Errorf("got %s, want %q and %d findings", out, test.says, len(test.sequences))
			}
			dry, _, err := xuncha(t, append([]string{"repair", "--dry-run"}, store...)...)
			if err != nil || !strings.Contains(dry, lines[0]) || !strings.Contains(dry, "Nothing was stored.") {
				t.Errorf("got %s %v, want a list", dry, err)
			}
			if again, _ := checkOf(t, store...); again != out {
				t.Errorf("a dry run changed the findings: %s", again)
			}
			if _, _, err := xuncha(t, append([]string{"repair"}, store...)...); err == nil || !strings.Contains(err.Error(), "--yes") {
				t.Errorf("got %v, want that it does not go on without asking", err)
			}
			if again, _ := checkOf(t, store...); again != out {
				t.Errorf("a repair that was not confirmed changed the findings: %s", again)
			}
			out, _, err = xuncha(t, append([]string{"repair", "--yes", "--reason", "a disk went bad"}, store...)...)
			if err != nil || !strings.Contains(out, "Done.") {
				t.Fatalf("got %s %v", out, err)
			}
			if out, status := checkOf(t, store...); status != 0 || !strings.Contains(out, "all is well; entries that were set aside before: ") {
				t.Errorf("after the repair: got status %d, want 0: %s", status, out)
			}
		})
	}
	// What was set aside is still there, and is noticed where it changes again.
	first := "site/" + ids[0]
	if got := a.record(t, first, 4); !bytes.Contains(got, []byte(`"dispersed_people_count":99,`)) {
		t.Errorf("the altered record is %s", got)
	}
	a.set(t, first, 4, "record", bytes.Replace(a.record(t, first, 4), []byte(":99,"), []byte(":98,"), 1))
	if out, status := checkOf(t, store...); status != 1 || !strings.HasPrefix(out, first+" ") {
		t.Errorf("a second change: got status %d, want 1: %s", status, out)
	}
}
