package main

import (
	"maps"
	"slices"
	"sync"

	xunchav1 "xuncha/proto/xuncha/v1"
)

// A book has all that was sent to the servers of one folder, and what of it they have
// acknowledged. Whatever sends has its own part of it; the lists are shared.
type book struct {
	acknowledged func() // called for each acknowledgement

	mu      sync.Mutex
	visits  map[string]*visit // by check-in
	tables  []*tableImport
	people  []*person
	siteIDs []string // of the sites that are visited
}

// A visit is one check-in.
type visit struct {
	checkIn *xunchav1.CheckIn
	receipt *xunchav1.Receipt // nil until it is acknowledged
	photo   *photo            // nil for none
}

// A photo is one that a check-in declares.
type photo struct {
	content []byte
	// stored is what is to be stored of it: the picture alone.
	stored []byte
	// received is how much of it the server has said to have for good.
	received int64
	// sending tells that more was sent since.
	sending bool
	done    bool // it was acknowledged as stored
	// restarted tells that what had come was refused since the last break.
	restarted bool
}

// A tableImport is a table of divisions or sites.
type tableImport struct {
	name      string
	divisions []*xunchav1.DivisionRow
	sites     []*xunchav1.SiteRow
	done      bool
	revision  int64
}

// record notes something acknowledged by a change of the book.
func (b *book) record(change func()) {
	b.mu.Lock()
	change()
	b.mu.Unlock()
	b.acknowledged()
}

// note changes the book without an acknowledgement.
func (b *book) note(change func()) {
	b.mu.Lock()
	defer b.mu.Unlock()
	change()
}

// all returns the visits in the order of their ids.
func (b *book) all() (out []*visit) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, id := range slices.Sorted(maps.Keys(b.visits)) {
		out = append(out, b.visits[id])
	}
	return out
}

// counts returns how many check-ins, photos, tables and changes of accounts were
// acknowledged.
func (b *book) counts() (visits, photos, tables, people int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, v := range b.visits {
		if v.receipt != nil {
			visits++
		}
		if v.photo != nil && v.photo.done {
			photos++
		}
	}
	for _, t := range b.tables {
		if t.done {
			tables++
		}
	}
	for _, p := range b.people {
		people += p.changes
	}
	return visits, photos, tables, people
}
