package serve

import (
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

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
	_, _, err := r.people.Create(t.Context(), "local", accounts.NewAccount{
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
