package mongostore

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"xuncha/inspections"
	"xuncha/inspections/photos"
)

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
	// Claim is new whenever a photo has come to rely on the file.
	Claim *bson.ObjectID `bson:"claim,omitempty"`
	// Unknown is the day on which the file was set aside, since no photo has it; empty of
	// others. Photos find it all the same.
	Unknown string `bson:"unknown,omitempty"`
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

const (
	// newPrefix begins the name of a file that is being written: its hash, which names
	// it later, is known at its end.
	newPrefix = "new/"
	// oldPrefix begins the name of a file that is being deleted, and by which nobody
	// finds it any more.
	oldPrefix = "old/"
)

// A newFile is a file that was written and that no photo has yet.
type newFile struct {
	sum  inspections.Digest
	size int64
}

// write writes the content to the file of the job, and takes its hash on the way. The
// error of the content is failed, and every other one err.
func (p *photoStore) write(ctx context.Context, bucket *mongo.GridFSBucket, id bson.ObjectID, content io.WriterTo) (f newFile, failed, err error) {
	leave, err := p.gate.Enter(ctx)
	if err != nil {
		return f, nil, err
	}
	defer leave()
	inner, cancel := context.WithTimeout(ctx, longTimeout)
	defer cancel()
	hash := sha256.New()
	stream, err := bucket.OpenUploadStreamWithID(inner, id, newPrefix+id.Hex())
	if err != nil {
		return f, nil, translate(ctx, err)
	}
	to := &storing{to: stream}
	f.size, err = content.WriteTo(io.MultiWriter(to, hash))
	switch {
	case to.err != nil:
		return f, nil, translate(ctx, to.err)
	case err != nil:
		return f, err, nil
	}
	hash.Sum(f.sum[:0])
	return f, nil, translate(ctx, stream.Close())
}

// A storing remembers that writing has failed, and not what was to be written.
type storing struct {
	to  io.Writer
	err error
}

// Write implements io.Writer.
func (w *storing) Write(b []byte) (n int, err error) {
	n, err = w.to.Write(b)
	if err != nil {
		w.err = err
	}
	return n, err
}

// place gives the file of the job the name by which photos have it. It reports whether
// the file was still there.
func (p *photoStore) place(ctx context.Context, id bson.ObjectID, sum inspections.Digest) (bool, error) {
	return changed(p.files.UpdateOne(ctx, bson.D{is("_id", id), is("filename", newPrefix+id.Hex())},
		bson.D{is("$set", bson.D{is("filename", sum.String())})}))
}

// claim looks for a file with the name for a photo that relies on it from now on, and
// reports whether there is one. The photo's document must be there and held, see
// deleteUnused.
func (p *photoStore) claim(ctx context.Context, name string) (bool, error) {
	return changed(p.files.UpdateOne(ctx, bson.D{is("filename", name)},
		bson.D{is("$set", bson.D{is("claim", bson.NewObjectID())}), is("$unset", bson.D{is("unknown", "")})}))
}

// changed reports whether an update has found what it was to change.
func changed(r *mongo.UpdateResult, err error) (bool, error) {
	return err == nil && r.MatchedCount > 0, err
}

// deleteUnused deletes the files with the name, unless a photo has them.
//
// It looks for the files, then for photos, and then deletes those files that nobody has
// claimed in between, each by one conditional update. Whoever keeps a photo stores its
// document first and then claims a file, or gives the name to a new one. So either the
// document is found here, or the claim or the new file came later than the list, and
// the file stays: however slow any of them is.
func (p *photoStore) deleteUnused(ctx context.Context, name string) (removed int, err error) {
	files, err := p.unusedNamed(ctx, name)
	if err != nil {
		return 0, err
	}
	for _, f := range files {
		doomed, err := p.doom(ctx, f)
		if err != nil {
			return removed, err
		}
		if doomed {
			n, err := p.remove(ctx, f.ID)
			if removed += n; err != nil {
				return removed, err
			}
		}
	}
	return removed, nil
}

// unusedNamed returns the files with the name, or none where a photo has them.
func (p *photoStore) unusedNamed(ctx context.Context, name string) ([]fileDoc, error) {
	files, err := p.filesNamed(ctx, name)
	if err != nil || len(files) == 0 {
		return nil, err
	}
	if used, err := p.used(ctx, name); err != nil || len(used) > 0 {
		return nil, err
	}
	return files, nil
}

// used returns those of the files' names that a photo has, or of which somebody stores
// one.
func (p *photoStore) used(ctx context.Context, names ...string) (map[string]bool, error) {
	var docs []struct {
		Stored string `bson:"stored"`
	}
	cursor, err := p.photos.Find(ctx, bson.D{is("stored", bson.D{is("$in", names)}), is("purged", false), is("$or", bson.A{
		bson.D{is("held", false)}, bson.D{is("job", bson.D{is("$exists", true)})},
	})}, options.Find().SetProjection(bson.D{is("stored", 1)}))
	if err == nil {
		err = cursor.All(ctx, &docs)
	}
	out := map[string]bool{}
	for _, d := range docs {
		out[d.Stored] = true
	}
	return out, err
}

// asClaimed finds the file as long as it has its name and the claim on it.
func (f *fileDoc) asClaimed() bson.D {
	filter := bson.D{is("_id", f.ID), is("filename", f.Name), is("claim", bson.D{is("$exists", false)})}
	if f.Claim != nil {
		filter[2] = is("claim", *f.Claim)
	}
	return filter
}

// doom takes the file's name, unless that or the claim on it has changed. Whoever
// reports true, or finds such a file, may remove it.
func (p *photoStore) doom(ctx context.Context, f fileDoc) (bool, error) {
	return changed(p.files.UpdateOne(ctx, f.asClaimed(), bson.D{is("$set", bson.D{is("filename", oldPrefix+f.Name)})}))
}

// remove deletes a file that was doomed. Its chunks go first, since they are found by it.
func (p *photoStore) remove(ctx context.Context, id any) (removed int, err error) {
	if _, err := p.chunks.DeleteMany(ctx, bson.D{is("files_id", id)}); err != nil {
		return 0, err
	}
	r, err := p.files.DeleteOne(ctx, bson.D{is("_id", id), is("filename", between(oldPrefix, after(oldPrefix)))})
	if err != nil {
		return 0, err
	}
	return int(r.DeletedCount), nil
}

// after is what follows all that begins with the prefix, which ends with a slash.
func after(prefix string) string { return prefix[:len(prefix)-1] + "0" }

// removeWritten deletes the file that the job wrote, unless it has the name by which
// photos have it. Such a file is whole, and SetAside sees to it where none has. Nobody may
// write to it any more.
func (p *photoStore) removeWritten(ctx context.Context, id bson.ObjectID) (removed int, err error) {
	for {
		var f fileDoc
		err := p.files.FindOne(ctx, bson.D{is("_id", id)}).Decode(&f)
		switch {
		case errors.Is(err, mongo.ErrNoDocuments):
			r, err := p.chunks.DeleteMany(ctx, bson.D{is("files_id", id)})
			if err != nil {
				return 0, err
			}
			return int(min(r.DeletedCount, 1)), nil
		case err != nil:
			return 0, err
		case strings.HasPrefix(f.Name, oldPrefix):
			return p.remove(ctx, id)
		case !strings.HasPrefix(f.Name, newPrefix):
			return 0, nil
		}
		if doomed, err := p.doom(ctx, f); err != nil {
			return 0, err
		} else if doomed {
			return p.remove(ctx, id)
		}
		// It was given its name meanwhile, which happens once.
	}
}
