package command_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/uuid"
	"golang.org/x/text/encoding/simplifiedchinese"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"xuncha/client"
	xunchav1 "xuncha/proto/xuncha/v1"
	"xuncha/server/internal/command"
	commands "xuncha/server/internal/command/client"
	"xuncha/server/internal/sampledata"
)

// A lineWriter keeps what is written and tells of each line.
type lineWriter struct {
	mu    sync.Mutex
	text  bytes.Buffer
	lines chan string
	rest  string
}

func newLineWriter() *lineWriter { return &lineWriter{lines: make(chan string, 10_000)} }

func (w *lineWriter) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.text.Write(p)
	w.rest += string(p)
	for {
		line, rest, ok := strings.Cut(w.rest, "\n")
		if !ok {
			return len(p), nil
		}
		w.rest = rest
		w.lines <- line
	}
}

func (w *lineWriter) String() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.text.String()
}

// address waits for the line with which a server says where it serves.
func (w *lineWriter) address(t testing.TB) string {
	t.Helper()
	late := time.After(time.Minute)
	for {
		select {
		case line := <-w.lines:
			if a, ok := strings.CutPrefix(line, "xuncha serves on "); ok {
				return a
			}
		case <-late:
			t.Fatalf("the server did not start: %s", w)
		}
	}
}

// serveFolder runs "xuncha serve" on the folder until the function returned is
// called, which returns what it logged.
func serveFolder(t testing.TB, folder string) (address string, stop func() string) {
	t.Helper()
	return serveOn(t, "--data", folder)
}

// serveOn runs "xuncha serve" with the flags that name a store.
func serveOn(t testing.TB, store ...string) (address string, stop func() string) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	out, log := newLineWriter(), newLineWriter()
	done := make(chan error, 1)
	go func() {
		done <- command.Run(ctx, append([]string{"serve", "--listen", "127.0.0.1:0"}, store...), out, log)
	}()
	stop = sync.OnceValue(func() string {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		return log.String()
	})
	t.Cleanup(func() { stop() })
	return out.address(t), stop
}

// onBothEngines runs a test on an empty store of each engine, whose flags for
// "xuncha serve" it is given.
func onBothEngines(t *testing.T, test func(t *testing.T, store ...string)) {
	t.Run("Embedded", func(t *testing.T) { test(t, "--data", t.TempDir()) })
	t.Run("MongoDB", func(t *testing.T) { test(t, "--store", mongo(t).Database(t)) })
}

// xuncha runs a command and returns what it printed.
func xuncha(t testing.TB, args ...string) (stdout, stderr string, err error) {
	t.Helper()
	var out, log bytes.Buffer
	err = command.Run(t.Context(), args, &out, &log)
	return out.String(), log.String(), err
}

func connect(t testing.TB, address string) *grpc.ClientConn {
	t.Helper()
	conn, err := grpc.NewClient(address, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

// newClient returns a client of the server.
func newClient(t testing.TB, address string) *client.Client {
	t.Helper()
	c, err := client.New(client.Config{Address: address, Plaintext: true, Now: time.Now, NewID: uuid.NewString})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// sample writes a sample table to a file of its own.
func sample(t testing.TB, name string, data []byte) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(file, data, 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// fill imports the sample roster into a server and puts an order in force over
// it since an hour ago. It returns the ids of the sites.
func fill(t testing.TB, address string) []string {
	t.Helper()
	for _, args := range [][]string{
		{"import", "divisions", "--effective-date", "2019-10-31", sample(t, "divisions.csv", sampledata.Divisions2019())},
		{"import", "sites", sample(t, "sites.csv", sampledata.Sites())},
	} {
		if _, stderr, err := xuncha(t, append(args, "--server", address)...); err != nil {
			t.Fatal(err, stderr)
		}
	}
	roster := xunchav1.NewRosterServiceClient(connect(t, address))
	start := time.Now().Add(-time.Hour)
	if _, err := roster.CreateClosureOrder(t.Context(), &xunchav1.CreateClosureOrderRequest{ClosureOrder: &xunchav1.ClosureOrder{
		Number: "1", Title: "t", IssuingAuthority: "a", LegalBasis: "b", DivisionCodes: []string{"511600"},
		StartTime: timestamppb.New(start), EndTime: timestamppb.New(start.Add(48 * time.Hour)), InspectionInterval: durationpb.New(24 * time.Hour),
	}}); err != nil {
		t.Fatal(err)
	}
	list, err := roster.ListSites(t.Context(), &xunchav1.ListSitesRequest{PageSize: 1000})
	if err != nil || len(list.Sites) != 85 {
		t.Fatalf("got %d sites, %v; want 85", len(list.GetSites()), err)
	}
	var ids []string
	for _, s := range list.Sites {
		ids = append(ids, s.SiteId)
	}
	return ids
}

func newCheckIn(site string) *xunchav1.CheckIn {
	return &xunchav1.CheckIn{
		CheckInId: uuid.NewString(), SiteId: site, CaptureTime: timestamppb.Now(),
		Finding: xunchav1.Finding_FINDING_CLOSED, CancelledEventCount: 1, DispersedPeopleCount: 10, Note: "门口已张贴通知",
	}
}

func submit(t testing.TB, conn *grpc.ClientConn, c *xunchav1.CheckIn) *xunchav1.Receipt {
	t.Helper()
	answer, err := xunchav1.NewInspectionServiceClient(conn).SubmitCheckIn(t.Context(), &xunchav1.SubmitCheckInRequest{CheckIn: c})
	if err != nil {
		t.Fatal(err)
	}
	return answer.Receipt
}

func TestDemo(t *testing.T) {
	t.Parallel()
	out, stderr, err := xuncha(t, "demo", "--once", "--listen", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err, stderr)
	}
	m := regexp.MustCompile(`(\d+) of (\d+) sites inspected, (\d+) events cancelled, (\d+) people dispersed`).FindStringSubmatch(out)
	if m == nil {
		t.Fatalf("no summary in %s", out)
	}
	var n [4]int
	for i := range n {
		n[i], _ = strconv.Atoi(m[i+1])
	}
	if n[0] != 85 || n[1] != 85 || n[2] <= 160 || n[3] <= 22_000 {
		t.Errorf("got %s, want 85 of 85, over 160 events and over 22,000 people", m[0])
	}
	for _, want := range []string{"岳池县", "华蓥市", "closure_order_issued", "check_in", "photo_stored"} {
		if !strings.Contains(out, want) {
			t.Errorf("the output lacks %s:\n%s", want, out)
		}
	}
	folder := t.TempDir()
	if err := os.WriteFile(filepath.Join(folder, "mine"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, _, err := xuncha(t, "demo", "--once", "--data", folder); err == nil || !strings.Contains(err.Error(), folder) {
		t.Errorf("a folder that is not empty: got %v, want an error that names it", err)
	}
}

func TestHelp(t *testing.T) {
	for _, args := range [][]string{{"--help"}, {"serve", "--help"}, {"demo", "--help"}, {"import", "divisions", "--help"}, {"import", "sites", "--help"}, {"coverage", "--help"}, {"history", "--help"}, {"account", "create", "--help"}, {"check-in", "--help"}, {"photo", "--help"}, {"changes", "--help"}, {"revoke", "--help"}, {"purge", "--help"}} {
		out, _, err := xuncha(t, args...)
		if err != nil || !strings.Contains(out, "Usage: xuncha") {
			t.Errorf("%v: got %q, %v", args, out, err)
		}
		if len(args) > 1 && !strings.Contains(out, "$XUNCHA_") {
			t.Errorf("%v does not name the environment: %s", args, out)
		}
	}
}

func TestBadCommands(t *testing.T) {
	folder := t.TempDir()
	address, _ := serveFolder(t, folder)
	for name, test := range map[string]struct {
		args []string
		want string
	}{
		"NoCommand":           {nil, "--help"},
		"UnknownFlag":         {[]string{"serve", "--colour"}, "--colour"},
		"OtherMachines":       {[]string{"serve", "--data", t.TempDir(), "--listen", "0.0.0.0:0"}, "TLS"},
		"ByName":              {[]string{"serve", "--data", t.TempDir(), "--listen", "example.org:0"}, "TLS"},
		"FolderInUse":         {[]string{"serve", "--data", folder, "--listen", "127.0.0.1:0"}, folder},
		"PortInUse":           {[]string{"serve", "--data", t.TempDir(), "--listen", address}, "--listen"},
		"TimeZone":            {[]string{"serve", "--data", t.TempDir(), "--time-zone", "Mars/Olympus"}, "--time-zone"},
		"NoServer":            {[]string{"coverage", "511600", "--server", "127.0.0.1:1"}, "no server answers; see whether it runs"},
		"NoSuchFile":          {[]string{"import", "sites", "nothing.csv"}, "nothing.csv"},
		"NoEffectiveDate":     {[]string{"import", "divisions", sample(t, "d.csv", sampledata.Divisions2019())}, "--effective-date"},
		"BadEffectiveDate":    {[]string{"import", "divisions", "--server", address, "--effective-date", "2019-02-30", sample(t, "d.csv", sampledata.Divisions2019())}, "effective_date"},
		"UnknownDivision":     {[]string{"coverage", "990000", "--server", address}, "DIVISION_NOT_FOUND"},
		"UnknownSite":         {[]string{"history", "SC-GA-9999", "--server", address}, "SC-GA-9999"},
		"ColumnsOfAnother":    {[]string{"import", "sites", "--server", address, sample(t, "d.csv", sampledata.Divisions2019())}, "registration_no"},
		"NoPicture":           {[]string{"check-in", "--server", address, "--site", "x", "--finding", "closed", "--photo", "nothing.jpg"}, "nothing.jpg"},
		"VisitWithoutTime":    {[]string{"check-in", "--server", address, "--site", "x", "--finding", "closed", "--id", "11111111-1111-4111-8111-111111111111"}, "--time"},
		"MalformedTime":       {[]string{"check-in", "--server", address, "--site", "x", "--finding", "closed", "--time", "yesterday"}, "--time"},
		"MalformedHash":       {[]string{"photo", "--server", address, "--site", "x", "--check-in", "x", "--sha256", "xyz", "-o", "out"}, "--sha256"},
		"Retention":           {[]string{"serve", "--data", t.TempDir(), "--photo-retention-days", "1096"}, "1095"},
		"SitesBeforeVillages": {[]string{"import", "sites", "--server", address, sample(t, "s.csv", sampledata.Sites())}, "85 problems"},
	} {
		t.Run(name, func(t *testing.T) {
			_, stderr, err := xuncha(t, test.args...)
			if err == nil || !strings.Contains(err.Error()+stderr, test.want) {
				t.Errorf("got %v (%s), want an error that says %q", err, stderr, test.want)
			}
		})
	}
}

func TestCommands(t *testing.T) {
	t.Parallel()
	onBothEngines(t, testCommands)
}

func testCommands(t *testing.T, store ...string) {
	address, stop := serveOn(t, store...)
	gb, err := simplifiedchinese.GB18030.NewEncoder().Bytes(sampledata.Divisions2019())
	if err != nil {
		t.Fatal(err)
	}
	do := func(want string, args ...string) string {
		t.Helper()
		out, stderr, err := xuncha(t, append(args, "--server", address)...)
		if err != nil || !strings.Contains(out, want) {
			t.Errorf("%v: got %q, %v (%s); want %q", args, out, err, stderr, want)
		}
		return out
	}
	do("checked, nothing changed", "import", "divisions", "--dry-run", "--effective-date", "2019-10-31", sample(t, "gb.csv", gb))
	do("3179 created", "import", "divisions", "--effective-date", "2019-10-31", sample(t, "gb.csv", gb))
	do("3179 unchanged", "import", "divisions", "--effective-date", "2019-10-31", sample(t, "utf8.csv", sampledata.Divisions2019()))
	ids := fill(t, address)
	do("85 unchanged", "import", "sites", sample(t, "s.csv", sampledata.Sites()))
	submit(t, connect(t, address), newCheckIn(ids[0]))
	do("浓洄街道", "coverage", "511600", "--depth", "2")
	do(`"sitesDue":"85"`, "coverage", "511600", "--json")
	do("10 people dispersed", "history", "SC-GA-0001")
	do(`"record":`, "history", ids[0], "--json", "--records")
	out := do("52 sites stand in a village that has ended", "import", "divisions", "--effective-date", "2023-06-30", sample(t, "2023.csv", sampledata.Divisions2023()))
	if !strings.Contains(out, "SC-GA-0006") {
		t.Errorf("the sites to move are not named: %s", out)
	}
	newest := strings.Split(do("divisions_imported", "changes", "--limit", "1"), "\n")
	revision := strings.Fields(newest[1])[0]
	do("Change "+revision+" is taken back (divisions_imported 2023.csv as of ", "revoke", revision, "--reason", "another day")
	do("takes back "+revision+": another day", "changes")
	do("TAKEN BACK by", "changes")
	do("takes back "+revision+": another day", "history", "SC-GA-0006")
	do(`"revokedByRevision"`, "changes", "--json")
	if _, _, err := xuncha(t, "revoke", revision, "--reason", "once more", "--server", address); err == nil || !strings.Contains(err.Error(), "has taken it back already (CHANGE_NOT_REVOCABLE)") || command.ExitCode(err) != 1 {
		t.Errorf("once more: got %v", err)
	}
	if _, _, err := xuncha(t, "revoke", revision, "--server", address); command.ExitCode(err) != 2 {
		t.Errorf("without a reason: got %v", err)
	}
	do("52 sites stand in a village that has ended", "import", "divisions", "--effective-date", "2023-07-01", sample(t, "2023.csv", sampledata.Divisions2023()))
	log := stop()
	for _, want := range []string{`"msg":"serving"`, `"code":"OK"`, `"msg":"stopped"`} {
		if !strings.Contains(log, want) {
			t.Errorf("the log lacks %s", want)
		}
	}
}

// TestShutdown ensures that a call under way when the server is told to stop
// ends as if nothing were.
func TestShutdown(t *testing.T) {
	t.Parallel()
	address, stop := serveFolder(t, t.TempDir())
	conn := connect(t, address)
	stream, err := xunchav1.NewRosterServiceClient(conn).ImportDivisions(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	send := func(m *xunchav1.ImportDivisionsRequest) {
		t.Helper()
		if err := stream.Send(m); err != nil {
			t.Fatal(err)
		}
	}
	send(&xunchav1.ImportDivisionsRequest{Part: &xunchav1.ImportDivisionsRequest_Header{Header: &xunchav1.ImportHeader{EffectiveDate: "2019-10-31"}}})
	// A connection's calls reach the server in order: once this one is answered,
	// the import is under way.
	if _, err := xunchav1.NewRosterServiceClient(conn).ListSites(t.Context(), &xunchav1.ListSitesRequest{}); err != nil {
		t.Fatal(err)
	}
	// A stream without an end holds nobody up.
	watch, err := healthv1.NewHealthClient(conn).Watch(t.Context(), &healthv1.HealthCheckRequest{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := watch.Recv(); err != nil {
		t.Fatal(err)
	}
	other := connect(t, address)
	stopped := make(chan string, 1)
	go func() { stopped <- stop() }()
	// New calls are refused from the moment on at which the server stops.
	for {
		_, err := xunchav1.NewRosterServiceClient(other).ListSites(t.Context(), &xunchav1.ListSitesRequest{})
		if status.Code(err) == codes.Unavailable {
			break
		} else if err != nil {
			t.Fatal(err)
		}
	}
	send(&xunchav1.ImportDivisionsRequest{Part: &xunchav1.ImportDivisionsRequest_Row{Row: &xunchav1.DivisionRow{Row: 2, Code: "511600", Name: "广安市", Level: "city"}}})
	answer, err := stream.CloseAndRecv()
	if err != nil || answer.Created != 1 {
		t.Errorf("got %v, %v; want the import done", answer, err)
	}
	if log := <-stopped; strings.Contains(log, "calls under way are cut") {
		t.Errorf("calls were cut: %s", log)
	}
}

// wantChain checks a site's whole history with SHA-256 alone and returns its
// check-ins by id.
func wantChain(t testing.TB, conn *grpc.ClientConn, site string) map[string]*xunchav1.HistoryEntry {
	t.Helper()
	entries, err := commands.ListHistory(t.Context(), conn, site, 1<<30, true)
	if err != nil {
		t.Fatal(err)
	}
	slices.Reverse(entries)
	out := map[string]*xunchav1.HistoryEntry{}
	before, sequence := make([]byte, 32), int64(0)
	for _, e := range entries {
		if e.History != "site/"+site {
			continue
		}
		sequence++
		sum := sha256.Sum256(slices.Concat([]byte("xuncha entry v1\n"), before, e.Record))
		if e.Sequence != sequence || !bytes.Equal(sum[:], e.EntryHash) {
			t.Fatalf("site %s: sequence %d with hash %x, want %d with %x", site, e.Sequence, e.EntryHash, sequence, sum)
		}
		if !bytes.Contains(e.Record, fmt.Appendf(nil, `"history":"site/%s","sequence":%d,`, site, sequence)) {
			t.Errorf("the record does not name its history and sequence: %s", e.Record)
		}
		before, out[e.EntryId] = e.EntryHash, e
	}
	return out
}

// wantAcknowledged checks the histories of the sites, and that the check-ins are
// there as the receipts, by their ids, say. It returns how many there are.
func wantAcknowledged(t testing.TB, conn *grpc.ClientConn, sites []string, receipts map[string]*xunchav1.Receipt) int {
	t.Helper()
	stored := map[string]*xunchav1.HistoryEntry{}
	for _, site := range sites {
		maps.Copy(stored, wantChain(t, conn, site))
	}
	for id, r := range receipts {
		if e := stored[id]; e == nil || e.Sequence != r.Sequence || !bytes.Equal(e.EntryHash, r.EntryHash) {
			t.Errorf("check-in %s was acknowledged as %v and is stored as %v", id, r, e)
		}
	}
	return len(stored)
}

// TestOneSiteTogether has 64 officers submit to one site at once.
func TestOneSiteTogether(t *testing.T) {
	t.Parallel()
	onBothEngines(t, testOneSiteTogether)
}

func testOneSiteTogether(t *testing.T, store ...string) {
	address, _ := serveOn(t, store...)
	site := fill(t, address)[0]
	conn := connect(t, address)
	client := xunchav1.NewInspectionServiceClient(conn)
	var group sync.WaitGroup
	for range 64 {
		group.Go(func() {
			for range 10 {
				if _, err := client.SubmitCheckIn(t.Context(), &xunchav1.SubmitCheckInRequest{CheckIn: newCheckIn(site)}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	group.Wait()
	if got := len(wantChain(t, conn, site)); got != 640 {
		t.Errorf("got %d check-ins, want 640", got)
	}
}

// TestKill kills the built server ten times in the middle of submissions. What
// it acknowledged must be there after the next start, once and unchanged.
func TestKill(t *testing.T) {
	t.Parallel()
	binary := filepath.Join(t.TempDir(), "xuncha")
	if out, err := exec.Command("go", "build", "-o", binary, "xuncha/server").CombinedOutput(); err != nil {
		t.Fatal(err, string(out))
	}
	onBothEngines(t, func(t *testing.T, store ...string) { testKill(t, binary, store...) })
}

func testKill(t *testing.T, binary string, store ...string) {
	start := func() (*exec.Cmd, string) {
		t.Helper()
		out := newLineWriter()
		server := exec.Command(binary, append([]string{"serve", "--listen", "127.0.0.1:0", "--log-level", "error"}, store...)...)
		server.Stdout, server.Stderr = out, out
		if err := server.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = server.Process.Kill() }) // nothing to kill after a test that passes
		return server, out.address(t)
	}
	server, address := start()
	ids := fill(t, address)

	var mu sync.Mutex
	receipts := map[string]*xunchav1.Receipt{}
	for round := range 10 {
		conn := connect(t, address)
		client := xunchav1.NewInspectionServiceClient(conn)
		var group sync.WaitGroup
		enough := make(chan struct{})
		target := len(receipts) + 30 + 5*round
		for worker := range 16 {
			group.Go(func() {
				for {
					c := newCheckIn(ids[worker%5])
					answer, err := client.SubmitCheckIn(context.Background(), &xunchav1.SubmitCheckInRequest{CheckIn: c})
					if err != nil {
						if status.Code(err) != codes.Unavailable {
							t.Error(err)
						}
						return // the server is gone
					}
					mu.Lock()
					receipts[c.CheckInId] = answer.Receipt
					if len(receipts) == target {
						close(enough)
					}
					mu.Unlock()
				}
			})
		}
		<-enough
		if err := server.Process.Signal(syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		_ = server.Wait() // it was killed
		group.Wait()
		server, address = start()
	}
	conn := connect(t, address)
	stored := wantAcknowledged(t, conn, ids[:5], receipts)
	answer, err := xunchav1.NewCoverageServiceClient(conn).GetCoverage(t.Context(), &xunchav1.GetCoverageRequest{
		DivisionCode: "511600", StartTime: timestamppb.New(time.Now().Add(-time.Hour)), EndTime: timestamppb.New(time.Now().Add(time.Hour)),
	})
	if err != nil || answer.Row.CheckIns != int64(stored) || answer.Row.SitesInspected != 5 {
		t.Errorf("coverage counts %v, %v; want the %d check-ins stored at 5 sites", answer.GetRow(), err, stored)
	}
	if err := server.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := server.Wait(); err != nil {
		t.Errorf("after SIGTERM: %v", err)
	}
}
