package serve

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/google/uuid"

	"xuncha/inspections"
	"xuncha/inspections/photos"
	"xuncha/ledger"
	"xuncha/server/internal/accounts"
	"xuncha/server/internal/command/outcome"
	"xuncha/sites"
)

// An examinable is an engine that can be checked and repaired.
type examinable interface {
	Engine
	ledger.AsIs
	// Lacking calls lacks with the histories that had entries behind the newest that is
	// there, which newest returns, as far as the engine can tell.
	Lacking(ctx context.Context, newest func(ledger.History) ledger.Sequence, lacks func(ledger.History, ledger.Sequence)) error
	// CheckFile calls found with what the engine itself finds altered or lost, and whether
	// Reindex puts that right.
	CheckFile(ctx context.Context, found func(why string, reindex bool)) error
	// Reindex makes anew what follows from the entries.
	Reindex(context.Context) error
}

// An examination reads all that is stored and finds what was altered or lost. It changes
// nothing.
type examination struct {
	store    examinable
	verifier *ledger.Verifier
	outcome.Report
	// reindex tells that the indexes do not agree with the entries, and damaged that
	// something is wrong that no repair puts right.
	reindex, damaged bool
	// stored are the photos that have arrived, and purged those that were deleted.
	stored []storedPhoto
	purged map[photoKey]bool
	names  map[ledger.History]bool
}

// A storedPhoto is one that has arrived, with the entry that says so.
type storedPhoto struct {
	photoKey
	declared inspections.Digest
	sequence ledger.Sequence
}

// A photoKey names the file of a check-in's photo.
type photoKey struct {
	inspections.CheckInRef
	file inspections.Digest
}

// An examined says how far an examination is.
type examined interface{ Add(int) error }

// examine reads all entries, and what SQLite knows of its file. The error says that it
// could not be done.
func examine(ctx context.Context, store examinable, read examined) (*examination, error) {
	x := &examination{
		store: store, verifier: ledger.NewVerifier(time.Now),
		purged: map[photoKey]bool{}, names: map[ledger.History]bool{},
	}
	err := store.Stored(ctx, func(e ledger.Entry) error {
		_ = read.Add(1) // it is only to look at
		return x.take(ctx, e)
	}, func(why string) { x.found(why, false) })
	if err == nil {
		err = store.Lacking(ctx, func(h ledger.History) ledger.Sequence { return x.verifier.Head(h).Sequence }, x.verifier.Lacks)
	}
	if err != nil {
		return nil, fmt.Errorf("reading the histories: %w", err)
	}
	x.Histories = int64(len(x.names))
	if err := store.CheckFile(ctx, x.found); err != nil {
		return nil, fmt.Errorf("checking the database: %w", err)
	}
	for _, q := range x.verifier.AllSetAside() {
		x.SetAside += int64(len(q))
	}
	return x, nil
}

// found notes what is about no entry in particular, and whether new indexes put it right.
func (x *examination) found(why string, reindex bool) {
	x.Findings = append(x.Findings, outcome.Finding{Why: why})
	x.reindex, x.damaged = x.reindex || reindex, x.damaged || !reindex
}

// take examines an entry.
func (x *examination) take(ctx context.Context, e ledger.Entry) error {
	x.Entries++
	if !x.names[e.History] {
		x.names[ledger.History(bytes.Clone([]byte(e.History)))] = true
	}
	if !x.verifier.Take(e) || e.Kind == ledger.KindRepaired {
		return nil
	}
	err := x.content(ctx, e)
	if errors.Is(err, ledger.ErrUnavailable) || ctx.Err() != nil {
		return err
	}
	if err != nil {
		x.verifier.Unreadable(e, err)
	}
	return nil
}

// content reads what an entry says, as a server would.
func (x *examination) content(ctx context.Context, e ledger.Entry) error {
	switch e.History {
	case ledger.Roster:
		if sites.NamesRows(e) {
			x.Imports++
		}
		return sites.CheckEntry(ctx, x.store, e)
	case ledger.Accounts:
		return accounts.CheckEntry(e)
	}
	switch e.Kind {
	case inspections.KindCheckIn:
		_, err := inspections.Parse(e)
		return err
	case photos.KindStored, photos.KindPurged:
		p, err := photos.ParseEvent(e)
		if err != nil {
			return err
		}
		key := photoKey{p.CheckInRef, p.Stored}
		if p.Purged {
			x.purged[key] = true
			return nil
		}
		x.stored = append(x.stored, storedPhoto{key, p.SHA256, e.Sequence})
	}
	return nil
}

// present returns the photos whose files must be there, those with the same file
// together.
func (x *examination) present() []storedPhoto {
	out := slices.DeleteFunc(x.stored, func(p storedPhoto) bool { return x.purged[p.photoKey] })
	slices.SortStableFunc(out, func(a, b storedPhoto) int {
		return cmp.Or(bytes.Compare(a.file[:], b.file[:]), cmp.Compare(a.Site, b.Site), cmp.Compare(a.sequence, b.sequence))
	})
	return out
}

// checkPhotos reads the files of all photos.
func (x *examination) checkPhotos(ctx context.Context, list []storedPhoto, read examined) error {
	x.Photos = int64(len(list))
	var last inspections.Digest
	why := ""
	for i, p := range list {
		_ = read.Add(1)
		if i == 0 || p.file != last {
			var err error
			switch why, err = x.checkPhoto(ctx, p); {
			case err == nil:
			case ctx.Err() != nil || x.store.Shared(): // a database may just be away
				return fmt.Errorf("photo %s: %w", p.file, err)
			default:
				why = fmt.Sprintf("cannot be read: %v", err)
			}
			last = p.file
		}
		if why != "" {
			x.Findings = append(x.Findings, outcome.Finding{
				History: string(p.Site.History()), Sequence: int64(p.sequence),
				Why: fmt.Sprintf("the photo %s of the check-in %s %s", p.file, p.CheckIn, why),
			})
		}
	}
	return nil
}

// checkPhoto reads the file of a photo and returns what is wrong with it.
func (x *examination) checkPhoto(ctx context.Context, p storedPhoto) (why string, err error) {
	f, err := x.store.Photos().Open(ctx, p.file)
	if errors.Is(err, photos.ErrLost) {
		// A server that is at work may have deleted it meanwhile.
		kept, err := x.store.Photos().KeptOf(ctx, []inspections.CheckInRef{p.CheckInRef})
		if err == nil && slices.ContainsFunc(kept, func(k photos.Kept) bool { return k.SHA256 == p.declared && k.Purged }) {
			return "", nil
		}
		return "is not there", nil
	}
	if err != nil {
		return "", err
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, io.NewSectionReader(f, 0, f.Size())); err != nil {
		if errors.Is(err, photos.ErrLost) {
			return "is not there in whole", nil
		}
		return "", err
	}
	if !bytes.Equal(h.Sum(nil), p.file[:]) {
		return fmt.Sprintf("was altered: its SHA-256 is %x", h.Sum(nil)), nil
	}
	return "", nil
}

// report returns what was found, with what the roster calls the sites.
func (x *examination) report(ctx context.Context) outcome.Report {
	out := x.Report
	out.Findings = nil
	for _, f := range x.verifier.Flaws() {
		out.Findings = append(out.Findings, outcome.Finding{History: string(f.History), Sequence: int64(f.Sequence), Why: f.Why})
	}
	out.Findings = append(out.Findings, x.Findings...)
	if slices.ContainsFunc(out.Findings, func(f outcome.Finding) bool { _, ok := sites.SiteOf(ledger.History(f.History)); return ok }) {
		x.nameSites(ctx, out.Findings)
	}
	return out
}

// nameSites adds what the roster calls the sites, as far as it can be read.
func (x *examination) nameSites(ctx context.Context, list []outcome.Finding) {
	roster := sites.New(sites.Config{Ledger: x.store, Rows: x.store, Now: time.Now, NewID: uuid.NewString, Zone: time.UTC})
	_ = roster.Refresh(ctx) // then it has what came before the fault
	for i := range list {
		id, ok := sites.SiteOf(ledger.History(list[i].History))
		if !ok {
			continue
		}
		if s, err := roster.Roster().SiteEver(id); err == nil {
			list[i].RegistrationNo, list[i].Name = s.RegistrationNo, s.Name
		}
	}
}
