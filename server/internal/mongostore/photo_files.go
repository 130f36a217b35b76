package mongostore

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"

	"xuncha/inspections"
	"xuncha/inspections/photos"
)

// A jobDoc is there while a file is written or deleted. What a crash leaves of
// either is found by it.
type jobDoc struct {
	ID bson.ObjectID `bson:"_id"` // of what is written, that of the file
	// Deletes is the name of what is deleted; empty of what is written.
	Deletes string `bson:"deletes"`
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

// Size implements photos.File.
func (f *piecedFile) Size() int64 { return f.size }

// Close implements photos.File.
func (f *piecedFile) Close() error { return nil }

// ReadAt implements photos.File.
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

// Open implements photos.Store.
func (p *photoStore) Open(ctx context.Context, stored inspections.Digest) (photos.File, error) {
	lost := fmt.Errorf("%s: %w", stored, photos.ErrLost)
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

// newPrefix begins the name of a file that is being written: its hash, which names
// it later, is known at its end.
const newPrefix = "new/"

// A newFile is a file that was written and that no photo has yet. Its job is there
// until it has, or is deleted.
type newFile struct {
	id   bson.ObjectID
	sum  inspections.Digest
	size int64
}

// writeNew writes a file to GridFS, and takes its hash on the way.
func (p *photoStore) writeNew(ctx context.Context, content io.WriterTo) (newFile, error) {
	leave, err := p.gate.Enter(ctx)
	if err != nil {
		return newFile{}, err
	}
	defer leave()
	select {
	case p.writing <- struct{}{}:
		defer func() { <-p.writing }()
	case <-ctx.Done():
		return newFile{}, ctx.Err()
	}
	inner, cancel := context.WithTimeout(ctx, longTimeout)
	defer cancel()
	out := newFile{id: bson.NewObjectID()}
	if _, err := p.jobs.InsertOne(inner, jobDoc{ID: out.id}); err != nil {
		return newFile{}, translate(ctx, err)
	}
	hash := sha256.New()
	stream, err := p.db.GridFSBucket().OpenUploadStreamWithID(inner, out.id, newPrefix+out.id.Hex())
	if err == nil {
		if out.size, err = content.WriteTo(io.MultiWriter(stream, hash)); err != nil {
			err = errors.Join(err, stream.Abort())
		} else {
			err = stream.Close()
		}
	}
	if err != nil {
		p.drop(ctx, out)
		return newFile{}, translate(ctx, err)
	}
	hash.Sum(out.sum[:0])
	return out, nil
}

// place gives the file the name by which photos have it.
func (p *photoStore) place(ctx context.Context, f newFile) error {
	_, err := p.files.UpdateOne(ctx, bson.D{is("_id", f.id)}, bson.D{is("$set", bson.D{is("filename", f.sum.String())})})
	if err == nil {
		_, _ = p.jobs.DeleteOne(ctx, bson.D{is("_id", f.id)}) // otherwise Tidy finds that a photo has it
	}
	return err
}

// drop deletes a file that no photo has, whether or not the caller waits. Where that
// fails, Tidy does it.
func (p *photoStore) drop(ctx context.Context, f newFile) {
	after, cancel := context.WithTimeout(context.WithoutCancel(ctx), opTimeout)
	defer cancel()
	if p.deleteFile(after, f.id) == nil {
		_, _ = p.jobs.DeleteOne(after, bson.D{is("_id", f.id)})
	}
}

// deleteFile deletes a file, also one that was not written to its end.
func (p *photoStore) deleteFile(ctx context.Context, id any) error {
	if _, err := p.files.DeleteOne(ctx, bson.D{is("_id", id)}); err != nil {
		return err
	}
	_, err := p.chunks.DeleteMany(ctx, bson.D{is("files_id", id)})
	return err
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

// Tidy implements photos.Store. A file that no photo has is one that was
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
