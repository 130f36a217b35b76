package photos_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"io"
	"math/rand/v2"
	"slices"
	"testing"

	"xuncha/inspections"
	"xuncha/inspections/photos"
)

// benchPhoto returns a JPEG of about 4 MiB, as a camera writes it: nearly random
// bytes without a marker among them, and a comment to take out.
func benchPhoto(b *testing.B) []byte {
	b.Helper()
	file := photo(b, 1, "a comment")
	noise := make([]byte, 4<<20)
	_, _ = rand.NewChaCha8([32]byte{}).Read(noise) // which never fails
	noise = bytes.ReplaceAll(noise, []byte{0xff}, []byte{0xfe})
	return slices.Insert(file, len(file)-2, noise...)
}

// A hashingStore keeps the hash of each file and not the file.
type hashingStore struct{ photos.Store }

func (hashingStore) Keep(_ context.Context, k photos.Kept, content io.WriterTo) (photos.Kept, error) {
	hash := sha256.New()
	n, err := content.WriteTo(hash)
	k.Size = n
	hash.Sum(k.Stored[:0])
	return k, err
}

// BenchmarkFinish measures what it costs to finish a photo that has come. It needs
// no disk, so its time is that of the processor.
func BenchmarkFinish(b *testing.B) {
	file := benchPhoto(b)
	w := newWorld(b)
	w.Service = w.open(b, hashingStore{w.store})
	b.SetBytes(int64(len(file)))
	for i := range b.N {
		b.StopTimer()
		c := w.checkIn(i)
		c.Photos = []inspections.Photo{{SHA256: sha256.Sum256(file), Size: int64(len(file)), ContentType: "image/jpeg"}}
		ref := refOf(w.submit(b, c), 0)
		must(b, w.store.Receive(b.Context(), ref, 0, file))
		u, err := w.BeginUpload(b.Context(), "officer", ref, int64(len(file)), nil)
		must(b, err)
		b.StartTimer()
		if state, err := u.End(b.Context()); err != nil || !state.Stored {
			b.Fatalf("got %+v, %v; want it stored", state, err)
		}
		u.Close()
	}
}
