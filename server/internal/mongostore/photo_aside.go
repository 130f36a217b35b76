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
func (p *photoStore) SetAside(ctx context.Context, today photos.Day, drop func(inspections.Digest, photos.Day) (bool, error)) (a photos.Aside, err error) {
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
			stored, err := inspections.ParseDigest(f.Name)
			if err != nil {
				continue // not ours
			}
			if used[f.Name] {
				if f.Unknown != "" {
					err = p.do(ctx, func(ctx context.Context) error { return p.unmark(ctx, &a, f.Name) })
				}
			} else {
				err = p.decide(ctx, &a, f, stored, today, drop)
			}
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

// unmark takes away the mark of files that a photo has.
func (p *photoStore) unmark(ctx context.Context, a *photos.Aside, name string) error {
	back, err := changed(p.files.UpdateMany(ctx, bson.D{is("filename", name), is("unknown", bson.D{is("$exists", true)})},
		bson.D{is("$unset", bson.D{is("unknown", "")})}))
	if back {
		a.Back++
	}
	return err
}

// decide marks a file that no photo has, and deletes it where that is to be done. Drop may
// take long, so it is asked outside of what must be quick.
func (p *photoStore) decide(ctx context.Context, a *photos.Aside, f fileDoc, stored inspections.Digest, today photos.Day, drop func(inspections.Digest, photos.Day) (bool, error)) error {
	on := photos.Day(f.Unknown)
	if on == "" {
		on = today
		marked := 0
		err := p.do(ctx, func(ctx context.Context) (err error) {
			marked, err = p.mark(ctx, f.Name, today)
			return err
		})
		if a.Unknown += marked; err != nil || marked == 0 {
			return err // where nothing was marked, a photo has it by now
		}
	}
	gone, err := drop(stored, on)
	if err != nil || !gone {
		return err
	}
	return p.do(ctx, func(ctx context.Context) error {
		n, err := p.deleteUnused(ctx, f.Name)
		a.Dropped += n
		return err
	})
}

// mark marks the files with the name, unless a photo has them, and returns how many.
func (p *photoStore) mark(ctx context.Context, name string, today photos.Day) (marked int, err error) {
	files, err := p.unusedNamed(ctx, name)
	if err != nil {
		return 0, err
	}
	for _, f := range files {
		if f.Unknown != "" {
			continue
		}
		// As in deleteUnused: one that was claimed in between is not marked.
		ok, err := changed(p.files.UpdateOne(ctx, f.asClaimed(), bson.D{is("$set", bson.D{is("unknown", string(today))})}))
		if err != nil {
			return marked, err
		}
		if ok {
			marked++
		}
	}
	return marked, nil
}
