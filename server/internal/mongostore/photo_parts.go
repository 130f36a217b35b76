package mongostore

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"xuncha/inspections/photos"
)

// A partDoc is a part of what has come of a photo. Parts may overlap.
type partDoc struct {
	ID     string `bson:"_id"` // photo, offset and size
	Photo  string `bson:"photo"`
	Offset int64  `bson:"offset"`
	Size   int64  `bson:"size"`
	// Came is when, in nanoseconds since 1970-01-01 UTC, by the clock of the server that
	// took it. That clock may be wrong. Where it was ahead, the part is kept longer. Where
	// it was behind, the part is kept until no reading of the last 24 hours was.
	Came  int64  `bson:"came"`
	Bytes []byte `bson:"bytes,omitempty"`
}

// readParts returns up to n parts in their order, without their bytes; 0 means all.
func (p *photoStore) readParts(ctx context.Context, filter bson.D, n int64) (out []partDoc, err error) {
	cursor, err := p.parts.Find(ctx, filter, options.Find().SetSort(bson.D{is("photo", 1), is("offset", 1), is("size", 1)}).
		SetProjection(bson.D{is("bytes", 0)}).SetLimit(n))
	if err != nil {
		return nil, err
	}
	return out, cursor.All(ctx, &out)
}

// partsOf returns the parts of what has come of the photo that follow each other
// from its beginning on.
func (p *photoStore) partsOf(ctx context.Context, key string) (out []partDoc, received int64, err error) {
	all, err := p.readParts(ctx, bson.D{is("photo", key)}, 0)
	if err != nil {
		return nil, 0, err
	}
	out, received = join(all)
	return out, received, nil
}

// join returns those parts of a photo that follow each other from its beginning on, and
// how many bytes they have.
func join(all []partDoc) (out []partDoc, received int64) {
	for _, d := range all {
		if d.Offset > received {
			break
		}
		if d.Offset+d.Size > received {
			out = append(out, d)
			received = d.Offset + d.Size
		}
	}
	return out, received
}

// Receive implements photos.Store. Where this server has stored all that comes before,
// it need not look. Another may have discarded that meanwhile; then there is a gap, and
// whoever wants to finish the photo is told that it has not come.
func (p *photoStore) Receive(ctx context.Context, r photos.Ref, offset int64, b []byte) error {
	key := keyOf(r)
	return p.do(ctx, func(ctx context.Context) error {
		if known, ok := p.received.Get(key); !ok || known != offset {
			_, received, err := p.partsOf(ctx, key)
			if err != nil {
				return err
			}
			if offset > received {
				return fmt.Errorf("%d %w: %d bytes", offset, photos.ErrOffset, received)
			}
			there := received - offset
			if there >= int64(len(b)) {
				return nil
			}
			offset, b = received, b[there:]
		}
		if len(b) == 0 {
			return nil
		}
		_, err := p.parts.InsertOne(ctx, partDoc{
			ID: fmt.Sprintf("%s/%d/%d", key, offset, len(b)), Photo: key, Offset: offset, Size: int64(len(b)),
			Came: time.Now().UnixNano(), Bytes: b,
		})
		if err != nil && !mongo.IsDuplicateKeyError(err) {
			return err
		}
		p.received.Add(key, offset+int64(len(b)))
		return nil
	})
}

// Secure implements photos.Store. A majority has what was received.
func (p *photoStore) Secure(ctx context.Context, _ photos.Ref) error { return ctx.Err() }

// Discard implements photos.Store.
func (p *photoStore) Discard(ctx context.Context, r photos.Ref) error {
	return p.do(ctx, func(ctx context.Context) error {
		_, err := p.parts.DeleteMany(ctx, bson.D{is("photo", keyOf(r))})
		p.received.Remove(keyOf(r))
		return err
	})
}

// Partials implements photos.Store. It reads what the parts are in pages.
func (p *photoStore) Partials(ctx context.Context, each func(photos.Ref, int64, time.Time) error) error {
	for after := ""; ; {
		var page []partDoc
		err := p.do(ctx, func(ctx context.Context) (err error) {
			page, err = p.readParts(ctx, bson.D{is("photo", bson.D{is("$gt", after)})}, p.page)
			if err != nil || int64(len(page)) < p.page {
				return err
			}
			// The last photo of a full page may have more parts. The next page begins with
			// it, or it is all there is of this one.
			last := page[len(page)-1].Photo
			first := slices.IndexFunc(page, func(d partDoc) bool { return d.Photo == last })
			if first > 0 {
				page = page[:first]
				return nil
			}
			page, err = p.readParts(ctx, bson.D{is("photo", last)}, 0)
			return err
		})
		if err != nil || len(page) == 0 {
			return err
		}
		for len(page) > 0 {
			after = page[0].Photo
			n := slices.IndexFunc(page, func(d partDoc) bool { return d.Photo != after })
			if n < 0 {
				n = len(page)
			}
			parts := page[:n]
			page = page[n:]
			r, err := readKey(after)
			if err != nil {
				continue // not ours
			}
			_, received := join(parts)
			last := slices.MaxFunc(parts, func(a, b partDoc) int { return cmp.Compare(a.Came, b.Came) }).Came
			if err := each(r, received, time.Unix(0, last)); err != nil {
				return err
			}
		}
	}
}

// Partial implements photos.Store.
func (p *photoStore) Partial(ctx context.Context, r photos.Ref) (photos.File, error) {
	f := &piecedFile{}
	var parts []partDoc
	err := p.do(ctx, func(ctx context.Context) (err error) {
		parts, f.size, err = p.partsOf(ctx, keyOf(r))
		return err
	})
	if err != nil {
		return nil, err
	}
	missing := fmt.Errorf("%s: %w", r.SHA256, photos.ErrMissing)
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
