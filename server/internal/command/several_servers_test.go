package command_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"xuncha/client"
	xunchav1 "xuncha/proto/xuncha/v1"
	"xuncha/server/internal/mongostore/mongotest"
)

// killsVariable names the environment variable that says how often something is
// killed where two servers share a database. Without it there are 6 kills, and a
// database that other tests use too is not disturbed.
const killsVariable = "XUNCHA_TEST_KILLS"

// A fleet is two servers on one database, which callers report visits to. Each is a
// process of its own that can be killed.
type fleet struct {
	binary string
	store  string
	procs  [2]*exec.Cmd
	outs   [2]*lineWriter
	conns  [2]atomic.Pointer[grpc.ClientConn]

	mu       sync.Mutex
	receipts map[string]*xunchav1.Receipt // by check-in
	photos   []client.Photo               // that were acknowledged
	acks     chan struct{}                // one for each receipt and each photo
}

// newFleet starts both servers.
func newFleet(t *testing.T, binary, store string) *fleet {
	t.Helper()
	f := &fleet{binary: binary, store: store, receipts: map[string]*xunchav1.Receipt{}, acks: make(chan struct{}, 1_000_000)}
	t.Cleanup(func() {
		for i := range f.procs {
			if f.procs[i] != nil {
				f.kill(i)
			}
			if t.Failed() && f.outs[i] != nil {
				t.Logf("server %d says: %s", i, f.outs[i])
			}
		}
	})
	for i := range f.procs {
		f.start(t, i)
	}
	return f
}

func (f *fleet) start(t *testing.T, i int) {
	t.Helper()
	f.outs[i] = newLineWriter()
	f.procs[i] = exec.Command(f.binary, "serve", "--listen", "127.0.0.1:0", "--log-level", "warn", "--store", f.store)
	f.procs[i].Stdout, f.procs[i].Stderr = f.outs[i], f.outs[i]
	if err := f.procs[i].Start(); err != nil {
		t.Fatal(err)
	}
	f.conns[i].Store(connect(t, f.outs[i].address(t)))
}

func (f *fleet) kill(i int) {
	_ = f.procs[i].Process.Kill() // it may have ended
	_ = f.procs[i].Wait()         // it was killed
}

// untilTaken makes a call again and again, by turns to either server, as a phone
// does that only leaves off once it has an answer.
func (f *fleet) untilTaken(t *testing.T, first int, call func(ctx context.Context, conn *grpc.ClientConn) error) {
	t.Helper()
	try := first
	eventually(t, "a call is taken", func() bool {
		// Some wait no longer for a server that may still store what they sent.
		ctx, cancel := context.WithTimeout(t.Context(), time.Duration(1+try%4)*time.Second)
		defer cancel()
		err := call(ctx, f.conns[try%2].Load())
		try++
		switch status.Code(err) {
		case codes.OK:
			f.acks <- struct{}{}
			return true
		case codes.Unavailable, codes.DeadlineExceeded, codes.Canceled:
		case codes.OutOfRange: // both servers were sent the photo
		default:
			t.Errorf("a call that may be made again: %v", err)
		}
		return false
	})
}

// report sends a visit until it is acknowledged, and its photo, if there is one.
func (f *fleet) report(t *testing.T, first int, site string, photo []byte) {
	t.Helper()
	c := newCheckIn(site)
	if photo != nil {
		c.Photos = []*xunchav1.Photo{client.Declare(photo)}
	}
	var receipt *xunchav1.Receipt
	f.untilTaken(t, first, func(ctx context.Context, conn *grpc.ClientConn) error {
		answer, err := xunchav1.NewInspectionServiceClient(conn).SubmitCheckIn(ctx, &xunchav1.SubmitCheckInRequest{CheckIn: c})
		receipt = answer.GetReceipt()
		return err
	})
	f.mu.Lock()
	f.receipts[c.CheckInId] = receipt
	f.mu.Unlock()
	if photo == nil {
		return
	}
	p := photoOf(c, photo)
	f.untilTaken(t, first+1, func(ctx context.Context, conn *grpc.ClientConn) error {
		photos := xunchav1.NewPhotoServiceClient(conn)
		state, err := photos.GetPhotoUpload(ctx, &xunchav1.GetPhotoUploadRequest{Sha256: p.SHA256, SiteId: p.SiteID, CheckInId: p.CheckInID})
		if err != nil || state.Stored {
			return err
		}
		_, err = sendPhoto(ctx, photos, p, int(state.ReceivedBytes))
		return err
	})
	f.mu.Lock()
	f.photos = append(f.photos, p)
	f.mu.Unlock()
}

// load has callers report visits of the sites until the function returned is called,
// which waits until all that was sent is acknowledged.
func (f *fleet) load(t *testing.T, sites []string) (stop func()) {
	var over atomic.Bool
	var group sync.WaitGroup
	for w := range 8 {
		group.Go(func() {
			for n := 0; !over.Load() && !t.Failed(); n++ {
				var photo []byte
				switch {
				case n%8 == w:
					photo = noise(t, uint64(1000*(w+1)+n), 20_000)
				case n%16 == 2*w+1:
					photo = noise(t, uint64(n), 20_000) // others send the same
				}
				f.report(t, w, sites[(w+n)%len(sites)], photo)
			}
		})
	}
	return func() {
		over.Store(true)
		group.Wait()
	}
}

// wait returns once so many more calls are acknowledged.
func (f *fleet) wait(t *testing.T, acks int) {
	t.Helper()
	late := time.After(time.Minute)
	for range acks {
		select {
		case <-f.acks:
		case <-late:
			t.Fatal("nothing is acknowledged any more")
		}
	}
}

// TestSeveralServersKilled kills either of two servers, or the database, at any
// moment. What they acknowledged must be there, once, and counted by each of them
// and by a third server that was there all the time. The next start of a server finds
// what was left of photos.
func TestSeveralServersKilled(t *testing.T) {
	kills, named := 6, os.Getenv(mongotest.Variable) != ""
	if text := os.Getenv(killsVariable); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil {
			t.Fatal(err)
		}
		kills = n
	} else {
		t.Parallel()
	}
	binary := filepath.Join(t.TempDir(), "xuncha")
	if out, err := exec.Command("go", "build", "-o", binary, "xuncha/server").CombinedOutput(); err != nil {
		t.Fatal(err, string(out))
	}
	t.Run("Database", func(t *testing.T) {
		database := mongo(t)
		if !named {
			database = ownMongo(t)
		}
		disturb := database.Disturb
		if named && os.Getenv(killsVariable) == "" {
			disturb = func(context.Context) error { return mongotest.ErrCalm }
		}
		testSeveralServersKilled(t, binary, kills, database.Database(t), func(ctx context.Context, _ *rand.Rand) error { return disturb(ctx) })
	})
	// Only here does a shard stay without a primary while the other goes on.
	t.Run("TwoShards", func(t *testing.T) {
		s, err := mongotest.StartStandIn("-commit=5ms", "-shards=2")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := s.Stop(); err != nil {
				t.Error(err)
			}
		})
		testSeveralServersKilled(t, binary, kills, s.Database(t), func(ctx context.Context, random *rand.Rand) error {
			if random.IntN(3) == 0 {
				_, err := s.Control(ctx, bson.D{{Key: "loseReply", Value: true}})
				return err
			}
			shard := bson.E{Key: "shard", Value: int32(random.IntN(2))}
			if _, err := s.Control(ctx, bson.D{shard, {Key: "primary", Value: false}}); err != nil {
				return err
			}
			// Some calls wait for so long, and some do not.
			absence := time.NewTimer(time.Duration(1+random.IntN(2000)) * time.Millisecond)
			<-absence.C
			_, err := s.Control(ctx, bson.D{shard, {Key: "primary", Value: true}})
			return err
		})
	})
}

func testSeveralServersKilled(t *testing.T, binary string, kills int, uri string, disturb func(context.Context, *rand.Rand) error) {
	watcher, _ := serveOn(t, "--store", uri)
	ids := fill(t, watcher)[:6]
	f := newFleet(t, binary, uri)
	// FerretDB cannot be killed while it makes a collection. This makes the last.
	f.report(t, 0, ids[0], noise(t, 0, 20_000))

	seed := rand.Uint64()
	t.Logf("the seed is %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	stop := f.load(t, ids)
	died := map[string]int{}
	calm := false // where the database cannot be disturbed
	for range kills {
		f.wait(t, 1+random.IntN(40))
		// Either server, the database, or it and a server at once.
		which, server := random.IntN(4), random.IntN(2)
		if which != 2 || calm {
			died[fmt.Sprint("server ", server)]++
			f.kill(server)
		}
		if which >= 2 && !calm {
			died["database"]++
			if err := disturb(t.Context(), random); errors.Is(err, mongotest.ErrCalm) {
				calm = true
			} else if err != nil {
				t.Fatal(err)
			}
		}
		if f.procs[server].ProcessState != nil {
			f.start(t, server)
		}
	}
	stop()
	t.Logf("%d check-ins and %d photos are acknowledged, after %d kills: %v", len(f.receipts), len(f.photos), kills, died)
	f.wantAll(t, ids, watcher)
	// What a kill left of photos is tidied at the next start.
	f.kill(0)
	f.start(t, 0)
	var strays []string
	defer func() {
		if t.Failed() {
			t.Logf("left of photos: %q", strays)
		}
	}()
	eventually(t, "nothing is left of photos but what is stored", func() bool {
		var err error
		if strays, err = mongotest.Strays(t.Context(), uri); err != nil {
			t.Fatal(err)
		}
		return len(strays) == 0
	})
}

// wantAll checks that each server has all that was acknowledged, once, and counts it.
func (f *fleet) wantAll(t *testing.T, sites []string, watcher string) {
	t.Helper()
	conns := []*grpc.ClientConn{f.conns[0].Load(), f.conns[1].Load(), connect(t, watcher)}
	for i, conn := range conns {
		stored := map[string]*xunchav1.HistoryEntry{}
		photos := 0
		for _, site := range sites {
			var last int64
			entries := wantChain(t, conn, site)
			for id, e := range entries {
				last = max(last, e.Sequence)
				switch e.Kind {
				case xunchav1.EntryKind_ENTRY_KIND_CHECK_IN:
					stored[id] = e
				case xunchav1.EntryKind_ENTRY_KIND_PHOTO_STORED:
					photos++
				}
			}
			if int64(len(entries)) != last {
				t.Errorf("server %d: site %s has %d entries with an id of their own, want %d", i, site, len(entries), last)
			}
		}
		for id, r := range f.receipts {
			if e := stored[id]; e == nil || e.Sequence != r.Sequence || !bytes.Equal(e.EntryHash, r.EntryHash) {
				t.Errorf("server %d: check-in %s was acknowledged as %v and is stored as %v", i, id, r, e)
			}
		}
		// Whatever was sent was sent until it was acknowledged.
		if len(stored) != len(f.receipts) || photos != len(f.photos) {
			t.Errorf("server %d: %d check-ins and %d photos are stored, want %d and %d", i, len(stored), photos, len(f.receipts), len(f.photos))
		}
		eventually(t, fmt.Sprintf("server %d counts what is stored", i), func() bool { return cityCoverage(t, conn).CheckIns == int64(len(stored)) })
	}
	for i, p := range f.photos {
		got, err := download(t.Context(), conns[i%len(conns)], p)
		if err != nil || !bytes.Equal(got, p.Content) {
			t.Errorf("a photo of %d bytes that was acknowledged came back with %d, %v", len(p.Content), len(got), err)
		}
	}
}

// download returns a photo that is stored.
func download(ctx context.Context, conn *grpc.ClientConn, p client.Photo) (content []byte, err error) {
	stream, err := xunchav1.NewPhotoServiceClient(conn).DownloadPhoto(ctx, &xunchav1.DownloadPhotoRequest{Sha256: p.SHA256, SiteId: p.SiteID, CheckInId: p.CheckInID})
	for err == nil {
		var part *xunchav1.DownloadPhotoResponse
		if part, err = stream.Recv(); err == nil {
			content = append(content, part.GetData()...)
		}
	}
	if errors.Is(err, io.EOF) {
		err = nil
	}
	return content, err
}
