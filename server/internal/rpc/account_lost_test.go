package rpc

import (
	"context"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"

	xunchav1 "xuncha/proto/xuncha/v1"
	"xuncha/server/internal/accounts"
	"xuncha/sites"
)

// TestAccountsOffTheRoster ensures that an account with a division which the roster does
// not know is seen and disabled by those who are responsible for all divisions, and by
// nobody else, and that nobody can give such a division.
func TestAccountsOffTheRoster(t *testing.T) {
	w := newWorld(t)
	w.create(t, "root", accounts.Admin, "511600")
	w.create(t, "county", accounts.Admin, "511602")
	if _, _, err := w.accounts.Create(t.Context(), accounts.By{Account: "operator"}, accounts.NewAccount{
		Username: "lost", Role: accounts.Officer, Divisions: []sites.DivisionCode{"511602", "511699"}, Password: "correct horse battery",
	}); err != nil {
		t.Fatal(err)
	}
	people := xunchav1.NewAccountServiceClient(w.conn)
	list := func(ctx context.Context) (names []string, id string) {
		t.Helper()
		for _, a := range must(people.ListAccounts(ctx, &xunchav1.ListAccountsRequest{}))(t).Accounts {
			names = append(names, a.Username)
			if a.Username == "lost" {
				id = a.AccountId
			}
		}
		return names, id
	}
	root, county := w.as(t, "root"), w.as(t, "county")
	names, id := list(root)
	if got := strings.Join(names, " "); got != "county lost root" {
		t.Errorf("the root sees %s", got)
	}
	if names, _ := list(county); strings.Join(names, " ") != "county" {
		t.Errorf("the county sees %s", names)
	}
	_, err := people.DisableAccount(county, &xunchav1.DisableAccountRequest{AccountId: id})
	wantStatus(t, err, codes.NotFound, "ACCOUNT_NOT_FOUND", "account_id")
	_, err = people.UpdateAccount(root, &xunchav1.UpdateAccountRequest{AccountId: id, DivisionCodes: []string{"511698"}})
	wantStatus(t, err, codes.NotFound, "DIVISION_NOT_FOUND", "division_codes[0]")
	if a := must(people.DisableAccount(root, &xunchav1.DisableAccountRequest{AccountId: id}))(t).Account; a.DisableTime == nil {
		t.Errorf("got %v, want it disabled", a)
	}
}
