package mongostore

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"

	"xuncha/inspections"
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

// store writes a file to GridFS.
func (p *photoStore) store(ctx context.Context, stored inspections.Digest, content io.WriterTo) error {
	leave, err := p.gate.Enter(ctx)
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
