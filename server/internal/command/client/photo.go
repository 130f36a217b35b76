package client

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"

	"xuncha/client"
	xunchav1 "xuncha/proto/xuncha/v1"
)

// PhotoCommand is "xuncha photo".
type PhotoCommand struct {
	clientConfig `embed:""`
	Site         string `required:"" placeholder:"SITE" help:"The site: its registration number or its id."`
	CheckIn      string `required:"" placeholder:"ID" help:"The check-in."`
	SHA256       string `name:"sha256" required:"" placeholder:"HEX" help:"The photo's SHA-256 as the check-in declares it."`
	Thumbnail    bool   `help:"Fetch a small one."`
	Output       string `required:"" short:"o" placeholder:"FILE" help:"File to write. One that is there is not overwritten."`
}

// Run fetches the photo and writes the file once all of it has come and is right.
func (c *PhotoCommand) Run(ctx context.Context, stdout, stderr io.Writer) error {
	sum, err := hex.DecodeString(c.SHA256)
	if err != nil || len(sum) != sha256.Size {
		return errors.New("--sha256: want 64 hexadecimal digits")
	}
	request := &xunchav1.DownloadPhotoRequest{CheckInId: c.CheckIn, Sha256: sum, Variant: xunchav1.Variant_VARIANT_FULL}
	if c.Thumbnail {
		request.Variant = xunchav1.Variant_VARIANT_THUMBNAIL
	}
	return c.call(ctx, func(ctx context.Context, conn *client.Client) error {
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
		var content bytes.Buffer // of some megabytes
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
