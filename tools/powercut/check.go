package main

import (
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"strings"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/timestamppb"

	"xuncha/ledger"
	xunchav1 "xuncha/proto/xuncha/v1"
)

// A check looks on a server for everything that was acknowledged, and for things that
// were never sent, or are there twice or by half.
type check struct {
	ctx      context.Context
	book     *book
	services services
	root     *person // nil where there are no accounts
	reader   *person // who reads histories and photos
	// before are the check-ins that an earlier version has stored.
	before int
}

func (c *check) all() error {
	for _, look := range []func() error{c.histories, c.photos, c.tables, c.people} {
		if err := look(); err != nil {
			return err
		}
	}
	return nil
}

// recordTimeout is how long after its start a server may take to put a photo on record
// that it had kept before it was broken off.
const recordTimeout = 10 * time.Second

// errNotYet means that a photo is not on record.
var errNotYet = errors.New("it is not on record")

// histories looks at the histories, again where a photo is not on record yet.
func (c *check) histories() error {
	for late := time.Now().Add(recordTimeout); ; {
		err := c.lookAtHistories()
		if !errors.Is(err, errNotYet) || time.Now().After(late) {
			return err
		}
		select {
		case <-time.After(50 * time.Millisecond):
		case <-c.ctx.Done():
			return c.ctx.Err()
		}
	}
}

// lookAtHistories reads the history of each site, verifies its chain and compares what it has
// with what was acknowledged.
func (c *check) lookAtHistories() error {
	sites, err := listSites(c.ctx, c.reader.token(), c.services, "")
	if err != nil {
		return err
	}
	found := map[string]*xunchav1.HistoryEntry{} // check-ins
	stored := map[string]int{}                   // photos, by their hashes
	others, visited := 0, map[string]bool{}
	for _, id := range c.book.siteIDs {
		visited[id] = true
	}
	for _, site := range sites {
		if strings.HasPrefix(site.RegistrationNo, "T") {
			continue // nobody visits these
		}
		entries, err := c.history(site.SiteId)
		if err != nil {
			return err
		}
		for _, e := range entries {
			switch {
			case e.Kind == xunchav1.EntryKind_ENTRY_KIND_CHECK_IN && !visited[site.SiteId]:
				others++
			case e.Kind == xunchav1.EntryKind_ENTRY_KIND_CHECK_IN:
				if found[e.EntryId] != nil {
					return faultf("the check-in %s is there twice", e.EntryId)
				}
				found[e.EntryId] = e
			case e.Kind == xunchav1.EntryKind_ENTRY_KIND_PHOTO_STORED && visited[site.SiteId]:
				stored[e.GetPhotoEvent().CheckInId]++
			}
		}
	}
	if others != c.before {
		return faultf("%d check-ins of the earlier version are there, want %d", others, c.before)
	}
	sent := 0
	for _, v := range c.book.all() {
		e := found[v.checkIn.CheckInId]
		if e != nil {
			sent++
		}
		if v.receipt != nil && (e == nil || !sameReceipt(v.receipt, &xunchav1.Receipt{Sequence: e.Sequence, EntryHash: e.EntryHash, ReceiveTime: e.ReceiveTime})) {
			return faultf("the check-in %s was acknowledged as %v, and there is %v", v.checkIn.CheckInId, v.receipt, e)
		}
		switch n := stored[v.checkIn.CheckInId]; {
		case n > 1:
			return faultf("the photo of the check-in %s is on record %d times", v.checkIn.CheckInId, n)
		case n == 0 && v.photo != nil && v.photo.done:
			return faultf("the photo of the check-in %s was acknowledged, but %w", v.checkIn.CheckInId, errNotYet)
		}
	}
	if len(found) != sent {
		return faultf("%d check-ins are there that nobody has sent", len(found)-sent)
	}
	return c.figures(len(found))
}

// history reads a site's whole history and verifies its chain.
func (c *check) history(site string) (out []*xunchav1.HistoryEntry, err error) {
	own := "site/" + site
	var newest *xunchav1.HistoryEntry
	after := func(e *xunchav1.HistoryEntry, before ledger.Hash) error {
		if newest == nil {
			return nil
		}
		if newest.Sequence != e.GetSequence()+1 || ledger.Chain(before, newest.Record) != ledger.Hash(newest.EntryHash) {
			return faultf("the chain of %s does not verify at %d", own, newest.Sequence)
		}
		return nil
	}
	for page := ""; ; {
		answer, err := once(c.ctx, c.reader.token(), c.services.audit.ListSiteHistory,
			&xunchav1.ListSiteHistoryRequest{SiteId: site, PageSize: 200, PageToken: page, IncludeRecords: true})
		if err != nil {
			return nil, whatCame(err, "the history of the site %s", site)
		}
		for _, e := range answer.Entries {
			if e.History != own {
				continue
			}
			if len(e.EntryHash) != len(ledger.Hash{}) {
				return nil, faultf("the entry %d of %s has no hash", e.Sequence, own)
			}
			if err := after(e, ledger.Hash(e.EntryHash)); err != nil {
				return nil, err
			}
			newest = e
			out = append(out, e)
		}
		if page = answer.NextPageToken; page == "" {
			return out, after(nil, ledger.Hash{})
		}
	}
}

// figures compares what the server counts with what is in the histories.
func (c *check) figures(want int) error {
	if c.book.siteIDs == nil {
		return nil
	}
	now := time.Now()
	answer, err := once(c.ctx, c.reader.token(), c.services.coverage.GetCoverage, &xunchav1.GetCoverageRequest{
		DivisionCode: countyCode, StartTime: timestamppb.New(now.Add(-48 * time.Hour)), EndTime: timestamppb.New(now.Add(48 * time.Hour)),
	})
	if err != nil {
		return whatCame(err, "the coverage")
	}
	if answer.Row.CheckIns != int64(want) {
		return faultf("the coverage counts %d check-ins, and %d are there", answer.Row.CheckIns, want)
	}
	return nil
}

// photos fetches each photo that was acknowledged, and asks how much there is of the
// others.
func (c *check) photos() error {
	for _, v := range c.book.all() {
		if v.photo == nil || !v.photo.done {
			continue
		}
		got, err := c.download(v)
		if err != nil {
			return whatCame(err, "the photo of the check-in %s", v.checkIn.CheckInId)
		}
		if sha256.Sum256(got) != sha256.Sum256(v.photo.stored) {
			return faultf("the photo of the check-in %s has %d other bytes than the %d that were stored", v.checkIn.CheckInId, len(got), len(v.photo.stored))
		}
	}
	return nil
}

func (c *check) download(v *visit) (out []byte, err error) {
	ctx, cancel := context.WithTimeout(as(c.ctx, c.reader.token()), callTimeout)
	defer cancel()
	stream, err := c.services.photos.DownloadPhoto(ctx, &xunchav1.DownloadPhotoRequest{
		Sha256: v.checkIn.Photos[0].Sha256, SiteId: v.checkIn.SiteId, CheckInId: v.checkIn.CheckInId,
	})
	if err != nil {
		return nil, err
	}
	for {
		part, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return out, nil
		}
		if err != nil {
			return nil, err
		}
		out = append(out, part.GetData()...)
	}
}

// tables looks for what was imported: all of a table or nothing, and all where it was
// acknowledged.
func (c *check) tables() error {
	sites, err := listSites(c.ctx, c.reader.token(), c.services, "")
	if err != nil {
		return err
	}
	registered := map[string]bool{}
	for _, s := range sites {
		registered[s.RegistrationNo] = true
	}
	var list []*tableImport
	c.book.note(func() { list = append(list, c.book.tables...) })
	for _, t := range list {
		there, rows := 0, len(t.sites)
		for _, row := range t.sites {
			if registered[row.RegistrationNo] {
				there++
			}
		}
		if t.divisions != nil {
			// A later table has all that an earlier one has, so its last village is looked for.
			rows = 1
			last := t.divisions[len(t.divisions)-1].Code
			_, err := once(c.ctx, c.reader.token(), c.services.roster.GetDivision, &xunchav1.GetDivisionRequest{Code: last})
			if err == nil {
				there = 1
			} else if status.Code(err) != codes.NotFound {
				return whatCame(err, "the division %s", last)
			}
		}
		if there != rows && (there > 0 || t.done) {
			return faultf("of %d rows of %s there are %d, acknowledged: %v", rows, t.name, there, t.done)
		}
	}
	return nil
}

// people looks at the accounts.
func (c *check) people() error {
	if c.root == nil {
		return nil
	}
	all, err := listAccounts(c.ctx, c.root.token(), c.services)
	if err != nil {
		return err
	}
	var list []person
	c.book.note(func() {
		for _, p := range c.book.people {
			list = append(list, *p)
		}
	})
	for _, p := range list {
		a := all[p.name]
		if p.stage == unborn {
			continue
		}
		if a == nil || a.AccountId != p.id || a.Role != p.role {
			return faultf("the account %s was acknowledged as %s, and there is %v", p.name, p.id, a)
		}
		if p.stage == ended && p.disabled && a.DisableTime == nil {
			return faultf("the account %s was disabled and is not", p.name)
		}
		if err := c.device(&p); err != nil {
			return err
		}
	}
	return c.accountsChain()
}

// device asks whether the person's device is signed in, which it must be or must not be.
func (c *check) device(p *person) error {
	// While the tokens are being changed, either the old or the new ones are valid.
	if p.stage < signedIn || p.retryID != "" || p.wanted != "" || time.Since(p.signedInAt) > tokenTime {
		return nil
	}
	_, err := once(c.ctx, p.access, c.services.accounts.GetMe, &xunchav1.GetMeRequest{})
	switch {
	case p.stage == ended && status.Code(err) == codes.Unauthenticated:
		return nil
	case p.stage == ended && err == nil:
		return faultf("a device of %s was signed out and is signed in", p.name)
	case p.stage == changed && status.Code(err) == codes.Unauthenticated:
		return nil // the end that is under way may have come
	case err != nil:
		return whatCame(err, "a device of %s that is signed in", p.name)
	}
	return nil
}

// accountsChain verifies the history of accounts.
func (c *check) accountsChain() error {
	var newest *xunchav1.HistoryEntry
	for page := ""; ; {
		answer, err := once(c.ctx, c.reader.token(), c.services.audit.ListAccountHistory,
			&xunchav1.ListAccountHistoryRequest{PageSize: 200, PageToken: page, IncludeRecords: true})
		if err != nil {
			return whatCame(err, "the history of accounts")
		}
		for _, e := range answer.Entries {
			if newest != nil && (newest.Sequence != e.Sequence+1 || ledger.Chain(ledger.Hash(e.EntryHash), newest.Record) != ledger.Hash(newest.EntryHash)) {
				return faultf("the chain of accounts does not verify at %d", newest.Sequence)
			}
			newest = e
		}
		if page = answer.NextPageToken; page == "" {
			break
		}
	}
	if newest == nil || newest.Sequence != 1 {
		return faultf("the chain of accounts begins with %v", newest)
	}
	return nil
}
