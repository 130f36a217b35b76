package command_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	driver "go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
	"go.mongodb.org/mongo-driver/v2/x/mongo/driver/connstring"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"xuncha/client"
	xunchav1 "xuncha/proto/xuncha/v1"
)

// releasedPassword is that of every account in testdata/released.
const releasedPassword = "correct horse battery staple"

// A releasedPhoto is a photo in testdata/released, its hashes in hexadecimal.
type releasedPhoto struct {
	Site     string `json:"site_id"`
	CheckIn  string `json:"check_in_id"`
	SHA256   string `json:"sha256"`
	Stored   string `json:"stored_sha256"`
	Received int64  `json:"received_bytes"`
}

// releasedAnswers is what the version that made a deployment in testdata/released
// answered on it. Lists have the newest first.
type releasedAnswers struct {
	Usernames      []string
	Coverage       any
	Histories      map[string][]any // by registration number
	Accesses       []any
	AccountHistory []any `json:"account_history"`
	Photo, Partial releasedPhoto
}

// TestReleased opens deployments that an earlier version made, as README.md beside
// them says: they answer what they answered then, and go on.
func TestReleased(t *testing.T) {
	t.Parallel()
	const folder = "testdata/released"
	t.Run("Embedded", func(t *testing.T) {
		data := t.TempDir()
		if err := os.CopyFS(data, os.DirFS(filepath.Join(folder, "sqlite", "data"))); err != nil {
			t.Fatal(err)
		}
		testReleased(t, filepath.Join(folder, "sqlite"), "--data", data)
	})
	t.Run("MongoDB", func(t *testing.T) {
		uri := mongo(t).Database(t)
		load(t, filepath.Join(folder, "mongodb"), uri)
		testReleased(t, filepath.Join(folder, "mongodb"), "--store", uri)
	})
}

// load writes the documents in a folder, a file for each collection, to a database.
func load(t *testing.T, folder, uri string) {
	t.Helper()
	address, err := connstring.ParseAndValidate(uri)
	if err != nil {
		t.Fatal(err)
	}
	conn, err := driver.Connect(options.Client().ApplyURI(uri))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Disconnect(context.Background()) }()
	files, err := filepath.Glob(filepath.Join(folder, "*.jsonl"))
	if err != nil || len(files) < 9 {
		t.Fatalf("got the collections %v, %v", files, err)
	}
	for _, file := range files {
		name := strings.TrimSuffix(filepath.Base(file), ".jsonl")
		lines, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for line := range bytes.Lines(lines) {
			var document bson.D
			if err := bson.UnmarshalExtJSON(line, true, &document); err != nil {
				t.Fatalf("%s: %v", file, err)
			}
			for i := range document {
				// What has come of a photo is only kept for a week.
				if name == "photo_parts" && document[i].Key == "came" {
					document[i].Value = time.Now().UnixNano()
				}
			}
			if _, err := conn.Database(address.Database).Collection(name).InsertOne(t.Context(), document); err != nil {
				t.Fatalf("%s: %v", file, err)
			}
		}
	}
}

func testReleased(t *testing.T, folder string, store ...string) {
	var want releasedAnswers
	text, err := os.ReadFile(filepath.Join(folder, "answers.json"))
	if err == nil {
		err = json.Unmarshal(text, &want)
	}
	if err != nil {
		t.Fatal(err)
	}
	const retention = 1095
	address, stop := serveOn(t, append(store, "--photo-retention-days", fmt.Sprint(retention))...)
	as := func(name string, args ...string) (string, error) {
		out, _, err := xuncha(t, append(args, "--server", address, "--username", name, "--password", releasedPassword)...)
		return out, err
	}
	signedIn := func(name string) *client.Client {
		c := newClient(t, address)
		if _, err := c.SignIn(t.Context(), client.SignIn{Username: name, Password: releasedPassword}); err != nil {
			t.Fatal(err)
		}
		return c
	}

	for site, entries := range want.Histories {
		out, err := as("audit", "history", site, "--json", "--records", "--limit", "200")
		if err != nil {
			t.Fatal(err)
		}
		var got []any
		for line := range strings.Lines(out) {
			got = append(got, fromJSON(t, []byte(line)))
		}
		wantEnd(t, "history of "+site, got, entries)
	}
	out, err := as("audit", "coverage", "511600", "--json", "--depth", "3",
		"--start", "2026-11-25T00:00:00+08:00", "--end", "2026-11-27T00:00:00+08:00", "--known", "2026-11-26T12:17:00Z")
	if err != nil || !says(fromJSON(t, []byte(out)), want.Coverage) {
		t.Errorf("coverage: got %s, %v, want %v", out, err, want.Coverage)
	}
	auditor, officer, admin := signedIn("audit"), signedIn("li.wei"), signedIn("root")
	accesses, err := xunchav1.NewAuditServiceClient(auditor).ListAccesses(t.Context(), &xunchav1.ListAccessesRequest{PageSize: 200})
	if err != nil {
		t.Fatal(err)
	}
	wantEnd(t, "accesses", listOf(t, accesses.Accesses), want.Accesses)
	// What was looked at here just now is in the history of the account that looked.
	for i, a := range accesses.Accesses {
		history := "accesses/b" // of audit
		if i >= len(accesses.Accesses)-len(want.Accesses) {
			history = "accesses"
		}
		if a.History != history {
			t.Errorf("access %d of %s is in the history %s, want %s", i, a.Account, a.History, history)
		}
	}
	if got := len(accesses.Accesses) - len(want.Accesses); got != len(want.Histories) {
		t.Errorf("got %d new accesses, want one for each of %d histories", got, len(want.Histories))
	}
	changes, err := xunchav1.NewAuditServiceClient(auditor).ListAccountHistory(t.Context(), &xunchav1.ListAccountHistoryRequest{PageSize: 200})
	if err != nil {
		t.Fatal(err)
	}
	wantEnd(t, "history of accounts", listOf(t, changes.Entries), want.AccountHistory)
	list, err := xunchav1.NewAccountServiceClient(admin).ListAccounts(t.Context(), &xunchav1.ListAccountsRequest{})
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, a := range list.Accounts {
		names = append(names, a.Username)
	}
	if !slices.Equal(names, want.Usernames) {
		t.Errorf("got the accounts %q, want %q", names, want.Usernames)
	}
	if _, err := as("gone", "coverage", "511603"); err == nil {
		t.Error("an account that was disabled signs in")
	}

	// The server deletes photos whose time is over, which is so from 2030 on.
	over := time.Date(2027, 2, 22, 0, 0, 0, 0, time.UTC).AddDate(0, 0, retention)
	if time.Now().Before(over) {
		testReleasedPhotos(t, as, officer, want)
	}

	// It goes on: the same sites once more are nothing new, and a visit is counted
	// under a new order.
	if out, err := as("root", "import", "sites", "--effective-date", "2026-11-26", filepath.Join(folder, "..", "sites.csv")); err != nil || !strings.Contains(out, "0 registered, 0 struck off, 0 moved, 0 corrected, 3 unchanged") {
		t.Errorf("the same sites once more: got %q, %v", out, err)
	}
	order := &xunchav1.ClosureOrder{
		Number: "样例2号", Title: "样例通知", IssuingAuthority: "样例机关", LegalBasis: "样例依据", DivisionCodes: []string{"511600"},
		StartTime: timestamppb.New(time.Now().Add(-time.Hour)), EndTime: timestamppb.New(time.Now().Add(time.Hour)), InspectionInterval: durationpb.New(24 * time.Hour),
	}
	if _, err := xunchav1.NewRosterServiceClient(admin).CreateClosureOrder(t.Context(), &xunchav1.CreateClosureOrderRequest{ClosureOrder: order}); err != nil {
		t.Fatal(err)
	}
	report := newCheckIn(want.Partial.Site)
	answer, err := xunchav1.NewInspectionServiceClient(officer).SubmitCheckIn(t.Context(), &xunchav1.SubmitCheckInRequest{CheckIn: report})
	if err != nil {
		t.Fatal(err)
	}
	stop()

	// And it is still there after another start.
	address, _ = serveOn(t, store...)
	out, err = as("audit", "history", want.Partial.Site, "--json", "--records", "--limit", "1")
	if err != nil {
		t.Fatal(err)
	}
	newest, _ := fromJSON(t, []byte(out)).(map[string]any)
	if newest["entryHash"] != base64.StdEncoding.EncodeToString(answer.Receipt.EntryHash) || newest["sequence"] != fmt.Sprint(answer.Receipt.Sequence) {
		t.Errorf("got %s as the newest entry, want the check-in %s", out, report.CheckInId)
	}
}

// testReleasedPhotos fetches the photo that is stored, and sends the rest of the one
// that is not.
func testReleasedPhotos(t *testing.T, as func(string, ...string) (string, error), officer *client.Client, want releasedAnswers) {
	t.Helper()
	fetch := func(p releasedPhoto) []byte {
		file := filepath.Join(t.TempDir(), "photo")
		if _, err := as("chen", "photo", "--site", p.Site, "--check-in", p.CheckIn, "--sha256", p.SHA256, "--output", file); err != nil {
			t.Fatal(err)
		}
		content, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		return content
	}
	if sum := sha256.Sum256(fetch(want.Photo)); hex.EncodeToString(sum[:]) != want.Photo.Stored {
		t.Errorf("got a photo with the hash %x, want %s", sum, want.Photo.Stored)
	}
	content, err := os.ReadFile("testdata/released/notice.jpg")
	if err != nil {
		t.Fatal(err)
	}
	sum, err := hex.DecodeString(want.Partial.SHA256)
	if err != nil {
		t.Fatal(err)
	}
	state, err := xunchav1.NewPhotoServiceClient(officer).GetPhotoUpload(t.Context(), &xunchav1.GetPhotoUploadRequest{
		Sha256: sum, CheckInId: want.Partial.CheckIn, SiteId: want.Partial.Site,
	})
	if err != nil || state.ReceivedBytes != want.Partial.Received {
		t.Errorf("got %d bytes of the photo that was interrupted, %v, want %d", state.GetReceivedBytes(), err, want.Partial.Received)
	}
	err = officer.UploadPhoto(t.Context(), client.Photo{SiteID: want.Partial.Site, CheckInID: want.Partial.CheckIn, SHA256: sum, Content: content})
	if err != nil {
		t.Fatal(err)
	}
	if got := fetch(want.Partial); len(got) == 0 || len(got) >= len(content) {
		t.Errorf("got %d bytes of a photo of %d with a comment in it", len(got), len(content))
	}
}

func fromJSON(t *testing.T, text []byte) (value any) {
	t.Helper()
	if err := json.Unmarshal(text, &value); err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	return value
}

func listOf[M proto.Message](t *testing.T, messages []M) (out []any) {
	t.Helper()
	for _, m := range messages {
		text, err := protojson.MarshalOptions{EmitDefaultValues: true}.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, fromJSON(t, text))
	}
	return out
}

// wantEnd fails the test where a list, newest first, does not end with what it had.
func wantEnd(t *testing.T, name string, got, want []any) {
	t.Helper()
	if len(want) == 0 || len(got) < len(want) || !says(got[len(got)-len(want):], want) {
		t.Errorf("%s: got\n%v\nwant, at the end,\n%v", name, got, want)
	}
}

// says reports whether a JSON value says all that another says. Fields are added to
// the API, so it may say more.
func says(got, want any) bool {
	switch want := want.(type) {
	case map[string]any:
		got, ok := got.(map[string]any)
		if !ok {
			return false
		}
		for name, value := range want {
			if !says(got[name], value) {
				return false
			}
		}
		return true
	case []any:
		got, ok := got.([]any)
		return ok && slices.EqualFunc(got, want, says)
	}
	return got == want
}
