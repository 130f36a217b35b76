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

	xunchav1 "xuncha/proto/xuncha/v1"
)

const (
	// uploaders upload at once, each photosEach photos one after the other.
	uploaders, photosEach = 8, 8
	// atOnce is how many upload at once where the memory is measured.
	atOnce = 64
	// uploadPart is how many bytes go in one message.
	uploadPart = 16 << 10
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

// A declared photo is one whose check-in is stored.
type declared struct {
	content []byte
	spec    *xunchav1.PhotoUploadSpec
}

// declare submits a check-in with a photo.
func (c *city) declare(ctx context.Context, site string, content []byte) (declared, error) {
	sum := sha256.Sum256(content)
	report := &xunchav1.CheckIn{
		CheckInId: uuid.NewString(), SiteId: site, CaptureTime: timestamppb.Now(), Finding: xunchav1.Finding_FINDING_CLOSED,
		Photos: []*xunchav1.Photo{{Sha256: sum[:], SizeBytes: int64(len(content)), ContentType: "image/jpeg"}},
	}
	_, err := xunchav1.NewInspectionServiceClient(c.conns[0]).SubmitCheckIn(ctx, &xunchav1.SubmitCheckInRequest{CheckIn: report})
	return declared{content, &xunchav1.PhotoUploadSpec{Sha256: sum[:], CheckInId: report.CheckInId, SiteId: site}}, err
}

// upload uploads the photo.
func (c *city) upload(ctx context.Context, conn int, d declared) error {
	stream, err := xunchav1.NewPhotoServiceClient(c.conns[conn%len(c.conns)]).UploadPhoto(ctx)
	if err != nil {
		return err
	}
	err = stream.Send(&xunchav1.UploadPhotoRequest{Part: &xunchav1.UploadPhotoRequest_Spec{Spec: d.spec}})
	for part := range slices.Chunk(d.content, uploadPart) {
		if err != nil {
			break // and CloseAndRecv says why
		}
		err = stream.Send(&xunchav1.UploadPhotoRequest{Part: &xunchav1.UploadPhotoRequest_Data{Data: part}})
	}
	answer, err := stream.CloseAndRecv()
	if err == nil && !answer.Stored {
		err = errors.New("it is not stored")
	}
	return err
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
	many := func(n int) ([]declared, error) {
		out := make([]declared, n)
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
				if err := writeFile(name, list[i*photosEach+j].content); err != nil {
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
