package main

import (
	"context"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/google/uuid"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"xuncha/client"
	xunchav1 "xuncha/proto/xuncha/v1"
)

// cityCode is the division that the sample roster is of.
const cityCode = "511600"

// sampleData is where the sample tables are, from the repository's root.
const sampleData = "server/internal/sampledata"

// build builds the server as users do.
func build(ctx context.Context, folder string) (string, error) {
	binary := filepath.Join(folder, "xuncha")
	command := exec.CommandContext(ctx, "go", "build", "-o", binary, "./server")
	command.Stderr = os.Stderr
	if err := command.Run(); err != nil {
		return "", fmt.Errorf("go build ./server (run this from the repository's root): %w", err)
	}
	return binary, nil
}

// A city is a server with the sample roster.
type city struct {
	child
	binary string
	log    string // the file
}

// startServer starts the server on a folder, or on a database where one is
// named, whose address may hold a password and so is no argument. It returns once the
// server is ready.
func startServer(ctx context.Context, binary, folder, database string, flags ...string) (*city, error) {
	log, err := os.Create(filepath.Join(folder, "log"))
	if err != nil {
		return nil, err
	}
	defer log.Close()
	process := exec.CommandContext(ctx, binary, append([]string{
		"serve", "--listen", "127.0.0.1:0", "--calls-per-account", "0", "--data", dataFolder(folder),
	}, flags...)...)
	if database != "" {
		process.Env = append(os.Environ(), "XUNCHA_STORE="+database)
	}
	c := &city{binary: binary, log: log.Name()}
	process.Stderr = log
	if c.child, err = startChild(process, "xuncha serves on "); err != nil {
		return nil, fmt.Errorf("%w; its log ends with: %s", err, logEnd(folder))
	}
	if err := c.ready(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("%w; its log ends with: %s", err, logEnd(folder)), c.stop())
	}
	return c, nil
}

// dataFolder is where a server that startServer starts on a folder keeps its data.
func dataFolder(folder string) string { return filepath.Join(folder, "data") }

// logEnd returns the end of the log of a server on a folder, which may be gone before
// anybody can read it there.
func logEnd(folder string) string {
	data, err := os.ReadFile(filepath.Join(folder, "log"))
	if err != nil {
		return err.Error()
	}
	return strings.TrimSpace(string(data[max(0, len(data)-1000):]))
}

// fill imports the sample roster, puts an order in force over it, and returns
// the ids of the sites.
func (c *city) fill(ctx context.Context) ([]string, error) {
	for _, args := range [][]string{
		{"import", "divisions", "--effective-date", "2019-10-31", filepath.Join(sampleData, "guangan_divisions_2019-10-31.csv")},
		{"import", "sites", filepath.Join(sampleData, "guangan_sites_sample.csv")},
	} {
		command := exec.CommandContext(ctx, c.binary, append(args, "--server", c.address)...)
		command.Stderr = os.Stderr
		if err := command.Run(); err != nil {
			return nil, fmt.Errorf("%v: %w", args, err)
		}
	}
	roster := xunchav1.NewRosterServiceClient(c.conns[0])
	start := time.Now().Add(-time.Hour)
	_, err := roster.CreateClosureOrder(ctx, &xunchav1.CreateClosureOrderRequest{ClosureOrder: &xunchav1.ClosureOrder{
		Number: "1", Title: "bench", IssuingAuthority: "bench", LegalBasis: "bench", DivisionCodes: []string{cityCode},
		StartTime: timestamppb.New(start), EndTime: timestamppb.New(start.Add(48 * time.Hour)), InspectionInterval: durationpb.New(24 * time.Hour),
	}})
	if err != nil {
		return nil, err
	}
	list, err := roster.ListSites(ctx, &xunchav1.ListSitesRequest{DivisionCode: cityCode, PageSize: 1000})
	if err != nil {
		return nil, err
	}
	var ids []string
	for _, s := range list.Sites {
		ids = append(ids, s.SiteId)
	}
	want, err := rowsOf(filepath.Join(sampleData, "guangan_sites_sample.csv"))
	if err == nil && len(ids) != want {
		err = fmt.Errorf("the server has %d sites of %d", len(ids), want)
	}
	return ids, err
}

// The accounts of a city, by what they do here, with one password.
const (
	admin, officer, head, auditor = "admin", "officer", "head", "auditor"
	password                      = "correct horse battery staple"
)

// enrol creates an account of each role.
func (c *city) enrol(ctx context.Context) error {
	for _, a := range []struct {
		name string
		role xunchav1.Role
	}{
		{admin, xunchav1.Role_ROLE_ADMIN}, {officer, xunchav1.Role_ROLE_OFFICER}, {head, xunchav1.Role_ROLE_HEAD}, {auditor, xunchav1.Role_ROLE_AUDITOR},
	} {
		_, err := xunchav1.NewAccountServiceClient(c.conns[0]).CreateAccount(ctx, &xunchav1.CreateAccountRequest{
			Account: &xunchav1.Account{Username: a.name, Role: a.role, DivisionCodes: []string{cityCode}}, Password: password,
		})
		if err != nil {
			return err
		}
		if a.name == admin {
			if ctx, err = c.as(ctx, admin); err != nil {
				return err
			}
		}
	}
	return nil
}

// as returns a context whose calls carry an access token, for 15 minutes.
func (c *city) as(ctx context.Context, name string) (context.Context, error) {
	one, err := dialOne(c.address)
	if err != nil {
		return nil, err
	}
	if _, err := one.SignIn(ctx, client.SignIn{Username: name, Password: password}); err != nil {
		return nil, errors.Join(err, one.Close())
	}
	return metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+one.Session().AccessToken), one.Close()
}

// rowsOf counts the rows below a CSV file's header.
func rowsOf(file string) (int, error) {
	f, err := os.Open(file)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	for r, n := csv.NewReader(f), -1; ; n++ {
		if _, err := r.Read(); errors.Is(err, io.EOF) {
			return n, nil
		} else if err != nil {
			return 0, err
		}
	}
}

// store submits n check-ins.
func (c *city) store(ctx context.Context, sites []string, n int) error {
	ctx, err := c.as(ctx, officer)
	if err != nil {
		return err
	}
	one := c.submit(sites)
	return times(ctx, c.conns, workers, n, func(ctx context.Context, conn *client.Client, source *rand.Rand, _ int) error {
		return one(ctx, conn, source)
	})
}

// submit submits a new check-in of a site.
func (c *city) submit(sites []string) call {
	return func(ctx context.Context, conn *client.Client, source *rand.Rand) error {
		return submit(ctx, conn, source, &xunchav1.CheckIn{
			CheckInId: uuid.NewString(), SiteId: sites[source.IntN(len(sites))], CaptureTime: timestamppb.Now(),
			Finding: xunchav1.Finding_FINDING_CLOSED, DutyStaffPresent: true,
			CancelledEventCount: 2, DispersedPeopleCount: 250, Note: "门口已张贴通知，大门上锁，无人聚集。",
			Location: &xunchav1.Location{Latitude: 30.5, Longitude: 106.6, AccuracyM: 25, Datum: xunchav1.Datum_DATUM_GCJ02},
		})
	}
}

// submit submits a check-in that is new, from a phone whose clock is right.
func submit(ctx context.Context, conn *client.Client, source *rand.Rand, in *xunchav1.CheckIn) error {
	answer := new(xunchav1.SubmitCheckInResponse)
	read, err := invoke(ctx, conn, source, xunchav1.InspectionService_SubmitCheckIn_FullMethodName,
		&xunchav1.SubmitCheckInRequest{ClientTime: timestamppb.Now(), CheckIn: in}, answer)
	if read && err == nil && (answer.Receipt.Sequence == 0 || answer.Receipt.Duplicate) {
		err = fmt.Errorf("got the receipt %v", answer.Receipt)
	}
	return err
}

// history asks for the newest page of a site's history.
func (c *city) history(sites []string) call {
	return func(ctx context.Context, conn *client.Client, source *rand.Rand) error {
		page := new(xunchav1.ListSiteHistoryResponse)
		read, err := invoke(ctx, conn, source, xunchav1.AuditService_ListSiteHistory_FullMethodName, &xunchav1.ListSiteHistoryRequest{
			SiteId: sites[source.IntN(len(sites))], PageSize: 20,
		}, page)
		if read && err == nil && len(page.Entries) != 20 {
			err = fmt.Errorf("a page of 20 has %d", len(page.Entries))
		}
		return err
	}
}

// coverage asks for today's coverage of the city with its counties.
func (c *city) coverage() call {
	return func(ctx context.Context, conn *client.Client, source *rand.Rand) error {
		answer := new(xunchav1.GetCoverageResponse)
		read, err := invoke(ctx, conn, source, xunchav1.CoverageService_GetCoverage_FullMethodName,
			&xunchav1.GetCoverageRequest{DivisionCode: cityCode, Depth: 1}, answer)
		if read && err == nil && (answer.Row.SitesDue == 0 || len(answer.Children) != 6) {
			err = fmt.Errorf("%d sites due in %d counties", answer.Row.SitesDue, len(answer.Children))
		}
		return err
	}
}
