package rpc

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"

	lru "github.com/hashicorp/golang-lru/v2"
	"golang.org/x/sync/semaphore"
	"golang.org/x/sync/singleflight"
	"google.golang.org/grpc"

	"xuncha/inspections"
	"xuncha/inspections/picture"
	xunchav1 "xuncha/proto/xuncha/v1"
	"xuncha/sites"
)

type photoService struct {
	xunchav1.UnimplementedPhotoServiceServer
	config     Config
	thumbnails *thumbnails
}

func newPhotoService(c Config) (*photoService, error) {
	t, err := newThumbnails()
	return &photoService{config: c, thumbnails: t}, err
}

// errThumbnail means that no small picture can be made of one.
var errThumbnail = errors.New("there can be no thumbnail of it")

// downloadPart is how many bytes of a photo are sent in one message.
const downloadPart = 64 << 10

func (s *photoService) UploadPhoto(stream grpc.ClientStreamingServer[xunchav1.UploadPhotoRequest, xunchav1.UploadPhotoResponse]) error {
	ctx := stream.Context()
	first, err := readNext(ctx, stream.Recv)
	if err == io.EOF || err == nil && first.GetSpec() == nil {
		return &sites.FieldError{Field: "spec", Err: errMissing}
	}
	if err != nil {
		return err
	}
	spec := first.GetSpec()
	upload, err := s.config.Inspections.BeginUpload(ctx, account(ctx), toPhotoRef(spec.SiteId, spec.CheckInId, spec.Sha256), spec.Offset, gone(ctx))
	if err != nil {
		return inField("spec", err)
	}
	defer upload.Close()
	for !upload.Stored() {
		part, err := readNext(ctx, stream.Recv)
		if err == io.EOF {
			break
		}
		if err == nil && part.GetSpec() != nil {
			err = &sites.FieldError{Field: "spec", Err: fmt.Errorf("comes twice: %w", errInvalid)}
		}
		if err != nil {
			return errors.Join(err, upload.Break())
		}
		if err := upload.Write(ctx, part.GetData()); err != nil {
			return err
		}
		freeData(part)
	}
	state, err := upload.End(ctx)
	if err != nil {
		return err
	}
	return stream.SendAndClose(&xunchav1.UploadPhotoResponse{ReceivedBytes: state.Received, Stored: state.Stored})
}

func (s *photoService) GetPhotoUpload(ctx context.Context, req *xunchav1.GetPhotoUploadRequest) (*xunchav1.GetPhotoUploadResponse, error) {
	state, err := s.config.Inspections.PhotoState(ctx, toPhotoRef(req.SiteId, req.CheckInId, req.Sha256))
	if err != nil {
		return nil, err
	}
	return &xunchav1.GetPhotoUploadResponse{
		ReceivedBytes: state.Received, Stored: state.Stored, Purged: state.Purged, SizeBytes: state.Size,
	}, nil
}

func (s *photoService) DownloadPhoto(req *xunchav1.DownloadPhotoRequest, stream grpc.ServerStreamingServer[xunchav1.DownloadPhotoResponse]) (err error) {
	ctx := stream.Context()
	ref := toPhotoRef(req.SiteId, req.CheckInId, req.Sha256)
	kept, f, err := s.config.Inspections.OpenPhoto(ctx, ref)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	file := &xunchav1.PhotoFile{ContentType: kept.ContentType, SizeBytes: kept.Size, Sha256: kept.Stored[:]}
	if req.Variant == xunchav1.Variant_VARIANT_THUMBNAIL {
		small, err := s.thumbnails.of(ctx, kept, func(ctx context.Context) (inspections.File, error) {
			_, f, err := s.config.Inspections.OpenPhoto(ctx, ref)
			return f, err
		})
		if err != nil {
			return err
		}
		sum := sha256.Sum256(small)
		file = &xunchav1.PhotoFile{ContentType: picture.JPEG, SizeBytes: int64(len(small)), Sha256: sum[:]}
		if err := stream.Send(&xunchav1.DownloadPhotoResponse{Part: &xunchav1.DownloadPhotoResponse_File{File: file}}); err != nil {
			return err
		}
		return sendData(stream, small)
	}
	if err := stream.Send(&xunchav1.DownloadPhotoResponse{Part: &xunchav1.DownloadPhotoResponse_File{File: file}}); err != nil {
		return err
	}
	for at := int64(0); at < kept.Size; {
		// A message may be sent after Send returned, so its bytes are its own.
		part := make([]byte, min(downloadPart, kept.Size-at))
		if n, err := f.ReadAt(part, at); n < len(part) {
			if err == nil || err == io.EOF {
				err = inspections.ErrPhotoLost
			}
			return fmt.Errorf("%s at byte %d: %w", kept.Stored, at+int64(n), err)
		}
		if err := sendData(stream, part); err != nil {
			return err
		}
		at += int64(len(part))
	}
	return nil
}

func sendData(stream grpc.ServerStreamingServer[xunchav1.DownloadPhotoResponse], b []byte) error {
	return stream.Send(&xunchav1.DownloadPhotoResponse{Part: &xunchav1.DownloadPhotoResponse_Data{Data: b}})
}

const (
	// thumbnailMemory bounds what thumbnails are made in, all together. A photo of
	// 12 megapixels takes a tenth of it; a picture that would take more has none.
	thumbnailMemory = 256 << 20
	// maxThumbnailers is how many are made at once, whatever they take.
	maxThumbnailers = 2
	// maxThumbnails is how many are kept, of about 20 KB each.
	maxThumbnails = 512
)

// thumbnails makes small pictures, each once while it is remembered.
type thumbnails struct {
	known   *lru.Cache[inspections.Digest, []byte]
	making  singleflight.Group
	memory  *semaphore.Weighted
	workers *semaphore.Weighted
}

func newThumbnails() (*thumbnails, error) {
	known, err := lru.New[inspections.Digest, []byte](maxThumbnails)
	return &thumbnails{known: known, memory: semaphore.NewWeighted(thumbnailMemory), workers: semaphore.NewWeighted(maxThumbnailers)}, err
}

// of returns the thumbnail of the photo, whose file open opens.
func (t *thumbnails) of(ctx context.Context, k inspections.KeptPhoto, open func(context.Context) (inspections.File, error)) ([]byte, error) {
	if b, ok := t.known.Get(k.Stored); ok {
		return b, nil
	}
	// It is made for all who wait, so whoever came first may leave.
	lasting := context.WithoutCancel(ctx)
	made := t.making.DoChan(k.Stored.String(), func() (any, error) {
		b, err := t.make(lasting, k, open)
		if err == nil {
			t.known.Add(k.Stored, b)
		}
		return b, err
	})
	select {
	case r := <-made:
		b, _ := r.Val.([]byte)
		return b, r.Err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// make makes a thumbnail once there is room for it.
func (t *thumbnails) make(ctx context.Context, k inspections.KeptPhoto, open func(context.Context) (inspections.File, error)) (_ []byte, err error) {
	if err := t.workers.Acquire(ctx, 1); err != nil {
		return nil, err
	}
	defer t.workers.Release(1)
	f, err := open(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	p, err := picture.Read(f, f.Size())
	if err != nil {
		return nil, unlike(k, err)
	}
	need := p.Memory()
	if need > thumbnailMemory {
		return nil, fmt.Errorf("%d by %d pixels: %w", p.Width, p.Height, errThumbnail)
	}
	if err := t.memory.Acquire(ctx, need); err != nil {
		return nil, err
	}
	defer t.memory.Release(need)
	b, err := p.Thumbnail()
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errThumbnail, err)
	}
	return b, nil
}

// unlike says that what was stored as a picture is none.
func unlike(k inspections.KeptPhoto, err error) error {
	if errors.Is(err, picture.ErrNotPicture) || errors.Is(err, picture.ErrTooLarge) {
		return fmt.Errorf("%s: %w: %v", k.Stored, inspections.ErrPhotoLost, err)
	}
	return err
}
