package mongostore

import (
	"context"
	"errors"
	"sync"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"xuncha/ledger"
)

// A jobDoc is there while a photo is stored. What a crash leaves of that is found by it.
//
// A job is at work as long as its turn moves. Whoever sees that it does not for a while
// marks it as dead. That is a guess, since a server may only be slow, and the document
// decides: no job becomes both dead and done, and only a file whose job is done gets the
// name by which photos have it. No decision compares the clocks of two machines.
type jobDoc struct {
	ID bson.ObjectID `bson:"_id"` // that of the file which it writes
	// Photo is the key of the photo. Jobs of earlier versions have none.
	Photo string `bson:"photo,omitempty"`
	// Deletes is the name of what an earlier version deletes; empty of what is written.
	Deletes string `bson:"deletes,omitempty"`
	Turn    int64  `bson:"turn"`
	// Done tells that all of the file was written, Dead that it may be deleted.
	Done bool `bson:"done,omitempty"`
	Dead bool `bson:"dead,omitempty"`
}

// A photoJob is a job of this server.
type photoJob struct {
	p  *photoStore
	id bson.ObjectID
	// placed tells that the file may have the name by which photos have it, and kept that
	// this job's photo has it.
	placed, kept bool
	cancel       context.CancelFunc
	turns        sync.WaitGroup
}

// begin begins a job, whose turn moves until it is stopped.
func (p *photoStore) begin(ctx context.Context, photo string) (*photoJob, error) {
	j := &photoJob{p: p, id: bson.NewObjectID()}
	err := p.do(ctx, func(ctx context.Context) error {
		_, err := p.jobs.InsertOne(ctx, jobDoc{ID: j.id, Photo: photo})
		return err
	})
	if err != nil {
		return nil, err
	}
	ctx, j.cancel = context.WithCancel(context.WithoutCancel(ctx))
	j.turns.Go(func() {
		ticker := time.NewTicker(p.turn)
		defer ticker.Stop()
		for {
			select {
			case <-ticker.C:
				// Where this fails for long, others take the job for dead.
				_ = p.do(ctx, func(ctx context.Context) error {
					_, err := p.jobs.UpdateOne(ctx, bson.D{is("_id", j.id)}, bson.D{is("$inc", bson.D{is("turn", int64(1))})})
					return err
				})
			case <-ctx.Done():
				return
			}
		}
	})
	return j, nil
}

// stop ends the moving of the turn.
func (j *photoJob) stop() {
	j.cancel()
	j.turns.Wait()
}

// end removes what the job has written and no photo has, and the job, whether or not the
// caller waits. After an error, something of it may still be on its way to the database,
// so the job stays for Tidy, which does it again.
func (j *photoJob) end(ctx context.Context, failed error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), opTimeout)
	defer cancel()
	_ = j.p.do(ctx, func(ctx context.Context) error {
		if failed != nil {
			if _, err := j.p.bury(ctx, bson.D{is("_id", j.id)}); err != nil {
				return err
			}
			_, err := j.p.undo(ctx, j.id)
			return err
		}
		if !j.kept {
			if _, err := j.p.removeWritten(ctx, j.id); err != nil {
				return err
			}
		}
		_, err := j.p.jobs.DeleteOne(ctx, bson.D{is("_id", j.id)})
		return err
	})
}

// bury marks a job as dead, unless it is done, and reports whether it was one of those.
func (p *photoStore) bury(ctx context.Context, filter bson.D) (bool, error) {
	return changed(p.jobs.UpdateOne(ctx, append(filter, is("done", bson.D{is("$ne", true)})), bson.D{is("$set", bson.D{is("dead", true)})}))
}

// undo takes back what a job has done that is dead, or done and that nobody works on.
// What it has finished stays.
func (p *photoStore) undo(ctx context.Context, id bson.ObjectID) (removed int, err error) {
	held, err := p.find(ctx, bson.D{is("held", true), is("purged", false), is("job", id)}, 0)
	if err != nil {
		return 0, err
	}
	for _, d := range held {
		if err := p.release(ctx, d); err != nil {
			return 0, err
		}
	}
	return p.removeWritten(ctx, id)
}

// allJobs returns the jobs. There are as many as photos are being stored, and broke off.
func (p *photoStore) allJobs(ctx context.Context) (map[bson.ObjectID]jobDoc, error) {
	var list []jobDoc
	err := p.do(ctx, func(ctx context.Context) error {
		cursor, err := p.jobs.Find(ctx, bson.D{})
		if err != nil {
			return err
		}
		return cursor.All(ctx, &list)
	})
	out := make(map[bson.ObjectID]jobDoc, len(list))
	for _, j := range list {
		out[j.ID] = j
	}
	return out, err
}

// Tidy implements photos.Store. Where there are jobs, it first looks for a while whether
// somebody is at work on them.
func (p *photoStore) Tidy(ctx context.Context) (removed int, err error) {
	seen, err := p.allJobs(ctx)
	if err != nil {
		return 0, err
	}
	if len(seen) > 0 {
		watched := time.NewTimer(p.watch)
		defer watched.Stop()
		select {
		case <-watched.C:
		case <-ctx.Done():
			return 0, ctx.Err()
		}
	}
	// A job is there before all that it makes, so the jobs are read last: what has none
	// among them has none any more.
	var held []photoDoc
	var files []fileDoc
	err = p.do(ctx, func(ctx context.Context) (err error) {
		if held, err = p.find(ctx, bson.D{is("held", true)}, 0); err == nil {
			files, err = p.unnamed(ctx)
		}
		return err
	})
	if err != nil {
		return 0, err
	}
	jobs, err := p.allJobs(ctx)
	if err != nil {
		return 0, err
	}
	var errs []error
	each := func(f func(context.Context) (int, error)) {
		if errors.Is(errors.Join(errs...), ledger.ErrUnavailable) || ctx.Err() != nil {
			return // the others would fail too
		}
		errs = append(errs, p.do(ctx, func(ctx context.Context) error {
			n, err := f(ctx)
			removed += n
			return err
		}))
	}
	for id, j := range jobs {
		if before, ok := seen[id]; ok && before.Turn == j.Turn {
			each(func(ctx context.Context) (int, error) { return p.tidyJob(ctx, before, j) })
		}
	}
	for _, d := range held {
		if d.Job != nil {
			if _, ok := jobs[*d.Job]; ok {
				continue
			}
		}
		each(func(ctx context.Context) (int, error) {
			if d.Purged {
				return p.finishPurge(ctx, d)
			}
			return 0, p.release(ctx, d)
		})
	}
	for _, f := range files {
		id, ok := f.ID.(bson.ObjectID)
		if _, there := jobs[id]; !ok || there {
			continue
		}
		each(func(ctx context.Context) (int, error) { return p.removeWritten(ctx, id) })
	}
	return removed, errors.Join(append(errs, ctx.Err())...)
}

// unnamed returns the files that are being written or deleted.
func (p *photoStore) unnamed(ctx context.Context) (out []fileDoc, err error) {
	cursor, err := p.files.Find(ctx, bson.D{is("$or", bson.A{
		bson.D{is("filename", between(newPrefix, after(newPrefix)))}, bson.D{is("filename", between(oldPrefix, after(oldPrefix)))},
	})})
	if err != nil {
		return nil, err
	}
	return out, cursor.All(ctx, &out)
}

// tidyJob brings a job to its end that has not moved. One that dies by that stays until
// the next time, since something of it may still be on its way.
func (p *photoStore) tidyJob(ctx context.Context, before, now jobDoc) (removed int, err error) {
	switch {
	case now.Deletes != "":
		removed, err = p.deleteUnused(ctx, now.Deletes)
	case before.Dead || now.Done:
		removed, err = p.undo(ctx, now.ID)
	default:
		// Jobs of earlier versions have no turn.
		unmoved := is("$or", bson.A{bson.D{is("turn", now.Turn)}, bson.D{is("turn", bson.D{is("$exists", false)})}})
		if dead, err := p.bury(ctx, bson.D{is("_id", now.ID), unmoved}); err != nil || !dead {
			return 0, err
		}
		return p.undo(ctx, now.ID)
	}
	if err == nil {
		_, err = p.jobs.DeleteOne(ctx, bson.D{is("_id", now.ID)})
	}
	return removed, err
}
