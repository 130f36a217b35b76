package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"image"
	"image/jpeg"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"
	"google.golang.org/protobuf/types/known/timestamppb"

	"xuncha/client"
	xunchav1 "xuncha/proto/xuncha/v1"
)

const (
	// uploaders upload at once, each photosEach photos one after the other.
	uploaders, photosEach = 8, 8
	// atOnce is how many upload at once where the memory is measured.
	atOnce = 64
)

// An album makes photos that differ, of one picture.
type album struct {
	base []byte
	at   int // where the photos differ
}

// newAlbum makes a JPEG of noise with metadata in it, as a camera's has.
func newAlbum() (*album, error) {
	random := rand.New(rand.NewPCG(1, 2))
	m := image.NewGray(image.Rect(0, 0, 2400, 1800))
	for i := range m.Pix {
		m.Pix[i] = byte(random.Uint32())
	}
	var b bytes.Buffer
	if err := jpeg.Encode(&b, m, &jpeg.Options{Quality: 94}); err != nil {
		return nil, err
	}
	metadata := "Exif\x00\x00" + strings.Repeat("metadata", 1000)
	head := append([]byte{0xff, 0xe1, byte((len(metadata) + 2) >> 8), byte(len(metadata) + 2)}, metadata...)
	a := &album{base: slices.Concat(b.Bytes()[:2], head, b.Bytes()[2:])}
	// Among compressed bytes, none of which is special.
	for a.at = len(a.base) / 2; bytes.IndexByte(a.base[a.at-1:a.at+17], 0xff) >= 0; a.at++ {
	}
	return a, nil
}

// photo returns another photo at each call.
func (a *album) photo() []byte {
	b := bytes.Clone(a.base)
	id := uuid.New()
	for i := range id {
		b[a.at+i] = id[i] & 0x7f
	}
	return b
}

// declare submits a check-in with a photo, which is to be uploaded then.
func (c *city) declare(ctx context.Context, site string, content []byte) (client.Photo, error) {
	photo := client.Declare(content)
	report := &xunchav1.CheckIn{
		CheckInId: uuid.NewString(), SiteId: site, CaptureTime: timestamppb.Now(), Finding: xunchav1.Finding_FINDING_CLOSED,
		Photos: []*xunchav1.Photo{photo},
	}
	receipt, err := c.conns[0].Submit(ctx, report)
	if err != nil {
		return client.Photo{}, err
	}
	return client.Photo{SiteID: site, CheckInID: report.CheckInId, SHA256: photo.Sha256, Content: content, Receipt: receipt.Photos[0]}, nil
}

// upload uploads the photo. What the client has to send again is no part of the
// measurement, so it is told.
func (c *city) upload(ctx context.Context, conn int, p client.Photo) error {
	p.Interrupted = func(err error) { fmt.Fprintln(os.Stderr, "bench: an upload was interrupted:", err) }
	return c.conns[conn%len(c.conns)].UploadPhoto(ctx, p)
}

// together calls f with each number below n, of all at once, and returns how long
// that took.
func together(n int, f func(int) error) (time.Duration, error) {
	errs := make([]error, n)
	begun := time.Now()
	var group sync.WaitGroup
	for i := range n {
		group.Go(func() { errs[i] = f(i) })
	}
	group.Wait()
	return time.Since(begun), errors.Join(errs...)
}

// writeFile writes and flushes a file, as whoever stores photos at least must.
func writeFile(name string, content []byte) error {
	f, err := os.Create(name)
	if err != nil {
		return err
	}
	_, err = f.Write(content)
	return errors.Join(err, f.Sync(), f.Close())
}

// comparePhotos measures uploads against files written and flushed by as many at
// once, and how much memory the server has had when many upload.
func comparePhotos(ctx context.Context, o options, binary string) (rows []row, err error) {
	folder, err := os.MkdirTemp("", "xuncha-bench-")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(folder)) }()
	city, err := startServer(ctx, binary, folder, "")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, city.stop()) }()
	sites, err := city.fill(ctx)
	if err != nil {
		return nil, err
	}
	album, err := newAlbum()
	if err != nil {
		return nil, err
	}
	many := func(n int) ([]client.Photo, error) {
		out := make([]client.Photo, n)
		for i := range out {
			var err error
			if out[i], err = city.declare(ctx, sites[i%len(sites)], album.photo()); err != nil {
				return nil, err
			}
		}
		return out, nil
	}
	list, err := many(atOnce)
	if err != nil {
		return nil, err
	}
	if _, err := together(atOnce, func(i int) error { return city.upload(ctx, i, list[i]) }); err != nil {
		return nil, err
	}
	memory, err := city.peak()
	if err != nil {
		return nil, err
	}
	var files, uploads, ratios []float64
	for range o.rounds {
		if list, err = many(uploaders * photosEach); err != nil {
			return nil, err
		}
		size := float64(len(list)*len(album.base)) / (1 << 20)
		took, err := together(uploaders, func(i int) error {
			for j := range photosEach {
				name := filepath.Join(folder, fmt.Sprint("file", i, j))
				if err := writeFile(name, list[i*photosEach+j].Content); err != nil {
					return err
				}
				defer os.Remove(name)
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
		file := size / took.Seconds()
		took, err = together(uploaders, func(i int) error {
			for j := range photosEach {
				if err := city.upload(ctx, i, list[i*photosEach+j]); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
		upload := size / took.Seconds()
		files, uploads, ratios = append(files, file), append(uploads, upload), append(ratios, upload/file)
	}
	ratio := median(ratios)
	return []row{
		{
			fmt.Sprintf("UploadPhoto, %d at once of %.1f MB, stored and flushed", uploaders, float64(len(album.base))/1e6),
			fmt.Sprintf("%.2f × files written and flushed (%.0f of %.0f MiB a second)", ratio, median(uploads), median(files)), "≥ 0.50 × files", ratio >= 0.5,
		},
		{fmt.Sprintf("resident memory at most, %d uploads at once", atOnce), fmt.Sprintf("%.1f MiB", memory), "≤ 95 MiB", memory <= 95},
	}, nil
}
