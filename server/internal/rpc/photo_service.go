package rpc

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"

	"google.golang.org/grpc"

	"xuncha/inspections"
	"xuncha/inspections/photos"
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
	t, err := newThumbnails(c.Photos.Stopwatch)
	return &photoService{config: c, thumbnails: t}, err
}

// downloadPart is how many bytes of a photo are sent in one message.
const downloadPart = 64 << 10

func (s *photoService) UploadPhoto(stream grpc.ClientStreamingServer[xunchav1.UploadPhotoRequest, xunchav1.UploadPhotoResponse]) error {
	ctx := stream.Context()
	first, err := readNext(ctx, stream.Recv)
	if err == io.EOF || err == nil && first.GetSpec() == nil {
		return &sites.FieldError{Field: "spec", Err: sites.ErrMissing}
	}
	if err != nil {
		return err
	}
	spec := first.GetSpec()
	upload, err := s.config.Photos.BeginUpload(ctx, account(ctx), toPhotoRef(spec.SiteId, spec.CheckInId, spec.Sha256), spec.Offset, gone(ctx))
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
			err = sites.Invalid("spec", "must come first, and once")
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
	state, err := s.config.Photos.State(ctx, toPhotoRef(req.SiteId, req.CheckInId, req.Sha256))
	if err != nil {
		return nil, err
	}
	return &xunchav1.GetPhotoUploadResponse{
		ReceivedBytes: state.Received, Stored: state.Stored, Purged: state.Purged, SizeBytes: state.Size,
		Refused: s.config.refused(ctx)(state.Photo),
	}, nil
}

// refused returns what says in the caller's language why a photo is not taken, and nothing
// of one that is.
func (c *Config) refused(ctx context.Context) func(inspections.Photo) *xunchav1.PhotoRefusal {
	return func(p inspections.Photo) *xunchav1.PhotoRefusal {
		err := c.Inspections.Refused(p)
		if err == nil {
			return nil
		}
		m := meaningOf(err)
		said := localized(ctx, m.words())
		return &xunchav1.PhotoRefusal{Reason: m.reason, Locale: said.Locale, Message: said.Message}
	}
}

func (s *photoService) DownloadPhoto(req *xunchav1.DownloadPhotoRequest, stream grpc.ServerStreamingServer[xunchav1.DownloadPhotoResponse]) (err error) {
	ctx := stream.Context()
	ref := toPhotoRef(req.SiteId, req.CheckInId, req.Sha256)
	kept, f, err := s.config.Photos.Open(ctx, ref)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	file := &xunchav1.PhotoFile{ContentType: kept.ContentType, SizeBytes: kept.Size, Sha256: kept.Stored[:]}
	if req.Variant == xunchav1.Variant_VARIANT_THUMBNAIL {
		small, err := s.thumbnails.of(ctx, s.config.looker(ctx), kept, func(ctx context.Context) (photos.File, error) {
			_, f, err := s.config.Photos.Open(ctx, ref)
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
				err = photos.ErrLost
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

// looker names who looks at photos: the account, or where there are none, the address.
func (c *Config) looker(ctx context.Context) string {
	if scopeOf(ctx).caller == nil {
		return c.addressOf(ctx)
	}
	return account(ctx)
}

func sendData(stream grpc.ServerStreamingServer[xunchav1.DownloadPhotoResponse], b []byte) error {
	return stream.Send(&xunchav1.DownloadPhotoResponse{Part: &xunchav1.DownloadPhotoResponse_Data{Data: b}})
}
