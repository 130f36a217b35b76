package command_test

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.mongodb.org/mongo-driver/v2/bson"

	xunchav1 "xuncha/proto/xuncha/v1"
	"xuncha/server/internal/sampledata"
)

// alterRows changes a byte of the rows of an import.
func alterRows(t testing.TB, a alterer, sum string) {
	t.Helper()
	switch a := a.(type) {
	case sqliteAlterer:
		a.exec(t, `UPDATE rows SET bytes = CAST(replace(CAST(bytes AS TEXT), '样例', '例样') AS BLOB) WHERE sum = ?`, nil, sum)
	case mongoAlterer:
		var doc struct{ Bytes []byte }
		of := bson.D{{Key: "sum", Value: sum}}
		if err := a.Collection("rows").FindOne(t.Context(), of).Decode(&doc); err != nil {
			t.Fatal(err)
		}
		_, err := a.Collection("rows").UpdateOne(t.Context(), of,
			bson.D{{Key: "$set", Value: bson.D{{Key: "bytes", Value: bytes.ReplaceAll(doc.Bytes, []byte("样例"), []byte("例样"))}}}})
		if err != nil {
			t.Fatal(err)
		}
	}
}

// Where the roster's or the accounts' history was altered, a repair lets them go on
// without what was altered, and a copy of the store is whole.
func TestRepairRosterAndAccounts(t *testing.T) { onBothEngines(t, testRepairRosterAndAccounts) }

func testRepairRosterAndAccounts(t *testing.T, store ...string) {
	const password = "correct horse battery"
	file := filepath.Join(t.TempDir(), "password")
	if err := os.WriteFile(file, []byte(password+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"root", "second", "third"} {
		args := append([]string{"account", "create", "--role", "admin", "--username", name, "--division", "511600", "--password-file", file}, store...)
		if _, _, err := xuncha(t, args...); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("XUNCHA_PASSWORD", password)
	address, stop := serveOn(t, store...)
	as := func(name string, args ...string) (string, error) {
		out, _, err := xuncha(t, append(args, "--server", address, "--username", name)...)
		return out, err
	}
	importSites := []string{"import", "sites", sample(t, "s.csv", sampledata.Sites())}
	for _, args := range [][]string{
		{"import", "divisions", "--effective-date", "2019-10-31", sample(t, "d.csv", sampledata.Divisions2019())}, importSites,
	} {
		if _, err := as("root", args...); err != nil {
			t.Fatal(err)
		}
	}
	if out, status := checkOf(t, "--server", address); status != 2 || !strings.Contains(out, "TOKEN_INVALID") {
		t.Errorf("somebody without an account: got status %d, want 2: %s", status, out)
	}
	if out, status := checkOf(t, "--server", address, "--username", "root"); status != 0 {
		t.Errorf("an administrator: got status %d, want 0: %s", status, out)
	}
	stop()

	a := alter(t, store)
	record := a.record(t, "accounts", 2)
	a.set(t, "accounts", 2, "record", bytes.Replace(record, []byte(`"username":"second"`), []byte(`"username":"robber"`), 1))
	_, sum, _ := strings.Cut(string(a.record(t, "roster", 2)), `"rows_sha256":"`)
	alterRows(t, a, sum[:64])
	out, status := checkOf(t, store...)
	if status != 1 || !strings.HasPrefix(out, "accounts, sequence 2: ") || !strings.Contains(out, "\nroster, sequence 2: cannot be read: rows ") || !strings.Contains(out, "; findings: 2") {
		t.Errorf("got status %d, want 1, and the accounts and the roster, each at 2: %s", status, out)
	}
	if out, stderr, err := xuncha(t, append([]string{"repair", "--yes", "--history", "accounts"}, store...)...); err != nil || strings.Contains(out, "roster") {
		t.Errorf("repairing the accounts alone: got %s %s %v", out, stderr, err)
	}
	if out, status := checkOf(t, store...); status != 1 || !strings.HasPrefix(out, "roster, sequence 2: ") || !strings.Contains(out, "; findings: 1") {
		t.Errorf("got status %d, want 1, and the roster alone: %s", status, out)
	}
	if _, _, err := xuncha(t, "copy", "--from", store[1], "--to", filepath.Join(t.TempDir(), "copy")); err == nil || !strings.Contains(err.Error(), "xuncha repair") {
		t.Errorf("copying what does not verify: got %v, want the way out", err)
	}
	if out, stderr, err := xuncha(t, append([]string{"repair", "--yes"}, store...)...); err != nil {
		t.Fatal(out, stderr, err)
	}
	copied := []string{"--data", filepath.Join(t.TempDir(), "copy")}
	if out, stderr, err := xuncha(t, "copy", "--from", store[1], "--to", copied[1]); err != nil {
		t.Fatal(out, stderr, err)
	}
	for _, store := range [][]string{store, copied} {
		if out, status := checkOf(t, store...); status != 0 || !strings.Contains(out, "set aside before: 2.") {
			t.Errorf("%v: got status %d, want 0: %s", store, status, out)
		}
		address, stop = serveOn(t, store...)
		for name, there := range map[string]bool{"root": true, "second": false, "robber": false, "third": true} {
			if _, err := as(name, "coverage", "511600"); (err == nil || !strings.Contains(err.Error(), "SIGN_IN_FAILED")) != there {
				t.Errorf("%v: %s signs in: got %v, want that this is %v", store, name, err, there)
			}
		}
		if out, err := as("root", importSites...); err != nil || !strings.Contains(out, "85") {
			t.Errorf("importing the sites again: got %s %v, want all 85 registered", out, err)
		}
		stop()
		if out, status := checkOf(t, store...); status != 0 {
			t.Errorf("%v: with more: got status %d, want 0: %s", store, status, out)
		}
	}
}

// A check-in whose entry is gone is stored once more when the phone sends it again after
// the repair, and is counted once.
func TestRepairMissing(t *testing.T) {
	t.Parallel()
	onBothEngines(t, func(t *testing.T, store ...string) {
		address, stop := serveOn(t, store...)
		site := fill(t, address)[0]
		gone := newCheckIn(site)
		for _, c := range []*xunchav1.CheckIn{newCheckIn(site), gone, newCheckIn(site), newCheckIn(site)} {
			submit(t, connect(t, address), c)
		}
		stop()
		alter(t, store).remove(t, "site/"+site, 2)
		if out, stderr, err := xuncha(t, append([]string{"repair", "--yes"}, store...)...); err != nil {
			t.Fatal(out, stderr, err)
		}
		address, stop = serveOn(t, store...)
		countedOf(t, connect(t, address), site) // which has the newest entries in memory
		for i := range 2 {
			if r := submit(t, connect(t, address), gone); r.Duplicate != (i > 0) || r.Sequence != 6 {
				t.Errorf("got %v, want it stored once, behind the repair", r)
			}
		}
		// The first, the last, and the one sent again: that behind the hole cannot be proven.
		if row := cityCoverage(t, connect(t, address)); row.CheckIns != 3 || row.SitesAltered != 0 {
			t.Errorf("got %v, want 3 check-ins", row)
		}
		later := []*xunchav1.CheckIn{newCheckIn(site), newCheckIn(site)}
		for _, c := range later {
			submit(t, connect(t, address), c)
		}
		if out, status := checkOf(t, "--server", address); status != 0 {
			t.Errorf("through the server: got status %d, want 0: %s", status, out)
		}
		for _, c := range append(later, gone) {
			if r := submit(t, connect(t, address), c); !r.Duplicate {
				t.Errorf("got %v, want a repeat", r)
			}
		}
		stop()
		if out, status := checkOf(t, store...); status != 0 {
			t.Errorf("got status %d, want 0: %s", status, out)
		}
	})
}

// All that can be read of a damaged data folder is brought into a new one and repaired
// there.
func TestSalvage(t *testing.T) {
	t.Parallel()
	folder, saved := t.TempDir(), filepath.Join(t.TempDir(), "saved")
	address, stop := serveFolder(t, folder)
	ids := fill(t, address)
	conn := connect(t, address)
	const count = 600
	for i := range count {
		submit(t, conn, newCheckIn(ids[i%60]))
	}
	stop()
	// A page with records of check-ins is overwritten, as by a disk that goes bad.
	name := filepath.Join(folder, "xuncha.db")
	file, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	const page = 4096
	var pages []int
	for at := 0; at < len(file); at += page {
		if bytes.Count(file[at:at+page], []byte(`"kind":"check_in"`)) > 2 {
			pages = append(pages, at)
		}
	}
	copy(file[pages[len(pages)/2]:], bytes.Repeat([]byte{0xff}, page))
	if err := os.WriteFile(name, file, 0o600); err != nil {
		t.Fatal(err)
	}
	out, status := checkOf(t, "--data", folder)
	if status != 1 || !strings.Contains(out, "SQLite: ") || !strings.Contains(out, "cannot be read") || !strings.Contains(out, ", sequence ") {
		t.Errorf("got status %d, want 1 and what cannot be read: %s", status, out)
	}
	stdout, stderr, err := xuncha(t, "copy", "--salvage", "--from", folder, "--to", saved)
	if err != nil || !strings.Contains(stdout, "xuncha repair") {
		t.Fatalf("got %s %s %v", stdout, stderr, err)
	}
	if out, status := checkOf(t, "--data", saved); status != 1 || !strings.Contains(out, "it is missing") || strings.Contains(out, "SQLite") {
		t.Errorf("the salvaged folder: got status %d, want 1 and what is missing: %s", status, out)
	}
	stdout, stderr, err = xuncha(t, "repair", "--yes", "--data", saved)
	if err != nil {
		t.Fatal(stdout, stderr, err)
	}
	if out, status := checkOf(t, "--data", saved); status != 0 {
		t.Errorf("the repaired folder: got status %d, want 0: %s", status, out)
	}
	address, _ = serveFolder(t, saved)
	row := cityCoverage(t, connect(t, address))
	if row.CheckIns < count*9/10 || row.CheckIns >= count || row.SitesAltered != 0 {
		t.Errorf("got %v, want most of %d check-ins", row, count)
	}
	for _, id := range ids[:60] {
		submit(t, connect(t, address), newCheckIn(id))
	}
}

// Indexes that were changed are found, and made anew by a repair.
func TestCheckFindsChangedIndexes(t *testing.T) {
	t.Parallel()
	for sql, says := range map[string]string{
		`DELETE FROM places WHERE entry = (SELECT max(entry) FROM entries WHERE history = (SELECT id FROM histories WHERE name = ?))`: "the index places lacks the sequence 3 of site/",
		`DELETE FROM slots WHERE entry = (SELECT max(entry) FROM entries WHERE history = (SELECT id FROM histories WHERE name = ?))`:  "the index slots lacks the sequence 3 of site/",
	} {
		folder := t.TempDir()
		address, stop := serveFolder(t, folder)
		id := fill(t, address)[0]
		for range 3 {
			submit(t, connect(t, address), newCheckIn(id))
		}
		stop()
		sqliteAlterer(folder).exec(t, sql, nil, "site/"+id)
		out, status := checkOf(t, "--data", folder)
		if status != 1 || !strings.HasPrefix(out, says+id) || !strings.Contains(out, "; findings: 1.") {
			t.Errorf("%s: got status %d, want 1 and %s…: %s", sql, status, says, out)
		}
		if out, stderr, err := xuncha(t, "repair", "--yes", "--data", folder); err != nil {
			t.Error(out, stderr, err)
		}
		if out, status := checkOf(t, "--data", folder); status != 0 {
			t.Errorf("%s: after the repair: got status %d, want 0: %s", sql, status, out)
		}
	}
}
