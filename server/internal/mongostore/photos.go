package mongostore

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"xuncha/inspections"
	"xuncha/inspections/photos"
	"xuncha/server/internal/engine"
	"xuncha/sites"
)

// A pictureDoc says which check-in used a file first.
type pictureDoc struct {
	Sum     string `bson:"_id"` // SHA-256 of the file, in hexadecimal
	Site    string `bson:"site"`
	CheckIn string `bson:"check_in"`
}

// A photoDoc is a photo that has arrived, or is just being stored.
type photoDoc struct {
	Key         string `bson:"_id"`    // site, check-in and the hash that was declared
	Stored      string `bson:"stored"` // SHA-256 of its file, which is the file's name in GridFS
	Size        int64  `bson:"size"`
	ContentType string `bson:"content_type"`
	Order       string `bson:"closure_order"`
	// Held is true until the file is there. Until then the photo is not, but
	// nobody deletes the file.
	Held   bool `bson:"held"`
	Purged bool `bson:"purged"`
}

const (
	// longTimeout is how long storing a file may take.
	longTimeout = time.Minute
	// maxWriting is how many files are written to GridFS at once, since the driver
	// needs 16 MiB for each.
	maxWriting = 2
	// jobAfter is how old a job is that nobody works on any more.
	jobAfter = time.Hour
)

// A photoStore keeps files in GridFS, and what is to be found quickly of them in
// collections beside it.
type photoStore struct {
	*Store
	// storing keeps apart those in this process who store and delete the same file.
	storing                                      engine.Locks
	writing                                      chan struct{} // has as many as may write at once
	pictures, photos, parts, jobs, files, chunks *mongo.Collection
}

// Photos returns where the store keeps photos.
func (s *Store) Photos() photos.Store { return s.photos }

func newPhotoStore(s *Store) *photoStore {
	return &photoStore{
		Store: s, writing: make(chan struct{}, maxWriting),
		pictures: s.db.Collection("pictures"), photos: s.db.Collection("photos"),
		parts: s.db.Collection("photo_parts"), jobs: s.db.Collection("photo_jobs"),
		files: s.db.Collection("fs.files"), chunks: s.db.Collection("fs.chunks"),
	}
}

func keyOf(r photos.Ref) string {
	return string(r.Site) + "/" + string(r.CheckIn) + "/" + r.SHA256.String()
}

// readKey reads what keyOf has written.
func readKey(key string) (r photos.Ref, err error) {
	site, rest, _ := strings.Cut(key, "/")
	checkIn, sum, _ := strings.Cut(rest, "/")
	r.Site, r.CheckIn = sites.SiteID(site), inspections.CheckInID(checkIn)
	r.SHA256, err = inspections.ParseDigest(sum)
	return r, err
}

// Claimed implements inspections.Claims.
func (p *photoStore) Claimed(ctx context.Context, sums []inspections.Digest) ([]inspections.CheckInRef, error) {
	names := make(bson.A, len(sums))
	for i, sum := range sums {
		names[i] = sum.String()
	}
	var docs []pictureDoc
	err := p.do(ctx, func(ctx context.Context) error {
		cursor, err := p.pictures.Find(ctx, bson.D{is("_id", bson.D{{Key: "$in", Value: names}})})
		if err != nil {
			return err
		}
		return cursor.All(ctx, &docs)
	})
	if err != nil {
		return nil, err
	}
	out := make([]inspections.CheckInRef, len(sums))
	for i, sum := range sums {
		if at := slices.IndexFunc(docs, func(d pictureDoc) bool { return d.Sum == sum.String() }); at >= 0 {
			out[i] = inspections.CheckInRef{Site: sites.SiteID(docs[at].Site), CheckIn: inspections.CheckInID(docs[at].CheckIn)}
		}
	}
	return out, nil
}

// Claim implements inspections.Claims.
func (p *photoStore) Claim(ctx context.Context, sums []inspections.Digest, by inspections.CheckInRef) error {
	return p.do(ctx, func(ctx context.Context) error {
		for _, sum := range sums {
			_, err := p.pictures.InsertOne(ctx, pictureDoc{sum.String(), string(by.Site), string(by.CheckIn)})
			if err != nil && !mongo.IsDuplicateKeyError(err) {
				return err
			}
		}
		return nil
	})
}

// there are the conditions on photos that have arrived and were not purged.
var there = []bson.E{is("purged", false), is("held", false)}

// photo reads a document.
func (d *photoDoc) photo() (k photos.Kept, err error) {
	if k.Ref, err = readKey(d.Key); err != nil {
		return k, err
	}
	if k.Stored, err = inspections.ParseDigest(d.Stored); err != nil {
		return k, err
	}
	k.Size, k.ContentType, k.Order, k.Purged = d.Size, d.ContentType, sites.OrderID(d.Order), d.Purged
	return k, nil
}

// list returns up to n photos, by their key; 0 means all.
func (p *photoStore) list(ctx context.Context, filter bson.D, n int) (out []photos.Kept, err error) {
	var docs []photoDoc
	err = p.do(ctx, func(ctx context.Context) error {
		cursor, err := p.photos.Find(ctx, filter, options.Find().SetSort(bson.D{{Key: "_id", Value: 1}}).SetLimit(int64(n)))
		if err != nil {
			return err
		}
		return cursor.All(ctx, &docs)
	})
	if err != nil {
		return nil, err
	}
	for _, d := range docs {
		k, err := d.photo()
		if err != nil {
			return nil, fmt.Errorf("the document %s of photos: %w", d.Key, err)
		}
		out = append(out, k)
	}
	return out, nil
}

// KeptOf implements photos.Store.
func (p *photoStore) KeptOf(ctx context.Context, of []inspections.CheckInRef) ([]photos.Kept, error) {
	if len(of) == 0 {
		return nil, ctx.Err()
	}
	var ranges bson.A
	for _, c := range of {
		begin := string(c.Site) + "/" + string(c.CheckIn)
		ranges = append(ranges, bson.D{is("_id", between(begin+"/", begin+"0"))}) // '0' comes after '/'
	}
	return p.list(ctx, bson.D{is("$or", ranges), is("held", false)}, 0)
}

// Kept implements photos.Store.
func (p *photoStore) Kept(ctx context.Context, order sites.OrderID, after photos.Ref, n int) ([]photos.Kept, error) {
	filter := bson.D{is("_id", bson.D{{Key: "$gt", Value: keyOf(after)}})}
	if order != "" {
		filter = append(filter, is("closure_order", string(order)))
	}
	return p.list(ctx, append(filter, there...), n)
}

func newPhotoDoc(k photos.Kept) photoDoc {
	return photoDoc{
		Key: keyOf(k.Ref), Stored: k.Stored.String(), Size: k.Size, ContentType: k.ContentType, Order: string(k.Order),
	}
}

// used reports whether a photo has the file, or is just getting it.
func (p *photoStore) used(ctx context.Context, stored string) (bool, error) {
	err := p.photos.FindOne(ctx, bson.D{is("stored", stored), is("purged", false)}).Err()
	if errors.Is(err, mongo.ErrNoDocuments) {
		return false, nil
	}
	return err == nil, err
}

// Keep implements photos.Store. The file is written under a name that nobody looks
// for, and gets that of its hash once the photo's document holds on to it.
//
// Whoever deletes a file announces that, then looks for the files there are, then
// for documents, and then deletes those files. So either the one who deletes sees
// the document here, or the announcement is seen here and the new file gets the
// name, which is none of those.
func (p *photoStore) Keep(ctx context.Context, k photos.Kept, content io.WriterTo) (photos.Kept, error) {
	key := keyOf(k.Ref)
	known, err := p.list(ctx, bson.D{is("_id", key), is("held", false)}, 1)
	if err != nil {
		return photos.Kept{}, err
	}
	if len(known) > 0 {
		return known[0], nil
	}
	file, err := p.writeNew(ctx, content)
	if err != nil {
		return photos.Kept{}, err
	}
	k.Stored, k.Size, k.Purged = file.sum, file.size, false
	defer p.storing.Lock(k.Stored)()
	doc, needed, err := p.hold(ctx, k)
	if err != nil || !needed {
		p.drop(ctx, file)
	}
	if err != nil {
		return photos.Kept{}, err
	}
	if !doc.Held {
		return doc.photo() // somebody has kept or purged it meanwhile
	}
	err = p.do(ctx, func(ctx context.Context) error {
		if needed {
			if err := p.place(ctx, file); err != nil {
				return err
			}
		}
		_, err := p.pictures.InsertOne(ctx, pictureDoc{doc.Stored, string(k.Site), string(k.CheckIn)})
		if err != nil && !mongo.IsDuplicateKeyError(err) {
			return err
		}
		_, err = p.photos.UpdateOne(ctx, bson.D{is("_id", key)}, bson.D{is("$set", bson.D{is("held", false)})})
		return err
	})
	if err != nil {
		// What is held is kept when the photo comes again.
		return photos.Kept{}, err
	}
	return k, nil
}

// hold stores the photo's document, which holds on to its file from then on, and
// reports whether the file is needed. The document that is there already, where the
// photo was kept, purged or is held, is returned.
func (p *photoStore) hold(ctx context.Context, k photos.Kept) (doc photoDoc, needed bool, err error) {
	doc = newPhotoDoc(k)
	doc.Held = true
	err = p.do(ctx, func(ctx context.Context) error {
		_, err := p.photos.InsertOne(ctx, doc)
		if mongo.IsDuplicateKeyError(err) {
			err = p.photos.FindOne(ctx, bson.D{is("_id", doc.Key)}).Decode(&doc)
		}
		if err == nil && doc.Held && doc.Stored != k.Stored.String() {
			// Another version, which cleans in another way, has died here.
			doc.Stored, doc.Size = k.Stored.String(), k.Size
			_, err = p.photos.UpdateOne(ctx, bson.D{is("_id", doc.Key), is("held", true)},
				bson.D{is("$set", bson.D{is("stored", doc.Stored), is("size", doc.Size)})})
		}
		if err != nil || !doc.Held {
			return err
		}
		err = p.jobs.FindOne(ctx, bson.D{is("deletes", doc.Stored)}).Err()
		if err == nil {
			needed = true
			return nil
		}
		if !errors.Is(err, mongo.ErrNoDocuments) {
			return err
		}
		files, err := p.filesNamed(ctx, doc.Stored)
		needed = len(files) == 0
		return err
	})
	return doc, needed, err
}

// Purge implements photos.Store.
func (p *photoStore) Purge(ctx context.Context, k photos.Kept) error {
	defer p.storing.Lock(k.Stored)()
	return p.do(ctx, func(ctx context.Context) error {
		job := jobDoc{ID: bson.NewObjectID(), Deletes: k.Stored.String()}
		if _, err := p.jobs.InsertOne(ctx, job); err != nil {
			return err
		}
		doc := newPhotoDoc(k)
		doc.Purged = true
		if _, err := p.photos.InsertOne(ctx, doc); mongo.IsDuplicateKeyError(err) {
			_, err = p.photos.UpdateOne(ctx, bson.D{is("_id", doc.Key)}, bson.D{is("$set", bson.D{is("purged", true), is("held", false)})})
			if err != nil {
				return err
			}
		} else if err != nil {
			return err
		}
		_, err := p.finishDeleting(ctx, job)
		return err
	})
}
