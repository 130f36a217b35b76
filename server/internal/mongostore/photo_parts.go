package mongostore

import (
	"context"
	"errors"
	"fmt"
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
	// Came is when, in nanoseconds since 1970-01-01 UTC.
	Came  int64  `bson:"came"`
	Bytes []byte `bson:"bytes,omitempty"`
}

// partsOf returns the parts of what has come of the photo that follow each other
// from its beginning on, without their bytes.
func (p *photoStore) partsOf(ctx context.Context, key string) (out []partDoc, received int64, err error) {
	cursor, err := p.parts.Find(ctx, bson.D{is("photo", key)},
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

// Receive implements photos.Store.
func (p *photoStore) Receive(ctx context.Context, r photos.Ref, offset int64, b []byte) error {
	return p.do(ctx, func(ctx context.Context) error {
		key := keyOf(r)
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
		_, err = p.parts.InsertOne(ctx, partDoc{
			ID: fmt.Sprintf("%s/%d/%d", key, offset, len(b)), Photo: key, Offset: offset, Size: int64(len(b)),
			Came: time.Now().UnixNano(), Bytes: b,
		})
		if mongo.IsDuplicateKeyError(err) {
			return nil
		}
		return err
	})
}

// Secure implements photos.Store. A majority has what was received.
func (p *photoStore) Secure(ctx context.Context, _ photos.Ref) error { return ctx.Err() }

// Discard implements photos.Store.
func (p *photoStore) Discard(ctx context.Context, r photos.Ref) error {
	return p.do(ctx, func(ctx context.Context) error {
		_, err := p.parts.DeleteMany(ctx, bson.D{is("photo", keyOf(r))})
		return err
	})
}

// Partials implements photos.Store.
func (p *photoStore) Partials(ctx context.Context, each func(photos.Ref, int64, time.Time) error) error {
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
		r, err := readKey(next.Photo)
		if err != nil {
			continue // not ours
		}
		if err := each(r, received, time.Unix(0, last)); err != nil {
			return err
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
