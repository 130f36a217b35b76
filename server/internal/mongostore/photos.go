package mongostore

import (
	"context"
	"errors"
	"fmt"
	"io"
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

// A partDoc is a part of what has come of a photo. Parts may overlap.
type partDoc struct {
	ID     string `bson:"_id"` // photo, offset and size
	Photo  string `bson:"photo"`
	Offset int64  `bson:"offset"`
	Size   int64  `bson:"size"`
	// Came is when, in nanoseconds since 1970-01-01 UTC.
	Came  int64  `bson:"came"`
	Bytes []byte `bson:"bytes,omitempty"`
}

// A jobDoc is there while a file is written or deleted. What a crash leaves of
// either is found by it.
type jobDoc struct {
	ID bson.ObjectID `bson:"_id"` // of what is written, that of the file
	// Deletes is the name of what is deleted; empty of what is written.
	Deletes string `bson:"deletes"`
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

// partsOf returns the parts of what has come of the photo that follow each other
// from its beginning on, without their bytes.
func (p *photoStore) partsOf(ctx context.Context, place string) (out []partDoc, received int64, err error) {
	cursor, err := p.parts.Find(ctx, bson.D{is("photo", place)},
		options.Find().SetSort(bson.D{{Key: "offset", Value: 1}, {Key: "size", Value: 1}}).SetProjection(bson.D{{Key: "bytes", Value: 0}}))
	if err != nil {
		return nil, 0, err
	}
	var all []partDoc
	if err := cursor.All(ctx, &all); err != nil {
		return nil, 0, err
	}
	for _, d := range all {
		if d.Offset > received {
			break
		}
		if d.Offset+d.Size > received {
			out = append(out, d)
			received = d.Offset + d.Size
		}
	}
	return out, received, nil
}

// Received implements inspections.Photos.
func (p *photoStore) Received(ctx context.Context, r inspections.PhotoRef) (n int64, err error) {
	err = p.do(ctx, func(ctx context.Context) error {
		_, n, err = p.partsOf(ctx, placeOf(r))
		return err
	})
	return n, err
}

// Receive implements inspections.Photos.
func (p *photoStore) Receive(ctx context.Context, r inspections.PhotoRef, offset int64, b []byte) error {
	return p.do(ctx, func(ctx context.Context) error {
		place := placeOf(r)
		_, received, err := p.partsOf(ctx, place)
		if err != nil {
			return err
		}
		if offset > received {
			return fmt.Errorf("%d %w: %d bytes", offset, inspections.ErrPhotoOffset, received)
		}
		there := received - offset
		if there >= int64(len(b)) {
			return nil
		}
		offset, b = received, b[there:]
		_, err = p.parts.InsertOne(ctx, partDoc{
			ID: fmt.Sprintf("%s/%d/%d", place, offset, len(b)), Photo: place, Offset: offset, Size: int64(len(b)),
			Came: time.Now().UnixNano(), Bytes: b,
		})
		if mongo.IsDuplicateKeyError(err) {
			return nil
		}
		return err
	})
}

// Secure implements inspections.Photos. A majority has what was received.
func (p *photoStore) Secure(ctx context.Context, _ inspections.PhotoRef) error { return ctx.Err() }

// Discard implements inspections.Photos.
func (p *photoStore) Discard(ctx context.Context, r inspections.PhotoRef) error {
	return p.do(ctx, func(ctx context.Context) error {
		_, err := p.parts.DeleteMany(ctx, bson.D{is("photo", placeOf(r))})
		return err
	})
}

// Partials implements inspections.Photos.
func (p *photoStore) Partials(ctx context.Context, each func(inspections.PhotoRef, int64, time.Time) error) error {
	for after := ""; ; {
		var next partDoc
		var received, last int64
		err := p.do(ctx, func(ctx context.Context) error {
			// From one photo to the next, which is a step in the index.
			err := p.parts.FindOne(ctx, bson.D{is("photo", bson.D{{Key: "$gt", Value: after}})},
				options.FindOne().SetSort(bson.D{{Key: "photo", Value: 1}, {Key: "offset", Value: 1}}).
					SetProjection(bson.D{{Key: "bytes", Value: 0}})).Decode(&next)
			if err != nil {
				return err
			}
			parts, n, err := p.partsOf(ctx, next.Photo)
			for _, d := range parts {
				last = max(last, d.Came)
			}
			received = n
			return err
		})
		if errors.Is(err, mongo.ErrNoDocuments) {
			return nil
		}
		if err != nil {
			return err
		}
		after = next.Photo
		r, err := readPlace(next.Photo)
		if err != nil {
			continue // not ours
		}
		if err := each(r, received, time.Unix(0, last)); err != nil {
			return err
		}
	}
}

// A piecedFile is a file in documents, of which it holds the one that was read
// last.
type piecedFile struct {
	size int64
	// find returns the piece with the byte at the offset, and where it begins.
	find func(offset int64) (begin int64, piece []byte, err error)

	mu    sync.Mutex
	begin int64
	piece []byte
}

// Size implements inspections.File.
func (f *piecedFile) Size() int64 { return f.size }

// Close implements inspections.File.
func (f *piecedFile) Close() error { return nil }

// ReadAt implements inspections.File.
func (f *piecedFile) ReadAt(b []byte, offset int64) (n int, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for n < len(b) {
		at := offset + int64(n)
		if at >= f.size {
			return n, io.EOF
		}
		if at < f.begin || at >= f.begin+int64(len(f.piece)) {
			if f.begin, f.piece, err = f.find(at); err != nil {
				f.piece = nil
				return n, err
			}
		}
		n += copy(b[n:], f.piece[at-f.begin:])
	}
	return n, nil
}

// Partial implements inspections.Photos.
func (p *photoStore) Partial(ctx context.Context, r inspections.PhotoRef) (inspections.File, error) {
	f := &piecedFile{}
	var parts []partDoc
	err := p.do(ctx, func(ctx context.Context) (err error) {
		parts, f.size, err = p.partsOf(ctx, placeOf(r))
		return err
	})
	if err != nil {
		return nil, err
	}
	missing := fmt.Errorf("%s: %w", r.SHA256, inspections.ErrPhotoMissing)
	if f.size == 0 {
		return nil, missing
	}
	f.find = func(offset int64) (begin int64, piece []byte, err error) {
		for _, d := range parts {
			if offset >= d.Offset && offset < d.Offset+d.Size {
				err = p.do(ctx, func(ctx context.Context) error { return p.parts.FindOne(ctx, bson.D{is("_id", d.ID)}).Decode(&d) })
				if errors.Is(err, mongo.ErrNoDocuments) {
					err = missing // it was discarded meanwhile
				}
				return d.Offset, d.Bytes, err
			}
		}
		return 0, nil, missing
	}
	return f, nil
}

// A fileDoc is a file of GridFS, as its specification has it.
type fileDoc struct {
	ID        any    `bson:"_id"`
	Length    int64  `bson:"length"`
	ChunkSize int64  `bson:"chunkSize"`
	Name      string `bson:"filename"`
}

// filesNamed returns the files with the name, of which there may be several where
// two servers have stored the same at once.
func (p *photoStore) filesNamed(ctx context.Context, name string) (out []fileDoc, err error) {
	cursor, err := p.files.Find(ctx, bson.D{is("filename", name)})
	if err != nil {
		return nil, err
	}
	return out, cursor.All(ctx, &out)
}

// Open implements inspections.Photos.
func (p *photoStore) Open(ctx context.Context, stored inspections.Digest) (inspections.File, error) {
	lost := fmt.Errorf("%s: %w", stored, inspections.ErrPhotoLost)
	var files []fileDoc
	err := p.do(ctx, func(ctx context.Context) (err error) {
		files, err = p.filesNamed(ctx, stored.String())
		return err
	})
	if err != nil {
		return nil, err
	}
	if len(files) == 0 || files[0].ChunkSize <= 0 {
		return nil, lost
	}
	doc := files[0]
	return &piecedFile{size: doc.Length, find: func(offset int64) (begin int64, piece []byte, err error) {
		n := offset / doc.ChunkSize
		var chunk struct {
			Data []byte `bson:"data"`
		}
		err = p.do(ctx, func(ctx context.Context) error {
			return p.chunks.FindOne(ctx, bson.D{is("files_id", doc.ID), is("n", int32(n))}).Decode(&chunk)
		})
		if errors.Is(err, mongo.ErrNoDocuments) || err == nil && offset-n*doc.ChunkSize >= int64(len(chunk.Data)) {
			err = lost
		}
		return n * doc.ChunkSize, chunk.Data, err
	}}, nil
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

// store writes a file to GridFS.
func (p *photoStore) store(ctx context.Context, stored inspections.Digest, content io.WriterTo) error {
	leave, err := p.enter(ctx)
	if err != nil {
		return err
	}
	defer leave()
	select {
	case p.writing <- struct{}{}:
		defer func() { <-p.writing }()
	case <-ctx.Done():
		return ctx.Err()
	}
	inner, cancel := context.WithTimeout(ctx, longTimeout)
	defer cancel()
	job := jobDoc{ID: bson.NewObjectID()}
	if _, err := p.jobs.InsertOne(inner, job); err != nil {
		return translate(ctx, err)
	}
	err = p.write(inner, job.ID, stored, content)
	if err != nil {
		after, cancel := context.WithTimeout(context.WithoutCancel(ctx), opTimeout)
		defer cancel()
		// Where that fails, Tidy does it.
		if p.deleteFile(after, job.ID) == nil {
			_, _ = p.jobs.DeleteOne(after, bson.D{is("_id", job.ID)})
		}
		return translate(ctx, err)
	}
	_, _ = p.jobs.DeleteOne(inner, bson.D{is("_id", job.ID)}) // Tidy finds that the file is whole
	return nil
}

// write writes a file with the id.
func (p *photoStore) write(ctx context.Context, id bson.ObjectID, stored inspections.Digest, content io.WriterTo) error {
	stream, err := p.db.GridFSBucket().OpenUploadStreamWithID(ctx, id, stored.String())
	if err != nil {
		return err
	}
	if _, err := content.WriteTo(stream); err != nil {
		return errors.Join(err, stream.Abort())
	}
	return stream.Close()
}

// deleteFile deletes a file, also one that was not written to its end.
func (p *photoStore) deleteFile(ctx context.Context, id any) error {
	if _, err := p.files.DeleteOne(ctx, bson.D{is("_id", id)}); err != nil {
		return err
	}
	_, err := p.chunks.DeleteMany(ctx, bson.D{is("files_id", id)})
	return err
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

// finishDeleting deletes the files that the job names unless a photo has them,
// and the job.
func (p *photoStore) finishDeleting(ctx context.Context, job jobDoc) (removed int, err error) {
	files, err := p.filesNamed(ctx, job.Deletes)
	if err != nil {
		return 0, err
	}
	used, err := p.used(ctx, job.Deletes)
	if err != nil {
		return 0, err
	}
	if !used {
		for _, f := range files {
			if err := p.deleteFile(ctx, f.ID); err != nil {
				return removed, err
			}
			removed++
		}
	}
	_, err = p.jobs.DeleteOne(ctx, bson.D{is("_id", job.ID)})
	return removed, err
}

// Tidy implements inspections.Photos. A file that no photo has is one that was
// being written or deleted, and jobs tell which those were.
func (p *photoStore) Tidy(ctx context.Context) (removed int, err error) {
	var jobs []jobDoc
	err = p.do(ctx, func(ctx context.Context) error {
		cursor, err := p.jobs.Find(ctx, bson.D{})
		if err != nil {
			return err
		}
		return cursor.All(ctx, &jobs)
	})
	if err != nil {
		return 0, err
	}
	for _, job := range jobs {
		if time.Since(job.ID.Timestamp()) < jobAfter {
			continue
		}
		err := p.do(ctx, func(ctx context.Context) error {
			if job.Deletes != "" {
				n, err := p.finishDeleting(ctx, job)
				removed += n
				return err
			}
			// A file that was written to its end is one of GridFS, and deleted only
			// where nobody has it.
			var f fileDoc
			err := p.files.FindOne(ctx, bson.D{is("_id", job.ID)}).Decode(&f)
			switch {
			case err == nil:
				deleting := jobDoc{ID: bson.NewObjectID(), Deletes: f.Name}
				if _, err := p.jobs.InsertOne(ctx, deleting); err != nil {
					return err
				}
				n, err := p.finishDeleting(ctx, deleting)
				removed += n
				if err != nil {
					return err
				}
			case errors.Is(err, mongo.ErrNoDocuments):
				removed++
				if err := p.deleteFile(ctx, job.ID); err != nil {
					return err
				}
			default:
				return err
			}
			_, err = p.jobs.DeleteOne(ctx, bson.D{is("_id", job.ID)})
			return err
		})
		if err != nil {
			return removed, err
		}
	}
	return removed, nil
}
