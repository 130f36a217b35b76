package client

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"image"
	_ "image/jpeg" // so that DecodeConfig knows them
	_ "image/png"
	"net/http"
	"slices"
	"strings"

	xunchav1 "xuncha/proto/xuncha/v1"
)

const (
	// photoPart is how many bytes of a photo go in one message: no more are lost when
	// the network breaks off.
	photoPart = 16 << 10
	// photoTries is how often an upload is tried in a row without one byte more having
	// come.
	photoTries = 9
)

// Declare returns what a check-in says of a photo that is to follow, from the
// content of its file. What the server does not keep it refuses then, and not after all of
// it was sent; the check-in is stored all the same.
func Declare(content []byte) *xunchav1.Photo {
	sum := sha256.Sum256(content)
	p := &xunchav1.Photo{Sha256: sum[:], SizeBytes: int64(len(content)), ContentType: http.DetectContentType(content)}
	if isHEIF(content) {
		p.ContentType = "image/heif"
	}
	if c, _, err := image.DecodeConfig(bytes.NewReader(content)); err == nil {
		p.Width, p.Height = int32(c.Width), int32(c.Height)
	}
	return p
}

// isHEIF reports whether a file begins like one of ISO/IEC 23008-12, which is what some
// phones write unless they are told otherwise.
func isHEIF(content []byte) bool {
	return len(content) >= 12 && string(content[4:8]) == "ftyp" &&
		slices.Contains([]string{"heic", "heix", "heim", "heis", "hevc", "hevx", "mif1", "msf1"}, string(content[8:12]))
}

// A PhotoRefusedError means that the server does not take a photo. Its check-in is stored
// all the same, and sending the photo is of no use.
type PhotoRefusedError struct {
	// Refusal says why, and what to do, in the language of the call.
	Refusal *xunchav1.PhotoRefusal
}

func (e *PhotoRefusedError) Error() string {
	reason := strings.TrimPrefix(e.Refusal.Reason.String(), "ERROR_REASON_")
	return fmt.Sprintf("the photo is not taken: %s (%s)", e.Refusal.Message, reason)
}

// A Photo is a photo of a check-in that the server has a receipt for.
type Photo struct {
	SiteID, CheckInID string
	// SHA256 is the one that the check-in declares.
	SHA256 []byte
	// Content is the whole file.
	Content []byte
	// Receipt is what a receipt of the check-in says of the photo: how much of it the
	// server has. Nil means that the server is asked.
	Receipt *xunchav1.PhotoReceipt
	// Interrupted, if it is not nil, is called with the error before each new try.
	Interrupted func(error)
}

// UploadPhoto sends what the server lacks of a photo until all of it is stored for
// good. After each break it goes on with what has not arrived. It gives up when ctx
// ends, when an error says that another try is of no use, or after 9 tries in a row
// without one byte more having come; a later call goes on all the same. Of a photo that was
// refused it sends nothing, and the error is a *PhotoRefusedError.
func (c *Client) UploadPhoto(ctx context.Context, p Photo) error {
	photos := xunchav1.NewPhotoServiceClient(c)
	at, known := p.Receipt.GetReceivedBytes(), p.Receipt != nil
	if p.Receipt.GetStored() {
		return nil
	}
	if r := p.Receipt.GetRefused(); r != nil {
		return &PhotoRefusedError{r}
	}
	most := at
	for failures := 0; ; failures++ {
		var err error
		if !known {
			var state *xunchav1.GetPhotoUploadResponse
			state, err = photos.GetPhotoUpload(ctx, &xunchav1.GetPhotoUploadRequest{Sha256: p.SHA256, CheckInId: p.CheckInID, SiteId: p.SiteID})
			if state.GetStored() {
				return nil
			}
			if r := state.GetRefused(); r != nil {
				return &PhotoRefusedError{r}
			}
			at = state.GetReceivedBytes()
		}
		if at > most {
			most, failures = at, 0
		}
		if err == nil {
			err = p.send(ctx, photos, at)
		}
		if err == nil {
			return nil
		}
		again, _ := retryable(err)
		// Or at once: what the server had is gone or was not of this photo, or the next
		// call has a new token.
		atOnce := hasReason(err, xunchav1.ErrorReason_ERROR_REASON_PHOTO_OFFSET) ||
			hasReason(err, xunchav1.ErrorReason_ERROR_REASON_PHOTO_HASH_MISMATCH) && at > 0 ||
			tokenInvalid(err) && c.session.renewable()
		if failures+1 == photoTries || !again && !atOnce {
			return err
		}
		if p.Interrupted != nil {
			p.Interrupted(err)
		}
		if again {
			if err := c.session.sleep.pause(ctx, failures, err); err != nil {
				return err
			}
		}
		known = false
	}
}

// send sends the content from there on.
func (p Photo) send(ctx context.Context, photos xunchav1.PhotoServiceClient, from int64) error {
	if from > int64(len(p.Content)) {
		return fmt.Errorf("the server has %d bytes of a photo of %d", from, len(p.Content))
	}
	stream, err := photos.UploadPhoto(ctx)
	if err != nil {
		return err
	}
	err = stream.Send(&xunchav1.UploadPhotoRequest{Part: &xunchav1.UploadPhotoRequest_Spec{Spec: &xunchav1.PhotoUploadSpec{
		Sha256: p.SHA256, CheckInId: p.CheckInID, SiteId: p.SiteID, Offset: from,
	}}})
	for rest := bytes.NewBuffer(p.Content[from:]); err == nil && rest.Len() > 0; {
		err = stream.Send(&xunchav1.UploadPhotoRequest{Part: &xunchav1.UploadPhotoRequest_Data{Data: rest.Next(photoPart)}})
	}
	answer, err := stream.CloseAndRecv() // and, after an error of Send, why
	if err == nil && !answer.Stored {
		err = fmt.Errorf("the server has only %d of %d bytes", answer.ReceivedBytes, len(p.Content))
	}
	return err
}
