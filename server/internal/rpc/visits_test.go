package rpc

import (
	"bytes"
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"xuncha/ledger"
	xunchav1 "xuncha/proto/xuncha/v1"
	"xuncha/server/internal/accounts"
	"xuncha/server/internal/sampledata"
	"xuncha/sites"
)

// as returns a context whose calls are the account's.
func (w *world) as(t testing.TB, name string) context.Context {
	t.Helper()
	return with(t.Context(), w.signIn(t, name))
}

// change gives an account another role and other divisions.
func (w *world) change(t testing.TB, a *accounts.Account, role accounts.Role, division string) {
	t.Helper()
	must(w.accounts.Update(t.Context(), accounts.By{Account: "root"}, a.ID, accounts.Change{Role: &role, Divisions: []sites.DivisionCode{sites.DivisionCode(division)}}))(t)
}

// visitAt returns a check-in of the site at the time.
func (w *world) visitAt(site string, at time.Time) *xunchav1.CheckIn {
	c := w.checkIn(0)
	c.SiteId, c.CaptureTime = site, timestamppb.New(at)
	return c
}

func (w *world) report(ctx context.Context, c *xunchav1.CheckIn) (*xunchav1.Receipt, error) {
	answer, err := w.checkIns.SubmitCheckIn(ctx, &xunchav1.SubmitCheckInRequest{CheckIn: c, ClientTime: timestamppb.New(w.clock())})
	return answer.GetReceipt(), err
}

// outcome spells how a call ended: ok, repeat, or the error's code.
func outcome(r *xunchav1.Receipt, err error) string {
	switch {
	case err != nil:
		return status.Code(err).String()
	case r.GetDuplicate():
		return "repeat"
	}
	return "ok"
}

// TestRightsInThePast calls what phones call as accounts whose role and divisions were
// changed between a visit and what is sent of it.
func TestRightsInThePast(t *testing.T) {
	w := newWorld(t)
	here := w.areas(t)[0].site
	const own, other = "511602", "511603"
	type right struct {
		role     accounts.Role
		division string
	}
	rights := []right{{accounts.Officer, own}, {accounts.Officer, other}, {accounts.Head, own}, {accounts.Head, other}}
	takes := func(r right) bool { return r == rights[0] }
	n := 0
	for _, then := range rights {
		for _, now := range rights {
			n++
			name := fmt.Sprintf("officer%d", n)
			t.Run(fmt.Sprintf("%v to %v", then, now), func(t *testing.T) {
				a := w.create(t, name, then.role, then.division)
				visited := w.clock()
				first := w.visitAt(here, visited)
				sent := outcome(w.report(w.as(t, name), first))
				w.advance(time.Hour)
				if now != then {
					w.change(t, a, now.role, now.division)
				}
				w.advance(time.Hour)
				ctx := w.as(t, name)
				refused := func(at right) string { // whose role, then whose division
					if at.role != accounts.Officer {
						return codes.PermissionDenied.String()
					}
					return codes.NotFound.String()
				}
				want := refused(then)
				if takes(then) {
					want = "ok"
				}
				if sent != want {
					t.Errorf("sent at once: got %s, want %s", sent, want)
				}
				late := w.visitAt(here, visited)
				late.Photos = declare(testPhoto)
				if got := outcome(w.report(ctx, late)); got != want {
					t.Errorf("sent after the change: got %s, want %s", got, want)
				}
				if want == "ok" {
					want = "repeat"
				}
				if got := outcome(w.report(ctx, first)); got != want {
					t.Errorf("sent again after the change: got %s, want %s", got, want)
				}
				want = refused(now)
				if takes(now) {
					want = "ok"
				}
				if got := outcome(w.report(ctx, w.visitAt(here, w.clock()))); got != want {
					t.Errorf("a visit of now: got %s, want %s", got, want)
				}
				if takes(then) {
					// Its photos follow the visit. What is shown goes by what the account can do now.
					must(w.photos.GetPhotoUpload(ctx, &xunchav1.GetPhotoUploadRequest{SiteId: here, CheckInId: late.CheckInId, Sha256: sum(testPhoto)}))(t)
					w.mustUpload(t, ctx, late, testPhoto)
					_, err := w.checkIns.GetCheckIn(ctx, &xunchav1.GetCheckInRequest{SiteId: here, CheckInId: late.CheckInId})
					if shown := err == nil; shown != (now.division == own) {
						t.Errorf("the check-in is shown: %t (%v)", shown, err)
					}
				}
			})
		}
	}
}

// TestPhotosOfOthersVisits ensures that photos of a visit that somebody else has reported
// are taken from whoever might have reported it, and from no one else.
func TestPhotosOfOthersVisits(t *testing.T) {
	w := newWorld(t)
	here := w.areas(t)[0].site
	officer, stranger := w.create(t, "officer", accounts.Officer, "511602"), w.create(t, "stranger", accounts.Officer, "511603")
	w.create(t, "reporter", accounts.Officer, "511602")
	c := w.visitAt(here, w.clock())
	c.Photos = declare(testPhoto)
	must(w.report(w.as(t, "reporter"), c))(t)
	w.advance(time.Hour)
	w.change(t, officer, accounts.Officer, "511603")
	w.change(t, stranger, accounts.Officer, "511621")
	w.advance(time.Minute)
	ask := &xunchav1.GetPhotoUploadRequest{SiteId: here, CheckInId: c.CheckInId, Sha256: sum(testPhoto)}
	must(w.photos.GetPhotoUpload(w.as(t, "officer"), ask))(t)
	_, err := w.photos.GetPhotoUpload(w.as(t, "stranger"), ask)
	wantStatus(t, err, codes.NotFound, "SITE_NOT_FOUND", "site_id")
	w.change(t, stranger, accounts.Officer, "511602") // who sees the site now
	must(w.photos.GetPhotoUpload(w.as(t, "stranger"), ask))(t)
}

// TestClocksOfTheVisit ensures that access goes by the time by which the visit is judged,
// and not by what the phone says.
func TestClocksOfTheVisit(t *testing.T) {
	w := newWorld(t)
	areas := w.areas(t)
	w.create(t, "officer", accounts.Officer, "511602")
	w.advance(time.Minute)
	must(w.roster.MoveSite(w.as(t, "root"), &xunchav1.MoveSiteRequest{SiteId: areas[0].site, DivisionCode: areas[1].village}))(t)
	w.advance(3 * time.Hour)
	ctx := w.as(t, "officer")
	// The phone's clock is three hours behind: the visit is of now.
	behind := timestamppb.New(w.clock().Add(-3*time.Hour - time.Minute))
	c := w.visitAt(areas[0].site, behind.AsTime())
	_, err := w.checkIns.SubmitCheckIn(ctx, &xunchav1.SubmitCheckInRequest{CheckIn: c, ClientTime: behind})
	wantStatus(t, err, codes.NotFound, "SITE_NOT_FOUND", "check_in.site_id")
	// It is three hours ahead, and the visit was before the move.
	ahead := timestamppb.New(w.clock().Add(3 * time.Hour))
	c = w.visitAt(areas[0].site, w.clock().Add(-time.Minute))
	c.CaptureTime = timestamppb.New(ahead.AsTime().Add(-3*time.Hour - 2*time.Minute))
	must(w.checkIns.SubmitCheckIn(ctx, &xunchav1.SubmitCheckInRequest{CheckIn: c, ClientTime: ahead}))(t)
}

// TestJustBeforeTheChange ensures that a visit counts that seems to lie a little before the
// change, as phones' clocks do, and none before that.
func TestJustBeforeTheChange(t *testing.T) {
	w := newWorld(t)
	here := w.areas(t)[0].site
	a := w.create(t, "officer", accounts.Officer, "511603")
	w.advance(time.Hour)
	w.change(t, a, accounts.Officer, "511602")
	changed := w.clock()
	w.advance(time.Hour)
	ctx := w.as(t, "officer")
	must(w.report(ctx, w.visitAt(here, changed.Add(-2*time.Minute))))(t)
	_, err := w.report(ctx, w.visitAt(here, changed.Add(-2*time.Minute-time.Second)))
	wantStatus(t, err, codes.NotFound, "SITE_NOT_FOUND", "check_in.site_id")
}

// TestNobodyLearnsOfASite ensures that whoever may not report a visit hears the same of a
// site that there is and of one that there is not, whatever is wrong or known besides.
func TestNobodyLearnsOfASite(t *testing.T) {
	w := newWorld(t)
	there := w.areas(t)[1].site
	w.create(t, "officer", accounts.Officer, "511602")
	head := w.create(t, "head", accounts.Officer, "511602")
	w.change(t, head, accounts.Head, "511602")
	w.create(t, "neighbour", accounts.Officer, "511603")
	known := w.visitAt(there, w.clock())
	must(w.report(w.as(t, "neighbour"), known))(t)
	w.advance(time.Hour)
	for name, c := range map[string]*xunchav1.CheckIn{
		"a visit":                      w.visitAt(there, w.clock()),
		"the neighbour's":              known,
		"the neighbour's with changes": {CheckInId: known.CheckInId, SiteId: there, CaptureTime: known.CaptureTime, Finding: xunchav1.Finding_FINDING_OPEN},
		"one before the order":         w.visitAt(there, w.clock().AddDate(-1, 0, 0)),
		"one in the future":            w.visitAt(there, w.clock().Add(time.Hour)),
	} {
		nowhere := proto.CloneOf(c)
		nowhere.SiteId = uuid.NewString()
		for _, who := range []string{"officer", "head"} {
			ctx := w.as(t, who)
			_, got := w.report(ctx, c)
			_, want := w.report(ctx, nowhere)
			if got == nil || status.Code(want) == codes.OK || strings.ReplaceAll(got.Error(), there, nowhere.SiteId) != want.Error() {
				t.Errorf("%s, %s: got %v, and %v of no site", name, who, got, want)
			}
		}
	}
}

// newCountyCode is the table of 2019 with the county 511603 as 511699.
func newCountyCode() []byte {
	out := bytes.ReplaceAll(sampledata.Divisions2019(), []byte("\n511603,"), []byte("\n511699,"))
	return bytes.ReplaceAll(out, []byte(",511603\r"), []byte(",511699\r"))
}

// TestCountyGetsANewCode ensures that visits and photos of the days before are taken once a
// county has another code, and that the import names the accounts that are bound to the old
// one.
func TestCountyGetsANewCode(t *testing.T) {
	w := newWorld(t)
	there := w.areas(t)[1].site // in 511603
	w.create(t, "officer", accounts.Officer, "511603")
	w.create(t, "city", accounts.Officer, "511600")
	visited := w.clock()
	w.advance(24 * time.Hour)
	gone := w.create(t, "gone", accounts.Officer, "511603")
	must(w.accounts.Disable(t.Context(), accounts.By{Account: "root"}, gone.ID))(t)
	for _, dryRun := range []bool{true, false} {
		answer := w.importDivisionsAs(t, w.as(t, "root"), newCountyCode(), "2020-02-02", dryRun)
		if answer.Ended != 1 || answer.Created != 1 || answer.Changed == dryRun {
			t.Errorf("got %v, want one county ended and one begun", answer)
		}
		var names []string
		for _, a := range answer.OrphanedAccounts {
			names = append(names, a.Username)
		}
		if got := strings.Join(names, ", "); got != "kept.other, officer" || answer.OrphanedAccountCount != 2 {
			t.Errorf("dry run %t: got the orphaned accounts %s, %d; want kept.other and officer", dryRun, got, answer.OrphanedAccountCount)
		}
	}
	ctx := w.as(t, "officer")
	c := w.visitAt(there, visited)
	c.Photos = declare(testPhoto)
	must(w.report(ctx, c))(t)
	w.mustUpload(t, ctx, c, testPhoto)
	_, err := w.report(ctx, w.visitAt(there, w.clock()))
	wantStatus(t, err, codes.NotFound, "SITE_NOT_FOUND", "check_in.site_id")
}

// TestBackdated ensures that a move or an import that is entered later, for a day before,
// loses no visit of the meantime.
func TestBackdated(t *testing.T) {
	for name, enter := range map[string]func(t *testing.T, w *world, areas []area, from time.Time){
		"move": func(t *testing.T, w *world, areas []area, from time.Time) {
			must(w.roster.MoveSite(w.as(t, "root"), &xunchav1.MoveSiteRequest{SiteId: areas[0].site, DivisionCode: areas[1].village, EffectiveTime: timestamppb.New(from)}))(t)
		},
		"import": func(t *testing.T, w *world, areas []area, from time.Time) {
			township := areas[0].village[:9]
			rows := strings.Split(string(sampledata.Divisions2019()), "\n")
			for i, row := range rows {
				if cells := strings.Split(row, ","); cells[0] == township {
					rows[i] = strings.Join(append(cells[:3:3], "511603"), ",")
				}
			}
			answer := w.importDivisionsAs(t, w.as(t, "root"), []byte(strings.Join(rows, "\n")), from.In(shanghai).Format(time.DateOnly), false)
			if answer.Regrouped != 1 {
				t.Fatalf("got %v, want one township regrouped", answer)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			areas := w.areas(t)
			w.create(t, "officer", accounts.Officer, "511602")
			w.advance(48 * time.Hour)
			visited := w.clock()
			w.advance(time.Hour)
			y, m, d := visited.In(shanghai).Date()
			enter(t, w, areas, time.Date(y, m, d, 0, 0, 0, 0, shanghai))
			w.advance(time.Hour)
			ctx := w.as(t, "officer")
			must(w.report(ctx, w.visitAt(areas[0].site, visited)))(t)
			_, err := w.report(ctx, w.visitAt(areas[0].site, w.clock()))
			wantStatus(t, err, codes.NotFound, "SITE_NOT_FOUND", "check_in.site_id")
			// Who came to the county later has not been there.
			late := w.create(t, "late", accounts.Officer, "511621")
			w.change(t, late, accounts.Officer, "511602")
			_, err = w.report(w.as(t, "late"), w.visitAt(areas[0].site, visited))
			wantStatus(t, err, codes.NotFound, "SITE_NOT_FOUND", "check_in.site_id")
		})
	}
}

// TestOfficersOnlyOnce ensures that the role of an officer is not asked of those who never
// were one, and that a disabled account brings nothing.
func TestOfficersOnlyOnce(t *testing.T) {
	w := newWorld(t)
	here := w.areas(t)[0].site
	w.create(t, "head", accounts.Head, "511602")
	gone := w.create(t, "gone", accounts.Officer, "511602")
	c := w.visitAt(here, w.clock())
	_, err := w.report(w.as(t, "head"), c)
	wantStatus(t, err, codes.PermissionDenied, "ROLE_NOT_ALLOWED", "")
	ctx := w.as(t, "gone")
	must(w.accounts.Disable(t.Context(), accounts.By{Account: "root"}, gone.ID))(t)
	_, err = w.report(ctx, c)
	wantStatus(t, err, codes.Unauthenticated, "TOKEN_INVALID", "")
}

// TestNobodyLearnsThatASiteIsAltered ensures that a check-in that may be missing because the
// site's history does not verify is kept by the phones of those who may have reported it, and
// tells others of no site.
func TestNobodyLearnsThatASiteIsAltered(t *testing.T) {
	w := newWorld(t)
	there := w.areas(t)[1].site
	w.create(t, "stranger", accounts.Officer, "511602")
	moved := w.create(t, "moved", accounts.Officer, "511603")
	w.advance(time.Minute)
	w.change(t, moved, accounts.Officer, "511602")
	w.altered.Add(ledger.Fault{History: sites.SiteID(there).History(), Sequence: 1, Why: "its record was changed", Since: w.clock()})
	ask := &xunchav1.GetPhotoUploadRequest{SiteId: there, CheckInId: uuid.NewString(), Sha256: sum(testPhoto)}
	_, err := w.photos.GetPhotoUpload(w.as(t, "stranger"), ask)
	wantStatus(t, err, codes.NotFound, "SITE_NOT_FOUND", "site_id")
	_, err = w.photos.GetPhotoUpload(w.as(t, "moved"), ask)
	wantStatus(t, err, codes.Unavailable, "HISTORY_ALTERED", "")
}
