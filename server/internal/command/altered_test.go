package command_test

import (
	"bytes"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	driver "go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"
	"zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"

	xunchav1 "xuncha/proto/xuncha/v1"
	"xuncha/server/internal/command"
)

// replaceInRecord changes the record of an entry behind the server's back.
func replaceInRecord(t *testing.T, store []string, history string, sequence int64, before, after string) {
	t.Helper()
	changed := func(record []byte) []byte {
		if !bytes.Contains(record, []byte(before)) {
			t.Fatalf("the record %s has no %s", record, before)
		}
		return bytes.Replace(record, []byte(before), []byte(after), 1)
	}
	if store[0] == "--store" {
		client, err := driver.Connect(options.Client().ApplyURI(store[1]))
		if err != nil {
			t.Fatal(err)
		}
		defer client.Disconnect(t.Context())
		name := store[1][strings.LastIndex(store[1], "/")+1:]
		name, _, _ = strings.Cut(name, "?")
		entries := client.Database(name).Collection("entries")
		which := bson.M{"history": history, "sequence": sequence}
		var entry struct {
			Record []byte `bson:"record"`
		}
		if err := entries.FindOne(t.Context(), which).Decode(&entry); err != nil {
			t.Fatal(err)
		}
		if _, err := entries.UpdateOne(t.Context(), which, bson.M{"$set": bson.M{"record": changed(entry.Record)}}); err != nil {
			t.Fatal(err)
		}
		return
	}
	conn, err := sqlite.OpenConn(filepath.Join(store[1], "xuncha.db"), sqlite.OpenReadWrite)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	const which = ` WHERE sequence = :sequence AND history = (SELECT id FROM histories WHERE name = :history)`
	var record []byte
	err = sqlitex.Execute(conn, `SELECT record FROM entries`+which, &sqlitex.ExecOptions{
		Named:      map[string]any{":sequence": sequence, ":history": history},
		ResultFunc: func(s *sqlite.Stmt) (err error) { record, err = io.ReadAll(s.ColumnReader(0)); return err },
	})
	if err == nil {
		err = sqlitex.Execute(conn, `UPDATE entries SET record = :record`+which, &sqlitex.ExecOptions{
			Named: map[string]any{":sequence": sequence, ":history": history, ":record": changed(record)},
		})
	}
	if err != nil || conn.Changes() != 1 {
		t.Fatalf("%d entries were changed, %v; want 1", conn.Changes(), err)
	}
}

// TestAltered changes one record while the server is down. Afterwards everybody who is
// concerned is told, nothing of the site is lost, and all other sites go on.
func TestAltered(t *testing.T) { onBothEngines(t, testAltered) }

func testAltered(t *testing.T, store ...string) {
	address, stop := serveOn(t, store...)
	ids := fill(t, address)
	site, other := ids[0], ids[1]
	conn := connect(t, address)
	first := newCheckIn(site)
	for _, c := range []*xunchav1.CheckIn{first, newCheckIn(site), newCheckIn(site), newCheckIn(other)} {
		submit(t, conn, c)
	}
	stop()
	const honest, forged = `"dispersed_people_count":10`, `"dispersed_people_count":99`
	replaceInRecord(t, store, "site/"+site, 2, honest, forged)

	address, stop = serveOn(t, store...)
	conn = connect(t, address)
	if row := cityCoverage(t, conn); row.SitesAltered != 1 || row.DispersedPeople != 30 || row.CheckIns != 3 {
		t.Errorf("got %v, want one altered site, and the entry in no figure", row)
	}
	_, err := xunchav1.NewInspectionServiceClient(conn).SubmitCheckIn(t.Context(), &xunchav1.SubmitCheckInRequest{CheckIn: newCheckIn(site)})
	var reason string
	var retry time.Duration
	for _, d := range status.Convert(err).Details() {
		switch d := d.(type) {
		case *errdetails.ErrorInfo:
			reason = d.Reason
		case *errdetails.RetryInfo:
			retry = d.RetryDelay.AsDuration()
		}
	}
	if status.Code(err) != codes.Unavailable || reason != "HISTORY_ALTERED" || retry < time.Minute {
		t.Errorf("got %v, retry after %v; want UNAVAILABLE HISTORY_ALTERED with RetryInfo", err, retry)
	}
	if r := submit(t, conn, first); !r.Duplicate || r.Sequence != 1 {
		t.Errorf("a repeat: got %v, want its receipt", r)
	}
	if r := submit(t, conn, newCheckIn(other)); r.Sequence != 2 {
		t.Errorf("another site: got %v, want a receipt", r)
	}
	found := func(problems []*xunchav1.ServerProblem) bool {
		return slices.ContainsFunc(problems, func(p *xunchav1.ServerProblem) bool {
			return p.Kind == xunchav1.ProblemKind_PROBLEM_KIND_HISTORY_ALTERED && p.SiteId == site && p.Sequence == 2
		})
	}
	got, err := xunchav1.NewOperationServiceClient(conn).GetServerStatus(t.Context(), &xunchav1.GetServerStatusRequest{})
	if err != nil || len(got.Problems) != 1 || !found(got.Problems) {
		t.Errorf("got %v, %v, want the site and the sequence", got, err)
	}
	health := func(service string) healthv1.HealthCheckResponse_ServingStatus {
		got, err := healthv1.NewHealthClient(conn).Check(t.Context(), &healthv1.HealthCheckRequest{Service: service})
		if err != nil {
			t.Error(err)
		}
		return got.GetStatus()
	}
	eventually(t, "the health names the histories", func() bool { return health("xuncha.histories") == healthv1.HealthCheckResponse_NOT_SERVING })
	if health("") != healthv1.HealthCheckResponse_SERVING || health("xuncha.clock") != healthv1.HealthCheckResponse_SERVING {
		t.Error("the server does not serve, or its clock is wrong")
	}
	check := func() *xunchav1.CheckHistoriesResponse {
		t.Helper()
		answers, err := xunchav1.NewOperationServiceClient(conn).CheckHistories(t.Context(), &xunchav1.CheckHistoriesRequest{})
		for err == nil {
			var a *xunchav1.CheckHistoriesResponse
			if a, err = answers.Recv(); err == nil && a.Done {
				return a
			}
		}
		t.Fatal(err)
		return nil
	}
	// The roster, and the two sites.
	if got := check(); len(got.Problems) != 1 || !found(got.Problems) || got.Histories != 3 || got.EntriesChecked < 8 {
		t.Errorf("a check of everything: got %v", got)
	}
	for _, test := range []struct {
		args []string
		exit int
		want []string
	}{
		{[]string{"status"}, 1, []string{"history_altered", "site/" + site, " 2 "}},
		{[]string{"coverage", "511600"}, 0, []string{"The histories of 1 sites do not verify"}},
		{[]string{"history", site}, 0, []string{"DOES NOT VERIFY"}},
	} {
		stdout, stderr, err := xuncha(t, append(test.args, "--server", address)...)
		if command.ExitCode(err) != test.exit {
			t.Errorf("%s: got %v, %s, want the status %d", test.args[0], err, stderr, test.exit)
		}
		for _, want := range test.want {
			if !strings.Contains(stdout, want) {
				t.Errorf("%s: got %s, want %q in it", test.args[0], stdout, want)
			}
		}
	}
	if _, _, err := xuncha(t, "status", "--server", address, "--username", "nobody", "--password", "x"); command.ExitCode(err) != 2 {
		t.Errorf("a server that cannot be asked: got %v, want the status 2", err)
	}
	if log := stop(); !strings.Contains(log, site) {
		t.Errorf("the log does not name the site: %s", log)
	}

	// As from a backup.
	replaceInRecord(t, store, "site/"+site, 2, forged, honest)
	address, _ = serveOn(t, store...)
	conn = connect(t, address)
	if row := cityCoverage(t, conn); row.SitesAltered != 0 || row.DispersedPeople != 50 {
		t.Errorf("once the record is back: got %v", row)
	}
	submit(t, conn, newCheckIn(site))
	if stdout, stderr, err := xuncha(t, "status", "--server", address); err != nil || !strings.HasPrefix(stdout, "All is well.") {
		t.Errorf("got %s, %s, %v", stdout, stderr, err)
	}

	// A check finds what has changed since the start, and every report has it from then on.
	replaceInRecord(t, store, "site/"+site, 1, honest, forged)
	cityCoverage(t, conn)
	if got := check(); len(got.Problems) != 1 || got.Problems[0].SiteId != site || got.Problems[0].Sequence != 1 {
		t.Errorf("a check finds %v", got)
	}
	if row := cityCoverage(t, conn); row.SitesAltered != 1 {
		t.Errorf("after the check: got %v", row)
	}
}

// TestStatusWithAlteredAccounts ensures that the accounts before the first one that was
// altered can ask what is wrong, though nobody can be signed out then.
func TestStatusWithAlteredAccounts(t *testing.T) {
	onBothEngines(t, func(t *testing.T, store ...string) {
		const password = "correct horse battery"
		file := filepath.Join(t.TempDir(), "password")
		if err := os.WriteFile(file, []byte(password), 0o600); err != nil {
			t.Fatal(err)
		}
		for _, name := range []string{"root", "second"} {
			args := append([]string{"account", "create", "--role", "admin", "--username", name, "--division", "511600", "--password-file", file}, store...)
			if _, stderr, err := xuncha(t, args...); err != nil {
				t.Fatal(stderr, err)
			}
		}
		replaceInRecord(t, store, "accounts", 2, "second", "Second")
		address, _ := serveOn(t, store...)
		stdout, stderr, err := xuncha(t, "status", "--server", address, "--username", "root", "--password", password)
		if command.ExitCode(err) != 1 || !strings.Contains(stdout, "history_altered  accounts") {
			t.Errorf("got %s%s%v, want the accounts' history and the status 1", stdout, stderr, err)
		}
		stdout, stderr, err = xuncha(t, "status", "--json", "--server", address, "--username", "root", "--password", password)
		if !strings.Contains(stdout, `"siteId":""`) {
			t.Errorf("got %s%s%v, want no site", stdout, stderr, err)
		}
	})
}
