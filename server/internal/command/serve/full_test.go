package serve

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"xuncha/ledger"
	xunchav1 "xuncha/proto/xuncha/v1"
	"xuncha/server/internal/accounts"
	"xuncha/server/internal/rpc"
	"xuncha/server/internal/testdisk"
	"xuncha/sites"
)

// That the disk is full is a problem until it has room again.
func TestNoteFull(t *testing.T) {
	problems := new(rpc.Problems)
	note := noteFull(problems)
	for _, full := range []bool{true, true, false, false, true} {
		note(full)
		if got := saysFull(problems); got != full {
			t.Errorf("full is %v: got %+v", full, problems.All())
		}
	}
}

// A data folder that is taken away under a server is a problem, and nothing is
// acknowledged meanwhile, until it is back.
func TestFolderTakenAway(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	c := Config{
		Listen: "127.0.0.1:0", TimeZone: "UTC", LogLevel: "info", MaxMessageBytes: 1 << 20,
		photoConfig: photoConfig{PhotoRetentionDays: 30}, ShutdownTimeout: time.Minute,
	}
	log := &lines{}
	r, err := start(t.Context(), StoreConfig{Data: dir}, c, log, OpenEngine)
	if err != nil {
		t.Fatal(err)
	}
	select {
	case <-r.Ready:
	case err := <-r.Failed:
		t.Fatal(err)
	}
	create := func(username string) error {
		_, _, err := r.people.Create(t.Context(), accounts.By{Account: "local"}, accounts.NewAccount{
			Username: username, Role: accounts.Admin, Divisions: []sites.DivisionCode{"511600"}, Password: "correct horse battery",
		})
		return err
	}
	away := func() bool {
		return slices.ContainsFunc(r.problems.All(), func(p rpc.Problem) bool {
			return p.Kind == xunchav1.ProblemKind_PROBLEM_KIND_STORE_UNAVAILABLE
		})
	}
	if err := create("one"); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(dir, dir+".away"); err != nil {
		t.Fatal(err)
	}
	// What is written at once after the last look may still be stored.
	for err == nil && !t.Failed() {
		err = r.store.PutRows(t.Context(), "sum", []byte("rows"))
	}
	if !errors.Is(err, ledger.ErrUnavailable) || !away() {
		t.Errorf("got %v and %+v, want ErrUnavailable and a problem", err, r.problems.All())
	}
	if err := create("two"); !errors.Is(err, ledger.ErrUnavailable) {
		t.Errorf("got %v, want ErrUnavailable", err)
	}
	if err := os.Rename(dir+".away", dir); err != nil {
		t.Fatal(err)
	}
	if err := create("two"); err != nil || away() {
		t.Errorf("got %v and %+v, want no error and no problem once it is back", err, r.problems.All())
	}
	if err := r.Stop(); err != nil {
		t.Fatal(err)
	}
	const message = "the database was taken away from under the server; nothing is stored until it is back"
	if got := strings.Count(log.String(), message); got != 1 {
		t.Errorf("the log says %d times that it was taken away, want once:\n%s", got, log)
	}
}

func saysFull(problems *rpc.Problems) bool {
	return slices.ContainsFunc(problems.All(), func(p rpc.Problem) bool {
		return p.Kind == xunchav1.ProblemKind_PROBLEM_KIND_STORE_FULL && p.Message != ""
	})
}

// TestStartOnFullDisk starts a server on a disk that has filled up while none ran. It says
// what is wrong, people sign in, and once there is room it says that no more. Where no
// small disk can be mounted, nothing is full, and the server starts.
func TestStartOnFullDisk(t *testing.T) {
	disk := testdisk.New(t, 24<<20)
	c := Config{
		Listen: "127.0.0.1:0", TimeZone: "UTC", LogLevel: "info", MaxMessageBytes: 1 << 20,
		photoConfig: photoConfig{PhotoRetentionDays: 30}, ShutdownTimeout: time.Minute,
	}
	stored := StoreConfig{Data: filepath.Join(disk.Dir, "data"), ReserveBytes: 6 << 20}
	begin := func(log *lines) *Running {
		t.Helper()
		r, err := start(t.Context(), stored, c, log, OpenEngine)
		if err != nil {
			t.Fatal(err)
		}
		select {
		case <-r.Ready:
		case err := <-r.Failed:
			t.Fatal(err)
		}
		return r
	}
	const password = "correct horse battery"
	r := begin(&lines{})
	_, _, err := r.people.Create(t.Context(), accounts.By{Account: "local"}, accounts.NewAccount{
		Username: "root", Role: accounts.Admin, Divisions: []sites.DivisionCode{"511600"}, Password: password,
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Stop(); err != nil {
		t.Fatal(err)
	}

	disk.Fill(t)
	log := &lines{}
	r = begin(log)
	for range 50 {
		if _, _, err := r.people.Login(t.Context(), accounts.SignIn{Username: "root", Password: password, Address: "10.0.0.1"}); err != nil {
			t.Fatal(err)
		}
	}
	if got := saysFull(r.problems); got != disk.Mounted {
		t.Errorf("the problems are %+v, and a full disk is %v", r.problems.All(), disk.Mounted)
	}
	if got := strings.Count(log.String(), `"level":"ERROR"`); disk.Mounted && (got != 1 || !strings.Contains(log.String(), "the disk is full")) {
		t.Errorf("got the log %s, want one error: that the disk is full", log)
	}
	disk.Free(t)
	for deadline := time.Now().Add(30 * time.Second); saysFull(r.problems); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("there is room, and the problem stays")
		}
	}
	if err := r.Stop(); err != nil {
		t.Error(err)
	}
}
