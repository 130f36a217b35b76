package ledger_test

import (
	"errors"
	"testing"

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
	if !a.Clear("site/a") || a.Clear("site/a") || a.Of("site/a") != nil || a.Revision() == revision {
		t.Error("the faults of site/a are not forgotten")
	}
}
