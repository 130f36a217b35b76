package command_test

import (
	"context"
	"errors"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"xuncha/client"
	"xuncha/ledger"
	xunchav1 "xuncha/proto/xuncha/v1"
	"xuncha/server/internal/mongostore"
	"xuncha/server/internal/sqlitestore"
)

// A copy tells when a server writes to its source meanwhile, and when one could: the next
// copy, once the server has stopped, has everything.
func TestCopyNoticesAServer(t *testing.T) {
	t.Parallel()
	database, folder := mongo(t).Database(t), filepath.Join(t.TempDir(), "copy")
	address, stop := serveOn(t, "--store", database)
	ids := fill(t, address)
	conn := connect(t, address)

	ctx, end := context.WithCancel(t.Context())
	var writing sync.WaitGroup
	writing.Go(func() {
		for i := 0; ctx.Err() == nil; i++ {
			submit(t, conn, newCheckIn(ids[i%3]))
		}
	})
	_, _, err := xuncha(t, "copy", "--from", database, "--to", folder)
	end()
	writing.Wait()
	if !errors.Is(err, ledger.ErrSourceChanged) {
		t.Fatalf("got %v, want ErrSourceChanged", err)
	}
	for _, want := range []string{"entries that came: ", "site/" + ids[0], mongostore.Redact(database), "run the same command again"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q in it", err, want)
		}
	}
	// It is still there, though it writes nothing.
	stdout, stderr, err := xuncha(t, "copy", "--from", database, "--to", folder)
	if err != nil || !strings.Contains(stdout, "Every chain of the copy is whole") || !strings.Contains(stdout, "Servers at work on "+"database "+mongostore.Redact(database)+": at least 1.") {
		t.Errorf("got %s %s %v, want the server that is at work", stdout, stderr, err)
	}
	stop()
	stdout, stderr, err = xuncha(t, "copy", "--from", database, "--to", folder)
	if err != nil || strings.Contains(stdout, "at work") || strings.Contains(stderr, "Looking whether") {
		t.Errorf("got %s %s %v, want no server", stdout, stderr, err)
	}
	wantSame(t, folder, database)
}

// A data folder that a server has open is no source, and no target.
func TestCopyOfAnOpenFolder(t *testing.T) {
	t.Parallel()
	open, other := t.TempDir(), t.TempDir()
	serveFolder(t, open)
	_, stop := serveFolder(t, other)
	stop()
	for _, c := range [][2]string{{open, filepath.Join(t.TempDir(), "new")}, {other, open}} {
		if _, _, err := xuncha(t, "copy", "--from", c[0], "--to", c[1]); !errors.Is(err, sqlitestore.ErrLocked) {
			t.Errorf("copy from %s to %s: got %v, want ErrLocked", c[0], c[1], err)
		}
	}
}

// For the source of a copy, a user who may only read is enough: nothing is sent that
// writes.
func TestCopyFromAUserWhoMayOnlyRead(t *testing.T) {
	t.Parallel()
	server := ownMongo(t)
	database, folder := server.Database(t), filepath.Join(t.TempDir(), "copy")
	address, stop := serveOn(t, "--store", database)
	ids := fill(t, address)
	conn := connect(t, address)
	for i := range 30 {
		submit(t, conn, newCheckIn(ids[i%10]))
	}
	photo := cameraPhoto(t, 1)
	c := newCheckIn(ids[0])
	c.Photos = []*xunchav1.Photo{client.Declare(photo)}
	submit(t, conn, c)
	if err := newClient(t, address).UploadPhoto(t.Context(), photoOf(c, photo)); err != nil {
		t.Fatal(err)
	}
	stop()
	uri, refused := server.ReadOnly(t, database)
	stdout, stderr, err := xuncha(t, "copy", "--from", uri, "--to", folder)
	if err != nil || !strings.Contains(stdout, "Every chain of the copy is whole") {
		t.Errorf("got %s %s %v", stdout, stderr, err)
	}
	if got := refused(); len(got) > 0 {
		t.Errorf("the source was sent %v", got)
	}
	wantSame(t, folder, database)
	if got := photoFiles(t, folder); len(got) != 1 {
		t.Errorf("got the photos %v, want one", got)
	}
	// As a target, such a database is refused.
	uri, refused = server.ReadOnly(t, server.Database(t))
	if _, _, err := xuncha(t, "copy", "--from", folder, "--to", uri); err == nil || !strings.Contains(err.Error(), "not authorized") || len(refused()) == 0 {
		t.Errorf("got %v and refused %v, want that a target must be written to", err, refused())
	}
}
