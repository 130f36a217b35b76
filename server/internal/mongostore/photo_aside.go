package mongostore

import (
	"context"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"xuncha/inspections"
	"xuncha/inspections/photos"
)

// SetAside implements photos.Store. A file that was set aside has a mark with the day.
// It stays where it is, and photos find it as before: so it is there at once where the
// documents of photos are put back, and nobody else need know of the mark.
func (p *photoStore) SetAside(ctx context.Context, today, before photos.Day) (a photos.Aside, err error) {
	a.Where = "fs.files where unknown is " + string(today)
	for after := ""; ; {
		var page []fileDoc
		var used map[string]bool
		err := p.do(ctx, func(ctx context.Context) (err error) {
			// The files first: whoever keeps a photo stores its document before it gives a
			// file its name.
			if page, err = p.named(ctx, after); err != nil || len(page) == 0 {
				return err
			}
			used, err = p.used(ctx, namesOf(page)...)
			return err
		})
		if err != nil || len(page) == 0 {
			return a, err
		}
		for _, f := range page {
			after = f.Name
			if _, err := inspections.ParseDigest(f.Name); err != nil {
				continue // not ours
			}
			if used[f.Name] && f.Unknown == "" {
				continue
			}
			err := p.do(ctx, func(ctx context.Context) error { return p.sort(ctx, &a, f, used[f.Name], today, before) })
			if err != nil {
				return a, err
			}
		}
	}
}

// named returns a page of the files that have the name by which photos have them, by that
// name. Of several with one name it may have some only.
func (p *photoStore) named(ctx context.Context, after string) (out []fileDoc, err error) {
	// Names are hexadecimal; those of files that are written or deleted come later.
	cursor, err := p.files.Find(ctx, bson.D{is("filename", between(after+" ", "g"))},
		options.Find().SetSort(bson.D{is("filename", 1)}).SetLimit(p.page))
	if err != nil {
		return nil, err
	}
	return out, cursor.All(ctx, &out)
}

func namesOf(files []fileDoc) (out []string) {
	for _, f := range files {
		out = append(out, f.Name)
	}
	return out
}

// sort does with a file what is to be done: it takes away the mark of one that a photo
// has, and marks one that none has, or deletes it where its day lies before the one given.
func (p *photoStore) sort(ctx context.Context, a *photos.Aside, f fileDoc, used bool, today, before photos.Day) error {
	switch {
	case used:
		back, err := changed(p.files.UpdateMany(ctx, bson.D{is("filename", f.Name), is("unknown", bson.D{is("$exists", true)})},
			bson.D{is("$unset", bson.D{is("unknown", "")})}))
		if back {
			a.Back++
		}
		return err
	case f.Unknown == "":
		files, err := p.unusedNamed(ctx, f.Name)
		if err != nil {
			return err
		}
		for _, f := range files {
			if f.Unknown != "" {
				continue
			}
			// As in deleteUnused: one that was claimed in between is not marked.
			marked, err := changed(p.files.UpdateOne(ctx, f.asClaimed(), bson.D{is("$set", bson.D{is("unknown", string(today))})}))
			if err != nil {
				return err
			}
			if marked {
				a.Unknown++
			}
		}
		return nil
	case photos.Day(f.Unknown) < before:
		n, err := p.deleteUnused(ctx, f.Name)
		a.Dropped += n
		return err
	}
	return nil
}
