package rpc

import (
	"testing"
	"time"

	"github.com/google/uuid"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	xunchav1 "xuncha/proto/xuncha/v1"
)

// TestBothCodesOfAccounts ensures that a change of an account is judged by all divisions that
// it leaves or gives.
func TestBothCodesOfAccounts(t *testing.T) {
	b := newBorder(t)
	people := xunchav1.NewAccountServiceClient(b.conn)
	officer := func(codes ...string) *xunchav1.Account {
		return &xunchav1.Account{Username: "u" + uuid.NewString()[:8], Role: xunchav1.Role_ROLE_OFFICER, DivisionCodes: codes}
	}
	create := func(codes ...string) error {
		_, err := people.CreateAccount(b.ctx, &xunchav1.CreateAccountRequest{Account: officer(codes...)})
		return err
	}
	// of returns the id of an account that somebody else has made.
	of := func(codes ...string) string {
		return must(people.CreateAccount(b.root, &xunchav1.CreateAccountRequest{Account: officer(codes...)}))(t).Account.AccountId
	}
	update := func(id string, codes ...string) error {
		_, err := people.UpdateAccount(b.ctx, &xunchav1.UpdateAccountRequest{AccountId: id, DivisionCodes: codes})
		return err
	}
	rename := func(id string) error {
		_, err := people.UpdateAccount(b.ctx, &xunchav1.UpdateAccountRequest{AccountId: id, DisplayName: proto.String("某")})
		return err
	}
	disable := func(id string) error {
		_, err := people.DisableAccount(b.ctx, &xunchav1.DisableAccountRequest{AccountId: id})
		return err
	}
	reset := func(id string) error {
		_, err := people.ResetPassword(b.ctx, &xunchav1.ResetPasswordRequest{AccountId: id})
		return err
	}
	const own, other, noAccount = "511602", "511603", "ACCOUNT_NOT_FOUND account_id"
	for _, c := range []struct {
		name string
		err  error
		want string
	}{
		{"CreateAccount own", create(own), "ok"},
		{"CreateAccount other", create(other), "DIVISION_NOT_FOUND account.division_codes[0]"},
		{"CreateAccount own and other", create(own, other), "DIVISION_NOT_FOUND account.division_codes[1]"},
		{"CreateAccount parent", create("511600"), "DIVISION_NOT_FOUND account.division_codes[0]"},
		{"CreateAccount leaving", create(b.leaving), "ok"},
		{"CreateAccount coming", create(b.coming), "DIVISION_NOT_FOUND account.division_codes[0]"},
		{"UpdateAccount own", update(of(own), b.leaving), "ok"},
		{"UpdateAccount own to other", update(of(own), other), "DIVISION_NOT_FOUND division_codes[0]"},
		{"UpdateAccount other to own", update(of(other), own), noAccount},
		{"UpdateAccount own and other to own", update(of(own, other), own), noAccount},
		{"UpdateAccount parent to own", update(of("511600"), own), noAccount},
		{"UpdateAccount coming to own", update(of(b.coming), own), noAccount},
		{"UpdateAccount name of own and other", rename(of(own, other)), noAccount},
		{"DisableAccount own", disable(of(own)), "ok"},
		{"DisableAccount own and other", disable(of(own, other)), noAccount},
		{"ResetPassword own", reset(of(own)), "ok"},
		{"ResetPassword own and other", reset(of(own, other)), noAccount},
	} {
		if got := refusal(c.err); got != c.want {
			t.Errorf("%s: got %s, want %s", c.name, got, c.want)
		}
	}
}

// TestBothCodesOfWhatIsTakenBack ensures that a change is taken back by nobody who is not
// responsible for all that it touched.
func TestBothCodesOfWhatIsTakenBack(t *testing.T) {
	b := newBorder(t)
	site := func(id string) int64 {
		return must(b.roster.GetSite(b.root, &xunchav1.GetSiteRequest{SiteId: id}))(t).Site.Revision
	}
	moved := func(from, to string, at *timestamppb.Timestamp) int64 {
		id := b.register(t, from)
		b.advance(time.Second)
		return must(b.roster.MoveSite(b.root, &xunchav1.MoveSiteRequest{SiteId: id, DivisionCode: to, EffectiveTime: at}))(t).Site.Revision
	}
	ordered := func(codes ...string) int64 {
		o := b.newOrder(uuid.NewString())
		o.DivisionCodes = codes
		return must(b.roster.CreateClosureOrder(b.root, &xunchav1.CreateClosureOrderRequest{ClosureOrder: o}))(t).ClosureOrder.Revision
	}
	later := timestamppb.New(b.planned.AddDate(0, 0, 2))
	regrouped := must(b.importDivisionRows(b.root, "2020-02-03", false, b.subtree(t, b.own.village[:9], "511603")...))(t).Revision
	inside := must(b.importDivisionRows(b.root, "2020-02-04", false, &xunchav1.DivisionRow{Row: 2, Code: "511602998", Name: "新", Level: "township", ParentCode: "511602"}))(t).Revision
	const none = "CHANGE_NOT_FOUND revision"
	for _, c := range []struct {
		name     string
		revision int64
		want     string
	}{
		{"own registration", site(b.register(t, b.own.village)), "ok"},
		{"other registration", site(b.register(t, b.other.village)), none},
		{"move within", moved(b.leavingVillage, b.own.village, nil), "ok"},
		{"move to the other county", moved(b.leavingVillage, b.other.village, nil), none},
		{"planned move to the other county", moved(b.own.village, b.other.village, later), none},
		{"move from the other county", moved(b.other.village, b.own.village, nil), none},
		{"planned move of a site that is here", site(b.leavingSite), none},
		{"own order", ordered("511602"), "ok"},
		{"order of own and other", ordered("511602", "511603"), none},
		{"order of the parent", ordered("511600"), none},
		{"import that regroups", regrouped, none},
		{"import within", inside, "ok"},
		{"none", 1 << 40, none},
	} {
		_, err := b.roster.RevokeChange(b.ctx, &xunchav1.RevokeChangeRequest{Revision: c.revision, Reason: "by mistake"})
		if got := refusal(err); got != c.want {
			t.Errorf("%s: got %s (%v), want %s", c.name, got, err, c.want)
		}
	}
}
