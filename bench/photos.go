package main

import (
	"bytes"
	"context"
	"crypto/sha256"
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
	// At the end of the quantization table that the picture uses, so that what is compressed
	// stays that, and what is kept of two photos differs.
	a.at = bytes.Index(a.base, []byte{0xff, 0xdb}) + 2 + 2 + 1 + 48
	return a, nil
}

// photo returns another photo at each call.
func (a *album) photo() []byte {
	b := bytes.Clone(a.base)
	id := uuid.New()
	for i := range id {
		b[a.at+i] = id[i] | 1
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

// declareMany declares n photos of the album.
func (c *city) declareMany(ctx context.Context, sites []string, a *album, n int) ([]client.Photo, error) {
	out := make([]client.Photo, n)
	for i := range out {
		var err error
		if out[i], err = c.declare(ctx, sites[i%len(sites)], a.photo()); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// uploadAll uploads photos, of so many uploaders at once, and returns how long that
// took and the server's CPU time.
func (c *city) uploadAll(ctx context.Context, list []client.Photo) (took, cpu time.Duration, err error) {
	before, errBefore := c.cpu()
	took, err = together(uploaders, func(i int) error {
		for j := i; j < len(list); j += uploaders {
			if err := c.upload(ctx, i, list[j]); err != nil {
				return err
			}
		}
		return nil
	})
	after, errAfter := c.cpu()
	if errBefore == nil && errAfter == nil {
		cpu = after - before
	}
	return took, cpu, err
}

// mib is how many MiB photos have.
func mib(list []client.Photo) (size float64) {
	for _, p := range list {
		size += float64(len(p.Content)) / (1 << 20)
	}
	return size
}

// fileCPU returns how much CPU time it takes, at least, to store the photos: one
// SHA-256, one write and one flush of each.
func fileCPU(folder string, list []client.Photo) (time.Duration, error) {
	before, err := ownCPU()
	if err != nil {
		return 0, err
	}
	for _, p := range list {
		name := filepath.Join(folder, "least")
		sha256.Sum256(p.Content)
		if err := errors.Join(writeFile(name, p.Content), os.Remove(name)); err != nil {
			return 0, err
		}
	}
	after, err := ownCPU()
	return after - before, err
}

// ownCPU returns how much CPU time this process has taken.
func ownCPU() (time.Duration, error) {
	data, err := os.ReadFile("/proc/self/stat")
	if err != nil {
		return 0, err
	}
	return readCPU(string(data))
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
	list, err := city.declareMany(ctx, sites, album, atOnce)
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
	var files, uploads, ratios, cpu, least []float64
	for range o.rounds {
		if list, err = city.declareMany(ctx, sites, album, uploaders*photosEach); err != nil {
			return nil, err
		}
		size := mib(list)
		took, err := together(uploaders, func(i int) error {
			for j := i; j < len(list); j += uploaders {
				name := filepath.Join(folder, fmt.Sprint("file", j))
				if err := writeFile(name, list[j].Content); err != nil {
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
		took, spent, err := city.uploadAll(ctx, list)
		if err != nil {
			return nil, err
		}
		upload := size / took.Seconds()
		files, uploads, ratios = append(files, file), append(uploads, upload), append(ratios, upload/file)
		must, err := fileCPU(folder, list)
		if err != nil {
			return nil, err
		}
		cpu, least = append(cpu, spent.Seconds()*1000/size), append(least, must.Seconds()*1000/size)
	}
	ratio, times := median(ratios), median(cpu)/median(least)
	return []row{
		{
			fmt.Sprintf("UploadPhoto, %d at once of %.1f MB, stored and flushed", uploaders, float64(len(album.base))/1e6),
			fmt.Sprintf("%.2f × files written and flushed (%.0f of %.0f MiB a second)", ratio, median(uploads), median(files)), "", "≥ 0.50 × files", ratio >= 0.5,
		},
		{
			"the same, against one SHA-256, one write and one flush", fmt.Sprintf("%.1f × the CPU time", times),
			fmt.Sprintf("%.2f ms a MiB, of %.2f", median(cpu), median(least)), "≤ 3.0 ×", times <= 3,
		},
		{fmt.Sprintf("resident memory at most, %d uploads at once", atOnce), fmt.Sprintf("%.1f MiB", memory), "", "≤ 95 MiB", memory <= 95},
	}, nil
}
