package sites_test

import (
	"errors"
	"slices"
	"testing"
	"time"

	"xuncha/sites"
)

// of returns who may change what lies in the division, by the roster that is asked about.
func of(own sites.DivisionCode) sites.By {
	return sites.By{Account: "county", May: func(r *sites.Roster, code sites.DivisionCode, at time.Time) bool { return r.Within(code, own, at) }}
}

// TestRightsOnTheRosterThatChanges ensures that a change is judged on the roster on which
// it is stored, also where another server was quicker.
func TestRightsOnTheRosterThatChanges(t *testing.T) {
	w := filled(t)
	strikes, imports, county := w.open(t), w.open(t), of("511602")
	own := slices.Collect(w.Roster().SitesAfter("", "511602"))[0]
	other := slices.Collect(w.Roster().SitesAfter("", "511603"))[0].Places[0].Division
	if _, err := w.MoveSite(t.Context(), sites.By{Account: "city"}, own.ID, "", sites.Place{Division: other}); err != nil {
		t.Fatal(err)
	}
	w.now = w.now.Add(time.Minute)
	// Of the move, these servers have not heard.
	for _, slow := range []*sites.Service{strikes, imports} {
		if site, err := slow.Roster().Site(own.ID); err != nil || site.PlaceAt(w.now).Division == other {
			t.Fatalf("another server knows %v, %v", site, err)
		}
	}
	for name, change := range map[string]func() error{
		"DeregisterSite": func() error {
			_, err := strikes.DeregisterSite(t.Context(), county, own.ID, "", time.Time{})
			return err
		},
		"ImportSites": func() error {
			_, err := imports.ImportSites(t.Context(), county, sites.Import{}, []sites.SiteRow{{Row: 2, RegistrationNo: own.RegistrationNo, DeregisteredOn: "2020-02-01"}})
			return err
		},
	} {
		want := sites.ErrSiteUnknown
		if name == "ImportSites" {
			want = sites.ErrImportRejected
		}
		if err := change(); !errors.Is(err, want) {
			t.Errorf("%s: got %v, want %v", name, err, want)
		}
	}
	if site := w.site(t, own.RegistrationNo); !site.Deregistered.IsZero() {
		t.Error("a site of another county was struck off")
	}
}

// TestStill ensures that whoever may not change any more what it might when the change was
// decided stores nothing.
func TestStill(t *testing.T) {
	w := filled(t)
	gone := errors.New("gone")
	by := of("511602")
	by.Still = func() error { return gone }
	before := w.Roster().Revision()
	_, err := w.CreateSite(t.Context(), by, sites.NewSite{RegistrationNo: "N-1", Name: "样例", Division: village})
	if !errors.Is(err, gone) || w.Roster().Revision() != before {
		t.Errorf("got %v at revision %d, want nothing to be stored", err, w.Roster().Revision())
	}
	by.Still = func() error { return nil }
	if _, err := w.CreateSite(t.Context(), by, sites.NewSite{RegistrationNo: "N-1", Name: "样例", Division: village}); err != nil {
		t.Error(err)
	}
}
