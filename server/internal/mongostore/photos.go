package mongostore

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"
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

// A photoDoc is a photo that has arrived, is just being stored, or was purged.
type photoDoc struct {
	Key         string `bson:"_id"`    // site, check-in and the hash that was declared
	Stored      string `bson:"stored"` // SHA-256 of its file, which is the file's name in GridFS
	Size        int64  `bson:"size"`
	ContentType string `bson:"content_type"`
	Order       string `bson:"closure_order"`
	// Held is true until the file is there, and again, once the photo was purged,
	// until it is not there any more.
	Held   bool `bson:"held"`
	Purged bool `bson:"purged"`
	// Job is the one that stores the photo while it is held. Where there is none, that
	// was given up, or an earlier version has left it so.
	Job *bson.ObjectID `bson:"job,omitempty"`
}

// settled reports whether the photo has arrived or was purged.
func (d *photoDoc) settled() bool { return !d.Held || d.Purged }

const (
	// longTimeout is how long storing a file may take.
	longTimeout = 2 * time.Minute
	// maxWriting is how many files are written to GridFS at once, since the driver
	// needs 16 MiB for each.
	maxWriting = 2
	// turnEvery is how often a server shows that it is at work on a job.
	turnEvery = 2 * time.Second
	// watchFor is how long a server looks whether another shows that.
	watchFor = 10 * time.Second
	// maxReceiving is of how many photos a server remembers how much has come.
	maxReceiving = 4096
	// partsPage is of how many parts is read at once what they are.
	partsPage = 1000
)

// A photoStore keeps files in GridFS, and what is to be found quickly of them in
// collections beside it.
type photoStore struct {
	*Store
	// storing keeps apart those in this process who store the same file, so that there
	// is one of it. Between servers there may be two, and nothing relies on it.
	storing engine.Locks
	// buckets has one for each file that may be written at once.
	buckets chan *mongo.GridFSBucket
	// received is up to where a photo has come, without a gap, as far as this server has
	// stored it.
	received *lru.Cache[string, int64]
	// turn, watch and page are turnEvery, watchFor and partsPage, which tests shorten.
	turn, watch time.Duration
	page        int64

	pictures, photos, parts, jobs, files, chunks *mongo.Collection
}

// Photos returns where the store keeps photos.
func (s *Store) Photos() photos.Store { return s.photos }

func newPhotoStore(s *Store) *photoStore {
	received, err := lru.New[string, int64](maxReceiving)
	if err != nil {
		panic(err) // it has no room
	}
	buckets := make(chan *mongo.GridFSBucket, maxWriting)
	for range maxWriting {
		buckets <- s.db.GridFSBucket()
	}
	return &photoStore{
		Store: s, buckets: buckets, received: received, turn: turnEvery, watch: watchFor, page: partsPage,
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
		docs, err = p.find(ctx, filter, n)
		return err
	})
	if err != nil {
		return nil, err
	}
	for _, d := range docs {
		if !d.settled() {
			continue
		}
		k, err := d.photo()
		if err != nil {
			return nil, fmt.Errorf("the document %s of photos: %w", d.Key, err)
		}
		out = append(out, k)
	}
	return out, nil
}

// find returns up to n documents, by their key; 0 means all.
func (p *photoStore) find(ctx context.Context, filter bson.D, n int) (docs []photoDoc, err error) {
	cursor, err := p.photos.Find(ctx, filter, options.Find().SetSort(bson.D{is("_id", 1)}).SetLimit(int64(n)))
	if err != nil {
		return nil, err
	}
	return docs, cursor.All(ctx, &docs)
}

// KeptOf implements photos.Store. A check-in has few photos, and callers ask for a page
// of check-ins.
func (p *photoStore) KeptOf(ctx context.Context, of []inspections.CheckInRef) ([]photos.Kept, error) {
	if len(of) == 0 {
		return nil, ctx.Err()
	}
	var ranges bson.A
	for _, c := range of {
		begin := string(c.Site) + "/" + string(c.CheckIn)
		ranges = append(ranges, bson.D{is("_id", between(begin+"/", begin+"0"))}) // '0' comes after '/'
	}
	return p.list(ctx, bson.D{is("$or", ranges)}, 0)
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
