package client

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/google/uuid"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/timestamppb"

	"xuncha/client"
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
	Photo        []string `type:"existingfile" placeholder:"FILE" help:"JPEG file of at most 40 MB, or PNG or WebP of at most 20 MB. May be given several times; ten are kept."`
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
	var photos [][]byte
	for _, name := range c.Photo {
		content, err := os.ReadFile(name)
		if err != nil {
			return fmt.Errorf("--photo: %w", err)
		}
		photos = append(photos, content)
		report.Photos = append(report.Photos, client.Declare(content))
	}
	return c.call(ctx, func(ctx context.Context, conn *client.Client) error {
		var err error
		if report.SiteId, err = findSite(ctx, conn, c.Site); err != nil {
			return err
		}
		r, err := conn.Submit(ctx, report)
		if err != nil {
			return err
		}
		fmt.Fprintf(stdout, "Check-in %s is entry %d of its site's history, received at %s.\n", r.CheckInId, r.Sequence, r.ReceiveTime.AsTime().Format(time.RFC3339))
		for _, f := range r.Flags {
			fmt.Fprintf(stdout, "%s\n", f)
		}
		bad := 0
		for i, content := range photos {
			name, sum := filepath.Base(c.Photo[i]), report.Photos[i].Sha256
			if r.Photos[i].Stored {
				fmt.Fprintf(stdout, "%s is stored already.\n", name)
				continue
			}
			err := conn.UploadPhoto(ctx, client.Photo{
				SiteID: report.SiteId, CheckInID: report.CheckInId, SHA256: sum, Content: content, Receipt: r.Photos[i],
				Interrupted: func(err error) { fmt.Fprintf(stderr, "%s: interrupted, going on: %v\n", name, Readable(err)) },
			})
			var refused *client.PhotoRefusedError
			if errors.As(err, &refused) { // which the others need not suffer from
				fmt.Fprintf(stdout, "%s: %v\n", name, err)
				continue
			}
			if status.Code(err) == codes.InvalidArgument { // the file is at fault, and no other
				fmt.Fprintf(stderr, "%s: %v\n", name, Readable(err))
				bad++
				continue
			}
			if err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
			fmt.Fprintf(stdout, "%s is stored: photo %x\n", name, sum)
		}
		if bad > 0 {
			return fmt.Errorf("the check-in is stored, but not %d of its %d photos", bad, len(photos))
		}
		return nil
	})
}
