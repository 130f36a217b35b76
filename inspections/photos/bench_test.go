package photos_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"image"
	"image/jpeg"
	"io"
	"math/rand/v2"
	"slices"
	"testing"

	"xuncha/inspections"
	"xuncha/inspections/photos"
)

// benchPhoto returns a JPEG of about 4 MiB of noise, and a comment to take out.
func benchPhoto(b *testing.B) []byte {
	b.Helper()
	random := rand.NewChaCha8([32]byte{})
	m := image.NewGray(image.Rect(0, 0, 2400, 1800))
	_, _ = random.Read(m.Pix) // which never fails
	var out bytes.Buffer
	must(b, jpeg.Encode(&out, m, &jpeg.Options{Quality: 94}))
	const comment = "\xff\xfe\x00\x0ba comment"
	return slices.Concat(out.Bytes()[:2], []byte(comment), out.Bytes()[2:])
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
