package rpc

import (
	"bytes"
	"context"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"xuncha/ledger"
	xunchav1 "xuncha/proto/xuncha/v1"
	"xuncha/server/internal/accounts"
	"xuncha/sites"
)

// A tamperable store is one in which something may change entries after they were stored.
type tamperable struct {
	ledger.Store
	change func(*ledger.Entry) // nil for nobody
}

func (s *tamperable) tampered(all []ledger.Entry, err error) ([]ledger.Entry, error) {
	for i := range all {
		if s.change != nil {
			all[i].Record = bytes.Clone(all[i].Record)
			s.change(&all[i])
		}
	}
	return all, err
}

func (s *tamperable) Newest(ctx context.Context, h ledger.History, before ledger.Sequence, n int) ([]ledger.Entry, error) {
	return s.tampered(s.Store.Newest(ctx, h, before, n))
}

func (s *tamperable) Entries(ctx context.Context, keys []ledger.Key) ([]ledger.Entry, error) {
	return s.tampered(s.Store.Entries(ctx, keys))
}

func (w *world) historyOf(site int) ledger.History {
	return sites.SiteID(w.sites[site].SiteId).History()
}

// fault lets the entry of the history not verify from now on.
func (w *world) fault(h ledger.History, q ledger.Sequence) {
	w.altered.Add(ledger.Fault{History: h, Sequence: q, Why: "its record was changed", Since: w.clock()})
}

// wantAltered checks that a call was refused so that a phone keeps what it has.
func wantAltered(t testing.TB, what string, err error) {
	t.Helper()
	st := status.Convert(err)
	var reason string
	var retry time.Duration
	for _, d := range st.Details() {
		switch d := d.(type) {
		case *errdetails.ErrorInfo:
			reason = d.Reason
		case *errdetails.RetryInfo:
			retry = d.RetryDelay.AsDuration()
		}
	}
	if st.Code() != codes.Unavailable || reason != "HISTORY_ALTERED" || retry < time.Minute {
		t.Errorf("%s: got %v %s after %v, want UNAVAILABLE HISTORY_ALTERED after some minutes", what, st.Code(), reason, retry)
	}
}

// TestAlteredSite ensures that what belongs to a site whose history does not verify stays
// with its phone, that photos which have come stay, and that all other sites go on.
func TestAlteredSite(t *testing.T) {
	w := newWorld(t)
	c := w.checkIn(0)
	c.Photos = declare(testPhoto)
	w.submit(t, c)
	w.submit(t, w.checkIn(0))
	w.fault(w.historyOf(0), 2)

	_, err := w.checkIns.SubmitCheckIn(metadata.AppendToOutgoingContext(t.Context(), "accept-language", "zh-CN"), &xunchav1.SubmitCheckInRequest{CheckIn: w.checkIn(0)})
	wantAltered(t, "a check-in", err)
	if !slices.ContainsFunc(status.Convert(err).Details(), func(d any) bool {
		m, ok := d.(*errdetails.LocalizedMessage)
		return ok && m.Locale == "zh-CN" && strings.Contains(m.Message, "保留")
	}) {
		t.Errorf("got %v, want a sentence in Chinese", status.Convert(err).Details())
	}
	if r := w.submit(t, c); !r.Duplicate || r.Sequence != 1 {
		t.Errorf("a repeat: got %v", r)
	}
	w.submit(t, w.checkIn(1))

	_, err = w.send(t.Context(), c, testPhoto, 0, len(testPhoto))
	wantAltered(t, "a photo", err)
	state := func() *xunchav1.GetPhotoUploadResponse {
		return must(w.photos.GetPhotoUpload(t.Context(), &xunchav1.GetPhotoUploadRequest{SiteId: c.SiteId, CheckInId: c.CheckInId, Sha256: sum(testPhoto)}))(t)
	}
	if got := state(); got.Stored || got.ReceivedBytes != int64(len(testPhoto)) {
		t.Errorf("got %v, want all of the photo, and not stored", got)
	}
	w.altered.Clear(w.historyOf(0))
	must(w.send(t.Context(), c, testPhoto, len(testPhoto), len(testPhoto)))(t)
	if got := state(); !got.Stored {
		t.Errorf("once the history verifies: got %v, want it stored", got)
	}
}

// TestAlteredCoverage ensures that every report tells which divisions have sites whose
// histories do not verify, also where the answer is at hand, and no longer than they do.
func TestAlteredCoverage(t *testing.T) {
	w := newWorld(t)
	village := w.sites[0].DivisionCode
	ask := func(code string) *xunchav1.GetCoverageResponse {
		return must(w.coverage.GetCoverage(t.Context(), &xunchav1.GetCoverageRequest{DivisionCode: code}))(t)
	}
	want := func(step string, altered int64, roster bool) {
		t.Helper()
		for _, code := range []string{"511600", village} {
			if got := ask(code); got.Row.SitesAltered != altered || got.RosterAltered != roster {
				t.Errorf("%s, %s: got %d altered, roster %v, want %d, %v", step, code, got.Row.SitesAltered, got.RosterAltered, altered, roster)
			}
		}
		due := must(w.coverage.ListDueSites(t.Context(), &xunchav1.ListDueSitesRequest{DivisionCode: village}))(t).DueSites
		for _, d := range due {
			if d.Altered != (altered > 0 && d.Site.SiteId == w.sites[0].SiteId) {
				t.Errorf("%s: %s is altered: %v", step, d.Site.SiteId, d.Altered)
			}
		}
	}
	want("at first", 0, false)
	w.fault(w.historyOf(0), 1)
	want("an altered site", 1, false)
	w.fault(ledger.Roster, 4)
	want("and the roster", 1, true)
	w.altered.Clear(w.historyOf(0))
	w.altered.Clear(ledger.Roster)
	want("at last", 0, false)
}

// TestAlteredHistory ensures that a history shows which of its entries do not verify or
// were set aside, whatever is at hand, and that one that cannot be read is shown as it is
// stored among the others.
func TestAlteredHistory(t *testing.T) {
	w := newWorld(t)
	for range 4 {
		w.advance(time.Minute)
		w.submit(t, w.checkIn(0))
	}
	list := func(records bool) []*xunchav1.HistoryEntry {
		entries := must(w.audit.ListSiteHistory(t.Context(), &xunchav1.ListSiteHistoryRequest{SiteId: w.sites[0].SiteId, IncludeRecords: records}))(t).Entries
		return slices.DeleteFunc(entries, func(e *xunchav1.HistoryEntry) bool { return e.History == "roster" })
	}
	list(false) // so that all of it is at hand
	w.store.change = func(e *ledger.Entry) {
		switch {
		case e.History != w.historyOf(0):
		case e.Sequence == 2:
			e.Record = e.Record[:40]
		case e.Sequence == 1:
			e.Account = "a\xff"
		}
	}
	w.fault(w.historyOf(0), 1)
	w.fault(w.historyOf(0), 2)
	w.fault(w.historyOf(0), 3)
	w.altered.PutAside(w.historyOf(0), []ledger.Sequence{4})
	for _, records := range []bool{false, true} {
		got := list(records)
		if len(got) != 4 {
			t.Fatalf("got %d entries, want 4", len(got))
		}
		for i, want := range []struct {
			altered, aside bool
			kind           xunchav1.EntryKind
			record         int // its length, -1 for any
		}{
			{false, true, xunchav1.EntryKind_ENTRY_KIND_CHECK_IN, -1},
			{true, false, xunchav1.EntryKind_ENTRY_KIND_CHECK_IN, -1},
			{true, false, xunchav1.EntryKind_ENTRY_KIND_UNSPECIFIED, 40},
			{true, false, xunchav1.EntryKind_ENTRY_KIND_UNSPECIFIED, -1},
		} {
			e := got[i]
			if e.Altered != want.altered || e.SetAside != want.aside || e.Kind != want.kind || want.record >= 0 && len(e.Record) != want.record {
				t.Errorf("entry %d: got %v", e.Sequence, e)
			}
		}
	}
	w.altered.Clear(w.historyOf(0))
	w.store.change = nil
	for _, e := range list(false) {
		if e.Altered || e.Kind != xunchav1.EntryKind_ENTRY_KIND_CHECK_IN {
			t.Errorf("once it verifies: got %v", e)
		}
	}
}

// TestRepairInHistory ensures that a repair is told in the history that it is about.
func TestRepairInHistory(t *testing.T) {
	w := newWorld(t)
	w.submit(t, w.checkIn(0))
	content := must(ledger.Repair{SetAside: []ledger.Aside{{Sequence: 1}, {Sequence: 7}}, Reason: "磁盘损坏"}.Marshal())(t)
	_, _, err := w.store.Append(t.Context(), ledger.Draft{History: w.historyOf(0), ID: "r", Kind: ledger.KindRepaired, Time: w.clock(), Account: "root", Content: content})
	if err != nil {
		t.Fatal(err)
	}
	e := must(w.audit.ListSiteHistory(t.Context(), &xunchav1.ListSiteHistoryRequest{SiteId: w.sites[0].SiteId}))(t).Entries[0]
	if e.Kind != xunchav1.EntryKind_ENTRY_KIND_HISTORY_REPAIRED || !slices.Equal(e.GetRepairEvent().GetSequences(), []int64{1, 7}) || e.GetRepairEvent().Reason != "磁盘损坏" {
		t.Errorf("got %v", e)
	}
}

// TestAlteredRosterAndAccounts ensures that nothing is changed and nothing is refused for
// good while the roster's or the accounts' history does not verify, and that reading and
// check-ins go on.
func TestAlteredRosterAndAccounts(t *testing.T) {
	w := newWorld(t)
	w.create(t, "root", accounts.Admin, "511600")
	w.create(t, "officer", accounts.Officer, "511602")
	w.create(t, "head", accounts.Head, "511600")
	admin, officer, head := with(t.Context(), w.signIn(t, "root")), with(t.Context(), w.signIn(t, "officer")), with(t.Context(), w.signIn(t, "head"))
	inside := slices.IndexFunc(w.sites, func(s *xunchav1.Site) bool { return strings.HasPrefix(s.DivisionCode, "511602") })
	outside := slices.IndexFunc(w.sites, func(s *xunchav1.Site) bool { return !strings.HasPrefix(s.DivisionCode, "511602") })
	submit := func(ctx context.Context, site int) error {
		_, err := w.checkIns.SubmitCheckIn(ctx, &xunchav1.SubmitCheckInRequest{CheckIn: w.checkIn(site)})
		return err
	}
	for _, h := range []ledger.History{ledger.Roster, ledger.Accounts} {
		w.fault(h, 2)
		wantAltered(t, "a site that is not the officer's", submit(officer, outside))
		if h == ledger.Accounts {
			wantAltered(t, "an account that is not an officer's", submit(head, inside))
		}
		if err := submit(officer, inside); err != nil {
			t.Errorf("%s: a check-in: %v", h, err)
		}
		if _, err := w.coverage.GetCoverage(head, &xunchav1.GetCoverageRequest{DivisionCode: "511600"}); err != nil {
			t.Errorf("%s: a report: %v", h, err)
		}
		w.signIn(t, "head")
		var err error
		if h == ledger.Roster {
			_, err = w.roster.CreateSite(admin, &xunchav1.CreateSiteRequest{Site: &xunchav1.Site{RegistrationNo: "new", Name: "某", DivisionCode: w.sites[0].DivisionCode}})
		} else {
			_, err = xunchav1.NewAccountServiceClient(w.conn).CreateAccount(admin, &xunchav1.CreateAccountRequest{Account: &xunchav1.Account{
				Username: "another", Role: xunchav1.Role_ROLE_HEAD, DivisionCodes: []string{"511602"},
			}})
		}
		wantAltered(t, "a change of "+string(h), err)
		// A phone that was lost can be signed out.
		lost := w.signIn(t, "head")
		if _, err := xunchav1.NewAccountServiceClient(w.conn).Logout(with(t.Context(), lost), &xunchav1.LogoutRequest{}); err != nil {
			t.Errorf("%s: signing out: %v", h, err)
		}
		_, err = xunchav1.NewAccountServiceClient(w.conn).GetMe(with(t.Context(), lost), &xunchav1.GetMeRequest{})
		wantStatus(t, err, codes.Unauthenticated, "TOKEN_INVALID", "")
		w.altered.Clear(h)
		wantStatus(t, submit(officer, outside), codes.NotFound, "SITE_NOT_FOUND", "check_in.site_id")
		wantStatus(t, submit(head, inside), codes.PermissionDenied, "ROLE_NOT_ALLOWED", "")
	}
	// Nobody is shown what cannot be put on record.
	history := func() error {
		_, err := w.audit.ListSiteHistory(head, &xunchav1.ListSiteHistoryRequest{SiteId: w.sites[0].SiteId})
		return err
	}
	w.fault(accounts.AccessHistory("head"), 1)
	wantAltered(t, "a history", history())
	w.altered.Clear(accounts.AccessHistory("head"))
	if err := history(); err != nil {
		t.Error(err)
	}
}

// TestUnreadableSecrets ensures that a phone whose device cannot be read asks for the
// password, and that nobody is told that a password is wrong which cannot be read.
func TestUnreadableSecrets(t *testing.T) {
	w := newWorld(t)
	w.create(t, "root", accounts.Admin, "511600")
	people := xunchav1.NewAccountServiceClient(w.conn)
	signIn := func() (*xunchav1.LoginResponse, error) {
		return people.Login(t.Context(), &xunchav1.LoginRequest{Username: "root", Password: testPassword})
	}
	tokens := must(signIn())(t)
	for _, prefix := range []string{"device/", "password/"} {
		var name string
		if err := w.accounts.Secrets.Secrets(t.Context(), prefix, func(n string, _ []byte) error { name = n; return nil }); err != nil {
			t.Fatal(err)
		}
		_, revision, err := w.accounts.Secrets.Secret(t.Context(), name)
		if err == nil {
			err = w.accounts.Secrets.PutSecret(t.Context(), name, revision, []byte("{"))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	_, err := people.RefreshToken(t.Context(), &xunchav1.RefreshTokenRequest{RefreshToken: tokens.RefreshToken})
	wantStatus(t, err, codes.Unauthenticated, "TOKEN_INVALID", "")
	_, err = signIn()
	wantAltered(t, "signing in", err)
}

// TestServerStatus ensures that those who run a server see what is wrong with it, and of
// sites what lies in their divisions.
func TestServerStatus(t *testing.T) {
	problems := new(Problems)
	verified := time.Date(2020, 2, 1, 1, 0, 0, 0, time.UTC)
	w := newWorldWith(t, func(c *Config) { c.Problems, c.VerifyTime = problems, func() time.Time { return verified } })
	ask := func(ctx context.Context) *xunchav1.GetServerStatusResponse {
		return must(xunchav1.NewOperationServiceClient(w.conn).GetServerStatus(ctx, &xunchav1.GetServerStatusRequest{}))(t)
	}
	if got := ask(t.Context()); len(got.Problems) != 0 || !got.ServerTime.AsTime().Equal(w.clock()) || !got.VerifyTime.AsTime().Equal(verified) {
		t.Errorf("a server without accounts: got %v, want no problems and both times", got)
	}
	w.create(t, "root", accounts.Admin, "511600")
	w.create(t, "auditor", accounts.Auditor, "511602")
	inside := slices.IndexFunc(w.sites, func(s *xunchav1.Site) bool { return strings.HasPrefix(s.DivisionCode, "511602") })
	outside := slices.IndexFunc(w.sites, func(s *xunchav1.Site) bool { return !strings.HasPrefix(s.DivisionCode, "511602") })
	w.fault(w.historyOf(outside), 7)
	w.fault(w.historyOf(outside), 9)
	w.advance(time.Second)
	w.fault(w.historyOf(inside), 3)
	w.advance(time.Second)
	w.fault("site/00000000-0000-4000-8000-0000000000ff", 1) // which is not in the roster
	problems.Set("clock", Problem{Kind: xunchav1.ProblemKind_PROBLEM_KIND_CLOCK_JUMPED, Message: "it jumped\xff", Since: w.clock().Add(-time.Hour)})
	type row struct {
		kind xunchav1.ProblemKind
		site string
		at   int64
	}
	const altered = xunchav1.ProblemKind_PROBLEM_KIND_HISTORY_ALTERED
	clock := row{kind: xunchav1.ProblemKind_PROBLEM_KIND_CLOCK_JUMPED}
	for name, want := range map[string][]row{
		"root":    {clock, {altered, w.sites[outside].SiteId, 7}, {altered, w.sites[inside].SiteId, 3}, {altered, "00000000-0000-4000-8000-0000000000ff", 1}},
		"auditor": {clock, {altered, w.sites[inside].SiteId, 3}},
	} {
		var got []row
		for _, p := range ask(with(t.Context(), w.signIn(t, name))).Problems {
			got = append(got, row{p.Kind, p.SiteId, p.Sequence})
			if p.Message == "" || !p.SinceTime.IsValid() {
				t.Errorf("%s: got %v, want a message and a time", name, p)
			}
		}
		if !slices.Equal(got, want) {
			t.Errorf("%s: got %v, want %v", name, got, want)
		}
	}
}

// TestCheckHistories ensures that a check says how far it is and what it has found, that
// there is one at a time, and that only those ask for it who may see everything.
func TestCheckHistories(t *testing.T) {
	begun, goOn := make(chan struct{}), make(chan struct{})
	fault := ledger.Fault{History: "site/00000000-0000-4000-8000-000000000001", Sequence: 7, Why: "it is missing"}
	w := newWorldWith(t, func(c *Config) {
		c.CheckHistories = func(ctx context.Context, progress func(checked, total int64)) (int64, []ledger.Fault, error) {
			progress(10, 40)
			close(begun)
			<-goOn
			progress(40, 40)
			return 3, []ledger.Fault{fault}, nil
		}
		c.ConfirmClock = func() time.Time { return time.Unix(7, 0) }
	})
	w.create(t, "root", accounts.Admin, "511600")
	w.create(t, "county", accounts.Auditor, "511602")
	root, county := with(t.Context(), w.signIn(t, "root")), with(t.Context(), w.signIn(t, "county"))
	client := xunchav1.NewOperationServiceClient(w.conn)
	start := func(ctx context.Context) func() (*xunchav1.CheckHistoriesResponse, error) {
		return must(client.CheckHistories(ctx, &xunchav1.CheckHistoriesRequest{}))(t).Recv
	}
	_, err := start(county)()
	wantStatus(t, err, codes.PermissionDenied, "ROLE_NOT_ALLOWED", "")
	next := start(root)
	if got := must(next())(t); got.Done || got.EntriesChecked != 10 || got.EntriesTotal != 40 {
		t.Errorf("got %v, want how far it is", got)
	}
	<-begun
	_, err = start(root)()
	wantStatus(t, err, codes.ResourceExhausted, "RATE_LIMITED", "")
	close(goOn)
	got := must(next())(t)
	if !got.Done || got.Histories != 3 || got.EntriesChecked != 40 || len(got.Problems) != 1 || got.Problems[0].Sequence != 7 || got.Problems[0].SiteId != "00000000-0000-4000-8000-000000000001" {
		t.Errorf("got %v, want what was found", got)
	}
	if _, err := next(); !errors.Is(err, io.EOF) {
		t.Errorf("got %v, want the end", err)
	}
	if got := must(client.ConfirmClock(root, &xunchav1.ConfirmClockRequest{}))(t); !got.ServerTime.AsTime().Equal(time.Unix(7, 0)) {
		t.Errorf("got %v, want the time after it was confirmed", got)
	}
}
