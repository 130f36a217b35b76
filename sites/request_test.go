package sites_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"xuncha/ledger"
	"xuncha/ledger/ledgertest"
	"xuncha/sites"
)

const requestID = "11111111-1111-4111-8111-111111111111"

// asked is who makes a change by the request.
func asked(account, id string) sites.By {
	return sites.By{Account: account, Request: ledger.Request{ID: id}}
}

// repeatable are the methods that change the roster. Each answers with all that its caller
// can see of the change; with other set, it says something else.
var repeatable = map[string]func(t testing.TB, s *sites.Service, by sites.By, other bool) (string, error){
	"CreateSite": func(t testing.TB, s *sites.Service, by sites.By, other bool) (string, error) {
		n := sites.NewSite{RegistrationNo: "N-1", Name: "样例", Division: village, Position: &sites.Position{Latitude: 30.25, Longitude: 106}}
		if other {
			n.Position = nil
		}
		return siteAnswer(s, by)(s.CreateSite(t.Context(), by, n))
	},
	"UpdateSite": func(t testing.TB, s *sites.Service, by sites.By, other bool) (string, error) {
		name, address := "改名", ""
		u := sites.SiteUpdate{Name: &name}
		if other {
			u.Address = &address // no address is not the same as none said
		}
		return siteAnswer(s, by)(s.UpdateSite(t.Context(), by, siteID(t, s), "r2", u))
	},
	"MoveSite": func(t testing.TB, s *sites.Service, by sites.By, other bool) (string, error) {
		to := sites.Place{Division: "511602002003", From: day(t, "2020-03-01")}
		if other {
			to.From = to.From.Add(time.Nanosecond)
		}
		return siteAnswer(s, by)(s.MoveSite(t.Context(), by, siteID(t, s), "r2", to))
	},
	"DeregisterSite": func(t testing.TB, s *sites.Service, by sites.By, other bool) (string, error) {
		at := time.Time{}
		if other {
			at = s.Now()
		}
		return siteAnswer(s, by)(s.DeregisterSite(t.Context(), by, siteID(t, s), "r2", at))
	},
	"CreateClosureOrder": func(t testing.TB, s *sites.Service, by sites.By, other bool) (string, error) {
		o := anOrder(t, "1号")
		if other {
			o.Divisions = append(o.Divisions, "511603")
		}
		return orderAnswer(s.CreateOrder(t.Context(), by, o))
	},
	"EndClosureOrder": func(t testing.TB, s *sites.Service, by sites.By, other bool) (string, error) {
		end := time.Time{}
		if other {
			end = s.Now()
		}
		return orderAnswer(s.EndOrder(t.Context(), by, s.Roster().Orders()[0].ID, end))
	},
	"RevokeChange": func(t testing.TB, s *sites.Service, by sites.By, other bool) (string, error) {
		reason := "by mistake"
		if other {
			reason = "dropped"
		}
		r, err := s.Revoke(t.Context(), by, 3, reason)
		if err != nil {
			return "", err
		}
		return spelled(r.Event(3).RevokedBy), nil
	},
	"ImportDivisions": func(t testing.TB, s *sites.Service, by sites.By, other bool) (string, error) {
		rows := divisionRows(t, "2023")
		if other {
			rows[40].Name += "样"
		}
		n, err := s.ImportDivisions(t.Context(), by, sites.Import{Effective: "2020-02-02", Source: "2023"}, rows)
		if err != nil {
			return "", err
		}
		answer := spelled(n.Changed, n.Created, n.Ended, n.Renamed, n.Regrouped, n.Unchanged, n.EndedCodes, n.Orphaned, n.Roster.Revision(), n.Roster.Time())
		for _, site := range n.Displaced {
			answer += spelled(site, site.Etag())
		}
		return answer, nil
	},
	"ImportSites": func(t testing.TB, s *sites.Service, by sites.By, other bool) (string, error) {
		rows := siteRows(t)
		rows[0].Division, rows[1].DeregisteredOn, rows[2].Name, rows[3].RegistrationNo = "511602002003", "2020-01-31", "改名", "N-1"
		if other {
			rows[3].RegistrationNo = "N-2"
		}
		n, err := s.ImportSites(t.Context(), by, sites.Import{Source: "sites"}, rows)
		if err != nil {
			return "", err
		}
		return spelled(n.Changed, n.Registered, n.Deregistered, n.Moved, n.Updated, n.Unchanged, n.Roster.Revision(), n.Roster.Time()), nil
	},
}

func spelled(values ...any) string {
	b, err := json.Marshal(values)
	return fmt.Sprint(string(b), err)
}

func siteAnswer(s *sites.Service, by sites.By) func(*sites.Site, error) (string, error) {
	return func(site *sites.Site, err error) (string, error) {
		if err != nil {
			return "", err
		}
		return spelled(site, site.Etag(), s.ShownAt(by, site)), nil
	}
}

func orderAnswer(o *sites.ClosureOrder, err error) (string, error) { return spelled(o), err }

// siteID returns the id of the site that all of these are about.
func siteID(t testing.TB, s *sites.Service) sites.SiteID {
	site, err := s.Roster().SiteByRegistration("SC-GA-0001")
	if err != nil {
		t.Fatal(err)
	}
	return site.ID
}

func anOrder(t testing.TB, number string) sites.ClosureOrder {
	return sites.ClosureOrder{
		Number: number, Title: "通知", IssuingAuthority: "指挥部", LegalBasis: "法", Divisions: []sites.DivisionCode{"511602"},
		Start: day(t, "2020-02-01"), End: day(t, "2020-03-31"), Interval: sites.Duration(24 * time.Hour),
	}
}

// repeats runs a test for each method, on a roster with an order.
func repeats(t *testing.T, test func(t *testing.T, w *world, call func(s *sites.Service, by sites.By, other bool) (string, error))) {
	for name, method := range repeatable {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := filled(t)
			if _, err := w.CreateOrder(t.Context(), sites.By{Account: "a"}, anOrder(t, "0号")); err != nil {
				t.Fatal(err)
			}
			test(t, w, func(s *sites.Service, by sites.By, other bool) (string, error) { return method(t, s, by, other) })
		})
	}
}

// TestRepeat ensures that a repeat of a change returns the first answer and changes
// nothing: also after others' changes, much later, after a restart, and on another server
// that has not heard of the first; and that its id is good for nothing else.
func TestRepeat(t *testing.T) {
	repeats(t, func(t *testing.T, w *world, call func(*sites.Service, sites.By, bool) (string, error)) {
		behind := w.open(t)
		first, err := call(w.Service, asked("a", requestID), false)
		if err != nil {
			t.Fatal(err)
		}
		if e, err := w.store.Entry(t.Context(), ledger.Roster, requestID); err != nil || e.Sequence != 4 || !strings.HasSuffix(string(e.Record), `"}}`) {
			t.Fatalf("got the entry %s, %v, want the fourth, by the request's id, with its digest at the end", e.Record, err)
		}
		same := func(what string, s *sites.Service) {
			t.Helper()
			if got, err := call(s, asked("a", requestID), false); err != nil || got != first {
				t.Errorf("%s: got %s, %v, want the first answer %s", what, got, err, first)
			}
		}
		same("at once", w.Service)
		same("on another server", behind)
		w.now = w.now.Add(25 * 24 * time.Hour)
		name := "后来"
		if _, err := w.UpdateSite(t.Context(), sites.By{Account: "b"}, siteID(t, w.Service), "", sites.SiteUpdate{Name: &name}); err != nil {
			t.Fatal(err)
		}
		later := anOrder(t, "2号")
		later.Start = w.now // since it is too late by then to issue the first one
		if _, err := w.CreateOrder(t.Context(), sites.By{Account: "b"}, later); err != nil {
			t.Fatal(err)
		}
		same("after others' changes", w.Service)
		same("on another server that is behind", behind)
		same("after a restart", w.open(t))
		_, err = call(w.Service, asked("a", requestID), true)
		wantField(t, err, ledger.ErrRequestConflict, "request_id")
		_, err = call(w.Service, asked("b", requestID), false)
		wantField(t, err, ledger.ErrRequestConflict, "request_id")
		if n := w.store.Count(ledger.Roster); n != 6 {
			t.Errorf("got %d entries, want 6", n)
		}
		for other := range repeatable {
			if other == strings.Split(t.Name(), "/")[1] {
				continue
			}
			_, err := repeatable[other](t, w.Service, asked("a", requestID), false)
			wantField(t, err, ledger.ErrRequestConflict, "request_id")
		}
	})
}

// TestRepeatAfterLostAnswer ensures that whoever got no answer gets it by a repeat,
// whether or not the change was stored, and that it is made once.
func TestRepeatAfterLostAnswer(t *testing.T) {
	for what, fault := range map[string]ledgertest.Fault{"stored": ledgertest.FailedButStored, "not stored": ledgertest.Failed} {
		t.Run(what, func(t *testing.T) {
			repeats(t, func(t *testing.T, w *world, call func(*sites.Service, sites.By, bool) (string, error)) {
				w.store.OnWrite(func(ledger.Draft) ledgertest.Fault { return fault })
				if _, err := call(w.Service, asked("a", requestID), false); !errors.Is(err, ledger.ErrUnavailable) {
					t.Fatalf("got %v, want ErrUnavailable", err)
				}
				w.store.OnWrite(nil)
				first, err := call(w.Service, asked("a", requestID), false)
				if err != nil {
					t.Fatal(err)
				}
				if again, err := call(w.open(t), asked("a", requestID), false); err != nil || again != first {
					t.Errorf("got %s, %v, want %s", again, err, first)
				}
				if n := w.store.Count(ledger.Roster); n != 4 {
					t.Errorf("got %d entries, want 4", n)
				}
			})
		})
	}
}

// TestRepeatsAtOnce ensures that of repeats that come at once, to two servers, one makes
// the change, and that all get its answer. One of them is sent to another server at the
// very moment when this one stores it.
func TestRepeatsAtOnce(t *testing.T) {
	repeats(t, func(t *testing.T, w *world, call func(*sites.Service, sites.By, bool) (string, error)) {
		var once sync.Once
		w.store.OnWrite(func(d ledger.Draft) (f ledgertest.Fault) {
			once.Do(func() { f = ledgertest.Moved(d) })
			return f
		})
		servers := []*sites.Service{w.Service, w.open(t)}
		answers := make([]string, 8)
		var group sync.WaitGroup
		for i := range answers {
			group.Go(func() {
				var err error
				if answers[i], err = call(servers[i%2], asked("a", requestID), false); err != nil {
					t.Error(err)
				}
			})
		}
		group.Wait()
		for _, a := range answers {
			if a != answers[0] {
				t.Errorf("got %s and %s, want one answer", a, answers[0])
			}
		}
		if n := w.store.Count(ledger.Roster); n != 4 {
			t.Errorf("got %d entries, want 4", n)
		}
	})
}

// TestRightsOfRepeat ensures that a repeat is answered while its caller may make the change,
// and else is told the same as of what does not exist.
func TestRightsOfRepeat(t *testing.T) {
	repeats(t, func(t *testing.T, w *world, call func(*sites.Service, sites.By, bool) (string, error)) {
		by, may := asked("a", requestID), true
		by.May = func(*sites.Roster, sites.DivisionCode, time.Time) bool { return may }
		behind := w.open(t)
		first, err := call(w.Service, by, false)
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range []*sites.Service{w.Service, behind} {
			if again, err := call(s, by, false); err != nil || again != first {
				t.Errorf("got %s, %v, want the first answer %s", again, err, first)
			}
		}
		may = false
		_, err = call(w.Service, by, false)
		unknown := []error{sites.ErrDivisionUnknown, sites.ErrSiteUnknown, sites.ErrOrderUnknown, sites.ErrChangeUnknown}
		if !slices.ContainsFunc(unknown, func(want error) bool { return errors.Is(err, want) }) {
			t.Errorf("without the right: got %v, want what is said of what does not exist", err)
		}
	})
}

// TestNoRepeat ensures that what makes no entry has nothing that a repeat could find: a
// dry run, and what changes nothing.
func TestNoRepeat(t *testing.T) {
	w := filled(t)
	by, rows := asked("a", requestID), siteRows(t)[:3]
	name := w.site(t, "SC-GA-0001").Name
	if _, err := w.UpdateSite(t.Context(), by, siteID(t, w.Service), "", sites.SiteUpdate{Name: &name}); err != nil {
		t.Error(err)
	}
	if n, err := w.ImportSites(t.Context(), by, sites.Import{}, rows); err != nil || n.Changed {
		t.Errorf("the same table: got %+v, %v", n, err)
	}
	rows[0].Name = "改名"
	for _, dry := range []bool{true, false, true} {
		n, err := w.ImportSites(t.Context(), by, sites.Import{DryRun: dry}, rows)
		if err != nil || n.Changed == dry {
			t.Errorf("dry run %t: got %+v, %v", dry, n, err)
		}
	}
	if n := w.store.Count(ledger.Roster); n != 3 {
		t.Errorf("got %d entries, want 3", n)
	}
}

// TestRequestSpelling ensures that the same request in another spelling is the same: a
// code with zeros at its end, a time in another zone.
func TestRequestSpelling(t *testing.T) {
	w := filled(t)
	o := anOrder(t, "1号")
	first, err := w.CreateOrder(t.Context(), asked("a", requestID), o)
	if err != nil {
		t.Fatal(err)
	}
	o.Divisions, o.Start = []sites.DivisionCode{"511602000000"}, o.Start.UTC()
	if again, err := w.CreateOrder(t.Context(), asked("a", requestID), o); err != nil || spelled(again) != spelled(first) {
		t.Errorf("got %v, %v, want %v", again, err, first)
	}
}

// TestRepeatOfSetAside ensures that the id of a request whose entry was set aside is not
// good for another one: what counts nowhere has no answer.
func TestRepeatOfSetAside(t *testing.T) {
	w := filled(t)
	o := anOrder(t, "1号")
	if _, err := w.CreateOrder(t.Context(), asked("a", requestID), o); err != nil {
		t.Fatal(err)
	}
	config := w.config()
	config.Altered = new(ledger.Alterations)
	s, err := sites.Open(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	config.Altered.PutAside(ledger.Roster, []ledger.Sequence{3})
	_, err = s.CreateOrder(t.Context(), asked("a", requestID), o)
	wantField(t, err, ledger.ErrRequestConflict, "request_id")
}
