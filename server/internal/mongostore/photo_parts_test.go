package mongostore

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"testing"
	"time"

	"xuncha/inspections"
	"xuncha/inspections/photos"
)

func mustReceive(t *testing.T, s *Store, r photos.Ref, offset int, b []byte) {
	t.Helper()
	if err := s.Photos().Receive(t.Context(), r, int64(offset), b); err != nil {
		t.Fatal(err)
	}
}

func wantPartial(t *testing.T, s *Store, r photos.Ref, want []byte) {
	t.Helper()
	f, err := s.Photos().Partial(t.Context(), r)
	if len(want) == 0 {
		if !errors.Is(err, photos.ErrMissing) {
			t.Errorf("got %v, want ErrMissing", err)
		}
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(io.NewSectionReader(f, 0, f.Size())); err != nil || !bytes.Equal(got, want) {
		t.Errorf("got %q, %v, want %q", got, err, want)
	}
}

// A part that follows what this server has stored costs one command, and not a look at
// all that came before.
func TestReceiveInOrder(t *testing.T) {
	s, w := wired(t, server.Database(t))
	const parts = 30
	content := bytes.Repeat([]byte("0123456789"), parts)
	r := photoOf("a", content).Ref
	w.arm(nothing, 0)
	for i := range parts {
		mustReceive(t, s, r, 10*i, content[10*i:10*i+10])
	}
	if sent := w.commands(); len(sent) != parts+1 {
		t.Errorf("%d parts cost the commands %q, want one for each, and one look at the first", parts, sent)
	}
	wantPartial(t, s, r, content)
}

// What another server has discarded is not thought to be there for ever.
func TestReceiveAfterAnotherDiscarded(t *testing.T) {
	a, b := two(t)
	content := []byte("0123456789abcdefghij")
	r := photoOf("a", content).Ref
	mustReceive(t, a, r, 0, content[:5])
	if err := b.Photos().Discard(t.Context(), r); err != nil {
		t.Fatal(err)
	}
	mustReceive(t, a, r, 5, content[5:10])
	for _, s := range []*Store{a, b} {
		wantPartial(t, s, r, nil)
	}
	if err := b.Photos().Receive(t.Context(), r, 10, content[10:]); !errors.Is(err, photos.ErrOffset) {
		t.Errorf("got %v, want ErrOffset", err)
	}
	// The phone begins anew, with other parts.
	mustReceive(t, a, r, 0, content[:7])
	wantPartial(t, a, r, content[:10])
	mustReceive(t, a, r, 7, content[7:])
	wantPartial(t, b, r, content)
	// Its own discarding it knows.
	if err := a.Photos().Discard(t.Context(), r); err != nil {
		t.Fatal(err)
	}
	if err := a.Photos().Receive(t.Context(), r, int64(len(content)), []byte("x")); !errors.Is(err, photos.ErrOffset) {
		t.Errorf("got %v, want ErrOffset", err)
	}
}

// The beginnings of photos are read in pages, wherever a page ends.
func TestPartialsInPages(t *testing.T) {
	s, w := wired(t, server.Database(t))
	before := time.Now().Add(-time.Second)
	want := map[photos.Ref]int64{}
	for i, parts := range []int{2, 1, 3, 7, 4, 1, 1} {
		r := photoOf(inspections.CheckInID(fmt.Sprint(i)), []byte("a picture")).Ref
		for at := range parts {
			mustReceive(t, s, r, at, []byte("x"))
		}
		want[r] = int64(parts)
	}
	// Of one, only what follows a gap is there.
	gap := photoOf("9", []byte("a picture")).Ref
	s.photos.received.Add(keyOf(gap), 5)
	mustReceive(t, s, gap, 5, []byte("x"))
	want[gap] = 0
	for _, page := range []int64{1, 2, 3, 4, 1000} {
		s.photos.page = page
		got := map[photos.Ref]int64{}
		w.arm(nothing, 0)
		err := s.Photos().Partials(t.Context(), func(r photos.Ref, received int64, last time.Time) error {
			if _, ok := got[r]; ok || last.Before(before) {
				t.Errorf("got %v once more, or of %s", r, last)
			}
			got[r] = received
			return nil
		})
		if err != nil || !maps.Equal(got, want) {
			t.Errorf("in pages of %d: got %v, %v, want %v", page, got, err, want)
		}
		if sent := w.commands(); page == 1000 && len(sent) != 2 {
			t.Errorf("it took %q, want a page and the look for another", sent)
		}
	}
}
