package ledger_test

import (
	"errors"
	"slices"
	"testing"
	"time"

	"xuncha/ledger"
)

func TestAlterations(t *testing.T) {
	var none *ledger.Alterations
	if none.Of("site/a") != nil || none.All() != nil || none.At("site/a", 1) {
		t.Error("a nil one knows of faults")
	}
	a := new(ledger.Alterations)
	for _, q := range []ledger.Sequence{7, 3, 7} {
		a.Add(ledger.Fault{History: "site/a", Sequence: q, Why: "it was changed"})
	}
	revision := a.Revision()
	if a.Add(ledger.Fault{History: "site/a", Sequence: 3}) || a.Revision() != revision {
		t.Error("a fault that was known is new")
	}
	err := a.Of("site/a")
	if want := "the history does not verify: site/a at sequence 3: it was changed"; !errors.Is(err, ledger.ErrAltered) || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
	if a.Of("site/b") != nil || !a.At("site/a", 7) || a.At("site/a", 4) {
		t.Error("another history or entry is altered")
	}
	if all := a.All(); len(all) != 2 || all[0].Sequence != 3 || all[1].Sequence != 7 {
		t.Errorf("got %+v", all)
	}
	a.Add(ledger.Fault{History: "roster", Sequence: 1})
	if got := a.Histories(); len(got) != 2 || got[0] != "roster" || got[1] != "site/a" || none.Histories() != nil {
		t.Errorf("got the histories %v", got)
	}
	if !a.Clear("site/a") || a.Clear("site/a") || a.Of("site/a") != nil || a.Revision() == revision {
		t.Error("the faults of site/a are not forgotten")
	}
}

func TestAlterationsOfSeveralFinders(t *testing.T) {
	var a ledger.Alterations
	fault := func(q ledger.Sequence, why string, since time.Time) ledger.Fault {
		return ledger.Fault{History: "site/1", Sequence: q, Why: why, Since: since}
	}
	early, late := time.Unix(1, 0), time.Unix(2, 0)
	if n := a.Set("site/1", ledger.ByChain, []ledger.Fault{fault(5, "five", early), fault(2, "two", early), fault(2, "two again", early)}); n != 2 {
		t.Errorf("%d are new, want 2", n)
	}
	if n := a.Set("site/1", ledger.ByState, []ledger.Fault{fault(2, "state", late), fault(3, "three", late)}); n != 1 {
		t.Errorf("%d are new, want 1", n)
	}
	before := a.Revision()
	if n := a.Set("site/1", ledger.ByChain, []ledger.Fault{fault(5, "five", late)}); n != 0 {
		t.Errorf("%d are new, want none", n)
	}
	want := []ledger.Fault{fault(2, "state", late), fault(3, "three", late), fault(5, "five", early)}
	if got := a.All(); !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	if a.Revision() == before {
		t.Error("the revision stays, and the faults do not")
	}
	a.Set("site/1", ledger.ByChain, nil)
	a.Set("site/1", ledger.ByState, nil)
	if err := a.Of("site/1"); err != nil {
		t.Errorf("got %v after everything was put right", err)
	}
	a.PutAside("site/1", []ledger.Sequence{9, 4})
	if !a.SetAside("site/1", 4) || !a.SetAside("site/1", 9) || a.SetAside("site/1", 5) {
		t.Error("what was set aside is not")
	}
}
