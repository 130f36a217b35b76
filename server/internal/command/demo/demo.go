// Package demo holds the command that starts a server on sample data and plays a round
// of inspections against it.
package demo

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/schollz/progressbar/v3"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"xuncha/client"
	xunchav1 "xuncha/proto/xuncha/v1"
	commands "xuncha/server/internal/command/client"
	"xuncha/server/internal/command/serve"
	"xuncha/server/internal/sampledata"
)

// demoCity is the division code of the city in the sample data.
const demoCity = "511600"

// Command is "xuncha demo".
type Command struct {
	Data         string `type:"path" placeholder:"FOLDER" help:"Data folder, which must be empty or not there yet. Default: a temporary one, removed at the end."`
	Once         bool   `help:"End after the tables instead of serving on."`
	serve.Config `embed:""`
}

// Run serves an empty data folder and plays a whole round of inspections as a client.
// All that it prints comes from the server's answers.
func (c *Command) Run(ctx context.Context, stdout, stderr io.Writer) (err error) {
	folder, clean, err := demoFolder(c.Data)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, clean()) }()
	if c.LogLevel == "info" {
		c.LogLevel = "warn" // a line for each call would drown the tables
	}
	server, err := serve.Start(ctx, serve.StoreConfig{Data: folder}, c.Config, stderr)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, server.Stop()) }()
	select {
	case <-server.Ready:
	case err := <-server.Failed:
		return err
	case <-ctx.Done():
		return nil
	}

	// The password is the demo's only; nobody beyond this machine can reach it.
	d := demo{out: stdout, err: stderr, address: server.Address, password: uuid.NewString()}
	defer func() { err = errors.Join(err, d.close()) }()
	if err := d.play(ctx); err != nil {
		return commands.Readable(err)
	}
	if c.Once {
		return nil
	}
	fmt.Fprintf(stdout, `
xuncha serves on %[1]s until you press Ctrl-C. It has an account of each role,
admin, officer, head and auditor, with this password. In another terminal:

  export XUNCHA_PASSWORD=%[4]s
  go run ./server coverage --server %[1]s --username head --depth 2 %[2]s
  go run ./server history --server %[1]s --username auditor %[3]s
  go run ./server photo --server %[1]s --username head --site %[3]s --check-in %[5]s --sha256 %[6]x --output door.jpg
  grpcurl -plaintext %[1]s list
  grpcurl -plaintext -d '{"username": "head", "password": "%[4]s"}' %[1]s xuncha.v1.AccountService/Login
  grpcurl -plaintext -H 'authorization: Bearer <access token>' -d '{"division_code": "%[2]s", "state": "DUE_STATE_OVERDUE"}' %[1]s xuncha.v1.CoverageService/ListDueSites
`, server.Address, demoCity, d.example.RegistrationNo, d.password, d.shown.CheckInId, d.shown.Photos[0].Sha256)
	select {
	case <-ctx.Done():
		return nil
	case err := <-server.Failed:
		return err
	}
}

// demoFolder returns the data folder, and a function that is to be called in the end.
func demoFolder(asked string) (folder string, clean func() error, err error) {
	if asked == "" {
		folder, err = os.MkdirTemp("", "xuncha-demo-")
		return folder, func() error { return os.RemoveAll(folder) }, err
	}
	files, err := os.ReadDir(asked)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return "", nil, err
	}
	if len(files) > 0 {
		return "", nil, fmt.Errorf("--data %s: the demo needs an empty folder, and this one is not", asked)
	}
	return asked, func() error { return nil }, nil
}

// A demo plays a round of inspections against a server.
type demo struct {
	out, err io.Writer
	address  string
	// One client for each account.
	admin, officer, head, auditor *client.Client
	begin                         time.Time // of the order
	example                       *xunchav1.Site
	// shown is the check-in at example.
	shown *xunchav1.CheckIn
	// password is the same for all accounts.
	password string
}

func (d *demo) play(ctx context.Context) error {
	// Without accounts, the server lets anybody on this machine create the first.
	var err error
	if d.admin, err = d.client(); err != nil {
		return err
	}
	if err := d.create(ctx, "admin", xunchav1.Role_ROLE_ADMIN); err != nil {
		return err
	}
	if err := commands.SignIn(ctx, d.admin, "admin", d.password); err != nil {
		return err
	}
	if err := d.fillRoster(ctx); err != nil {
		return err
	}
	// The others are created by the administrator, but call as themselves.
	for _, a := range []struct {
		name   string
		role   xunchav1.Role
		client **client.Client
	}{
		{"officer", xunchav1.Role_ROLE_OFFICER, &d.officer}, {"head", xunchav1.Role_ROLE_HEAD, &d.head}, {"auditor", xunchav1.Role_ROLE_AUDITOR, &d.auditor},
	} {
		if err := d.create(ctx, a.name, a.role); err != nil {
			return err
		}
		if *a.client, err = d.client(); err != nil {
			return err
		}
		if err := commands.SignIn(ctx, *a.client, a.name, d.password); err != nil {
			return err
		}
	}
	byTownship, err := d.sitesByTownship(ctx)
	if err != nil {
		return err
	}
	if err := d.inspect(ctx, byTownship); err != nil {
		return err
	}
	if err := d.coverage(ctx); err != nil {
		return err
	}
	return d.history(ctx)
}

// client returns a client that nobody is signed in with yet.
func (d *demo) client() (*client.Client, error) {
	return client.New(client.Config{Address: d.address, Plaintext: true, Now: time.Now, NewID: uuid.NewString})
}

// close ends the clients' connections.
func (d *demo) close() (err error) {
	for _, c := range []*client.Client{d.admin, d.officer, d.head, d.auditor} {
		if c != nil {
			err = errors.Join(err, c.Close())
		}
	}
	return err
}

// create has the administrator create an account of the whole city.
func (d *demo) create(ctx context.Context, name string, role xunchav1.Role) error {
	return d.admin.Change(ctx, func(ctx context.Context, id string) error {
		_, err := xunchav1.NewAccountServiceClient(d.admin).CreateAccount(ctx, &xunchav1.CreateAccountRequest{
			Account:  &xunchav1.Account{Username: name, Role: role, DivisionCodes: []string{demoCity}},
			Password: d.password, RequestId: id,
		})
		return err
	})
}

// sectionOf returns a table as a file.
func sectionOf(table []byte) *io.SectionReader {
	return io.NewSectionReader(bytes.NewReader(table), 0, int64(len(table)))
}

// fillRoster imports the sample tables and puts an order in force.
func (d *demo) fillRoster(ctx context.Context) error {
	divisions, err := commands.ImportDivisions(ctx, d.admin, d.err, sampledata.Divisions2019Name, sectionOf(sampledata.Divisions2019()), "2019-10-31", false)
	if err != nil {
		return err
	}
	imported, err := commands.ImportSites(ctx, d.admin, d.err, sampledata.SitesName, sectionOf(sampledata.Sites()), "", false)
	if err != nil {
		return err
	}
	fmt.Fprintf(d.out, "Imported %d divisions and %d sites.\n", divisions.Created, imported.Registered)

	// It starts with the hour, so that a visit of now falls under it.
	d.begin = time.Now().Truncate(time.Hour)
	o := &xunchav1.ClosureOrder{
		Number: "样例通知1号", Title: "样例·关于暂停开放的通知", IssuingAuthority: "样例市指挥部",
		LegalBasis: "《中华人民共和国传染病防治法》第四十二条", DivisionCodes: []string{demoCity},
		StartTime: timestamppb.New(d.begin), EndTime: timestamppb.New(d.begin.AddDate(0, 0, 60)),
		InspectionInterval: durationpb.New(24 * time.Hour),
	}
	err = d.admin.Change(ctx, func(ctx context.Context, id string) error {
		_, err := xunchav1.NewRosterServiceClient(d.admin).CreateClosureOrder(ctx, &xunchav1.CreateClosureOrderRequest{ClosureOrder: o, RequestId: id})
		return err
	})
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(d.out, "Closure order %s is in force from %s to %s; each site is due every %s.\n\n", o.Number,
		o.StartTime.AsTime().Local().Format(time.DateTime), o.EndTime.AsTime().Local().Format(time.DateTime),
		o.InspectionInterval.AsDuration())
	return err
}

// sitesByTownship returns the sites of the city by the code of their township.
func (d *demo) sitesByTownship(ctx context.Context) (map[string][]*xunchav1.Site, error) {
	roster := xunchav1.NewRosterServiceClient(d.officer)
	list, err := roster.ListSites(ctx, &xunchav1.ListSitesRequest{DivisionCode: demoCity, PageSize: 1000})
	if err != nil {
		return nil, err
	}
	out := map[string][]*xunchav1.Site{}
	for _, site := range list.Sites {
		village, err := roster.GetDivision(ctx, &xunchav1.GetDivisionRequest{Code: site.DivisionCode})
		if err != nil {
			return nil, err
		}
		township := village.Ancestors[0].Code
		out[township] = append(out[township], site)
	}
	d.example = list.Sites[0]
	return out, nil
}

// inspect visits all sites, with one officer for each township, all at the same time.
func (d *demo) inspect(ctx context.Context, byTownship map[string][]*xunchav1.Site) error {
	total := 0
	for _, list := range byTownship {
		total += len(list)
	}
	bar := progressbar.NewOptions(total,
		progressbar.OptionSetWriter(d.err), progressbar.OptionSetDescription(fmt.Sprintf("%d officers visit %d sites", len(byTownship), total)),
		progressbar.OptionShowCount(), progressbar.OptionSetWidth(30), progressbar.OptionThrottle(50*time.Millisecond),
		progressbar.OptionOnCompletion(func() { fmt.Fprintln(d.err) }))
	var group sync.WaitGroup
	failed := make(chan error, len(byTownship))
	for i, township := range slices.Sorted(maps.Keys(byTownship)) {
		group.Go(func() {
			// With a fixed seed, so that every run has the same figures.
			officer := rand.New(rand.NewPCG(uint64(i), 2020))
			for _, site := range byTownship[township] {
				if err := d.visit(ctx, site, officer); err != nil {
					failed <- fmt.Errorf("site %s: %w", site.RegistrationNo, commands.Readable(err))
					return
				}
				_ = bar.Add(1) // it is only to look at
			}
		})
	}
	group.Wait()
	close(failed)
	return cmp.Or(<-failed, bar.Finish())
}

// visit submits a check-in and uploads its photo. One check-in in ten is submitted
// again, as when a bad network has lost the receipt.
func (d *demo) visit(ctx context.Context, site *xunchav1.Site, officer *rand.Rand) error {
	content, err := demoPhoto()
	if err != nil {
		return err
	}
	photo := client.Declare(content)
	report := &xunchav1.CheckIn{
		CheckInId: uuid.NewString(), SiteId: site.SiteId, CaptureTime: timestamppb.Now(),
		Finding: xunchav1.Finding_FINDING_CLOSED, DutyStaffPresent: true,
		CancelledEventCount: 1 + officer.Int32N(3), DispersedPeopleCount: 180 + officer.Int32N(181),
		Note: "门口已张贴通知", Photos: []*xunchav1.Photo{photo},
		Location: &xunchav1.Location{
			Latitude: site.GetLatitude() + (officer.Float64()-0.5)/1000, Longitude: site.GetLongitude() + (officer.Float64()-0.5)/1000,
			AccuracyM: 20, Datum: xunchav1.Datum_DATUM_WGS84,
		},
	}
	var receipt *xunchav1.Receipt
	for again := true; again; again = officer.IntN(10) == 0 {
		if receipt, err = d.officer.Submit(ctx, report); err != nil {
			return err
		}
	}
	if site == d.example {
		d.shown = report
	}
	return d.officer.UploadPhoto(ctx, client.Photo{
		SiteID: site.SiteId, CheckInID: report.CheckInId, SHA256: photo.Sha256, Content: content, Receipt: receipt.Photos[0],
	})
}

// coverage prints the figures of the round.
func (d *demo) coverage(ctx context.Context) error {
	answer, err := xunchav1.NewCoverageServiceClient(d.head).GetCoverage(ctx, &xunchav1.GetCoverageRequest{
		DivisionCode: demoCity, Depth: 1, StartTime: timestamppb.New(d.begin), EndTime: timestamppb.New(d.begin.Add(24 * time.Hour)),
	})
	if err != nil {
		return err
	}
	r := answer.Row
	fmt.Fprintf(d.out, "%s: %d of %d sites inspected, %d events cancelled, %d people dispersed.\n\n",
		r.DivisionName, r.SitesInspected, r.SitesDue, r.CancelledEvents, r.DispersedPeople)
	return commands.PrintCoverage(d.out, answer)
}

// history prints the history of the example.
func (d *demo) history(ctx context.Context) error {
	entries, err := commands.ListHistory(ctx, d.auditor, d.example.SiteId, 20, false)
	if err != nil {
		return err
	}
	fmt.Fprintf(d.out, "\nHistory of %s %s, newest first:\n\n", d.example.RegistrationNo, d.example.Name)
	return commands.PrintHistory(d.out, entries)
}
