package rpc

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"runtime"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"xuncha/ledger"
	xunchav1 "xuncha/proto/xuncha/v1"
	"xuncha/server/internal/accounts"
	"xuncha/sites"
)

// longPhoto is so long that no download of it has been sent before it is read.
var longPhoto = makePhoto(7, 3000, 3000, "")

// A river is a world whose streams are looked after when the test says so.
type river struct {
	*world
	areas []area
	ticks chan time.Time
	// narrow is a connection on which little is sent ahead.
	narrow *grpc.ClientConn
	// checking is read by a check of all histories, and closed to end it.
	checking chan bool
	photo    *xunchav1.CheckIn // with longPhoto, of the first area's site
}

func newRiver(t *testing.T, people bool) *river {
	r := &river{ticks: make(chan time.Time), checking: make(chan bool)}
	r.world = newWorldWith(t, func(c *Config) {
		c.StreamTicks, c.MaxStreamAge = r.ticks, time.Hour
		c.CheckHistories = func(ctx context.Context, progress func(checked, total int64)) (int64, []ledger.Fault, error) {
			for {
				progress(1, 2)
				select {
				case _, more := <-r.checking:
					if !more {
						return 1, nil, nil
					}
				case <-ctx.Done():
					return 0, nil, ctx.Err()
				}
			}
		}
	})
	r.narrow = must(grpc.NewClient("passthrough:///test", grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithStaticStreamWindowSize(64<<10), grpc.WithStaticConnWindowSize(64<<10),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return r.listener.DialContext(ctx) })))(t)
	t.Cleanup(func() { r.narrow.Close() })
	if people {
		r.areas = r.world.areas(t)
		r.photo = r.visitAt(r.areas[0].site, r.clock())
		r.photo.Photos = declare(longPhoto)
		r.create(t, "reporter", accounts.Officer, "511602")
		ctx := r.as(t, "reporter")
		must(r.report(ctx, r.photo))(t)
		r.mustUpload(t, ctx, r.photo, longPhoto)
	}
	return r
}

// tick lets the server look after its one stream. Once it returns, the stream is there.
func (r *river) tick(t *testing.T) {
	t.Helper()
	select {
	case r.ticks <- time.Time{}:
	case <-t.Context().Done():
		t.Fatal("no stream is looked after")
	}
}

// A flow is a call with a stream that is under way.
type flow struct {
	// end sends what is left, or reads on, and returns how the call ends. wait sends nothing.
	end, wait func() error
}

// sent makes the flow of a call of whose messages the client sends all.
func sent[Req, Resp any](stream grpc.ClientStreamingClient[Req, Resp], rest *Req) flow {
	wait := func() error { return stream.RecvMsg(new(Resp)) }
	return flow{end: func() error {
		if err := stream.Send(rest); err != nil && err != io.EOF {
			return err
		}
		_, err := stream.CloseAndRecv()
		return err
	}, wait: wait}
}

// flows begin a call of each method with a stream.
var flows = []struct {
	name  string
	role  accounts.Role
	wide  bool // as an account of the whole city
	begin func(t *testing.T, r *river, ctx context.Context) flow
}{
	{"ImportDivisions", accounts.Admin, false, func(t *testing.T, r *river, ctx context.Context) flow {
		stream := must(r.roster.ImportDivisions(ctx))(t)
		header := &xunchav1.ImportDivisionsRequest_Header{Header: &xunchav1.ImportHeader{EffectiveDate: "2020-02-02"}}
		if err := stream.Send(&xunchav1.ImportDivisionsRequest{Part: header}); err != nil {
			t.Fatal(err)
		}
		return sent(stream, &xunchav1.ImportDivisionsRequest{Part: &xunchav1.ImportDivisionsRequest_Row{Row: &xunchav1.DivisionRow{
			Row: 2, Code: "511602998", Name: "新", Level: "township", ParentCode: "511602",
		}}})
	}},
	{"ImportSites", accounts.Admin, false, func(t *testing.T, r *river, ctx context.Context) flow {
		number := must(r.roster.GetSite(r.as(t, "root"), &xunchav1.GetSiteRequest{SiteId: r.areas[0].site}))(t).Site.RegistrationNo
		stream := must(r.roster.ImportSites(ctx))(t)
		if err := stream.Send(&xunchav1.ImportSitesRequest{Part: &xunchav1.ImportSitesRequest_Header{Header: &xunchav1.ImportHeader{}}}); err != nil {
			t.Fatal(err)
		}
		return sent(stream, &xunchav1.ImportSitesRequest{Part: &xunchav1.ImportSitesRequest_Row{Row: &xunchav1.SiteRow{
			Row: 2, RegistrationNo: number, DeregisteredOn: "2020-02-01",
		}}})
	}},
	{"UploadPhoto", accounts.Officer, false, func(t *testing.T, r *river, ctx context.Context) flow {
		c := r.visitAt(r.areas[0].site, r.clock())
		c.Photos = declare(testPhoto)
		must(r.report(ctx, c))(t)
		stream := must(r.photos.UploadPhoto(ctx))(t)
		for _, m := range []*xunchav1.UploadPhotoRequest{uploadSpec(c, testPhoto, 0), data(testPhoto[:100])} {
			if err := stream.Send(m); err != nil {
				t.Fatal(err)
			}
		}
		return sent(stream, data(testPhoto[100:]))
	}},
	{"DownloadPhoto", accounts.Head, false, func(t *testing.T, r *river, ctx context.Context) flow {
		stream := must(xunchav1.NewPhotoServiceClient(r.narrow).DownloadPhoto(ctx, &xunchav1.DownloadPhotoRequest{Sha256: sum(longPhoto), SiteId: r.photo.SiteId, CheckInId: r.photo.CheckInId}))(t)
		must(stream.Recv())(t)
		end := func() (err error) {
			for err == nil {
				_, err = stream.Recv()
			}
			return notEOF(err)
		}
		return flow{end: end, wait: end}
	}},
	{"CheckHistories", accounts.Auditor, true, func(t *testing.T, r *river, ctx context.Context) flow {
		r.checking = make(chan bool)
		stream := must(xunchav1.NewOperationServiceClient(r.conn).CheckHistories(ctx, &xunchav1.CheckHistoriesRequest{}))(t)
		must(stream.Recv())(t)
		wait := func() (err error) {
			for err == nil {
				_, err = stream.Recv()
			}
			return notEOF(err)
		}
		return flow{end: func() error { close(r.checking); return wait() }, wait: wait}
	}},
}

// TestFlowsAreAll ensures that the tests here begin every call with a stream that there is.
func TestFlowsAreAll(t *testing.T) {
	known := map[string]bool{}
	for _, f := range flows {
		known[f.name] = true
	}
	for _, m := range methods() {
		if (m.IsStreamingClient() || m.IsStreamingServer()) != known[string(m.Name())] {
			t.Errorf("%s: a flow is there: %t", m.FullName(), known[string(m.Name())])
		}
	}
}

func notEOF(err error) error {
	if err == io.EOF {
		return nil
	}
	return err
}

// TestStreamsAreJudged changes what holds amid every call with a stream, and ensures that
// it goes on by what holds then.
func TestStreamsAreJudged(t *testing.T) {
	r := newRiver(t, true)
	r.advance(time.Minute)
	ok := func(string) string { return "OK" }
	token := func(string) string { return "TOKEN_INVALID" }
	n := 0
	for _, event := range []struct {
		name string
		do   func(t *testing.T, a *accounts.Account, ctx context.Context)
		// want is the reason with which the call ends that goes on.
		want func(method string) string
		// idle tells that it ends also where nothing goes on.
		idle func(method string) bool
	}{
		{"nothing", func(*testing.T, *accounts.Account, context.Context) {}, ok, nil},
		{"disabled", func(t *testing.T, a *accounts.Account, _ context.Context) {
			must(r.accounts.Disable(t.Context(), accounts.By{Account: "root"}, a.ID))(t)
		}, token, func(string) bool { return true }},
		{"expired", func(*testing.T, *accounts.Account, context.Context) { r.advance(accounts.AccessLifetime) }, token, func(string) bool { return true }},
		{"signed out", func(t *testing.T, _ *accounts.Account, ctx context.Context) {
			must(xunchav1.NewAccountServiceClient(r.conn).Logout(ctx, &xunchav1.LogoutRequest{}))(t)
		}, token, func(string) bool { return true }},
		{"password reset", func(t *testing.T, a *accounts.Account, _ context.Context) {
			must(r.accounts.ResetPassword(t.Context(), accounts.By{Account: "root"}, a.ID))(t)
		}, token, func(string) bool { return true }},
		{"another role", func(t *testing.T, a *accounts.Account, _ context.Context) {
			role := accounts.Officer
			if a.Role == role {
				role = accounts.Head
			} else if a.Role == accounts.Head {
				role = accounts.Admin
			}
			r.change(t, a, role, string(a.Divisions[0]))
		}, func(method string) string {
			if method == "UploadPhoto" { // the visit was the officer's
				return "OK"
			}
			return "ROLE_NOT_ALLOWED"
		}, func(method string) bool { return method != "UploadPhoto" }},
		{"another county", func(t *testing.T, a *accounts.Account, _ context.Context) { r.change(t, a, a.Role, "511603") }, func(method string) string {
			return map[string]string{"UploadPhoto": "OK", "DownloadPhoto": "SITE_NOT_FOUND", "CheckHistories": "ROLE_NOT_ALLOWED"}[method]
		}, nil},
		{"the roster", func(t *testing.T, _ *accounts.Account, _ context.Context) {
			must(r.roster.UpdateSite(r.as(t, "root"), &xunchav1.UpdateSiteRequest{SiteId: r.areas[1].site, Name: proto.String(fmt.Sprint("某", n))}))(t)
		}, ok, nil},
	} {
		for _, f := range flows {
			for _, idle := range []bool{false, true} {
				if idle && (event.idle == nil || !event.idle(f.name)) || f.name == "ImportSites" && event.want(f.name) == "OK" {
					continue
				}
				n++
				name := fmt.Sprintf("caller%d", n)
				t.Run(fmt.Sprintf("%s/%s/idle %t", f.name, event.name, idle), func(t *testing.T) {
					division := "511602"
					if f.wide {
						division = "511600"
					}
					a := r.create(t, name, f.role, division)
					ctx := r.as(t, name)
					flow := f.begin(t, r, ctx)
					r.tick(t)
					event.do(t, a, ctx)
					var err error
					if idle {
						ended := make(chan error, 1)
						go func() { ended <- flow.wait() }()
						select { // for what was being sent may have ended it
						case r.ticks <- time.Time{}:
							err = <-ended
						case err = <-ended:
						}
					} else {
						err = flow.end()
					}
					want := event.want(f.name)
					if want == "" {
						want = "IMPORT_REJECTED"
					}
					if got := reasonOf(err); got != want {
						t.Errorf("got %s (%v), want %s", got, err, want)
					}
				})
			}
		}
	}
	// Of the sites that were to be struck off, none was.
	if s := must(r.roster.GetSite(r.as(t, "root"), &xunchav1.GetSiteRequest{SiteId: r.areas[0].site}))(t).Site; s.DeregisteredTime != nil {
		t.Errorf("a site was struck off at %s", s.DeregisteredTime.AsTime())
	}
}

// reasonOf returns the reason of an error, or its code where it has none.
func reasonOf(err error) string {
	for _, d := range status.Convert(err).Details() {
		if d, ok := d.(*errdetails.ErrorInfo); ok {
			return d.Reason
		}
	}
	return status.Code(err).String()
}

// TestImportAfterTheSiteHasGone ensures that an import that was begun before does not strike
// off a site that is another county's by now, and that one is not judged by rights that a
// change amid its decision has taken away.
func TestImportAfterTheSiteHasGone(t *testing.T) {
	r := newRiver(t, true)
	county := r.create(t, "county", accounts.Admin, "511602")
	ctx := r.as(t, "county")
	flow := flows[1].begin(t, r, ctx)
	r.tick(t)
	r.advance(importSilence / 2) // in a minute it would be silent
	must(r.roster.MoveSite(r.as(t, "root"), &xunchav1.MoveSiteRequest{SiteId: r.areas[0].site, DivisionCode: r.areas[1].village}))(t)
	if err := flow.end(); reasonOf(err) != "IMPORT_REJECTED" || reasonsOf(err)[0] != "REGISTRATION_NO_TAKEN" {
		t.Errorf("got %v, want a registration number that is another's", err)
	}
	s := &scope{config: &r.config, caller: &accounts.Caller{Account: county}, rosterAt: r.config.Roster.Roster(), now: r.clock()}
	who := by(context.WithValue(t.Context(), scopeKey{}, s))
	if !who.May(s.rosterAt, "511602", s.now) || who.Still() != nil {
		t.Error("the county's administrator may not change the county")
	}
	must(r.accounts.Disable(t.Context(), accounts.By{Account: "root"}, county.ID))(t)
	if err := who.Still(); !errors.Is(err, ledger.ErrMoved) {
		t.Errorf("disabled amid the decision: got %v, want that it is made anew", err)
	}
	if who.May(s.rosterAt, "511602", s.now) {
		t.Error("a disabled account may change the county")
	}
}

// TestDownloadOfASiteThatHasGone ensures that a photo is not shown to its end to somebody
// whose site has gone to another county meanwhile.
func TestDownloadOfASiteThatHasGone(t *testing.T) {
	r := newRiver(t, true)
	r.create(t, "head", accounts.Head, "511602")
	flow := flows[3].begin(t, r, r.as(t, "head"))
	r.tick(t)
	r.advance(time.Minute)
	must(r.roster.MoveSite(r.as(t, "root"), &xunchav1.MoveSiteRequest{SiteId: r.areas[0].site, DivisionCode: r.areas[1].village}))(t)
	if err := flow.end(); reasonOf(err) != "SITE_NOT_FOUND" {
		t.Errorf("got %v, want SITE_NOT_FOUND", err)
	}
}

// TestStreamsHaveAnAge ensures that no call with a stream lasts longer than an hour, that
// whoever made it is told to begin anew, and that what an upload has brought stays.
func TestStreamsHaveAnAge(t *testing.T) {
	for _, idle := range []bool{false, true} {
		r := newRiver(t, false)
		c := r.visitAt(r.sites[0].SiteId, r.clock())
		c.Photos = declare(testPhoto)
		r.submit(t, c)
		stream := must(r.photos.UploadPhoto(t.Context()))(t)
		for _, m := range []*xunchav1.UploadPhotoRequest{uploadSpec(c, testPhoto, 0), data(testPhoto[:5000])} {
			if err := stream.Send(m); err != nil {
				t.Fatal(err)
			}
		}
		r.tick(t)
		ask := &xunchav1.GetPhotoUploadRequest{SiteId: c.SiteId, CheckInId: c.CheckInId, Sha256: sum(testPhoto)}
		for must(r.photos.GetPhotoUpload(t.Context(), ask))(t).ReceivedBytes < 5000 {
			runtime.Gosched() // for the server reads when it likes
		}
		r.advance(time.Hour - time.Second)
		r.tick(t)
		r.tick(t)
		r.advance(time.Second)
		if idle {
			r.tick(t)
		} else if err := stream.Send(data(testPhoto[5000:])); err != nil {
			t.Fatal(err)
		}
		err := stream.RecvMsg(new(xunchav1.UploadPhotoResponse))
		wantStatus(t, err, codes.DeadlineExceeded, "DEADLINE_EXCEEDED", "")
		retry := false
		for _, d := range status.Convert(err).Details() {
			_, ok := d.(*errdetails.RetryInfo)
			retry = retry || ok
		}
		if !retry {
			t.Errorf("got %v, without a RetryInfo", err)
		}
		state := must(r.photos.GetPhotoUpload(t.Context(), ask))(t)
		if state.ReceivedBytes != 5000 {
			t.Errorf("idle %t: got %d bytes that stayed, want 5000", idle, state.ReceivedBytes)
		}
		if got := must(r.send(t.Context(), c, testPhoto, int(state.ReceivedBytes), len(testPhoto)))(t); !got.Stored {
			t.Errorf("the rest: got %v, want it stored", got)
		}
	}
}

// TestStreamsFromBeforeTheAccounts ensures that a call that began while nobody was asked who
// calls ends once there are accounts.
func TestStreamsFromBeforeTheAccounts(t *testing.T) {
	for _, idle := range []bool{false, true} {
		r := newRiver(t, false)
		r.world.visited = map[string]string{}
		stream := must(r.roster.ImportDivisions(t.Context()))(t)
		r.tick(t)
		r.create(t, "root", accounts.Admin, "511600")
		if idle {
			r.tick(t)
		} else if err := stream.CloseSend(); err != nil {
			t.Fatal(err)
		}
		wantStatus(t, stream.RecvMsg(new(xunchav1.ImportDivisionsResponse)), codes.Unauthenticated, "TOKEN_INVALID", "")
	}
}

// TestNothingChanged ensures that a message of a stream costs nothing more while nothing has
// changed.
func TestNothingChanged(t *testing.T) {
	w := newWorld(t)
	w.create(t, "root", accounts.Admin, "511600")
	token := w.signIn(t, "root")
	caller := must(w.accounts.Verify(t.Context(), token))(t)
	c := &calls{config: &w.config, now: w.clock}
	row := accesses[xunchav1.RosterService_ImportSites_FullMethodName]
	ctx := context.WithValue(t.Context(), scopeKey{}, &scope{config: &w.config, caller: &caller, token: token, rosterAt: w.config.Roster.Roster()})
	var changed bool
	var err error
	if n := testing.AllocsPerRun(100, func() { changed, err = c.again(ctx, &row) }); n > 0 || changed || err != nil {
		t.Errorf("got %g allocations, changed %t, %v; want none", n, changed, err)
	}
	must(w.accounts.Update(t.Context(), accounts.By{Account: "root"}, caller.Account.ID, accounts.Change{Divisions: []sites.DivisionCode{"511602"}}))(t)
	if changed, err = c.again(ctx, &row); !changed || err != nil || scopeOf(ctx).caller.Account.Divisions[0] != "511602" {
		t.Errorf("after a change: got %t, %v", changed, err)
	}
}
