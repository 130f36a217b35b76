package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"math/rand/v2"
	"os"
	"path/filepath"
	"time"

	"github.com/google/uuid"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"xuncha/client"
	xunchav1 "xuncha/proto/xuncha/v1"
)

const (
	day = 24 * time.Hour
	// spread is how far back the visits go that are stored. An order covers it, which starts
	// at most 30 days before it is entered.
	spread = 28 * day
	// freshFor is for how long after it was filled a folder has its order in force, less
	// a day for the measuring.
	freshFor = 43 * day
	// interval is how long the order lets a site go without a visit.
	interval = 7 * day
	// oneIn is how many check-ins come on one with a note, and oneOpenIn on one that
	// found a site open.
	oneIn, oneOpenIn = 4, 100
)

// A stock says what a folder was filled with.
type stock struct {
	Levels int
	Share  float64
	Stored int
	Filled time.Time
}

// stockFile is where a filled folder has its stock.
const stockFile = "bench.json"

// stockFolder returns the folder's name among those that are kept.
func stockFolder(o options, share float64, stored int) string {
	return filepath.Join(o.folder, fmt.Sprintf("levels%d-share%.3g-stored%d", o.levels, share, stored))
}

// filledFolder returns a folder that is filled, and that may be written in and is to be
// removed. Where folders are kept, the kept one stays as it was filled, and this is a
// copy of it.
func filledFolder(ctx context.Context, o options, binary string, l land, share float64, stored int, w io.Writer) (_ string, _ stock, err error) {
	folder, err := os.MkdirTemp(o.folder, "xuncha-bench-")
	if err != nil {
		return "", stock{}, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.RemoveAll(folder))
		}
	}()
	kept := stockFolder(o, share, stored)
	if o.folder != "" {
		s, err := readStock(kept)
		if err == nil {
			fmt.Fprintf(w, "using %s\n", kept)
			return folder, s, copyFolder(folder, kept)
		}
		if !errors.Is(err, os.ErrNotExist) {
			return "", s, err
		}
	}
	s := stock{o.levels, share, stored, time.Now()}
	if err := fill(ctx, binary, folder, l, s, w); err != nil {
		return "", s, err
	}
	if o.folder == "" {
		return folder, s, nil
	}
	data, err := json.Marshal(s)
	if err != nil {
		return "", s, err
	}
	// The stock is written last, so that a folder that has one is full.
	return folder, s, errors.Join(copyFolder(kept, folder), os.WriteFile(filepath.Join(kept, stockFile), data, 0o666))
}

// readStock reads what a kept folder was filled with. The error wraps os.ErrNotExist
// where there is none.
func readStock(kept string) (s stock, err error) {
	data, err := os.ReadFile(filepath.Join(kept, stockFile))
	if errors.Is(err, os.ErrNotExist) {
		if _, errFolder := os.Stat(kept); errFolder == nil {
			return s, fmt.Errorf("%s was not filled to its end; remove it", kept)
		}
	}
	if err != nil {
		return s, err
	}
	if err := json.Unmarshal(data, &s); err != nil {
		return s, fmt.Errorf("%s: %w", filepath.Join(kept, stockFile), err)
	}
	if age := time.Since(s.Filled); age > freshFor {
		return s, fmt.Errorf("%s was filled %d days ago, and its order is over; remove it", kept, age/day)
	}
	return s, nil
}

// copyFolder copies the data of one folder into another.
func copyFolder(to, from string) error {
	return os.CopyFS(dataFolder(to), os.DirFS(dataFolder(from)))
}

// fill fills a folder with the land and with check-ins, through a server's own calls.
func fill(ctx context.Context, binary, folder string, l land, s stock, w io.Writer) (err error) {
	// A line for each call would take more room than the check-ins.
	server, err := startServer(ctx, binary, folder, "", "--log-level", "warn")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, server.stop()) }()
	c := &country{city: server, land: l, stock: s}
	for _, what := range []struct {
		name string
		n    int
		do   func() (imported, error)
	}{
		{"divisions", l.size(), func() (imported, error) { return c.importDivisions(ctx, "", "2019-10-31") }},
		{"sites", l.sites, func() (imported, error) { return c.importSites(ctx, l.siteRows("")) }},
	} {
		in, err := what.do()
		if err != nil {
			return fmt.Errorf("importing %d %s: %w", what.n, what.name, err)
		}
		fmt.Fprintf(w, "imported %d %s onto a new server: %s\n", what.n, what.name, in)
	}
	if err := c.order(ctx); err != nil {
		return err
	}
	if err := c.findSites(ctx); err != nil {
		return err
	}
	return c.fillCheckIns(ctx, w)
}

// An imported says what an import cost the server.
type imported struct {
	took, cpu time.Duration
	memory    float64 // MiB right after
}

func (i imported) String() string {
	return fmt.Sprintf("%.1f s, %.1f s CPU, %.0f MiB right after", i.took.Seconds(), i.cpu.Seconds(), i.memory)
}

// importing measures an import.
func (c child) importing(send func() error) (in imported, err error) {
	before, err := c.cpu()
	if err != nil {
		return in, err
	}
	begun := time.Now()
	if err := send(); err != nil {
		return in, err
	}
	in.took = time.Since(begun)
	after, errCPU := c.cpu()
	in.cpu = after - before
	in.memory, err = c.memory()
	return in, errors.Join(errCPU, err)
}

// importDivisions imports the table of divisions, whose names begin with the prefix.
func (c *country) importDivisions(ctx context.Context, prefix, effective string) (imported, error) {
	type message = xunchav1.ImportDivisionsRequest
	return c.importing(func() error {
		stream, err := xunchav1.NewRosterServiceClient(c.conns[0]).ImportDivisions(ctx)
		if err != nil {
			return err
		}
		header := &message{Part: &xunchav1.ImportDivisionsRequest_Header{Header: &xunchav1.ImportHeader{EffectiveDate: effective, Source: "bench"}}}
		answer, err := sendAll(stream, header, c.land.divisions(prefix), func(r *xunchav1.DivisionRow) *message {
			return &message{Part: &xunchav1.ImportDivisionsRequest_Row{Row: r}}
		})
		if err == nil && int(answer.Created+answer.Renamed) != c.land.size() {
			err = fmt.Errorf("of %d divisions, %d were created and %d renamed", c.land.size(), answer.Created, answer.Renamed)
		}
		return err
	})
}

// importSites imports a table of sites.
func (c *country) importSites(ctx context.Context, rows iter.Seq[*xunchav1.SiteRow]) (imported, error) {
	type message = xunchav1.ImportSitesRequest
	return c.importing(func() error {
		stream, err := xunchav1.NewRosterServiceClient(c.conns[0]).ImportSites(ctx)
		if err != nil {
			return err
		}
		header := &message{Part: &xunchav1.ImportSitesRequest_Header{Header: &xunchav1.ImportHeader{Source: "bench"}}}
		answer, err := sendAll(stream, header, rows, func(r *xunchav1.SiteRow) *message {
			return &message{Part: &xunchav1.ImportSitesRequest_Row{Row: r}}
		})
		if err == nil && int(answer.Registered+answer.Updated) != c.land.sites {
			err = fmt.Errorf("of %d sites, %d were registered and %d updated", c.land.sites, answer.Registered, answer.Updated)
		}
		return err
	})
}

// sendAll sends the header and the rows of a table, and returns the answer.
func sendAll[Message, Answer, Row any](
	stream grpc.ClientStreamingClient[Message, Answer], header *Message, rows iter.Seq[Row], message func(Row) *Message,
) (*Answer, error) {
	if stream.Send(header) == nil {
		for r := range rows {
			if stream.Send(message(r)) != nil {
				break
			}
		}
	}
	return stream.CloseAndRecv() // and, after an error of Send, why
}

// order closes all sites, from before the first visit until freshFor has gone by.
func (c *country) order(ctx context.Context) error {
	_, err := xunchav1.NewRosterServiceClient(c.conns[0]).CreateClosureOrder(ctx, &xunchav1.CreateClosureOrderRequest{ClosureOrder: &xunchav1.ClosureOrder{
		Number: "1", Title: "bench", IssuingAuthority: "bench", LegalBasis: "bench", DivisionCodes: []string{c.land.root},
		StartTime: timestamppb.New(c.stock.Filled.Add(-spread - day)), EndTime: timestamppb.New(c.stock.Filled.Add(freshFor + day)),
		InspectionInterval: durationpb.New(interval),
	}})
	if err != nil {
		return fmt.Errorf("an order over all: %w", err)
	}
	return nil
}

// findSites asks for the ids of all sites.
func (c *country) findSites(ctx context.Context) error {
	roster := xunchav1.NewRosterServiceClient(c.conns[0])
	c.ids = make([]string, 0, c.land.sites)
	for token := ""; ; {
		page, err := roster.ListSites(ctx, &xunchav1.ListSitesRequest{DivisionCode: c.land.root, PageSize: 1000, PageToken: token})
		if err != nil {
			return fmt.Errorf("the sites' ids: %w", err)
		}
		for _, s := range page.Sites {
			if want := c.land.registration(len(c.ids)); s.RegistrationNo != want {
				return fmt.Errorf("the site at %d has the number %s, want %s", len(c.ids), s.RegistrationNo, want)
			}
			c.ids = append(c.ids, s.SiteId)
		}
		if token = page.NextPageToken; token == "" {
			break
		}
	}
	if len(c.ids) != c.land.sites {
		return fmt.Errorf("the server lists %d sites of %d", len(c.ids), c.land.sites)
	}
	return nil
}

// fillCheckIns stores the check-ins, those of early visits first, as phones deliver
// them that are out of the network for up to half a day.
func (c *country) fillCheckIns(ctx context.Context, w io.Writer) error {
	begun, first := time.Now(), c.stock.Filled.Add(-spread)
	err := times(ctx, c.conns, manyWorkers, c.stock.Stored, func(ctx context.Context, conn *client.Client, source *rand.Rand, i int) error {
		at := first.Add(time.Duration(float64(i) / float64(c.stock.Stored) * float64(spread)))
		return c.checkIn(ctx, conn, source, at.Add(-rand.N(day/2)))
	})
	if err != nil {
		return fmt.Errorf("storing %d check-ins: %w", c.stock.Stored, err)
	}
	took := time.Since(begun)
	fmt.Fprintf(w, "stored %d check-ins in %.0f s, %.0f a second\n", c.stock.Stored, took.Seconds(), float64(c.stock.Stored)/took.Seconds())
	return nil
}

// checkIn submits a check-in of any site that was captured at the time.
func (c *country) checkIn(ctx context.Context, conn *client.Client, source *rand.Rand, at time.Time) error {
	i := source.IntN(len(c.ids))
	latitude, longitude := c.land.position(i)
	in := &xunchav1.CheckIn{
		CheckInId: uuid.NewString(), SiteId: c.ids[i], CaptureTime: timestamppb.New(at),
		Finding: xunchav1.Finding_FINDING_CLOSED, DutyStaffPresent: true,
		CancelledEventCount: source.Int32N(3), DispersedPeopleCount: source.Int32N(300),
		Location: &xunchav1.Location{Latitude: latitude, Longitude: longitude, AccuracyM: 25, Datum: xunchav1.Datum_DATUM_WGS84},
	}
	if source.IntN(oneIn) == 0 {
		in.Note = "门口已张贴通知，大门上锁，无人聚集。"
	}
	if source.IntN(oneOpenIn) == 0 {
		in.Finding = xunchav1.Finding_FINDING_OPEN
	}
	return submit(ctx, conn, source, in)
}
