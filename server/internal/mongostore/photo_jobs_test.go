package mongostore

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"xuncha/inspections"
	"xuncha/inspections/photos"
	"xuncha/ledger"
)

// A crash at any step of what is done with a photo leaves nothing that the next Tidy does
// not find, and nothing that is in the way when it is done again.
func TestCrash(t *testing.T) {
	for _, d := range deeds {
		for name, s := range map[string]strike{"Dies": death, "HearsNoAnswer": silence} {
			t.Run(d.name+"/"+name, func(t *testing.T) {
				interrupt(t, d, s, func(t *testing.T, b *Store, k, twin photos.Kept, content []byte, err error) {
					wantTidied(t, b)
					if err := d.do(t, b, k, content); err != nil {
						t.Error(err)
					}
					wantInOrder(t, b)
				})
			})
		}
	}
}

// The server that tidies may die too.
func TestCrashWhileItTidies(t *testing.T) {
	uri := server.Database(t)
	a, w := wired(t, uri)
	b := openAt(t, uri)
	a.photos.turn, a.photos.watch, b.photos.watch = time.Hour, time.Millisecond, time.Millisecond
	for _, d := range []deed{deeds[0], deeds[2]} {
		for at, over := 0, false; !over; at++ {
			for tidyAt, tidied := 0, false; !tidied; tidyAt++ {
				content := fmt.Appendf(nil, "picture %s %d %d", d.name, at, tidyAt)
				k := photoOf(inspections.CheckInID(fmt.Sprint(d.name, at, "-", tidyAt)), content)
				d.before(t, b, k, k, content)
				w.arm(death, at)
				_ = d.do(t, a, k, content)
				over = len(w.commands()) <= at
				w.arm(death, tidyAt)
				_, _ = a.Photos().Tidy(t.Context())
				tidied = len(w.commands()) <= tidyAt
				wantTidied(t, b)
				if t.Failed() {
					t.Fatalf("%s died at %d, and Tidy at %d of %q", d.name, at, tidyAt, w.commands())
				}
			}
		}
	}
}

// A server that was slow, and that others took for dead, loses nothing when it wakes: what
// it acknowledges then has its file, and what others have kept meanwhile too.
func TestSlowServer(t *testing.T) {
	tidy := func(t *testing.T, b *Store) {
		t.Helper()
		if _, err := b.Photos().Tidy(t.Context()); err != nil {
			t.Error(err)
		}
	}
	for _, meanwhile := range []struct {
		name string
		do   func(t *testing.T, b *Store, k, twin photos.Kept, content []byte)
	}{
		{"Tidied", func(t *testing.T, b *Store, _, _ photos.Kept, _ []byte) { tidy(t, b) }},
		{"TidiedTwice", func(t *testing.T, b *Store, _, _ photos.Kept, _ []byte) { tidy(t, b); tidy(t, b) }},
		{"Kept", func(t *testing.T, b *Store, k, _ photos.Kept, content []byte) {
			if err := keep(t, b, k, content); err != nil {
				t.Error(err)
			}
		}},
		{"TidiedAndKept", func(t *testing.T, b *Store, k, _ photos.Kept, content []byte) {
			tidy(t, b)
			tidy(t, b)
			if err := keep(t, b, k, content); err != nil {
				t.Error(err)
			}
		}},
		{"TidiedAndHeld", func(t *testing.T, b *Store, k, _ photos.Kept, _ []byte) {
			tidy(t, b)
			tidy(t, b)
			if _, err := b.photos.hold(t.Context(), k, bson.NewObjectID()); err != nil { // and it dies
				t.Error(err)
			}
		}},
		{"TwinKeptAtOnce", func(t *testing.T, b *Store, _, twin photos.Kept, content []byte) { mustKeep(t, b, twin, content) }},
		{"TwinKept", func(t *testing.T, b *Store, _, twin photos.Kept, content []byte) {
			tidy(t, b)
			tidy(t, b)
			mustKeep(t, b, twin, content)
		}},
		{"TwinPurged", func(t *testing.T, b *Store, _, twin photos.Kept, content []byte) {
			if err := purge(t, b, twin, content); err != nil {
				t.Error(err)
			}
			tidy(t, b)
		}},
		{"KeptAndPurged", func(t *testing.T, b *Store, k, _ photos.Kept, content []byte) {
			if err := keep(t, b, k, content); err != nil {
				t.Error(err)
			}
			if err := purge(t, b, k, content); err != nil {
				t.Error(err)
			}
		}},
	} {
		for _, d := range deeds {
			t.Run(meanwhile.name+"/"+d.name, func(t *testing.T) {
				uri := server.Database(t)
				a, w := wired(t, uri)
				b := openAt(t, uri)
				a.photos.turn, b.photos.watch = time.Hour, time.Millisecond
				for at, over := 0, false; !over; at++ {
					content := fmt.Appendf(nil, "picture %d", at)
					k, twin := photoOf(inspections.CheckInID(fmt.Sprint("a", at)), content), photoOf(inspections.CheckInID(fmt.Sprint("b", at)), content)
					d.before(t, b, k, twin, content)
					w.arm(halt, at)
					done := make(chan error, 1)
					go func() { done <- d.do(t, a, k, content) }()
					var err error
					select {
					case <-w.reached:
						meanwhile.do(t, b, k, twin, content)
						close(w.released)
						err = <-done
					case err = <-done:
						over = true
					}
					sent := w.commands()
					w.arm(nothing, 0)
					if err != nil && !errors.Is(err, ledger.ErrUnavailable) {
						t.Errorf("got %v, want ErrUnavailable", err)
					}
					// What was acknowledged is there at once, and so it is once all is tidied.
					known, errKnown := b.photos.find(t.Context(), bson.D{is("_id", keyOf(k.Ref))}, 1)
					if errKnown != nil || err == nil && (len(known) == 0 || !known[0].settled() || !known[0].Purged && !isThere(t, b, k, content)) {
						t.Errorf("got %+v of what was acknowledged, %v", known, errKnown)
					}
					wantTidied(t, b)
					now, errNow := b.photos.find(t.Context(), bson.D{is("_id", keyOf(k.Ref))}, 1)
					if errNow != nil || err == nil && !slices.EqualFunc(now, known, func(a, b photoDoc) bool { return a.Purged == b.Purged }) {
						t.Errorf("got %+v, %v; want it as it was, %+v", now, errNow, known)
					}
					if err := d.do(t, b, k, content); err != nil {
						t.Error(err)
					}
					wantInOrder(t, b)
					if t.Failed() {
						t.Fatalf("it was held at %d of %q", at, sent)
					}
				}
			})
		}
	}
}

// Whether somebody is at work on a file, no clock says: not the time in the job's id, and
// not that of the database or of another server.
func TestTidyGoesByTurns(t *testing.T) {
	for name, began := range map[string]time.Time{"LongAgo": time.Unix(0, 0), "JustNow": time.Now(), "Tomorrow": time.Now().Add(24 * time.Hour)} {
		t.Run(name, func(t *testing.T) {
			uri := server.Database(t)
			a := openAt(t, uri)
			b, w := wired(t, uri)
			b.photos.watch = time.Millisecond
			id := bson.NewObjectIDFromTimestamp(began)
			if _, err := a.photos.jobs.InsertOne(t.Context(), jobDoc{ID: id, Photo: "site/a/x"}); err != nil {
				t.Fatal(err)
			}
			if _, err := a.photos.chunks.InsertOne(t.Context(), bson.D{is("files_id", id), is("n", int32(0)), is("data", []byte("half"))}); err != nil {
				t.Fatal(err)
			}
			// The other server is at work while this one watches it, and then it dies.
			w.arm(halt, 1)
			tidied := make(chan int, 1)
			go func() {
				n, err := b.Photos().Tidy(t.Context())
				if err != nil {
					t.Error(err)
				}
				tidied <- n
			}()
			<-w.reached
			if _, err := a.photos.jobs.UpdateOne(t.Context(), bson.D{is("_id", id)}, bson.D{is("$inc", bson.D{is("turn", int64(1))})}); err != nil {
				t.Fatal(err)
			}
			close(w.released)
			if n := <-tidied; n != 0 {
				t.Errorf("removed %d that another server is at work on", n)
			}
			if n, err := a.photos.chunks.CountDocuments(t.Context(), bson.D{}); n != 1 || err != nil {
				t.Errorf("there are %d chunks, %v, want 1", n, err)
			}
			w.arm(nothing, 0)
			if n, err := b.Photos().Tidy(t.Context()); n != 1 || err != nil {
				t.Errorf("removed %d, %v; want what the dead server left", n, err)
			}
			// What it sent last arrives only now.
			if _, err := a.photos.chunks.InsertOne(t.Context(), bson.D{is("files_id", id), is("n", int32(0)), is("data", []byte("half"))}); err != nil {
				t.Fatal(err)
			}
			wantTidied(t, b)
		})
	}
}

// The turn of a job moves as long as it takes to store a photo.
func TestTurnMoves(t *testing.T) {
	a, b := two(t)
	content := []byte("a picture")
	k := photoOf("a", content)
	got, err := a.Photos().Keep(t.Context(), k, slowContent(func(w io.Writer) (int64, error) {
		first, err := b.photos.allJobs(t.Context())
		if err != nil || len(first) != 1 {
			return 0, fmt.Errorf("got the jobs %v, %w", first, err)
		}
		for moved := 0; moved < 2; {
			now, err := b.photos.allJobs(t.Context())
			if err != nil {
				return 0, err
			}
			for id, j := range now {
				if j.Turn > first[id].Turn {
					moved++
					first = now
				}
			}
		}
		n, err := w.Write(content)
		return int64(n), err
	}))
	if err != nil || got != k {
		t.Errorf("got %+v, %v", got, err)
	}
	wantTidied(t, b)
}

// A slowContent is content that a function writes.
type slowContent func(io.Writer) (int64, error)

// WriteTo implements io.WriterTo.
func (f slowContent) WriteTo(w io.Writer) (int64, error) { return f(w) }

// Tidy does not go on watching once its caller has left.
func TestTidyEndsWithItsContext(t *testing.T) {
	s := openAt(t, server.Database(t))
	s.photos.watch = time.Hour
	if _, err := s.Photos().Tidy(t.Context()); err != nil { // nothing to watch
		t.Fatal(err)
	}
	if _, err := s.photos.jobs.InsertOne(t.Context(), jobDoc{ID: bson.NewObjectID(), Photo: "site/a/x"}); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := s.Photos().Tidy(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v, want that the caller has left", err)
	}
}
