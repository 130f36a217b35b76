package photostest

import (
	"errors"
	"fmt"
	"testing"

	"xuncha/inspections"
	"xuncha/inspections/photos"
)

// An aside is an engine whose database somebody takes away.
type aside[E Engine] struct {
	engine E
	reopen func(E) E
	all    []photos.Kept
	files  map[inspections.Digest][]byte
}

// runSetAside tests what becomes of files that no record knows.
func runSetAside[E Engine](t *testing.T, open func(testing.TB) E, reopen func(testing.TB, E) E) {
	for _, c := range []struct {
		name string
		test func(*testing.T, *aside[E])
	}{
		{"DatabaseTakenAway", testTakenAway[E]},
		{"PutBackWhenOpened", testPutBackWhenOpened[E]},
		{"UnknownIsDropped", testUnknownIsDropped[E]},
		{"UnknownIsKeptAgain", testUnknownIsKeptAgain[E]},
		{"UnknownIsPurged", testUnknownIsPurged[E]},
		{"AskedOfEach", testAskedOfEach[E]},
	} {
		t.Run(c.name, func(t *testing.T) {
			a := &aside[E]{engine: open(t), files: map[inspections.Digest][]byte{}}
			a.reopen = func(e E) E { return reopen(t, e) }
			c.test(t, a)
		})
	}
}

// keep keeps n photos, each with a file of its own.
func (a *aside[E]) keep(t *testing.T, n int) {
	t.Helper()
	for i := range n {
		b := content(i, 1000)
		k := kept(ref(site, i, fmt.Appendf(nil, "declared %d", i)), "order", b)
		mustKeep(t, a.engine.Photos(), k, b)
		a.all, a.files[k.Stored] = append(a.all, k), b
	}
}

// forget takes the database away, but not the files, and recall puts it back.
func (a *aside[E]) forget(t *testing.T) {
	t.Helper()
	for _, k := range a.all {
		a.engine.ForgetPhoto(t, k)
	}
}

func (a *aside[E]) recall(t *testing.T) {
	t.Helper()
	for _, k := range a.all {
		a.engine.RecallPhoto(t, k)
	}
}

// olderThan lets those be dropped that were set aside on a day before.
func olderThan(before photos.Day) func(inspections.Digest, photos.Day) (bool, error) {
	return func(_ inspections.Digest, on photos.Day) (bool, error) { return on < before, nil }
}

// set sets files aside and holds what it has done.
func (a *aside[E]) set(t *testing.T, today, before photos.Day, unknown, back, dropped int) {
	t.Helper()
	got, err := a.engine.Photos().SetAside(t.Context(), today, olderThan(before))
	if err != nil || got.Unknown != unknown || got.Back != back || got.Dropped != dropped {
		t.Errorf("on %s, before %q: got %+v, %v; want %d unknown, %d back, %d dropped", today, before, got, err, unknown, back, dropped)
	}
}

// setAgain holds that a year later all is in order, where every photo has its file.
func (a *aside[E]) setAgain(t *testing.T) {
	t.Helper()
	// Whether a file counts as put back that was found before, each engine decides.
	got, err := a.engine.Photos().SetAside(t.Context(), "2027-11-26", olderThan("2027-10-27"))
	if err != nil || got.Unknown != 0 || got.Dropped != 0 {
		t.Errorf("got %+v, %v", got, err)
	}
	a.wantAll(t)
	a.set(t, "2027-11-27", "2027-10-28", 0, 0, 0)
}

// wantAll holds that every photo can be read.
func (a *aside[E]) wantAll(t *testing.T) {
	t.Helper()
	for stored, b := range a.files {
		wantFile(t, a.engine.Photos(), stored, b)
	}
}

// With another database in place, no file is deleted. All are set aside, and are back with
// the right one.
func testTakenAway[E Engine](t *testing.T, a *aside[E]) {
	a.keep(t, 85)
	a.set(t, "2026-11-26", "", 0, 0, 0)
	a.forget(t)
	// Neither a restart nor anything that is done for crashes deletes one.
	a.engine = a.reopen(a.engine)
	if n, err := a.engine.Photos().Tidy(t.Context()); n != 0 || err != nil {
		t.Errorf("tidied %d, %v", n, err)
	}
	a.set(t, "2026-11-26", "2026-11-26", 85, 0, 0)
	a.set(t, "2026-11-27", "2026-11-26", 0, 0, 0)
	for _, k := range a.all {
		wantKept(t, a.engine.Photos(), k.CheckInRef)
	}
	a.recall(t)
	a.engine = a.reopen(a.engine)
	a.set(t, "2026-11-28", "2027-01-01", 0, 85, 0)
	a.set(t, "2026-11-28", "2027-01-01", 0, 0, 0)
	a.wantAll(t)
	a.engine = a.reopen(a.engine)
	a.wantAll(t)
}

// A photo of which the file was set aside is shown at once, and its file stays.
func testPutBackWhenOpened[E Engine](t *testing.T, a *aside[E]) {
	a.keep(t, 3)
	a.forget(t)
	a.set(t, "2026-11-26", "", 3, 0, 0)
	a.recall(t)
	a.wantAll(t)
	a.setAgain(t)
}

// What no record knows is deleted once its day lies before the one given.
func testUnknownIsDropped[E Engine](t *testing.T, a *aside[E]) {
	a.keep(t, 3)
	a.engine.ForgetPhoto(t, a.all[0])
	a.set(t, "2026-11-26", "", 1, 0, 0)
	a.engine.ForgetPhoto(t, a.all[1])
	a.set(t, "2026-11-27", "2026-11-26", 1, 0, 0)
	a.engine = a.reopen(a.engine)
	// The day counts on which it was set aside, and not the last on which it was.
	a.set(t, "2026-12-27", "2026-11-27", 0, 0, 1)
	wantLost(t, a.engine.Photos(), a.all[0].Stored)
	wantFile(t, a.engine.Photos(), a.all[2].Stored, a.files[a.all[2].Stored])
	a.set(t, "2026-12-28", "2026-11-28", 0, 0, 1)
	wantLost(t, a.engine.Photos(), a.all[1].Stored)
	a.set(t, "2026-12-28", "2026-12-28", 0, 0, 0)
	wantFile(t, a.engine.Photos(), a.all[2].Stored, a.files[a.all[2].Stored])
}

// A photo that comes again has its file, whichever it is.
func testUnknownIsKeptAgain[E Engine](t *testing.T, a *aside[E]) {
	a.keep(t, 2)
	a.forget(t)
	a.set(t, "2026-11-26", "", 2, 0, 0)
	for _, k := range a.all {
		mustKeep(t, a.engine.Photos(), k, a.files[k.Stored])
	}
	a.setAgain(t)
}

// A photo whose time is over leaves nothing, also where its file was set aside.
func testUnknownIsPurged[E Engine](t *testing.T, a *aside[E]) {
	a.keep(t, 1)
	a.forget(t)
	a.set(t, "2026-11-26", "", 1, 0, 0)
	a.recall(t)
	check(t, a.engine.Photos().Purge(t.Context(), a.all[0]))
	wantLost(t, a.engine.Photos(), a.all[0].Stored)
	a.set(t, "2026-11-27", "", 0, 0, 0)
}

// Whoever decides is asked of each file that stays set aside, with its own day. An error
// ends it, and deletes nothing.
func testAskedOfEach[E Engine](t *testing.T, a *aside[E]) {
	a.keep(t, 3)
	a.engine.ForgetPhoto(t, a.all[0])
	a.set(t, "2026-11-26", "", 1, 0, 0)
	a.engine.ForgetPhoto(t, a.all[1])
	asked := map[inspections.Digest]photos.Day{}
	got, err := a.engine.Photos().SetAside(t.Context(), "2026-11-27", func(stored inspections.Digest, on photos.Day) (bool, error) {
		asked[stored] = on
		return false, nil
	})
	if err != nil || got.Unknown != 1 || got.Dropped != 0 || len(asked) != 2 || asked[a.all[0].Stored] != "2026-11-26" || asked[a.all[1].Stored] != "2026-11-27" {
		t.Errorf("got %+v, %v; asked of %v", got, err, asked)
	}
	stop := errors.New("stop")
	got, err = a.engine.Photos().SetAside(t.Context(), "2026-11-27", func(inspections.Digest, photos.Day) (bool, error) { return true, stop })
	if !errors.Is(err, stop) || got.Dropped != 0 {
		t.Errorf("got %+v, %v", got, err)
	}
	for _, k := range a.all[:2] {
		a.engine.RecallPhoto(t, k)
	}
	a.wantAll(t)
}
