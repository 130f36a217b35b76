package client_test

import (
	"context"
	"encoding/json"
	"log"
	"os"
	"path/filepath"
	"time"

	"github.com/google/uuid"
	"google.golang.org/protobuf/types/known/timestamppb"

	"xuncha/client"
	xunchav1 "xuncha/proto/xuncha/v1"
)

// visit signs in unless an earlier run of the app did, reports what was found at a
// site, and uploads the photo of its door.
func visit(ctx context.Context, folder, site string, door []byte) error {
	// What an earlier run of the app has kept.
	file := filepath.Join(folder, "session.json")
	var kept client.Session
	if b, err := os.ReadFile(file); err == nil {
		if err := json.Unmarshal(b, &kept); err != nil {
			return err
		}
	}
	c, err := client.New(client.Config{
		Address: "xuncha.example.org:6200",
		Now:     time.Now,
		NewID:   uuid.NewString,
		Session: kept,
		Keep: func(s client.Session) error {
			b, err := json.Marshal(s)
			if err != nil {
				return err
			}
			return os.WriteFile(file, b, 0o600) // an app would also flush it
		},
	})
	if err != nil {
		return err
	}
	defer c.Close()
	if !c.Session().SignedIn() {
		if _, err := c.SignIn(ctx, client.SignIn{Username: "wang", Password: "correct horse battery staple", DeviceName: "work phone"}); err != nil {
			return err
		}
	}

	// An app keeps the check-in with its id until the receipt is there.
	photo := client.Declare(door)
	checkIn := &xunchav1.CheckIn{
		CheckInId: uuid.NewString(), SiteId: site, CaptureTime: timestamppb.Now(),
		Finding: xunchav1.Finding_FINDING_CLOSED, Photos: []*xunchav1.Photo{photo},
	}
	receipt, err := c.Submit(ctx, checkIn)
	if err != nil {
		return err
	}
	return c.UploadPhoto(ctx, client.Photo{
		SiteID: site, CheckInID: checkIn.CheckInId, SHA256: photo.Sha256, Content: door, Receipt: receipt.Photos[0],
	})
}

func Example() {
	door, err := os.ReadFile("door.jpg")
	if err != nil {
		log.Fatal(err)
	}
	if err := visit(context.Background(), "app-data", "7f3f2f2e-5f0e-4b7e-9d5c-0d4a6a1c2b3d", door); err != nil {
		log.Fatal(err)
	}
}
