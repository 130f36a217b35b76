package rpc

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"xuncha/inspections"
	"xuncha/inspections/photos"
	"xuncha/ledger"
	xunchav1 "xuncha/proto/xuncha/v1"
	"xuncha/server/internal/accounts"
	"xuncha/server/internal/sampledata"
	"xuncha/server/internal/sqlitestore"
	"xuncha/server/internal/table"
	"xuncha/sites"
)

var shanghai = time.FixedZone("Asia/Shanghai", 8*3600)

// A world is the real server on a fresh folder over an in-memory connection,
// with the sample roster, an order over the city from the morning of
// 2020-02-01 on, and a clock that stands two hours later.
type world struct {
	roster   xunchav1.RosterServiceClient
	checkIns xunchav1.InspectionServiceClient
	coverage xunchav1.CoverageServiceClient
	audit    xunchav1.AuditServiceClient
	photos   xunchav1.PhotoServiceClient
	conn     *grpc.ClientConn
	listener *bufconn.Listener
	accounts *accounts.Service
	altered  *ledger.Alterations
	store    *tamperable
	config   Config
	visited  map[string]string // ids of check-ins by site
	log      *syncBuffer
	sites    []*xunchav1.Site
	order    *xunchav1.ClosureOrder

	mu  sync.Mutex
	now time.Time
}

func (w *world) clock() time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.now
}

func (w *world) advance(d time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.now = w.now.Add(d)
}

type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

func must[T any](v T, err error) func(testing.TB) T {
	return func(t testing.TB) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

// newServer starts a server with an empty roster.
func newServer(t testing.TB, change ...func(*Config)) *world {
	t.Helper()
	return newServerOn(t, must(sqlitestore.Open(t.Context(), t.TempDir(), sqlitestore.Options{}))(t), change...)
}

// newServerOn is newServer on a store, which it closes.
func newServerOn(t testing.TB, store testStore, change ...func(*Config)) *world {
	t.Helper()
	w := &world{log: &syncBuffer{}, now: time.Date(2020, 2, 1, 8, 0, 0, 0, shanghai)}
	w.altered, w.store = new(ledger.Alterations), &tamperable{Store: store}
	guarded := ledger.Guard(w.store, w.altered)
	roster := must(sites.Open(t.Context(), sites.Config{Ledger: guarded, Altered: w.altered, Rows: store, Now: w.clock, NewID: uuid.NewString, Zone: shanghai}))(t)
	checkIns := inspections.New(inspections.Config{Ledger: guarded, Claims: store.Photos(), Roster: roster, Now: w.clock, Altered: w.altered})
	keeper := must(photos.New(photos.Config{
		Ledger: guarded, Store: store.Photos(), CheckIns: checkIns, Roster: roster, RetentionDays: photos.DefaultRetentionDays, Now: w.clock,
		Believed: func() (time.Time, bool) { return w.clock(), true },
	}))(t)
	w.accounts = must(accounts.Open(t.Context(), accounts.Config{Ledger: guarded, Secrets: store, Altered: w.altered, Now: w.clock, NewID: uuid.NewString, Random: rand.Reader}))(t)
	config := Config{
		Roster: roster, Inspections: checkIns, Photos: keeper, Accounts: w.accounts, Now: w.clock, NewID: uuid.NewString, Zone: shanghai,
		Log: slog.New(slog.NewJSONHandler(w.log, nil)), MaxMessage: 1 << 20,
		Altered: w.altered,
	}
	for _, f := range change {
		f(&config)
	}
	w.config = config
	server, _, err := New(config)
	if err != nil {
		t.Fatal(err)
	}
	w.listener = bufconn.Listen(1 << 20)
	served := make(chan error, 1)
	go func() { served <- server.Serve(w.listener) }()
	t.Cleanup(func() {
		server.GracefulStop()
		if err := errors.Join(<-served, store.Close()); err != nil {
			t.Error(err)
		}
	})
	w.conn = w.dial(t)
	w.roster = xunchav1.NewRosterServiceClient(w.conn)
	w.checkIns = xunchav1.NewInspectionServiceClient(w.conn)
	w.coverage = xunchav1.NewCoverageServiceClient(w.conn)
	w.audit = xunchav1.NewAuditServiceClient(w.conn)
	w.photos = xunchav1.NewPhotoServiceClient(w.conn)
	return w
}

// dial opens a connection to the server.
func (w *world) dial(t testing.TB) *grpc.ClientConn {
	t.Helper()
	conn := must(grpc.NewClient("passthrough:///test", grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return w.listener.DialContext(ctx) })))(t)
	t.Cleanup(func() { conn.Close() })
	return conn
}

func newWorld(t testing.TB) *world {
	t.Helper()
	return newWorldWith(t)
}

// newWorldWith returns a world whose server has another configuration.
func newWorldWith(t testing.TB, change ...func(*Config)) *world {
	t.Helper()
	w := newServer(t, change...)
	w.fill(t)
	return w
}

// fill imports the sample roster and issues the order.
func (w *world) fill(t testing.TB) {
	t.Helper()
	w.fillRoster(t)
	w.order = must(w.roster.CreateClosureOrder(t.Context(), &xunchav1.CreateClosureOrderRequest{ClosureOrder: w.newOrder("1")}))(t).ClosureOrder
	w.advance(2 * time.Hour)
}

// fillRoster imports the sample roster.
func (w *world) fillRoster(t testing.TB) {
	t.Helper()
	w.importDivisions(t, sampledata.Divisions2019(), "2019-10-31")
	var rows []*xunchav1.ImportSitesRequest
	read(t, sampledata.Sites(), table.Sites, func(r table.Row) {
		rows = append(rows, &xunchav1.ImportSitesRequest{Part: &xunchav1.ImportSitesRequest_Row{Row: &xunchav1.SiteRow{
			Row: int32(r.Number), RegistrationNo: r.Cells[0], Name: r.Cells[1], DivisionCode: r.Cells[2], Address: r.Cells[3],
			Latitude: r.Cells[4], Longitude: r.Cells[5], RegisteredOn: r.Cells[6], DeregisteredOn: r.Cells[7],
		}}})
	})
	must(w.importSites(t, &xunchav1.ImportHeader{}, rows...))(t)
	w.sites = must(w.roster.ListSites(t.Context(), &xunchav1.ListSitesRequest{PageSize: 1000}))(t).Sites
}

// A testStore is what a server of these tests stands on.
type testStore interface {
	ledger.Store
	sites.Rows
	accounts.Secrets
	Photos() photos.Store
	Close() error
}

// newOrder returns an order from now on for 30 days.
func (w *world) newOrder(number string) *xunchav1.ClosureOrder {
	return &xunchav1.ClosureOrder{
		Number: number, Title: "t", IssuingAuthority: "a", LegalBasis: "b", DivisionCodes: []string{"511600"},
		StartTime: timestamppb.New(w.clock()), EndTime: timestamppb.New(w.clock().AddDate(0, 0, 30)),
		InspectionInterval: durationpb.New(24 * time.Hour),
	}
}

func read(t testing.TB, data []byte, columns []table.Column, each func(table.Row)) {
	t.Helper()
	if err := table.Read(t.Context(), "sample", io.NewSectionReader(bytes.NewReader(data), 0, int64(len(data))), columns, func(r table.Row) error { each(r); return nil }); err != nil {
		t.Fatal(err)
	}
}

func (w *world) importDivisions(t testing.TB, data []byte, effective string) *xunchav1.ImportDivisionsResponse {
	t.Helper()
	return w.importDivisionsAs(t, t.Context(), data, effective, false)
}

func (w *world) importDivisionsAs(t testing.TB, ctx context.Context, data []byte, effective string, dryRun bool) *xunchav1.ImportDivisionsResponse {
	t.Helper()
	return must(w.importDivisionsBy(t, ctx, data, &xunchav1.ImportHeader{EffectiveDate: effective, DryRun: dryRun}))(t)
}

func (w *world) importDivisionsBy(t testing.TB, ctx context.Context, data []byte, header *xunchav1.ImportHeader) (*xunchav1.ImportDivisionsResponse, error) {
	t.Helper()
	stream := must(w.roster.ImportDivisions(ctx))(t)
	send := func(m *xunchav1.ImportDivisionsRequest) {
		if err := stream.Send(m); err != nil {
			t.Fatal(err)
		}
	}
	send(&xunchav1.ImportDivisionsRequest{Part: &xunchav1.ImportDivisionsRequest_Header{Header: header}})
	read(t, data, table.Divisions, func(r table.Row) {
		send(&xunchav1.ImportDivisionsRequest{Part: &xunchav1.ImportDivisionsRequest_Row{Row: &xunchav1.DivisionRow{
			Row: int32(r.Number), Code: r.Cells[0], Name: r.Cells[1], Level: r.Cells[2], ParentCode: r.Cells[3],
		}}})
	})
	return stream.CloseAndRecv()
}

func (w *world) importSites(t testing.TB, header *xunchav1.ImportHeader, rows ...*xunchav1.ImportSitesRequest) (*xunchav1.ImportSitesResponse, error) {
	t.Helper()
	stream, err := w.roster.ImportSites(t.Context())
	if err != nil {
		return nil, err
	}
	if header != nil {
		rows = append([]*xunchav1.ImportSitesRequest{{Part: &xunchav1.ImportSitesRequest_Header{Header: header}}}, rows...)
	}
	for _, r := range rows {
		if stream.Send(r) != nil {
			break
		}
	}
	return stream.CloseAndRecv()
}

// checkIn returns a check-in of the site, made now.
func (w *world) checkIn(site int) *xunchav1.CheckIn {
	return &xunchav1.CheckIn{
		CheckInId: uuid.NewString(), SiteId: w.sites[site].SiteId, CaptureTime: timestamppb.New(w.clock()),
		Finding: xunchav1.Finding_FINDING_CLOSED, CancelledEventCount: 2, DispersedPeopleCount: 300, Note: "门口已张贴通知",
	}
}

func (w *world) submit(t testing.TB, c *xunchav1.CheckIn) *xunchav1.Receipt {
	t.Helper()
	return must(w.checkIns.SubmitCheckIn(t.Context(), &xunchav1.SubmitCheckInRequest{CheckIn: c}))(t).Receipt
}

// wantStatus checks an error's code, reason and, where it is not empty, field.
func wantStatus(t testing.TB, err error, code codes.Code, reason, field string) {
	t.Helper()
	st := status.Convert(err)
	var gotReason, gotMessage string
	var fields []string
	for _, d := range st.Details() {
		switch d := d.(type) {
		case *errdetails.ErrorInfo:
			if d.Domain != "xuncha" || d.Metadata["request_id"] == "" {
				t.Errorf("ErrorInfo %v, want the domain xuncha and a request id", d)
			}
			gotReason = d.Reason
		case *errdetails.BadRequest:
			for _, v := range d.FieldViolations {
				fields = append(fields, v.Field)
			}
		case *errdetails.LocalizedMessage:
			gotMessage = d.Message
		}
	}
	if st.Code() != code || gotReason != reason || gotMessage == "" {
		t.Errorf("got %v %s (%q) with message %q, want %v %s", st.Code(), gotReason, st.Message(), gotMessage, code, reason)
	}
	if field != "" && (len(fields) == 0 || fields[0] != field) {
		t.Errorf("got fields %q, want %q", fields, field)
	}
}

func TestSubmitRefuses(t *testing.T) {
	w := newWorld(t)
	gone := must(w.roster.DeregisterSite(t.Context(), &xunchav1.DeregisterSiteRequest{SiteId: w.sites[84].SiteId}))(t).Site
	for _, test := range []struct {
		name   string
		change func(*xunchav1.CheckIn)
		code   codes.Code
		reason string
		field  string
	}{
		{"UnknownSite", func(c *xunchav1.CheckIn) { c.SiteId = uuid.NewString() }, codes.NotFound, "SITE_NOT_FOUND", "check_in.site_id"},
		{"EndedSite", func(c *xunchav1.CheckIn) { c.SiteId = gone.SiteId }, codes.FailedPrecondition, "SITE_NOT_REGISTERED", "check_in.site_id"},
		{"BeforeTheOrder", func(c *xunchav1.CheckIn) { c.CaptureTime.Seconds -= 7201 }, codes.InvalidArgument, "CAPTURE_BEFORE_ORDER", "check_in.capture_time"},
		{"InTheFuture", func(c *xunchav1.CheckIn) { c.CaptureTime.Seconds += 301 }, codes.InvalidArgument, "CAPTURE_IN_FUTURE", "check_in.capture_time"},
		{"NoTime", func(c *xunchav1.CheckIn) { c.CaptureTime = nil }, codes.InvalidArgument, "MISSING_FIELD", "check_in.capture_time"},
		{"ImpossibleTime", func(c *xunchav1.CheckIn) { c.CaptureTime.Nanos = -1 }, codes.InvalidArgument, "OUT_OF_RANGE", "check_in.capture_time"},
		{"NegativeEvents", func(c *xunchav1.CheckIn) { c.CancelledEventCount = -1 }, codes.InvalidArgument, "OUT_OF_RANGE", "check_in.cancelled_event_count"},
		{"AbsurdPeople", func(c *xunchav1.CheckIn) { c.DispersedPeopleCount = 100_001 }, codes.InvalidArgument, "OUT_OF_RANGE", "check_in.dispersed_people_count"},
		{"MalformedID", func(c *xunchav1.CheckIn) { c.CheckInId = "1" }, codes.InvalidArgument, "MALFORMED_ID", "check_in.check_in_id"},
		{"LongNote", func(c *xunchav1.CheckIn) { c.Note = strings.Repeat("门", 501) }, codes.InvalidArgument, "TOO_LONG", "check_in.note"},
		{"EndlessNote", func(c *xunchav1.CheckIn) { c.Note = strings.Repeat("\u200b", 5001) }, codes.InvalidArgument, "TOO_LONG", "check_in.note"},
		{"NoFinding", func(c *xunchav1.CheckIn) { c.Finding = 0 }, codes.InvalidArgument, "MISSING_FIELD", "check_in.finding"},
		{"UnknownFinding", func(c *xunchav1.CheckIn) { c.Finding = 99 }, codes.InvalidArgument, "INVALID_FIELD", "check_in.finding"},
		{"NoID", func(c *xunchav1.CheckIn) { c.CheckInId = "" }, codes.InvalidArgument, "MISSING_FIELD", "check_in.check_in_id"},
		{"NoHash", func(c *xunchav1.CheckIn) { c.Photos = []*xunchav1.Photo{{SizeBytes: 1, ContentType: "image/png"}} }, codes.InvalidArgument, "MISSING_FIELD", "check_in.photos[0].sha256"},
		{"ShortHash", func(c *xunchav1.CheckIn) {
			c.Photos = []*xunchav1.Photo{{Sha256: []byte("x"), SizeBytes: 1, ContentType: "image/png"}}
		}, codes.InvalidArgument, "INVALID_FIELD", "check_in.photos[0].sha256"},
		{"YearOne", func(c *xunchav1.CheckIn) { c.CaptureTime = timestamppb.New(time.Time{}) }, codes.InvalidArgument, "OUT_OF_RANGE", "check_in.capture_time"},
		{"TooManyDeclaredPhotos", func(c *xunchav1.CheckIn) {
			for i := range 101 {
				c.Photos = append(c.Photos, &xunchav1.Photo{Sha256: bytes.Repeat([]byte{byte(i)}, 32), SizeBytes: 1, ContentType: "image/jpeg"})
			}
		}, codes.InvalidArgument, "TOO_LONG", "check_in.photos"},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := w.checkIn(0)
			test.change(c)
			_, err := w.checkIns.SubmitCheckIn(t.Context(), &xunchav1.SubmitCheckInRequest{CheckIn: c})
			wantStatus(t, err, test.code, test.reason, test.field)
		})
	}
	t.Run("NoCheckIn", func(t *testing.T) {
		_, err := w.checkIns.SubmitCheckIn(t.Context(), &xunchav1.SubmitCheckInRequest{})
		wantStatus(t, err, codes.InvalidArgument, "MISSING_FIELD", "check_in")
	})
	t.Run("NoOrderInForce", func(t *testing.T) {
		must(w.roster.EndClosureOrder(t.Context(), &xunchav1.EndClosureOrderRequest{ClosureOrderId: w.order.ClosureOrderId}))(t)
		_, err := w.checkIns.SubmitCheckIn(t.Context(), &xunchav1.SubmitCheckInRequest{CheckIn: w.checkIn(0)})
		wantStatus(t, err, codes.FailedPrecondition, "NO_ORDER_IN_FORCE", "check_in.capture_time")
	})
	history := must(w.audit.ListSiteHistory(t.Context(), &xunchav1.ListSiteHistoryRequest{SiteId: w.sites[0].SiteId}))(t)
	for _, e := range history.Entries {
		if e.Kind == xunchav1.EntryKind_ENTRY_KIND_CHECK_IN {
			t.Errorf("a check-in that was refused is stored: %v", e)
		}
	}
}

func TestRepeats(t *testing.T) {
	w := newWorld(t)
	c := w.checkIn(0)
	first := w.submit(t, c)
	if first.Duplicate || first.Sequence != 1 || len(first.EntryHash) != 32 {
		t.Errorf("got %v, want the first entry", first)
	}
	w.advance(time.Hour)
	c.CheckInId = strings.ToUpper(c.CheckInId)
	again := w.submit(t, c)
	if !again.Duplicate || !bytes.Equal(again.EntryHash, first.EntryHash) || again.ReceiveTime.AsTime() != first.ReceiveTime.AsTime() {
		t.Errorf("got %v, want the first receipt %v as a duplicate", again, first)
	}
	c.Note = "x"
	_, err := w.checkIns.SubmitCheckIn(t.Context(), &xunchav1.SubmitCheckInRequest{CheckIn: c})
	wantStatus(t, err, codes.AlreadyExists, "CHECK_IN_CONFLICT", "check_in.check_in_id")

	got := must(w.checkIns.GetCheckIn(t.Context(), &xunchav1.GetCheckInRequest{SiteId: c.SiteId, CheckInId: c.CheckInId}))(t)
	if got.CheckIn.Note != "门口已张贴通知" || got.CheckIn.Location != nil || got.Receipt.Sequence != 1 {
		t.Errorf("got %v, want what was stored first", got)
	}
	_, err = w.checkIns.GetCheckIn(t.Context(), &xunchav1.GetCheckInRequest{SiteId: c.SiteId, CheckInId: uuid.NewString()})
	wantStatus(t, err, codes.NotFound, "CHECK_IN_NOT_FOUND", "check_in_id")
}

// TestRound visits all sites and asks every question about it.
func TestRound(t *testing.T) {
	w := newWorld(t)
	ctx := t.Context()
	known := timestamppb.New(w.clock())
	w.advance(time.Minute)
	for i := range w.sites {
		c := w.checkIn(i)
		if i%5 == 0 {
			c.Finding = xunchav1.Finding_FINDING_OPEN
		}
		w.submit(t, c)
		if i%7 == 0 {
			w.advance(time.Second)
			w.submit(t, w.checkIn(i)) // a second visit does not count the site twice
		}
	}
	ask := func(code string, depth int32) *xunchav1.GetCoverageResponse {
		return must(w.coverage.GetCoverage(ctx, &xunchav1.GetCoverageRequest{DivisionCode: code, Depth: depth}))(t)
	}
	all := ask("511600", 3)
	if r := all.Row; r.SitesDue != 85 || r.SitesInspected != 85 || r.SitesOverdue != 0 || r.SitesNeverInspected != 0 ||
		r.CheckIns != 98 || r.SitesFoundOpen != 17 || r.CancelledEvents != 196 || r.DispersedPeople != 29400 {
		t.Errorf("got %v", r)
	}

	t.Run("RowsAddUp", func(t *testing.T) {
		var walk func(*xunchav1.GetCoverageResponse)
		walk = func(a *xunchav1.GetCoverageResponse) {
			sum := &xunchav1.CoverageRow{}
			for _, c := range a.Children {
				sum.SitesDue += c.Row.SitesDue
				sum.SitesInspected += c.Row.SitesInspected
				sum.CheckIns += c.Row.CheckIns
				sum.DispersedPeople += c.Row.DispersedPeople
				walk(c)
			}
			if r := a.Row; len(a.Children) > 0 && (sum.SitesDue != r.SitesDue || sum.SitesInspected != r.SitesInspected ||
				sum.CheckIns != r.CheckIns || sum.DispersedPeople != r.DispersedPeople) {
				t.Errorf("below %s: %v, want %v", r.DivisionName, sum, r)
			}
		}
		walk(all)
	})
	t.Run("EachDivisionSaysTheSame", func(t *testing.T) {
		for _, county := range all.Children {
			for _, township := range county.Children {
				if township.Row.SitesDue == 0 {
					continue
				}
				for _, a := range append([]*xunchav1.GetCoverageResponse{county, township}, township.Children...) {
					if got := ask(a.Row.DivisionCode, 0).Row; got.String() != a.Row.String() {
						t.Errorf("got %v, want %v", got, a.Row)
					}
				}
			}
		}
	})
	t.Run("EveryFigureHasItsList", func(t *testing.T) {
		for state, want := range map[xunchav1.DueState]int64{
			xunchav1.DueState_DUE_STATE_DUE: all.Row.SitesDue, xunchav1.DueState_DUE_STATE_DONE: all.Row.SitesInspected,
			xunchav1.DueState_DUE_STATE_OVERDUE: all.Row.SitesOverdue, xunchav1.DueState_DUE_STATE_NEVER_INSPECTED: all.Row.SitesNeverInspected,
		} {
			list := must(w.coverage.ListDueSites(ctx, &xunchav1.ListDueSitesRequest{DivisionCode: "511600", State: state}))(t)
			if int64(list.TotalSize) != want || int64(len(list.DueSites)) != want {
				t.Errorf("%v: got %d, want %d", state, len(list.DueSites), want)
			}
		}
		open := must(w.checkIns.ListCheckIns(ctx, &xunchav1.ListCheckInsRequest{DivisionCode: "511600", FoundOpen: true, PageSize: 200}))(t)
		if int64(len(open.Items)) != all.Row.SitesFoundOpen {
			t.Errorf("found open: got %d, want %d", len(open.Items), all.Row.SitesFoundOpen)
		}
	})
	t.Run("TheDayBeforeTheOrder", func(t *testing.T) {
		before := must(w.coverage.GetCoverage(ctx, &xunchav1.GetCoverageRequest{
			DivisionCode: "511600", StartTime: timestamppb.New(time.Date(2020, 1, 31, 0, 0, 0, 0, shanghai)),
		}))(t)
		if before.Row.SitesDue != 0 {
			t.Errorf("got %d sites due, want none", before.Row.SitesDue)
		}
	})
	t.Run("AsKnownBefore", func(t *testing.T) {
		past := must(w.coverage.GetCoverage(ctx, &xunchav1.GetCoverageRequest{DivisionCode: "511600", KnownTime: known}))(t)
		if past.Row.SitesDue != 85 || past.Row.SitesInspected != 0 || past.Row.SitesNeverInspected != 85 {
			t.Errorf("got %v, want 85 due and none inspected", past.Row)
		}
	})
	t.Run("OverdueADayLater", func(t *testing.T) {
		w.advance(25 * time.Hour)
		list := must(w.coverage.ListDueSites(ctx, &xunchav1.ListDueSitesRequest{DivisionCode: "511600", State: xunchav1.DueState_DUE_STATE_OVERDUE}))(t)
		if got := ask("511600", 0).Row; got.SitesOverdue != 85 || got.SitesInspected != 0 || list.TotalSize != 85 {
			t.Errorf("got %v and a list of %d, want all 85 overdue", got, list.TotalSize)
		}
	})
	t.Run("UnknownDivision", func(t *testing.T) {
		_, err := w.coverage.GetCoverage(ctx, &xunchav1.GetCoverageRequest{DivisionCode: "990000"})
		wantStatus(t, err, codes.NotFound, "DIVISION_NOT_FOUND", "division_code")
	})
	t.Run("LongestWindow", func(t *testing.T) {
		start := w.clock().Add(-time.Hour)
		for _, test := range []struct {
			length time.Duration
			fits   bool
		}{{400 * 24 * time.Hour, true}, {400*24*time.Hour + 1, false}, {114 * 365 * 24 * time.Hour, false}} {
			from, to := timestamppb.New(start), timestamppb.New(start.Add(test.length))
			_, report := w.coverage.GetCoverage(ctx, &xunchav1.GetCoverageRequest{DivisionCode: "511600", StartTime: from, EndTime: to})
			_, dueSites := w.coverage.ListDueSites(ctx, &xunchav1.ListDueSitesRequest{DivisionCode: "511600", StartTime: from, EndTime: to})
			_, checkIns := w.checkIns.ListCheckIns(ctx, &xunchav1.ListCheckInsRequest{DivisionCode: "511600", StartTime: from, EndTime: to})
			_, ofSite := w.checkIns.ListCheckIns(ctx, &xunchav1.ListCheckInsRequest{SiteId: w.sites[0].SiteId, StartTime: from, EndTime: to})
			for name, err := range map[string]error{"GetCoverage": report, "ListDueSites": dueSites, "ListCheckIns": checkIns, "ListCheckIns of a site": ofSite} {
				if test.fits && err != nil {
					t.Errorf("%s of %v: %v", name, test.length, err)
				} else if !test.fits {
					wantStatus(t, err, codes.InvalidArgument, "WINDOW_TOO_LONG", "end_time")
				}
			}
		}
	})
	t.Run("WindowThatEndsBeforeItStarts", func(t *testing.T) {
		_, err := w.coverage.GetCoverage(ctx, &xunchav1.GetCoverageRequest{DivisionCode: "511600", EndTime: known, StartTime: timestamppb.New(w.clock())})
		wantStatus(t, err, codes.InvalidArgument, "INVALID_WINDOW", "end_time")
	})
}

// TestPages ensures that pages of any size give each item once.
func TestPages(t *testing.T) {
	w := newWorld(t)
	ctx := t.Context()
	for i := range 12 {
		w.submit(t, w.checkIn(i%3))
	}
	for i := range 3 {
		must(w.roster.CreateClosureOrder(ctx, &xunchav1.CreateClosureOrderRequest{ClosureOrder: w.newOrder(fmt.Sprint("n", i))}))(t)
	}
	for name, list := range map[string]func(size int32, token string) ([]string, string, error){
		"ListDivisions": func(size int32, token string) (out []string, _ string, _ error) {
			p, err := w.roster.ListDivisions(ctx, &xunchav1.ListDivisionsRequest{ParentCode: "511600", PageSize: size, PageToken: token})
			for _, d := range p.GetDivisions() {
				out = append(out, d.Code)
			}
			return out, p.GetNextPageToken(), err
		},
		"ListSites": func(size int32, token string) (out []string, _ string, _ error) {
			p, err := w.roster.ListSites(ctx, &xunchav1.ListSitesRequest{DivisionCode: "511681", PageSize: size, PageToken: token})
			for _, s := range p.GetSites() {
				out = append(out, s.SiteId)
			}
			return out, p.GetNextPageToken(), err
		},
		"ListClosureOrders": func(size int32, token string) (out []string, _ string, _ error) {
			p, err := w.roster.ListClosureOrders(ctx, &xunchav1.ListClosureOrdersRequest{PageSize: size, PageToken: token})
			for _, o := range p.GetClosureOrders() {
				out = append(out, o.Number)
			}
			return out, p.GetNextPageToken(), err
		},
		"ListChanges": func(size int32, token string) (out []string, _ string, _ error) {
			p, err := w.roster.ListChanges(ctx, &xunchav1.ListChangesRequest{PageSize: size, PageToken: token})
			for _, c := range p.GetChanges() {
				out = append(out, fmt.Sprint(c.Revision))
			}
			return out, p.GetNextPageToken(), err
		},
		"ListCheckIns": func(size int32, token string) (out []string, _ string, _ error) {
			p, err := w.checkIns.ListCheckIns(ctx, &xunchav1.ListCheckInsRequest{DivisionCode: "511600", PageSize: size, PageToken: token})
			for _, i := range p.GetItems() {
				out = append(out, i.CheckIn.CheckInId)
			}
			return out, p.GetNextPageToken(), err
		},
		"ListDueSites": func(size int32, token string) (out []string, _ string, _ error) {
			p, err := w.coverage.ListDueSites(ctx, &xunchav1.ListDueSitesRequest{DivisionCode: "511681", PageSize: size, PageToken: token})
			for _, s := range p.GetDueSites() {
				out = append(out, s.Site.SiteId)
			}
			return out, p.GetNextPageToken(), err
		},
		"ListSiteHistory": func(size int32, token string) (out []string, _ string, _ error) {
			p, err := w.audit.ListSiteHistory(ctx, &xunchav1.ListSiteHistoryRequest{SiteId: w.sites[0].SiteId, PageSize: size, PageToken: token})
			for _, e := range p.GetEntries() {
				out = append(out, e.History+fmt.Sprint(e.Sequence))
			}
			return out, p.GetNextPageToken(), err
		},
	} {
		t.Run(name, func(t *testing.T) {
			whole, _, err := list(1000, "")
			if err != nil || len(whole) < 4 {
				t.Fatalf("got %v, %v", whole, err)
			}
			for _, size := range []int32{1, 2, 7} {
				var got []string
				for token := ""; ; {
					page, next, err := list(size, token)
					if err != nil || len(page) > int(size) {
						t.Fatalf("pages of %d: %d items, %v", size, len(page), err)
					}
					got = append(got, page...)
					if token = next; token == "" {
						break
					}
				}
				if fmt.Sprint(got) != fmt.Sprint(whole) {
					t.Errorf("pages of %d: got %v, want %v", size, got, whole)
				}
			}
			if _, _, err := list(1, "AAAAAAAAAAA"); status.Code(err) != codes.InvalidArgument {
				t.Errorf("a token that was made up: %v", err)
			}
		})
	}
	t.Run("TokenOfAnotherQuery", func(t *testing.T) {
		page := must(w.roster.ListSites(ctx, &xunchav1.ListSitesRequest{DivisionCode: "511681", PageSize: 1}))(t)
		_, err := w.roster.ListSites(ctx, &xunchav1.ListSitesRequest{DivisionCode: "511602", PageSize: 1, PageToken: page.NextPageToken})
		wantStatus(t, err, codes.InvalidArgument, "INVALID_PAGE_TOKEN", "page_token")
	})
}

// TestForgedTokens ensures that no token leads to what its request does not ask.
func TestForgedTokens(t *testing.T) {
	w := newWorld(t)
	ctx := t.Context()
	w.submit(t, w.checkIn(0))
	start, end := timestamppb.New(w.clock().Add(-time.Hour)), timestamppb.New(w.clock().Add(-time.Minute)) // nothing in it
	site := w.sites[0].SiteId
	forge := func(cursor string, query ...string) string {
		return base64.RawURLEncoding.EncodeToString(append(nameQuery(query), cursor...))
	}
	accessesOf := func(username string) func(token string) error {
		return func(token string) error {
			_, err := w.audit.ListAccesses(ctx, &xunchav1.ListAccessesRequest{Account: username, PageToken: token})
			return err
		}
	}
	for _, test := range []struct {
		name      string
		good, bad string // cursors
		query     []string
		call      func(token string) error
	}{
		{"WindowOfCheckIns", `{}`, `{"Day":"2020-02-01T00:00:00+08:00"}`,
			[]string{"ListCheckIns", "511600", "", spell(start), spell(end), "", "FLAG_UNSPECIFIED", "false"},
			func(token string) error {
				_, err := w.checkIns.ListCheckIns(ctx, &xunchav1.ListCheckInsRequest{DivisionCode: "511600", StartTime: start, EndTime: end, PageToken: token})
				return err
			}},
		{"WindowOfDueSites", `{}`, `{"Day":"2020-03-01T00:00:00+08:00"}`,
			[]string{"ListDueSites", "511600", "DUE_STATE_UNSPECIFIED", spell(start), spell(end), ""},
			func(token string) error {
				_, err := w.coverage.ListDueSites(ctx, &xunchav1.ListDueSitesRequest{DivisionCode: "511600", StartTime: start, EndTime: end, PageToken: token})
				return err
			}},
		{"MomentOfSites", `{"a":"x"}`, `{"a":"x","t":"2000-01-01T00:00:00Z"}`,
			[]string{"ListSites", "", spell(start)},
			func(token string) error {
				_, err := w.roster.ListSites(ctx, &xunchav1.ListSitesRequest{AsOfTime: start, PageToken: token})
				return err
			}},
		{"MomentOfDivisions", `{"a":"1"}`, `{"a":"1","t":"2000-01-01T00:00:00Z"}`,
			[]string{"ListDivisions", "511600", spell(start)},
			func(token string) error {
				_, err := w.roster.ListDivisions(ctx, &xunchav1.ListDivisionsRequest{ParentCode: "511600", AsOfTime: start, PageToken: token})
				return err
			}},
		{"NegativeSequence", `{"s":1}`, `{"s":-1}`,
			[]string{"ListSiteHistory", site},
			func(token string) error {
				_, err := w.audit.ListSiteHistory(ctx, &xunchav1.ListSiteHistoryRequest{SiteId: site, PageToken: token})
				return err
			}},
		{"UnknownOrder", `{"a":"` + w.order.ClosureOrderId + `"}`, `{"a":"x"}`,
			[]string{"ListClosureOrders", ""},
			func(token string) error {
				_, err := w.roster.ListClosureOrders(ctx, &xunchav1.ListClosureOrdersRequest{PageToken: token})
				return err
			}},
		{"AccessesOfAnEarlierVersion", "[2" + strings.Repeat(",1", 16) + "]", `{"b":2}`, []string{"ListAccesses", "", "", "", "", ""}, accessesOf("")},
		{"AccessesOfTooFewHistories", `[2,1]`, `[2]`, []string{"ListAccesses", "", "", "li.wei", "", ""}, accessesOf("li.wei")},
		{"AccessesBeforeTheFirst", `[2,1]`, `[2,0]`, []string{"ListAccesses", "", "", "li.wei", "", ""}, accessesOf("li.wei")},
	} {
		t.Run(test.name, func(t *testing.T) {
			if err := test.call(forge(test.good, test.query...)); err != nil {
				t.Errorf("the cursor %s: %v", test.good, err)
			}
			wantStatus(t, test.call(forge(test.bad, test.query...)), codes.InvalidArgument, "INVALID_PAGE_TOKEN", "page_token")
		})
	}
}

// TestPagesAcrossMidnight ensures that a list goes on with the day on which it
// was begun.
func TestPagesAcrossMidnight(t *testing.T) {
	w := newWorld(t)
	for i := range 3 {
		w.submit(t, w.checkIn(i))
	}
	query := &xunchav1.ListCheckInsRequest{DivisionCode: "511600", PageSize: 1}
	first := must(w.checkIns.ListCheckIns(t.Context(), query))(t)
	w.advance(24 * time.Hour)
	query.PageSize, query.PageToken = 10, first.NextPageToken
	if rest := must(w.checkIns.ListCheckIns(t.Context(), query))(t); len(first.Items) != 1 || len(rest.Items) != 2 {
		t.Errorf("got %d check-ins and then %d, want 1 and 2", len(first.Items), len(rest.Items))
	}
}

func TestImports(t *testing.T) {
	w := newWorld(t)
	row := func(n int32, no string) *xunchav1.ImportSitesRequest {
		return &xunchav1.ImportSitesRequest{Part: &xunchav1.ImportSitesRequest_Row{Row: &xunchav1.SiteRow{
			Row: n, RegistrationNo: no, Name: "样例", DivisionCode: "511602001003", RegisteredOn: "2019-12-31", Latitude: "95", Longitude: "106",
		}}}
	}
	header := &xunchav1.ImportSitesRequest{Part: &xunchav1.ImportSitesRequest_Header{Header: &xunchav1.ImportHeader{}}}
	t.Run("Rejected", func(t *testing.T) {
		_, err := w.importSites(t, &xunchav1.ImportHeader{}, row(2, "N-1"))
		wantStatus(t, err, codes.InvalidArgument, "IMPORT_REJECTED", "row[2].latitude")
	})
	t.Run("DryRunListsProblems", func(t *testing.T) {
		answer, err := w.importSites(t, &xunchav1.ImportHeader{DryRun: true}, row(2, "N-1"), row(3, "N-1"))
		if err != nil || answer.ProblemCount != 3 || answer.Problems[0].Row != 2 || answer.Problems[0].Column != "latitude" {
			t.Errorf("got %v, %v; want three problems", answer, err)
		}
	})
	t.Run("NoHeader", func(t *testing.T) {
		_, err := w.importSites(t, nil, row(2, "N-1"))
		wantStatus(t, err, codes.InvalidArgument, "MISSING_FIELD", "header")
	})
	t.Run("NothingAtAll", func(t *testing.T) {
		_, err := w.importSites(t, nil)
		wantStatus(t, err, codes.InvalidArgument, "MISSING_FIELD", "header")
	})
	t.Run("HeaderTwice", func(t *testing.T) {
		_, err := w.importSites(t, &xunchav1.ImportHeader{}, header)
		wantStatus(t, err, codes.InvalidArgument, "INVALID_FIELD", "header")
	})
	t.Run("BadDate", func(t *testing.T) {
		_, err := w.importSites(t, &xunchav1.ImportHeader{EffectiveDate: "2020-02-30"}, row(2, "N-1"))
		wantStatus(t, err, codes.InvalidArgument, "INVALID_FIELD", "header.effective_date")
	})
	t.Run("ShortDate", func(t *testing.T) {
		_, err := w.importSites(t, &xunchav1.ImportHeader{EffectiveDate: "2020-1-1"}, row(2, "N-1"))
		wantStatus(t, err, codes.InvalidArgument, "INVALID_FIELD", "header.effective_date")
	})
	t.Run("NoDateOfDivisions", func(t *testing.T) {
		stream := must(w.roster.ImportDivisions(t.Context()))(t)
		if err := stream.Send(&xunchav1.ImportDivisionsRequest{Part: &xunchav1.ImportDivisionsRequest_Header{Header: &xunchav1.ImportHeader{}}}); err != nil {
			t.Fatal(err)
		}
		_, err := stream.CloseAndRecv()
		wantStatus(t, err, codes.InvalidArgument, "MISSING_FIELD", "header.effective_date")
	})
	t.Run("TooManyBytes", func(t *testing.T) {
		huge := strings.Repeat("x", 4096)
		row := &xunchav1.ImportSitesRequest{Part: &xunchav1.ImportSitesRequest_Row{Row: &xunchav1.SiteRow{
			RegistrationNo: huge, Name: huge, DivisionCode: huge, Address: huge, Latitude: huge, Longitude: huge, RegisteredOn: huge, DeregisteredOn: huge,
		}}}
		sent := 0
		_, rows, err := receiveImport(func() (*xunchav1.ImportSitesRequest, error) {
			if sent++; sent == 1 {
				return header, nil
			}
			if sent > 100_000 {
				return nil, io.EOF
			}
			return row, nil
		}, func(int) error { return nil }, siteTable)
		wantStatus(t, toStatus(t.Context(), err, "id").Err(), codes.ResourceExhausted, "REQUEST_TOO_LARGE", "row")
		if len(rows) > 0 || sent > 10_000 {
			t.Errorf("%d rows were read and %d kept, want an end at 256 MiB", sent, len(rows))
		}
	})
	t.Run("EmptyPart", func(t *testing.T) {
		_, err := w.importSites(t, nil, &xunchav1.ImportSitesRequest{})
		wantStatus(t, err, codes.InvalidArgument, "MISSING_FIELD", "part")
	})
	if got := must(w.roster.ListSites(t.Context(), &xunchav1.ListSitesRequest{PageSize: 1000}))(t); len(got.Sites) != 85 {
		t.Errorf("%d sites are registered, want the 85 of before", len(got.Sites))
	}
	t.Run("Merger", func(t *testing.T) {
		w.advance(4 * 365 * 24 * time.Hour)
		answer := w.importDivisions(t, sampledata.Divisions2023(), "2023-06-30")
		if len(answer.DisplacedSites) != 52 || answer.DisplacedSiteCount != 52 || !answer.Changed || answer.Renamed == 0 {
			t.Errorf("got %d displaced sites, %d renamed", len(answer.DisplacedSites), answer.Renamed)
		}
		past := must(w.roster.GetDivision(t.Context(), &xunchav1.GetDivisionRequest{
			Code: "511602100007", AsOfTime: timestamppb.New(time.Date(2020, 2, 1, 0, 0, 0, 0, shanghai)),
		}))(t)
		if len(past.Ancestors) != 3 || past.Ancestors[2].Code != "511600" {
			t.Errorf("got %v, want the village of 2020 with three divisions above it", past)
		}
		_, err := w.roster.GetDivision(t.Context(), &xunchav1.GetDivisionRequest{Code: "511602100007"})
		wantStatus(t, err, codes.FailedPrecondition, "DIVISION_ENDED", "code")
	})
}
