package mongostore

import (
	"context"
	"errors"
	"fmt"
	"io"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"

	"xuncha/inspections/photos"
	"xuncha/ledger"
)

// holdTries is how often a server tries to hold a photo that others store at the same
// time.
const holdTries = 5

// Keep implements photos.Store. A job is there as long as it lasts, by which others find
// what a crash leaves of it. The file is written under a name that nobody looks for. Then
// the photo's document is held, and then a file with the hash is claimed or, where there
// is none, the new one gets the name.
func (p *photoStore) Keep(ctx context.Context, k photos.Kept, content io.WriterTo) (photos.Kept, error) {
	known, err := p.list(ctx, bson.D{is("_id", keyOf(k.Ref))}, 1)
	if err != nil {
		return photos.Kept{}, err
	}
	if len(known) > 0 {
		return known[0], nil
	}
	var bucket *mongo.GridFSBucket
	select {
	case bucket = <-p.buckets:
	case <-ctx.Done():
		return photos.Kept{}, ctx.Err()
	}
	job, err := p.begin(ctx, keyOf(k.Ref))
	if err != nil {
		p.buckets <- bucket
		return photos.Kept{}, err
	}
	defer job.stop()
	file, failed, err := p.write(ctx, bucket, job.id, content)
	p.buckets <- bucket
	if failed == nil && err == nil {
		k.Stored, k.Size, k.Purged = file.sum, file.size, false
		k, err = p.keep(ctx, job, k)
	}
	job.end(ctx, err)
	if failed != nil {
		err = translate(ctx, failed)
	}
	if err != nil {
		return photos.Kept{}, err
	}
	return k, nil
}

// keep keeps the photo with the file that the job has written, or with one that is
// there. Where somebody else has kept or purged the photo meanwhile, that is returned.
func (p *photoStore) keep(ctx context.Context, job *photoJob, k photos.Kept) (out photos.Kept, err error) {
	unlock, err := p.storing.Lock(ctx, k.Stored)
	if err != nil {
		return photos.Kept{}, err
	}
	defer unlock()
	for range holdTries {
		var doc photoDoc
		var finished bool
		err := p.do(ctx, func(ctx context.Context) error {
			doc, err = p.hold(ctx, k, job.id)
			if err != nil || doc.settled() {
				return err
			}
			if err := p.provide(ctx, job, k); err != nil {
				return err
			}
			_, err := p.pictures.InsertOne(ctx, pictureDoc{doc.Stored, string(k.Site), string(k.CheckIn)})
			if err != nil && !mongo.IsDuplicateKeyError(err) {
				return err
			}
			finished, err = changed(p.photos.UpdateOne(ctx, bson.D{is("_id", doc.Key), is("held", true), is("job", job.id)},
				bson.D{is("$set", bson.D{is("held", false)}), is("$unset", bson.D{is("job", "")})}))
			return err
		})
		if err != nil {
			return photos.Kept{}, err
		}
		if doc.settled() {
			return doc.photo()
		}
		if finished {
			job.kept = job.placed
			return k, nil
		}
		// Another server holds it now, has kept it, or took this one for dead.
	}
	return photos.Kept{}, fmt.Errorf("%w: other servers store photo %s at the same time", ledger.ErrUnavailable, k.SHA256)
}

// provide sees to it that there is a file for the photo, which the job holds.
func (p *photoStore) provide(ctx context.Context, job *photoJob, k photos.Kept) error {
	claimed, err := p.claim(ctx, k.Stored.String())
	if err != nil || claimed {
		return err
	}
	lost := fmt.Errorf("%w: another server took the one that stores photo %s for dead", ledger.ErrUnavailable, k.SHA256)
	if !job.placed {
		// Chunks are deleted of a job that is dead, so whoever gives the name to a file
		// must first know that it cannot become that any more.
		alive, err := changed(p.jobs.UpdateOne(ctx, bson.D{is("_id", job.id), is("dead", bson.D{is("$ne", true)})},
			bson.D{is("$set", bson.D{is("done", true)})}))
		if err != nil {
			return err
		}
		if !alive {
			return lost
		}
	}
	job.placed = true
	there, err := p.place(ctx, job.id, k.Stored)
	if err == nil && !there {
		return lost
	}
	return err
}

// hold makes the job the one that stores the photo, and returns the photo's document,
// which is then held. Where the photo was kept or purged meanwhile, it is that one.
func (p *photoStore) hold(ctx context.Context, k photos.Kept, job bson.ObjectID) (photoDoc, error) {
	want := newPhotoDoc(k)
	want.Held, want.Job = true, &job
	for range holdTries {
		_, err := p.photos.InsertOne(ctx, want)
		if !mongo.IsDuplicateKeyError(err) {
			return want, err
		}
		var there photoDoc
		err = p.photos.FindOne(ctx, bson.D{is("_id", want.Key)}).Decode(&there)
		if errors.Is(err, mongo.ErrNoDocuments) {
			continue // it was given up just now
		}
		if err != nil || there.settled() {
			return there, err
		}
		if there.Stored != want.Stored {
			// Another version, which cleans in another way, stores it or did.
			if err := p.release(ctx, there); err != nil {
				return there, err
			}
			continue
		}
		taken, err := changed(p.photos.UpdateOne(ctx, there.asHeld(), bson.D{is("$set", bson.D{is("job", job)})}))
		if err != nil || taken {
			return want, err
		}
	}
	return want, fmt.Errorf("%w: other servers store photo %s at the same time", ledger.ErrUnavailable, k.SHA256)
}

// asHeld finds the document as long as it is held by the same job, or by none.
func (d *photoDoc) asHeld() bson.D {
	filter := bson.D{is("_id", d.Key), is("held", true), is("purged", false), is("job", bson.D{is("$exists", false)})}
	if d.Job != nil {
		filter[3] = is("job", *d.Job)
	}
	return filter
}

// release gives up a photo that is held and that nobody stores any more, unless somebody
// holds it by now. A file that was given its name for it stays: the photo may be one that
// was stored long ago, and the document one from a backup.
func (p *photoStore) release(ctx context.Context, d photoDoc) error {
	_, err := p.photos.DeleteOne(ctx, d.asHeld())
	return err
}

// Purge implements photos.Store. The document is held until the file is gone, by which
// others find what a crash leaves.
func (p *photoStore) Purge(ctx context.Context, k photos.Kept) error {
	doc := newPhotoDoc(k)
	doc.Purged = true
	return p.do(ctx, func(ctx context.Context) error {
		for {
			_, err := p.photos.InsertOne(ctx, doc)
			if !mongo.IsDuplicateKeyError(err) {
				return err // it has no file
			}
			var there photoDoc
			err = p.photos.FindOneAndUpdate(ctx, bson.D{is("_id", doc.Key)},
				bson.D{is("$set", bson.D{is("purged", true), is("held", true)}), is("$unset", bson.D{is("job", "")})}).Decode(&there)
			if errors.Is(err, mongo.ErrNoDocuments) {
				continue // it was held, and given up just now
			}
			if err == nil {
				_, err = p.finishPurge(ctx, there)
			}
			return err
		}
	})
}

// finishPurge deletes the file of a photo that was purged, unless others have it.
func (p *photoStore) finishPurge(ctx context.Context, d photoDoc) (removed int, err error) {
	removed, err = p.deleteUnused(ctx, d.Stored)
	if err == nil {
		_, err = p.photos.UpdateOne(ctx, bson.D{is("_id", d.Key), is("purged", true)}, bson.D{is("$set", bson.D{is("held", false)})})
	}
	return removed, err
}
