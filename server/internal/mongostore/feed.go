package mongostore

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strings"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"xuncha/ledger"
)

// The feed. Each server numbers what it stores, so what is new of one lies with the
// numbers that a reader does not have, whatever the clocks say. A number can be missing
// for a while: its entry is on its way, or the server that gave it does not know what
// has become of it, or has given it back and gives it to another entry. So a reader
// never gives up a number. It asks for those that it lacks, and for what lies behind
// all that it has, which costs a bounded query, however much it has.
//
// The numbers say nothing about the order of a history to which several servers write.
// The history itself does: whoever has an entry without the one before it fetches that,
// and passes it first.
//
// From the beginning on, everything is read in the order of histories, which is
// that of an index. What is stored meanwhile is told by its numbers.

const (
	// feedPage is how many entries travel together.
	feedPage = 1000
	// pageTimeout is how long they may take: less than a follower of the feed waits.
	pageTimeout = 4 * time.Second
	// inFlight is more than the numbers that a server of an earlier version could have on
	// the way at once, so all but so many of the newest are stored or never will be.
	inFlight = 200
	// putSuffix ended the name under which the earliest versions numbered entries of the
	// roster, of accounts and of copies, of which more were on the way at once.
	putSuffix   = " put"
	putInFlight = 4096
	// silentAfter is how long a server must have said nothing for a reader to ask for its
	// entries only every askSilent. It is gone then, or so slow that it says that it is
	// there when it writes again.
	silentAfter = 4 * beat
	askSilent   = 10 * time.Second
)

// A feedReader is one reading of the feed.
type feedReader struct {
	store *Store
	at    *vector
	yield func(ledger.FeedEntry, error) bool
	// last are the sequences that are known to be behind the reader.
	last map[ledger.History]ledger.Sequence
	// passed tells that this reading gave the caller something.
	passed bool
	// sifted are the numbers up to which this reading has gone through a writer's.
	sifted map[string]int64
	// ask are the series in which there may be something new.
	ask []string
	// askedSilent is when the silent servers were asked for last.
	askedSilent time.Time
}

// errLeft ends a reading whose caller has left.
var errLeft = errors.New("the reader has left")

// Feed implements ledger.Store.
func (s *Store) Feed(ctx context.Context, from ledger.Cursor) iter.Seq2[ledger.FeedEntry, error] {
	return func(yield func(ledger.FeedEntry, error) bool) {
		err := s.feed(ctx, from, yield)
		if err != nil && !errors.Is(err, errLeft) {
			yield(ledger.FeedEntry{}, translate(ctx, err))
		}
	}
}

func (s *Store) feed(ctx context.Context, from ledger.Cursor, yield func(ledger.FeedEntry, error) bool) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	// What one read has seen, the next one sees too, also where another member or another
	// shard answers: a server says what it has stored after a majority has it.
	session, err := s.client.StartSession()
	if err != nil {
		return err
	}
	defer session.EndSession(context.WithoutCancel(ctx))
	ctx = mongo.NewSessionContext(ctx, session)
	known := s.recall(from)
	r := &feedReader{store: s, yield: yield, last: known.last, askedSilent: known.askedSilent, sifted: map[string]int64{}}
	if from == "" {
		r.at, err = s.beginning(ctx)
	} else {
		r.at, err = readVector(from)
	}
	if err != nil {
		return err
	}
	if r.at.whole != nil {
		if err := r.readWhole(ctx); err != nil {
			return err
		}
	}
	err = r.follow(ctx)
	if err == nil || errors.Is(err, ledger.ErrWaiting) {
		if r.passed {
			from = r.at.cursor()
		}
		s.remember(remembered{from, r.last, r.askedSilent})
	}
	return err
}

// A remembered is what a reader knew when it had come to the cursor. Without it, a
// reader looks in the database for the entries before those that are new.
type remembered struct {
	at          ledger.Cursor
	last        map[ledger.History]ledger.Sequence
	askedSilent time.Time
}

// maxRemembered is how many of them are kept: a server has two readers, which may be
// at the same cursor.
const maxRemembered = 4

// recall hands over what a reader knew at the cursor; nothing where nobody was there.
func (s *Store) recall(at ledger.Cursor) remembered {
	s.readers.Lock()
	defer s.readers.Unlock()
	i := slices.IndexFunc(s.readers.list, func(r remembered) bool { return r.at == at })
	if i < 0 {
		return remembered{last: map[ledger.History]ledger.Sequence{}}
	}
	out := s.readers.list[i]
	s.readers.list = slices.Delete(s.readers.list, i, i+1)
	return out
}

// remember keeps what a reader knows for the one that comes next.
func (s *Store) remember(r remembered) {
	if len(r.last) > maxHeads {
		return
	}
	s.readers.Lock()
	defer s.readers.Unlock()
	s.readers.list = append(s.readers.list, r)
	if over := len(s.readers.list) - maxRemembered; over > 0 {
		s.readers.list = slices.Delete(s.readers.list, 0, over)
	}
}

// pass gives an entry to the caller.
func (r *feedReader) pass(d *entryDoc, e ledger.Entry) error {
	r.at.addMark(d.Mark)
	r.last[e.History] = e.Sequence
	if e.Whole() { // nothing is to be built on one that somebody has changed
		r.store.heads.note(e.History, e.Head())
	}
	r.passed = true
	if !r.yield(ledger.FeedEntry{Entry: e, After: r.at.cursor}, nil) {
		return errLeft
	}
	return nil
}

// beginning returns where a reader begins that has nothing: before everything in
// the order of histories, and, with each writer, behind what it will find there.
func (s *Store) beginning(ctx context.Context) (*vector, error) {
	v := &vector{whole: &bookmark{}, writers: map[string]*position{}}
	docs, err := s.told(ctx)
	if err != nil {
		return nil, err
	}
	for _, d := range docs {
		if d.Settled == "" {
			continue // an earlier version does not say it
		}
		if v.writers[d.ID], err = readPosition(d.Settled); err != nil {
			return nil, err
		}
	}
	newestOf := func(filter bson.D, direction int) (mark string, err error) {
		var doc struct {
			Mark string `bson:"_id"`
		}
		err = s.do(ctx, func(ctx context.Context) error {
			return s.entries.FindOne(ctx, filter, options.FindOne().SetSort(bson.D{{Key: "_id", Value: direction}}).
				SetProjection(bson.D{{Key: "_id", Value: 1}})).Decode(&doc)
		})
		return doc.Mark, err
	}
	// The others of earlier versions: from one writer to the next, which is a step in
	// the index.
	for after := ""; ; {
		mark, err := newestOf(bson.D{is("_id", bson.D{{Key: "$gt", Value: after}})}, 1)
		if errors.Is(err, mongo.ErrNoDocuments) {
			return v, nil
		}
		if err != nil {
			return nil, err
		}
		writer, _, err := readMark(mark)
		if err != nil {
			after = mark // which no server has given
			continue
		}
		after = writer + "0" // '0' comes after '/' in ASCII
		if v.writers[writer] != nil {
			continue
		}
		if mark, err = newestOf(marksBetween(writer, run{}), -1); err != nil {
			return nil, err
		}
		_, n, err := readMark(mark)
		if err != nil {
			n = 0 // all of them are read twice
		}
		unsure := int64(inFlight)
		if strings.HasSuffix(writer, putSuffix) {
			unsure = putInFlight
		}
		v.writers[writer] = &position{done: max(0, n-unsure)}
	}
}

// readWhole passes everything in the order of histories.
func (r *feedReader) readWhole(ctx context.Context) error {
	at := r.at.whole
	leave, err := r.store.gate.Enter(ctx)
	if err != nil {
		return err
	}
	// The whole takes the time that it takes; a server that has gone is noticed all
	// the same.
	cursor, err := r.store.entries.Find(ctx, bson.D{is("$or", bson.A{
		bson.D{is("history", at.History), is("sequence", bson.D{{Key: "$gt", Value: at.Sequence}})},
		bson.D{is("history", bson.D{{Key: "$gt", Value: at.History}})},
	})}, options.Find().SetSort(bson.D{{Key: "history", Value: 1}, {Key: "sequence", Value: 1}}).SetBatchSize(feedPage))
	leave() // whoever is given an entry may call the store, also while it is to close
	if err != nil {
		return err
	}
	defer func() { _ = cursor.Close(context.WithoutCancel(ctx)) }() // the server closes what is left open
	for more := cursor.Next(ctx); more; {
		var doc entryDoc
		if err := cursor.Decode(&doc); err != nil {
			return err
		}
		e := doc.entry()
		// Behind the last one, the reader is no more in that order.
		r.at.whole = nil
		if more = cursor.Next(ctx); more {
			r.at.whole = &bookmark{doc.History, doc.Sequence}
		} else if err := cursor.Err(); err != nil {
			r.at.whole = &bookmark{doc.History, doc.Sequence}
			return errors.Join(r.pass(&doc, e), err)
		}
		if err := r.pass(&doc, e); err != nil {
			return err
		}
	}
	if err := cursor.Err(); err != nil {
		return err
	}
	// Also where nothing lies behind the bookmark: that was the end, and is it still.
	r.at.whole = nil
	return nil
}

// follow passes what the numbers tell.
func (r *feedReader) follow(ctx context.Context) error {
	waiting, err := r.listen(ctx)
	if err != nil {
		return err
	}
	for {
		docs, more, err := r.next(ctx)
		if err != nil {
			return err
		}
		if docs, err = r.complete(ctx, docs); err != nil {
			return err
		}
		for i := range docs {
			if err := r.pass(&docs[i], docs[i].entry()); err != nil {
				return err
			}
		}
		if !more {
			break
		}
	}
	if waiting != "" {
		return fmt.Errorf("%w: the server %s does not know what has become of some", ledger.ErrWaiting, waiting)
	}
	return nil
}

// listen hears which series there are, and in which of them there may be something new.
// It returns a server that is at work and does not know what has become of entries;
// empty for none.
func (r *feedReader) listen(ctx context.Context) (waiting string, err error) {
	docs, err := r.store.told(ctx)
	if err != nil {
		return "", err
	}
	askSilentToo := time.Since(r.askedSilent) >= r.store.askSilent
	if askSilentToo {
		r.askedSilent = time.Now()
	}
	for _, d := range docs {
		p := r.at.of(d.ID)
		for _, n := range d.Void {
			p.add(n)
		}
		silent := r.store.silent(d)
		if d.Unsure && d.Last == nil && !silent {
			waiting = d.ID
		}
		if d.Last != nil && p.lacks(*d.Last) <= d.free(p) || silent && !askSilentToo {
			continue
		}
		r.ask = append(r.ask, d.ID)
		if !d.One {
			r.ask = append(r.ask, d.ID+putSuffix)
		}
	}
	return waiting, nil
}

// free returns how many of the numbers with which nothing is stored are not behind the
// reader. Some are, where another run has stored something with them.
func (d *writerDoc) free(p *position) (n int64) {
	for _, number := range d.Free {
		if !p.has(number) {
			n++
		}
	}
	return n
}

// told returns what servers have told of themselves.
func (s *Store) told(ctx context.Context) (docs []writerDoc, err error) {
	err = s.do(ctx, func(ctx context.Context) error {
		cursor, err := s.writers.Find(ctx, bson.D{}, options.Find().SetBatchSize(feedPage))
		if err != nil {
			return err
		}
		return cursor.All(ctx, &docs)
	})
	return docs, err
}

// A said is what a server has said, and when that was heard first, by the clock here.
type said struct {
	seen int64
	at   time.Time
}

// silent reports whether a server has said nothing new for a while. One that has just
// been heard of first counts as talking, and so does one that has ended.
func (s *Store) silent(d writerDoc) bool {
	s.heard.Lock()
	defer s.heard.Unlock()
	last, known := s.heard.last[d.ID]
	if !known || last.seen != d.Seen {
		s.heard.last[d.ID] = said{d.Seen, time.Now()}
		return false
	}
	return d.Last == nil && time.Since(last.at) >= s.silentAfter
}

const (
	// maxGaps is how many gaps one query asks about.
	maxGaps = 500
	// manyGaps is of how many gaps a writer's numbers are read from the first on,
	// because asking about each would take longer. So many there are with a server that
	// was new when somebody began to read everything.
	manyGaps = 300
)

// next returns documents that are not behind the reader, about feedPage at most, and
// whether there may be more.
func (r *feedReader) next(ctx context.Context) (docs []entryDoc, more bool, err error) {
	var news bson.A
	for _, id := range r.ask {
		gaps := r.at.of(id).gaps()
		if len(gaps) > manyGaps {
			if docs, err = r.sift(ctx, id); err != nil || len(docs) > 0 {
				return docs, true, err
			}
			continue
		}
		for _, gap := range gaps {
			news = append(news, marksBetween(id, gap))
		}
	}
	for len(news) > 0 && len(docs) == 0 {
		part := news[:min(maxGaps, len(news))]
		news = news[len(part):]
		if docs, err = r.page(ctx, bson.D{is("$or", part)}); err != nil {
			return nil, false, err
		}
	}
	return docs, len(docs) == feedPage || len(docs) > 0 && len(news) > 0, nil
}

// page returns up to feedPage documents that the filter lets through, by their marks.
func (r *feedReader) page(ctx context.Context, filter bson.D) (docs []entryDoc, err error) {
	err = r.store.do(ctx, func(ctx context.Context) error {
		ctx, cancel := context.WithTimeout(ctx, pageTimeout)
		defer cancel()
		cursor, err := r.store.entries.Find(ctx, filter,
			options.Find().SetSort(bson.D{{Key: "_id", Value: 1}}).SetLimit(feedPage).SetBatchSize(feedPage+1))
		if err != nil {
			return err
		}
		return cursor.All(ctx, &docs)
	})
	if errors.Is(err, ledger.ErrUnavailable) && r.store.sharded {
		// Every shard is asked, and it takes one that does not answer. The one with what
		// servers tell has just answered.
		err = fmt.Errorf("%w: %w", ledger.ErrPartly, err)
	}
	return docs, err
}

// sift goes through a writer's documents from where this reading has got to, and
// returns the next ones that are not behind the reader; none at the end.
func (r *feedReader) sift(ctx context.Context, id string) (news []entryDoc, err error) {
	p := r.at.of(id)
	for len(news) == 0 {
		docs, err := r.page(ctx, marksBetween(id, run{first: max(p.done, r.sifted[id])}))
		if err != nil || len(docs) == 0 {
			return nil, err
		}
		for _, d := range docs {
			_, n, err := readMark(d.Mark)
			if err != nil {
				continue
			}
			if !p.has(n) {
				news = append(news, d)
			}
			r.sifted[id] = n
		}
	}
	return news, nil
}

// complete adds the entries of which others are the next, where they are not behind
// the reader, and sorts all by history and sequence.
func (r *feedReader) complete(ctx context.Context, docs []entryDoc) ([]entryDoc, error) {
	type key struct {
		history  string
		sequence int64
	}
	have := make(map[key]bool, len(docs))
	for _, d := range docs {
		have[key{d.History, d.Sequence}] = true
	}
	// The first round looks at all of them, the later ones at what was added.
	for look := docs; len(look) > 0; {
		var before bson.A
		for _, d := range look {
			k := key{d.History, d.Sequence - 1}
			if k.sequence > 0 && !have[k] && ledger.Sequence(k.sequence) > r.last[ledger.History(k.history)] {
				have[k] = true
				before = append(before, bson.D{is("history", k.history), is("sequence", k.sequence)})
			}
		}
		look = nil
		for part := range slices.Chunk(before, feedPage) {
			var found []entryDoc
			err := r.store.do(ctx, func(ctx context.Context) error {
				cursor, err := r.store.entries.Find(ctx, bson.D{is("$or", part)}, options.Find().SetBatchSize(feedPage+1))
				if err != nil {
					return err
				}
				return cursor.All(ctx, &found)
			})
			if err != nil {
				return nil, err
			}
			if len(found) != len(part) && !r.areGone(part, found) {
				return nil, fmt.Errorf("%w: %d entries are missing that others follow", ledger.ErrWaiting, len(part)-len(found))
			}
			for _, d := range found {
				if !r.at.hasMark(d.Mark) {
					look = append(look, d)
				}
			}
		}
		docs = append(docs, look...)
	}
	slices.SortFunc(docs, func(a, b entryDoc) int {
		if c := strings.Compare(a.History, b.History); c != 0 {
			return c
		}
		return int(a.Sequence - b.Sequence)
	})
	return docs, nil
}

// areGone reports whether all those that were looked for and not found have been missing
// for so long that they are gone. Whoever verifies the histories tells of them.
func (r *feedReader) areGone(looked bson.A, found []entryDoc) bool {
	there := make(map[ledger.Key]bool, len(found))
	for _, d := range found {
		there[ledger.Key{History: ledger.History(d.History), Sequence: ledger.Sequence(d.Sequence)}] = true
	}
	gone := true
	for _, l := range looked {
		d := l.(bson.D)
		k := ledger.Key{History: ledger.History(d[0].Value.(string)), Sequence: ledger.Sequence(d[1].Value.(int64))}
		if !there[k] {
			gone = r.store.missing.note(k) && gone
		}
	}
	return gone
}

// marksBetween lets the marks of a writer through whose numbers lie between two;
// where the last is 0, all behind the first.
func marksBetween(writer string, gap run) bson.D {
	end := writer + "0" // '0' comes after '/' in ASCII
	if gap.last > 0 {
		end = markOf(writer, gap.last)
	}
	return bson.D{is("_id", bson.D{{Key: "$gt", Value: markOf(writer, gap.first)}, {Key: "$lt", Value: end}})}
}
