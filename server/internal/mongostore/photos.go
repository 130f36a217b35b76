package mongostore

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"xuncha/inspections"
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
	Place       string `bson:"_id"`    // site, check-in and the hash that was declared
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
	// keptPage is how many photos are read at once.
	keptPage = 1000
)

// A photoStore keeps files in GridFS, and what is to be found quickly of them in
// collections beside it.
type photoStore struct {
	*Store
	// storing keeps apart those in this process who store and delete the same
	// file, by the first byte of its hash.
	storing                                      [256]sync.Mutex
	writing                                      chan struct{} // has as many as may write at once
	pictures, photos, parts, jobs, files, chunks *mongo.Collection
}

// Photos returns where the store keeps photos.
func (s *Store) Photos() inspections.Photos { return s.photos }

func newPhotoStore(s *Store) *photoStore {
	return &photoStore{
		Store: s, writing: make(chan struct{}, maxWriting),
		pictures: s.db.Collection("pictures"), photos: s.db.Collection("photos"),
		parts: s.db.Collection("photo_parts"), jobs: s.db.Collection("photo_jobs"),
		files: s.db.Collection("fs.files"), chunks: s.db.Collection("fs.chunks"),
	}
}

func placeOf(r inspections.PhotoRef) string {
	return string(r.Site) + "/" + string(r.CheckIn) + "/" + r.SHA256.String()
}

// readPlace reads what placeOf has written.
func readPlace(place string) (r inspections.PhotoRef, err error) {
	site, rest, _ := strings.Cut(place, "/")
	checkIn, sum, _ := strings.Cut(rest, "/")
	r.Site, r.CheckIn = sites.SiteID(site), inspections.CheckInID(checkIn)
	r.SHA256, err = inspections.ParseDigest(sum)
	return r, err
}

// Claimed implements inspections.Photos.
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

// Claim implements inspections.Photos.
func (p *photoStore) Claim(ctx context.Context, sums []inspections.Digest, by inspections.CheckInRef) ([]inspections.CheckInRef, error) {
	out := make([]inspections.CheckInRef, len(sums))
	err := p.do(ctx, func(ctx context.Context) error {
		for i, sum := range sums {
			doc := pictureDoc{sum.String(), string(by.Site), string(by.CheckIn)}
			_, err := p.pictures.InsertOne(ctx, doc)
			if mongo.IsDuplicateKeyError(err) {
				err = p.pictures.FindOne(ctx, bson.D{is("_id", doc.Sum)}).Decode(&doc)
			}
			if err != nil {
				return err
			}
			out[i] = inspections.CheckInRef{Site: sites.SiteID(doc.Site), CheckIn: inspections.CheckInID(doc.CheckIn)}
		}
		return nil
	})
	return out, err
}

// there are the conditions on photos that have arrived and were not purged.
var there = []bson.E{is("purged", false), is("held", false)}

// photo reads a document.
func (d *photoDoc) photo() (k inspections.KeptPhoto, err error) {
	if k.PhotoRef, err = readPlace(d.Place); err != nil {
		return k, err
	}
	if k.Stored, err = inspections.ParseDigest(d.Stored); err != nil {
		return k, err
	}
	k.Size, k.ContentType, k.Order, k.Purged = d.Size, d.ContentType, sites.OrderID(d.Order), d.Purged
	return k, nil
}

// list returns up to n photos, by their place; 0 means all.
func (p *photoStore) list(ctx context.Context, filter bson.D, n int) (out []inspections.KeptPhoto, err error) {
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
			return nil, fmt.Errorf("the document %s of photos: %w", d.Place, err)
		}
		out = append(out, k)
	}
	return out, nil
}

// KeptOf implements inspections.Photos.
func (p *photoStore) KeptOf(ctx context.Context, of []inspections.CheckInRef) ([]inspections.KeptPhoto, error) {
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

// KeptUnder implements inspections.Photos.
func (p *photoStore) KeptUnder(ctx context.Context, order sites.OrderID, after inspections.PhotoRef, n int) ([]inspections.KeptPhoto, error) {
	filter := bson.D{is("closure_order", string(order)), is("_id", bson.D{{Key: "$gt", Value: placeOf(after)}})}
	return p.list(ctx, append(filter, there...), n)
}

// Kept implements inspections.Photos.
func (p *photoStore) Kept(ctx context.Context, each func(inspections.KeptPhoto) error) error {
	for after := ""; ; {
		page, err := p.list(ctx, append(bson.D{is("_id", bson.D{{Key: "$gt", Value: after}})}, there...), keptPage)
		if err != nil || len(page) == 0 {
			return err
		}
		for _, k := range page {
			if err := each(k); err != nil {
				return err
			}
			after = placeOf(k.PhotoRef)
		}
	}
}

func newPhotoDoc(k inspections.KeptPhoto) photoDoc {
	return photoDoc{
		Place: placeOf(k.PhotoRef), Stored: k.Stored.String(), Size: k.Size, ContentType: k.ContentType, Order: string(k.Order),
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

// Keep implements inspections.Photos.
//
// The document comes before the file and holds on to it. Whoever deletes a file
// announces that, then looks for the files there are, then for documents, and
// then deletes those files. So either the one who deletes sees the document here,
// or the announcement is seen here and a new file is written, which is none of
// those.
func (p *photoStore) Keep(ctx context.Context, k inspections.KeptPhoto, content io.WriterTo) error {
	lock := &p.storing[k.Stored[0]]
	lock.Lock()
	defer lock.Unlock()
	doc := newPhotoDoc(k)
	doc.Held = true
	needed, mine := false, false
	err := p.do(ctx, func(ctx context.Context) error {
		_, err := p.photos.InsertOne(ctx, doc)
		mine = err == nil
		if mongo.IsDuplicateKeyError(err) {
			var known photoDoc
			if err := p.photos.FindOne(ctx, bson.D{is("_id", doc.Place)}).Decode(&known); err != nil {
				return err
			}
			doc.Held = known.Held
			err = nil
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
	if err != nil || !doc.Held {
		return err
	}
	if needed {
		if err := p.store(ctx, k.Stored, content); err != nil {
			if mine {
				// Otherwise the file could never be deleted. Where this fails too, the photo
				// comes again and is kept then.
				after, cancel := context.WithTimeout(context.WithoutCancel(ctx), opTimeout)
				defer cancel()
				_, _ = p.photos.DeleteOne(after, bson.D{is("_id", doc.Place), is("held", true)})
			}
			return err
		}
	}
	return p.do(ctx, func(ctx context.Context) error {
		_, err := p.pictures.InsertOne(ctx, pictureDoc{doc.Stored, string(k.Site), string(k.CheckIn)})
		if err != nil && !mongo.IsDuplicateKeyError(err) {
			return err
		}
		_, err = p.photos.UpdateOne(ctx, bson.D{is("_id", doc.Place)}, bson.D{is("$set", bson.D{is("held", false)})})
		return err
	})
}

// Purge implements inspections.Photos.
func (p *photoStore) Purge(ctx context.Context, k inspections.KeptPhoto) error {
	lock := &p.storing[k.Stored[0]]
	lock.Lock()
	defer lock.Unlock()
	return p.do(ctx, func(ctx context.Context) error {
		job := jobDoc{ID: bson.NewObjectID(), Deletes: k.Stored.String()}
		if _, err := p.jobs.InsertOne(ctx, job); err != nil {
			return err
		}
		doc := newPhotoDoc(k)
		doc.Purged = true
		if _, err := p.photos.InsertOne(ctx, doc); mongo.IsDuplicateKeyError(err) {
			_, err = p.photos.UpdateOne(ctx, bson.D{is("_id", doc.Place)}, bson.D{is("$set", bson.D{is("purged", true), is("held", false)})})
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
