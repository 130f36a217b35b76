package mongotest

import (
	"context"
	"errors"
	"fmt"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
	"go.mongodb.org/mongo-driver/v2/x/mongo/driver/connstring"
)

// Strays returns what a database at an address has of files that no photo has, and the
// photos that were never stored to their end.
func Strays(ctx context.Context, address string) (strays []string, err error) {
	parsed, err := connstring.ParseAndValidate(address)
	if err != nil {
		return nil, err
	}
	client, err := mongo.Connect(options.Client().ApplyURI(address))
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, client.Disconnect(context.WithoutCancel(ctx))) }()
	db := client.Database(parsed.Database)
	var photos []struct {
		Key    string `bson:"_id"`
		Stored string `bson:"stored"`
		Held   bool   `bson:"held"`
		Purged bool   `bson:"purged"`
	}
	var files []struct {
		ID   bson.RawValue `bson:"_id"`
		Name string        `bson:"filename"`
	}
	var chunks []struct {
		File bson.RawValue `bson:"files_id"`
	}
	// Photos last: a file is only there once its photo is held, or has a name of its own.
	if err := all(ctx, db.Collection("fs.chunks"), &chunks, "files_id"); err != nil {
		return nil, err
	}
	if err := all(ctx, db.Collection("fs.files"), &files, "filename"); err != nil {
		return nil, err
	}
	if err := all(ctx, db.Collection("photos"), &photos, "stored", "held", "purged"); err != nil {
		return nil, err
	}
	wanted, there := map[string]bool{}, map[string]bool{}
	for _, p := range photos {
		if p.Held {
			strays = append(strays, "the photo "+p.Key+" is held")
		}
		if !p.Purged {
			wanted[p.Stored] = true
		}
	}
	for _, f := range files {
		there[f.ID.String()] = true
		if !wanted[f.Name] {
			strays = append(strays, "no photo has the file "+f.Name)
		}
	}
	for _, c := range chunks {
		if id := c.File.String(); !there[id] {
			there[id] = true // it is named once
			strays = append(strays, "chunks are of no file: "+id)
		}
	}
	return strays, nil
}

// all reads some fields of all documents of a collection.
func all(ctx context.Context, in *mongo.Collection, into any, fields ...string) error {
	only := bson.D{}
	for _, f := range fields {
		only = append(only, bson.E{Key: f, Value: 1})
	}
	cursor, err := in.Find(ctx, bson.D{}, options.Find().SetProjection(only))
	if err == nil {
		err = cursor.All(ctx, into)
	}
	if err != nil {
		return fmt.Errorf("reading %s: %w", in.Name(), err)
	}
	return nil
}
