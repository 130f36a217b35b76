package command_test

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	grpcstatus "google.golang.org/grpc/status"

	"xuncha/client"
	xunchav1 "xuncha/proto/xuncha/v1"
	"xuncha/server/internal/command"
	commands "xuncha/server/internal/command/client"
	"xuncha/server/internal/sqlitestore"
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
// first. More tells that there may be others. Left is how many entries still count after
// a repair, 0 where that depends.
type alteration struct {
	name      string
	do        func(t testing.TB, a alterer, history string)
	sequences []int
	says      string
	more      bool
	left      int
}

// alterations are those that can be made in either engine.
var alterations = []alteration{
	{"a record", func(t testing.TB, a alterer, h string) { a.set(t, h, 4, "record", doctored(a.record(t, h, 4))) },
		[]int{4}, "its record was changed", false, 7},
	{"the newest record", func(t testing.TB, a alterer, h string) { a.set(t, h, 8, "record", doctored(a.record(t, h, 8))) },
		[]int{8}, "its hash does not follow from its record", false, 7},
	{"a hash", func(t testing.TB, a alterer, h string) { a.set(t, h, 4, "hash", bytes.Repeat([]byte{7}, 32)) },
		[]int{4}, "hash stored with it was changed", false, 7},
	{"a column", func(t testing.TB, a alterer, h string) { a.set(t, h, 4, "account", "somebody") },
		[]int{4}, "account stored beside its record", false, 7},
	{"the first one removed", func(t testing.TB, a alterer, h string) { a.remove(t, h, 1) },
		[]int{1, 2}, "it is missing", false, 6},
	{"one removed", func(t testing.TB, a alterer, h string) { a.remove(t, h, 4) },
		[]int{4, 5}, "it is missing", false, 6},
	{"two swapped", func(t testing.TB, a alterer, h string) { swap(t, a, h, 4, 5) },
		[]int{4}, "", true, 0},
	{"one slipped in behind", func(t testing.TB, a alterer, h string) { a.insert(t, h, 8, 9, doctored(a.record(t, h, 8))) },
		[]int{9}, "", false, 8},
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
			func(t testing.TB, a alterer, h string) { a.insert(t, h, 4, 4, doctored(a.record(t, h, 4))) }, []int{4}, "second entry", false, 8},
			alteration{"the newest one removed", func(t testing.TB, a alterer, h string) { a.remove(t, h, 8) }, []int{8}, "it is missing", false, 7})
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
	// Then a server takes entries of each of them again, and counts those that were not set
	// aside.
	address, stop = serveOn(t, store...)
	conn = connect(t, address)
	counted := int64(1) // the one with the photo
	for i, test := range tests {
		submit(t, conn, newCheckIn(ids[i]))
		n := int64(countedOf(t, conn, ids[i]))
		if test.left > 0 && n != int64(test.left+1) {
			t.Errorf("%s: got %d check-ins, want %d", test.name, n, test.left+1)
		}
		counted += n
	}
	if row := cityCoverage(t, conn); row.CheckIns != counted || row.DispersedPeople != 10*counted || row.SitesAltered != 0 {
		t.Errorf("got %v, want %d check-ins and no altered site", row, counted)
	}
	if out, status := checkOf(t, "--server", address); status != 0 {
		t.Errorf("through the server: got status %d, want 0: %s", status, out)
	}
	stop()
	if out, status := checkOf(t, store...); status != 0 {
		t.Errorf("after more was stored: got status %d, want 0: %s", status, out)
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

// countedOf returns how many check-ins of the site's history are neither altered nor set
// aside.
func countedOf(t testing.TB, conn *grpc.ClientConn, site string) (n int) {
	t.Helper()
	entries, err := commands.ListHistory(t.Context(), conn, site, 1<<30, false)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if e.Kind == xunchav1.EntryKind_ENTRY_KIND_CHECK_IN && !e.Altered && !e.SetAside {
			n++
		}
	}
	return n
}

// A running server checks what it has, with the same statuses. Beside a database, a
// repair needs no server to stop.
func TestCheckARunningServer(t *testing.T) {
	t.Parallel()
	onBothEngines(t, testCheckARunningServer)
}

func testCheckARunningServer(t *testing.T, store ...string) {
	address, stop := serveOn(t, store...)
	ids := fill(t, address)
	conn := connect(t, address)
	for i := range 8 {
		submit(t, conn, newCheckIn(ids[i%2]))
	}
	if out, status := checkOf(t, "--server", address); status != 0 || !strings.Contains(out, "all is well.") {
		t.Fatalf("got status %d, want 0: %s", status, out)
	}
	if out, status := checkOf(t, "--server", address, "--data", t.TempDir()); status != 2 || !strings.Contains(out, "--data") {
		t.Errorf("a server and a folder: got status %d, want 2: %s", status, out)
	}
	if store[0] == "--data" {
		if out, status := checkOf(t, store...); status != 2 || !strings.Contains(out, "--server") || !strings.Contains(out, "in use by another") {
			t.Errorf("a folder that a server has: got status %d, want 2: %s", status, out)
		}
	} else if out, status := checkOf(t, store...); status != 0 {
		t.Errorf("a database with a server at work: got status %d, want 0: %s", status, out)
	}
	a, history := alter(t, store), "site/"+ids[0]
	a.set(t, history, 2, "record", doctored(a.record(t, history, 2)))
	out, status := checkOf(t, "--server", address)
	if want := history + " (SC-GA-0001 "; status != 1 || !strings.HasPrefix(out, want) || !strings.Contains(out, ", sequence 2: ") {
		t.Errorf("got status %d, want 1 and %s…, sequence 2: %s", status, want, out)
	}
	if out, status := checkOf(t, "--server", "127.0.0.1:1"); status != 2 {
		t.Errorf("no server: got status %d, want 2: %s", status, out)
	}
	if out, status := checkOf(t, "--nonsense"); status != 2 {
		t.Errorf("a flag that there is not: got status %d, want 2: %s", status, out)
	}
	inspections := xunchav1.NewInspectionServiceClient(conn)
	_, err := inspections.SubmitCheckIn(t.Context(), &xunchav1.SubmitCheckInRequest{CheckIn: newCheckIn(ids[0])})
	if grpcstatus.Code(err) != codes.Unavailable {
		t.Errorf("a check-in for the altered site: got %v, want UNAVAILABLE", err)
	}
	repair := append([]string{"repair", "--yes", "--reason", "test", "--history", history}, store...)
	if store[0] == "--data" {
		if _, _, err := xuncha(t, repair...); !errors.Is(err, sqlitestore.ErrLocked) {
			t.Errorf("repairing a folder that a server has: got %v, want ErrLocked", err)
		}
		stop()
		address = ""
	}
	if out, stderr, err := xuncha(t, repair...); err != nil {
		t.Fatal(out, stderr, err)
	}
	if address == "" {
		address, _ = serveOn(t, store...)
		conn = connect(t, address)
		inspections = xunchav1.NewInspectionServiceClient(conn)
	}
	eventually(t, "the site takes check-ins again", func() bool {
		_, err := inspections.SubmitCheckIn(t.Context(), &xunchav1.SubmitCheckInRequest{CheckIn: newCheckIn(ids[0])})
		return err == nil
	})
	if out, status := checkOf(t, "--server", address); status != 0 {
		t.Errorf("after the repair: got status %d, want 0: %s", status, out)
	}
	// Also a server that counted the entry before it was altered does so no more.
	eventually(t, "the figures are without what was set aside", func() bool {
		row := cityCoverage(t, conn)
		return row.CheckIns == 8 && row.DispersedPeople == 80 && row.SitesAltered == 0
	})
}
