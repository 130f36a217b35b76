package mongostore

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"xuncha/ledger"
	"xuncha/server/internal/mongostore/mongotest"
)

// seedVariable names the environment variable with the seed that a failure has told.
// What happens at once still happens in an order of its own.
const seedVariable = "XUNCHA_TEST_SEED"

// Whatever several servers do at once, and whatever becomes of the database meanwhile:
// what was acknowledged is there once, and each reader is given each entry once and each
// history's in order.
func TestManyServersAtRandom(t *testing.T) {
	s := standIn(t, "-commit=1ms", "-shards=2")
	histories := append(lyingOn(t, s, 0, 2), lyingOn(t, s, 1, 2)...)
	seeds := []uint64{rand.Uint64(), rand.Uint64()}
	if text := os.Getenv(seedVariable); text != "" {
		seed, err := strconv.ParseUint(text, 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		seeds = []uint64{seed}
	}
	for _, seed := range seeds {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			c := &city{
				t: t, standIn: s, uri: s.Database(t), histories: histories, seed: seed,
				acked: map[place]ledger.Hash{}, refused: map[place]bool{},
			}
			c.run()
		})
	}
}

const (
	// cityServers are open at once, cityWriters and cityReaders go from one to another.
	cityServers = 3
	cityWriters = 16
	cityReaders = 3
	// cityWrites is how often each writer writes.
	cityWrites = 12
	// cityIDs is from how many ids all writers take those of check-ins, so that many
	// are sent again, also by others.
	cityIDs = 80
)

// A place is where an id is or would be.
type place struct {
	history ledger.History
	id      string
}

// A city is several servers at one database, with their writers and readers.
type city struct {
	t         *testing.T
	standIn   *mongotest.StandIn
	uri       string
	histories []ledger.History
	seed      uint64
	servers   [cityServers]atomic.Pointer[Store]
	readers   [cityReaders]*cityReader
	killed    int

	mu      sync.Mutex
	acked   map[place]ledger.Hash
	refused map[place]bool // where nothing may be stored
}

// random returns the random numbers of one goroutine.
func (c *city) random(who uint64) *rand.Rand { return rand.New(rand.NewPCG(c.seed, who)) }

// any returns one of the servers.
func (c *city) any(random *rand.Rand) *Store { return c.servers[random.IntN(cityServers)].Load() }

// open opens one of the servers. Some do not send a write again whose answer was lost, so
// that they do not know what has become of it. None looks long for a database: those that
// are killed have none.
func (c *city) open(random *rand.Rand, at int) {
	uri := c.uri + "?serverSelectionTimeoutMS=1500"
	if random.IntN(2) == 0 {
		uri += "&retryWrites=false"
	}
	s, err := Open(context.Background(), uri, Options{})
	if err != nil {
		c.t.Error(err)
		return
	}
	s.silentAfter, s.askSilent = 100*time.Millisecond, 50*time.Millisecond
	c.servers[at].Store(s)
}

// run has everything happen, and checks what has come of it.
func (c *city) run() {
	t, random := c.t, c.random(0)
	for at := range c.servers {
		if c.open(random, at); c.servers[at].Load() == nil {
			return
		}
	}
	defer c.closeAll()
	defer c.calm()
	stop := make(chan struct{})
	var writing, other sync.WaitGroup
	for i := range uint64(cityWriters) {
		writing.Go(func() { c.write(c.random(100+i), fmt.Sprint("writer-", i)) })
	}
	for i := range c.readers {
		c.readers[i] = &cityReader{city: c, last: map[ledger.History]ledger.Head{}}
		other.Go(func() { c.readers[i].run(c.random(200+uint64(i)), stop) })
	}
	other.Go(func() { c.disturb(c.random(1), stop) })
	other.Go(func() { c.reopen(c.random(2), stop) })
	writing.Wait()
	close(stop)
	other.Wait()
	c.calm()
	for at := range c.servers {
		s := c.servers[at].Load()
		// Entries whose writers have left may be on their way still.
		eventually(t, "all is settled", func() bool { return s.writer.settleAll(t.Context()) == 0 && s.writer.idle() })
	}
	anew := &cityReader{city: c, last: map[ledger.History]ledger.Head{}}
	for i, r := range append(c.readers[:], anew) {
		eventually(t, fmt.Sprint("reader ", i, " has everything"), func() bool {
			r.read(c.any(random), -1)
			return t.Failed() || c.isAll(r)
		})
	}
	c.closeAll()
	c.check()
}

// idle reports whether nothing is on its way, nor unsure.
func (w *writer) idle() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.lanes) == 0
}

// calm gives both shards their primaries back and makes them quick.
func (c *city) calm() {
	for shard := range 2 {
		c.control(is("shard", shard), is("primary", true))
		c.control(is("shard", shard), is("commit", "1ms"))
	}
	c.control(is("loseReply", false))
}

func (c *city) control(how ...bson.E) {
	if _, err := c.standIn.Control(context.Background(), how); err != nil {
		c.t.Error(err)
	}
}

func (c *city) closeAll() {
	for at := range c.servers {
		if s := c.servers[at].Load(); s != nil {
			if err := s.Close(); err != nil {
				c.t.Error(err)
			}
		}
	}
}

// disturb has the database fail in one way after another, until it is told to stop.
func (c *city) disturb(random *rand.Rand, stop chan struct{}) {
	for !stopped(stop, time.Duration(random.IntN(30))*time.Millisecond) {
		shard, long := random.IntN(2), time.Duration(20+random.IntN(130))*time.Millisecond
		switch random.IntN(3) {
		case 0:
			c.control(is("shard", shard), is("primary", false))
			stopped(stop, long)
			c.control(is("shard", shard), is("primary", true))
		case 1:
			c.control(is("shard", shard), is("commit", "300ms"))
			stopped(stop, long)
			c.control(is("shard", shard), is("commit", "1ms"))
		default:
			c.control(is("loseReply", true))
		}
	}
}

// stopped waits for a while and reports whether it was told to stop meanwhile.
func stopped(stop chan struct{}, d time.Duration) bool {
	select {
	case <-stop:
		return true
	case <-time.After(d):
		return false
	}
}

// reopen closes one server after another and opens it again. Some are killed, as far as
// a program can: they say nothing more.
func (c *city) reopen(random *rand.Rand, stop chan struct{}) {
	for !stopped(stop, time.Duration(20+random.IntN(100))*time.Millisecond) {
		at := random.IntN(cityServers)
		s := c.servers[at].Load()
		if random.IntN(4) == 0 {
			c.killed++
			gone, cancel := context.WithCancel(context.Background())
			cancel()
			_ = s.client.Disconnect(gone) // what is under way fails
			_ = s.Close()
		} else if err := s.Close(); err != nil {
			c.t.Error(err)
		}
		c.open(random, at)
	}
}

// write writes at random. Nobody else has the writer's name.
func (c *city) write(random *rand.Rand, name string) {
	for i := range cityWrites {
		s, h := c.any(random), c.histories[random.IntN(len(c.histories))]
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		if random.IntN(6) == 0 {
			cancel()
			ctx, cancel = context.WithTimeout(context.Background(), time.Duration(random.IntN(8000))*time.Microsecond)
		}
		own := fmt.Sprint(name, "-", i)
		switch random.IntN(8) {
		case 0:
			c.writeAfter(ctx, s, of(h, own))
		case 1:
			c.put(ctx, s, h, own, 1+random.IntN(4))
		default:
			d := of(h, fmt.Sprint(random.IntN(cityIDs)))
			e, _, err := s.Append(ctx, d)
			c.took([]ledger.Entry{e}, []string{d.ID}, h, err)
		}
		cancel()
		// So that all that is told above happens meanwhile.
		time.Sleep(time.Duration(random.IntN(20)) * time.Millisecond)
	}
}

// writeAfter appends to what is the newest entry a moment before.
func (c *city) writeAfter(ctx context.Context, s *Store, d ledger.Draft) {
	newest, err := s.Newest(ctx, d.History, 0, 1)
	if err != nil {
		c.took(nil, nil, d.History, err)
		return
	}
	var after ledger.Sequence
	if len(newest) > 0 {
		after = newest[0].Sequence
	}
	e, err := s.AppendAfter(ctx, after, d)
	c.took([]ledger.Entry{e}, []string{d.ID}, d.History, err)
}

// put stores entries that were made elsewhere.
func (c *city) put(ctx context.Context, s *Store, h ledger.History, name string, n int) {
	newest, err := s.Newest(ctx, h, 0, 1)
	if err != nil {
		c.took(nil, nil, h, err)
		return
	}
	var head ledger.Head
	if len(newest) > 0 {
		head = newest[0].Head()
	}
	var entries []ledger.Entry
	var ids []string
	for i := range n {
		e := head.Seal(of(h, fmt.Sprint(name, "-", i)))
		head = e.Head()
		entries, ids = append(entries, e), append(ids, e.ID)
	}
	c.took(entries, ids, h, s.Put(ctx, entries))
}

// took takes down what has come of a write of entries with the ids.
func (c *city) took(entries []ledger.Entry, ids []string, h ledger.History, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case err == nil:
		for i, e := range entries {
			at := place{h, ids[i]}
			if before, ok := c.acked[at]; ok && before != e.Hash || e.ID != at.id || e.History != h {
				c.t.Errorf("%v was acknowledged as %v of %s with the hash %x, before with %x", at, e.ID, e.History, e.Hash, before)
			}
			c.acked[at] = e.Hash
		}
	case errors.Is(err, ledger.ErrMoved):
		for _, id := range ids {
			c.refused[place{h, id}] = true
		}
	case !mayFail(err):
		c.t.Errorf("writing %q to %s: %v", ids, h, err)
	}
}

// mayFail reports whether a call may fail so.
func mayFail(err error) bool {
	return errors.Is(err, ledger.ErrUnavailable) || errors.Is(err, context.DeadlineExceeded)
}

// A cityReader follows the feed on one server and another.
type cityReader struct {
	city *city
	at   ledger.Cursor
	last map[ledger.History]ledger.Head // what it was given last
}

func (r *cityReader) run(random *rand.Rand, stop chan struct{}) {
	for !stopped(stop, time.Duration(random.IntN(20))*time.Millisecond) {
		leave := -1
		if random.IntN(3) == 0 {
			leave = random.IntN(20)
		}
		r.read(r.city.any(random), leave)
	}
}

// read reads on, and leaves after so many entries; never where that is less than 0.
func (r *cityReader) read(s *Store, leave int) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	for e, err := range s.Feed(ctx, r.at) {
		if err != nil {
			if !mayFail(err) && !errors.Is(err, ledger.ErrWaiting) {
				r.city.t.Errorf("reading behind %s: %v", r.at, err)
			}
			return
		}
		head, err := r.last[e.History].Follow(e.Entry)
		if err != nil {
			r.city.t.Errorf("behind %s, after entry %d of %s: %v", r.at, r.last[e.History].Sequence, e.History, err)
			return
		}
		r.last[e.History], r.at = head, e.After()
		if leave--; leave == 0 {
			return
		}
	}
}

// isAll reports whether a reader has all that is stored.
func (c *city) isAll(r *cityReader) bool {
	heads := map[ledger.History]ledger.Head{}
	err := c.servers[0].Load().Heads(c.t.Context(), func(h ledger.History, head ledger.Head) error {
		heads[h] = head
		return nil
	})
	if err != nil {
		c.t.Error(err)
	}
	for h, head := range heads {
		if r.last[h] != head {
			return false
		}
	}
	return len(r.last) == len(heads)
}

// check holds what must be true once all servers have ended.
func (c *city) check() {
	t := c.t
	s := openAt(t, c.uri)
	stored := map[place]ledger.Hash{}
	for _, h := range c.histories {
		entries, err := s.Span(t.Context(), h, 0, 10_000)
		if err != nil {
			t.Fatal(err)
		}
		var head ledger.Head
		for _, e := range entries {
			if head, err = head.Follow(e); err != nil {
				t.Fatal(err)
			}
			at := place{h, e.ID}
			if _, twice := stored[at]; twice || c.refused[at] {
				t.Errorf("%v is stored; before it was already: %v; it was refused: %v", at, twice, c.refused[at])
			}
			stored[at] = e.Hash
		}
	}
	for at, hash := range c.acked {
		if stored[at] != hash {
			t.Errorf("%v was acknowledged with the hash %x, and is stored with %x", at, hash, stored[at])
		}
	}
	c.checkNumbers(s)
	// Nobody asks for the entries of those that have ended, as soon as all were given.
	r := c.readers[0]
	docs, err := s.told(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if !slices.ContainsFunc(docs, func(d writerDoc) bool { return d.Last == nil }) {
		before := c.asked()
		r.read(s, -1)
		if n := c.asked() - before; n != 0 {
			t.Errorf("a reader that has everything asks the database %d times for entries, want not at all; it is at %s, and servers said %+v", n, r.at, docs)
		}
	}
	t.Logf("%d entries, %d acknowledged, %d servers killed, %d series", len(stored), len(c.acked), c.killed, len(docs))
}

// asked returns how often entries were asked for.
func (c *city) asked() int64 {
	counts := control(c.t, c.standIn, is("counts", true)).Lookup("counts").Document()
	n, _ := counts.Lookup("find entries").AsInt64OK()
	return n
}

// checkNumbers holds what servers have told of their numbers against those that entries
// have.
func (c *city) checkNumbers(s *Store) {
	t := c.t
	cursor, err := s.entries.Find(t.Context(), bson.D{})
	if err != nil {
		t.Fatal(err)
	}
	var entries []entryDoc
	if err := cursor.All(t.Context(), &entries); err != nil {
		t.Fatal(err)
	}
	used := map[string]*position{}
	for _, d := range entries {
		series, n, err := readMark(d.Mark)
		if err != nil {
			t.Fatal(err)
		}
		if used[series] == nil {
			used[series] = &position{}
		}
		if used[series].has(n) {
			t.Errorf("two entries have the number %s", d.Mark)
		}
		used[series].add(n)
	}
	docs, err := s.told(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	ended, silent := 0, 0
	for _, d := range docs {
		with := used[d.ID]
		if with == nil {
			with = &position{}
		}
		delete(used, d.ID)
		settled, err := readPosition(d.Settled)
		if err != nil {
			t.Fatal(err)
		}
		for n := range settled.greatest() {
			if settled.has(n+1) && !with.has(n+1) {
				t.Errorf("%s says that %d is stored, and it is not: %s", d.ID, n+1, with)
			}
		}
		switch {
		case d.Last != nil:
			ended++
			if with.greatest() > *d.Last || with.lacks(*d.Last) != int64(len(d.Free)) || slices.ContainsFunc(d.Free, with.has) {
				t.Errorf("%s has ended with %d and the free numbers %v, and has stored %s", d.ID, *d.Last, d.Free, with)
			}
		case !d.Unsure:
			silent++
		}
	}
	for series, with := range used {
		t.Errorf("no server has the series %s, of which %s are stored", series, with)
	}
	if ended > cityServers || silent > c.killed {
		t.Errorf("%d series have ended of %d servers, and %d say nothing of %d that were killed: %+v", ended, cityServers, silent, c.killed, docs)
	}
}
