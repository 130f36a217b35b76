package client

import (
	"context"
	"fmt"

	"github.com/google/uuid"
	"google.golang.org/grpc"

	xunchav1 "xuncha/proto/xuncha/v1"
)

// findSite returns the id of the site that has this id or registration number. Sites
// that are struck off are found by their id only.
func findSite(ctx context.Context, conn grpc.ClientConnInterface, name string) (string, error) {
	if _, err := uuid.Parse(name); err == nil {
		return name, nil
	}
	roster := xunchav1.NewRosterServiceClient(conn)
	for page := (&xunchav1.ListSitesRequest{PageSize: 1000}); ; {
		answer, err := roster.ListSites(ctx, page)
		if err != nil {
			return "", err
		}
		for _, site := range answer.Sites {
			if site.RegistrationNo == name {
				return site.SiteId, nil
			}
		}
		if page.PageToken = answer.NextPageToken; page.PageToken == "" {
			return "", fmt.Errorf("no registered site has the registration number %q; of one that is struck off, give the id, which ListSites with an as_of_time tells", name)
		}
	}
}
