package client

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"github.com/google/uuid"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/timestamppb"

	xunchav1 "xuncha/proto/xuncha/v1"
)

// CheckInCommand is "xuncha check-in".
type CheckInCommand struct {
	clientConfig `embed:""`
	ID           string   `placeholder:"UUID" help:"Id of the check-in. The same once more goes on with what is missing of it. Default: a new one."`
	Site         string   `required:"" placeholder:"SITE" help:"The site that was visited: its registration number or its id."`
	Time         string   `placeholder:"TIME" help:"When the visit was, such as 2020-02-01T09:30:00+08:00. Default: now."`
	Finding      string   `required:"" enum:"closed,closed_no_notice,open,inaccessible" help:"What was found: closed, closed_no_notice, open or inaccessible."`
	DutyStaff    bool     `help:"The duty staff assigned to the premises were there."`
	Cancelled    int32    `help:"How many events were called off."`
	Dispersed    int32    `help:"How many people were asked to go home."`
	Note         string   `placeholder:"TEXT" help:"At most 500 characters. No person may be named."`
	Photo        []string `type:"existingfile" placeholder:"FILE" help:"JPEG, PNG or WebP file of at most 20 MB; may be given up to ten times."`
}

// PhotoFile is a photo on this machine.
type PhotoFile struct {
	Name     string
	Content  []byte
	Declared *xunchav1.Photo
}

// Run submits the check-in, then uploads what the receipt says is missing.
func (c *CheckInCommand) Run(ctx context.Context, stdout, stderr io.Writer) error {
	report := &xunchav1.CheckIn{
		CheckInId: cmp.Or(c.ID, uuid.NewString()), CaptureTime: timestamppb.Now(),
		Finding: map[string]xunchav1.Finding{
			"closed": xunchav1.Finding_FINDING_CLOSED, "closed_no_notice": xunchav1.Finding_FINDING_CLOSED_NO_NOTICE,
			"open": xunchav1.Finding_FINDING_OPEN, "inaccessible": xunchav1.Finding_FINDING_INACCESSIBLE,
		}[c.Finding],
		DutyStaffPresent: c.DutyStaff, CancelledEventCount: c.Cancelled, DispersedPeopleCount: c.Dispersed, Note: c.Note,
	}
	if c.Time != "" {
		at, err := time.Parse(time.RFC3339, c.Time)
		if err != nil {
			return fmt.Errorf("--time: %w", err)
		}
		report.CaptureTime = timestamppb.New(at)
	}
	if c.ID != "" && c.Time == "" {
		return errors.New("--id: needs --time, because the same check-in has the same time")
	}
	var photos []PhotoFile
	for _, name := range c.Photo {
		p, err := ReadPhoto(name)
		if err != nil {
			return fmt.Errorf("--photo: %w", err)
		}
		photos = append(photos, p)
		report.Photos = append(report.Photos, p.Declared)
	}
	return c.call(ctx, func(ctx context.Context, conn *grpc.ClientConn) error {
		var err error
		if report.SiteId, err = findSite(ctx, conn, c.Site); err != nil {
			return err
		}
		answer, err := xunchav1.NewInspectionServiceClient(conn).SubmitCheckIn(ctx, &xunchav1.SubmitCheckInRequest{CheckIn: report, ClientTime: timestamppb.Now()})
		if err != nil {
			return err
		}
		r := answer.Receipt
		fmt.Fprintf(stdout, "Check-in %s is entry %d of its site's history, received at %s.\n", r.CheckInId, r.Sequence, r.ReceiveTime.AsTime().Format(time.RFC3339))
		for _, f := range r.Flags {
			fmt.Fprintf(stdout, "%s\n", f)
		}
		for i, p := range photos {
			if r.Photos[i].Stored {
				fmt.Fprintf(stdout, "%s is stored already.\n", p.Name)
				continue
			}
			if err := p.Upload(ctx, conn, report, stderr); err != nil {
				return fmt.Errorf("%s: %w", p.Name, err)
			}
			fmt.Fprintf(stdout, "%s is stored: photo %x\n", p.Name, p.Declared.Sha256)
		}
		return nil
	})
}

func ReadPhoto(name string) (PhotoFile, error) {
	content, err := os.ReadFile(name)
	if err != nil {
		return PhotoFile{}, err
	}
	return NewPhotoFile(filepath.Base(name), content), nil
}

func NewPhotoFile(name string, content []byte) PhotoFile {
	sum := sha256.Sum256(content)
	return PhotoFile{name, content, &xunchav1.Photo{
		Sha256: sum[:], SizeBytes: int64(len(content)), ContentType: http.DetectContentType(content),
	}}
}

// uploadPart is how many bytes of a photo go in one message: so many are lost at
// most when the network breaks off.
const uploadPart = 16 << 10

const (
	// maxTries is how often an upload is tried in a row without a byte more having
	// come.
	maxTries = 8
	// tryAgainAfter is how long the first pause between them is; each is twice as
	// long as the one before.
	tryAgainAfter = 50 * time.Millisecond
)

// Upload sends what is missing of the photo, and goes on after each break where
// the server has it.
func (p PhotoFile) Upload(ctx context.Context, conn *grpc.ClientConn, of *xunchav1.CheckIn, notes io.Writer) error {
	client := xunchav1.NewPhotoServiceClient(conn)
	var most int64
	for tries := 0; ; tries++ {
		at, err := client.GetPhotoUpload(ctx, &xunchav1.GetPhotoUploadRequest{Sha256: p.Declared.Sha256, CheckInId: of.CheckInId, SiteId: of.SiteId})
		if err == nil && at.Stored {
			return nil
		}
		if err == nil {
			if at.ReceivedBytes > most {
				most, tries = at.ReceivedBytes, 0
			}
			err = p.Send(ctx, client, of, at.ReceivedBytes)
		}
		if err == nil || status.Code(err) != codes.Unavailable || tries == maxTries {
			return err
		}
		fmt.Fprintf(notes, "%s: interrupted; going on\n", p.Name)
		select {
		case <-time.After(tryAgainAfter << tries):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (p PhotoFile) Send(ctx context.Context, client xunchav1.PhotoServiceClient, of *xunchav1.CheckIn, from int64) error {
	stream, err := client.UploadPhoto(ctx)
	if err != nil {
		return err
	}
	err = stream.Send(&xunchav1.UploadPhotoRequest{Part: &xunchav1.UploadPhotoRequest_Spec{Spec: &xunchav1.PhotoUploadSpec{
		Sha256: p.Declared.Sha256, CheckInId: of.CheckInId, SiteId: of.SiteId, Offset: from,
	}}})
	for rest := bytes.NewBuffer(p.Content[from:]); err == nil && rest.Len() > 0; {
		err = stream.Send(&xunchav1.UploadPhotoRequest{Part: &xunchav1.UploadPhotoRequest_Data{Data: rest.Next(uploadPart)}})
	}
	answer, err := stream.CloseAndRecv() // and, after an error of Send, why
	if err == nil && !answer.Stored {
		err = fmt.Errorf("the server has only %d of %d bytes", answer.ReceivedBytes, len(p.Content))
	}
	return err
}

// PhotoCommand is "xuncha photo".
type PhotoCommand struct {
	clientConfig `embed:""`
	Site         string `required:"" placeholder:"SITE" help:"The site: its registration number or its id."`
	CheckIn      string `required:"" placeholder:"ID" help:"The check-in."`
	SHA256       string `name:"sha256" required:"" placeholder:"HEX" help:"The photo's SHA-256 as the check-in declares it."`
	Thumbnail    bool   `help:"Fetch a small one."`
	Output       string `required:"" short:"o" placeholder:"FILE" help:"File to write. One that is there is not overwritten."`
}

// Run writes the file, whole or not at all.
func (c *PhotoCommand) Run(ctx context.Context, stdout, stderr io.Writer) error {
	sum, err := hex.DecodeString(c.SHA256)
	if err != nil || len(sum) != sha256.Size {
		return errors.New("--sha256: want 64 hexadecimal digits")
	}
	request := &xunchav1.DownloadPhotoRequest{CheckInId: c.CheckIn, Sha256: sum, Variant: xunchav1.Variant_VARIANT_FULL}
	if c.Thumbnail {
		request.Variant = xunchav1.Variant_VARIANT_THUMBNAIL
	}
	return c.call(ctx, func(ctx context.Context, conn *grpc.ClientConn) error {
		var err error
		if request.SiteId, err = findSite(ctx, conn, c.Site); err != nil {
			return err
		}
		stream, err := xunchav1.NewPhotoServiceClient(conn).DownloadPhoto(ctx, request)
		if err != nil {
			return err
		}
		first, err := stream.Recv()
		if err != nil {
			return err
		}
		var content bytes.Buffer // of at most 20 MB
		for {
			part, err := stream.Recv()
			if err == io.EOF {
				break
			}
			if err != nil {
				return err
			}
			content.Write(part.GetData())
		}
		if got := sha256.Sum256(content.Bytes()); !bytes.Equal(got[:], first.GetFile().GetSha256()) {
			return fmt.Errorf("what came has the SHA-256 %x, and should have %x", got, first.GetFile().GetSha256())
		}
		out, err := os.OpenFile(c.Output, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
		if err != nil {
			return fmt.Errorf("--output: %w", err)
		}
		_, err = out.Write(content.Bytes())
		if err := errors.Join(err, out.Close()); err != nil {
			return err
		}
		_, err = fmt.Fprintf(stdout, "%s: %s, %d bytes\n", c.Output, first.GetFile().GetContentType(), content.Len())
		return err
	})
}
