package main

import (
	"context"
	"errors"
	"maps"
	"math/rand/v2"
	"path/filepath"
)

// largeCheckIns is more than the entries after which a server that stops writes a
// snapshot, and largePhones how many phones report them.
const (
	largeCheckIns = 10_200
	largePhones   = 64
	// largeSeed is that of no other folder, so that no id comes twice.
	largeSeed = 1 << 63
)

// makeLarge makes a folder with many check-ins and no snapshot.
func (w *world) makeLarge(ctx context.Context) (_ *life, err error) {
	random := rand.New(rand.NewPCG(largeSeed, 0))
	m, err := newPlain(random, filepath.Join(w.scratch, "large"))
	if err != nil {
		return nil, err
	}
	l, err := newLife(largeSeed, large, w.server, m, random, w.scratch)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, l.end()) }()
	l.importer.idle = true
	for i := len(l.phones); i < largePhones; i++ {
		l.phones = append(l.phones, &phone{random: rand.New(rand.NewPCG(largeSeed, uint64(10+i))), token: l.officer.token})
	}
	for _, p := range l.phones {
		p.plain = true
	}
	if _, err := l.start(ctx); err != nil {
		return nil, err
	}
	if err := l.loadUntil(ctx, largeCheckIns); err != nil {
		return nil, err
	}
	s := servicesOf(l.server.conn)
	for _, p := range l.phones {
		if err := p.settle(ctx, l.book, s); err != nil {
			return nil, err
		}
	}
	if err := l.stop(); err != nil {
		return nil, err
	}
	return l, m.forget("snapshot")
}

// lend gives another life the book of what is in the folder.
func (l *life) lend(to *life) {
	to.book.visits, to.lent = maps.Clone(l.book.visits), len(l.book.visits)
	to.book.tables = append(to.book.tables, l.book.tables...)
	to.book.siteIDs = l.book.siteIDs
	importer := *l.importer
	importer.idle = false
	to.importer = &importer
}
