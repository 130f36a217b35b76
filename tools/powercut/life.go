package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"

	xunchav1 "xuncha/proto/xuncha/v1"
)

// An origin is what the data folder of a life begins with.
type origin string

const (
	// anew begins without a folder, and with accounts.
	anew origin = "new"
	// open begins without a folder, and has no accounts.
	open origin = "no accounts"
	// released begins with a folder that an earlier version made, so the first start
	// migrates it.
	released origin = "released"
	// large begins with so many check-ins that a server which stops writes a snapshot.
	large origin = "large"
)

// releasedCheckIns is how many check-ins that folder has.
const releasedCheckIns = 12

const phones = 8

// A life is one data folder, whose servers are broken off again and again.
type life struct {
	seed   uint64
	origin origin
	binary string
	medium medium
	random *rand.Rand
	book   *book
	server *server

	root, officer, auditor *person // nil without accounts
	registrar              *registrar
	importer               *importer
	phones                 []*phone
	passwordFile           string
	// lent is how many check-ins were there before.
	lent int
}

// newLife returns a life whose medium holds what its origin says.
func newLife(seed uint64, from origin, binary string, m medium, random *rand.Rand, scratch string) (*life, error) {
	l := &life{seed: seed, origin: from, binary: binary, medium: m, random: random}
	l.book = &book{acknowledged: m.acknowledged, visits: map[string]*visit{}}
	if from == anew || from == released {
		l.root = &person{name: rootName, password: rootPassword, stage: created}
		l.officer = &person{name: "phone", password: "a password for all phones", role: xunchav1.Role_ROLE_OFFICER}
		l.auditor = &person{name: "reader", password: "a password to read with", role: xunchav1.Role_ROLE_AUDITOR}
		l.book.people = []*person{l.officer, l.auditor}
		l.registrar = &registrar{random: rand.New(rand.NewPCG(seed, 2)), root: l.root}
		l.passwordFile = filepath.Join(scratch, "password")
		if err := os.WriteFile(l.passwordFile, []byte(rootPassword+"\n"), 0o600); err != nil {
			return nil, err
		}
	}
	l.importer = &importer{token: l.root.token, withCity: from != released}
	_, powerless := m.(*powered)
	for i := range phones {
		l.phones = append(l.phones, &phone{random: rand.New(rand.NewPCG(seed, uint64(10+i))), token: l.officer.token, powerless: powerless})
	}
	return l, nil
}

// run breaks servers off so many times, and says of each what was done. It returns how
// many times it did.
func (l *life) run(ctx context.Context, times int, say func(n int, text string)) (done int, err error) {
	defer func() { err = errors.Join(err, l.end()) }()
	if err := l.medium.open(); err != nil {
		return 0, err
	}
	for done < times {
		p := []phase{starting, loaded, loaded, loaded, stopping}[l.random.IntN(5)]
		if done == 0 && l.origin == released {
			p = starting // which migrates
		}
		if l.origin == large && p == loaded {
			p = stopping // which writes a snapshot
		}
		text, err := l.breakOff(ctx, p)
		if err != nil {
			return done, fmt.Errorf("in the phase %s: %w", p, err)
		}
		done++
		if err := faultOf(ctx, l.look(ctx)); err != nil {
			return done, fmt.Errorf("after the phase %s, %s: %w", p, text, err)
		}
		visits, photos, tables, people := l.book.counts()
		say(done, fmt.Sprintf("%s: %s; acknowledged and there: %d check-ins, %d photos, %d tables, %d changes of accounts", p, text, visits, photos, tables, people))
	}
	if err := faultOf(ctx, l.finish(ctx)); err != nil {
		return done, fmt.Errorf("in the end: %w", err)
	}
	return done, nil
}

// faultOf takes any error for the server's while nothing breaks it off.
func faultOf(ctx context.Context, err error) error {
	if err == nil || ctx.Err() != nil {
		return err
	}
	return fault{err}
}

// breakOff has a server go through a phase, and breaks it off. The folder is then open
// again and has no server.
func (l *life) breakOff(ctx context.Context, p phase) (string, error) {
	if p == starting {
		if err := l.stop(); err != nil {
			return "", err
		}
		l.medium.arm(p)
	}
	ready, err := l.start(ctx)
	if err != nil {
		return "", err
	}
	if ready && p == stopping && l.origin == large {
		if err := l.renewSnapshot(ctx); err != nil {
			return "", err
		}
	}
	if ready && p != starting {
		if p == loaded {
			l.medium.arm(p)
		}
		if err := l.load(ctx, p == stopping); err != nil {
			return "", err
		}
	}
	if ready && p == stopping {
		l.medium.arm(p)
		if err := l.server.terminate(); err != nil {
			return "", err
		}
		select {
		case <-l.medium.off():
		case <-l.server.gone:
			if l.server.ended != nil {
				return "", faultf("the server stops badly: %w: %s", l.server.ended, l.server.log.tail())
			}
		}
	}
	l.medium.breakOff()
	l.server.disconnect()
	l.server.kill()
	l.medium.killed()
	<-l.server.gone
	err = l.server.log.errors()
	l.server = nil
	text, failed := l.medium.survive()
	for _, phone := range l.phones {
		if phone.current != nil && phone.current.photo != nil {
			phone.current.photo.restarted = false
		}
	}
	return text, errors.Join(err, failed)
}

// start has a server that serves, and returns false where it was broken off before.
func (l *life) start(ctx context.Context) (bool, error) {
	if l.server != nil {
		return true, nil
	}
	if l.origin == anew && l.root.id == "" {
		if made, err := l.createRoot(ctx); err != nil || !made {
			return false, err
		}
	}
	var err error
	if l.server, err = startServer(l.binary, l.medium.data()); err != nil {
		return false, err
	}
	ready, err := l.server.awaitReady(l.medium.off())
	if err != nil || !ready {
		return ready, err
	}
	select {
	case <-l.medium.off():
		return false, nil
	default:
		return true, nil
	}
}

// createRoot makes the first account, as an operator does. It returns false where it was
// broken off; the process is then the one to kill.
func (l *life) createRoot(ctx context.Context) (bool, error) {
	create := &server{log: &lines{}, gone: make(chan struct{})}
	create.process = exec.CommandContext(ctx, l.binary, "account", "create", "--data", l.medium.data(),
		"--role", "admin", "--username", rootName, "--division", cityCode, "--password-file", l.passwordFile)
	create.process.Dir = filepath.Dir(l.binary)
	create.process.Stderr = create.log
	if err := create.process.Start(); err != nil {
		return false, err
	}
	go func() {
		create.ended = create.process.Wait()
		close(create.gone)
	}()
	select {
	case <-l.medium.off():
		l.server = create
		return false, nil
	case <-create.gone:
	}
	if create.ended != nil && !strings.Contains(create.log.tail(), "taken") {
		select {
		case <-l.medium.off(): // it was killed
			l.server = create
			return false, nil
		default:
			return false, faultf("the first account cannot be created: %w: %s", create.ended, create.log.tail())
		}
	}
	l.root.id = "created"
	return true, nil
}

// prepare has all that a load needs.
func (l *life) prepare(ctx context.Context, s services) error {
	if l.root != nil {
		if err := l.root.fresh(ctx, l.book, s); err != nil {
			return err
		}
		for _, p := range []*person{l.officer, l.auditor} {
			if err := l.registrar.ensure(ctx, l.book, s, p); err != nil {
				return err
			}
		}
	}
	return l.importer.prepare(ctx, l.book, s)
}

// stopAfter is how many acknowledgements there are at most before a server is stopped.
const stopAfter = 200

// load calls the server until it is broken off, or only for a while.
func (l *life) load(ctx context.Context, brief bool) error {
	if brief {
		return l.loadUntil(ctx, 1+l.random.IntN(stopAfter))
	}
	return l.loadUntil(ctx, 0)
}

// loadUntil calls the server until it is broken off, or so many calls are acknowledged;
// 0 sets no end.
func (l *life) loadUntil(ctx context.Context, left int) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	s := servicesOf(l.server.conn)
	var group sync.WaitGroup
	var mu sync.Mutex
	var errs []error
	run := func(work func(context.Context, *book, services) error) {
		group.Go(func() {
			if err := work(ctx, l.book, s); err != nil {
				mu.Lock()
				defer mu.Unlock()
				errs = append(errs, err)
				cancel()
			}
		})
	}
	acknowledged := l.book.acknowledged
	defer func() { l.book.acknowledged = acknowledged }()
	l.book.acknowledged = func() {
		acknowledged()
		mu.Lock()
		defer mu.Unlock()
		if left--; left == 0 {
			cancel()
		}
	}
	run(func(ctx context.Context, b *book, s services) error {
		if err := l.prepare(ctx, s); err != nil {
			if unanswered(err) {
				return nil
			}
			return err
		}
		for _, p := range l.phones {
			run(p.work)
		}
		run(l.importer.work)
		if l.registrar != nil {
			run(l.registrar.work)
		}
		return nil
	})
	idle := make(chan struct{})
	go func() {
		group.Wait()
		close(idle)
	}()
	var ended error
	select {
	case <-l.medium.off():
		// Whoever waits for an answer has none, because the disk hangs.
		l.server.kill()
		l.medium.killed()
	case <-l.server.gone:
		ended = faultf("the server ended by itself: %v: %s", l.server.ended, l.server.log.tail())
	case <-ctx.Done():
	case <-idle:
		select {
		case <-l.medium.off():
		case <-ctx.Done():
		default:
			ended = faultf("no call is answered any more: %s", l.server.log.tail())
		}
	}
	cancel()
	<-idle
	return errors.Join(append(errs, ended)...)
}

// renewSnapshot removes the snapshot, so that the server which stops writes one.
func (l *life) renewSnapshot(ctx context.Context) error {
	if err := l.stop(); err != nil {
		return err
	}
	if err := l.medium.forget("snapshot"); err != nil {
		return err
	}
	_, err := l.start(ctx)
	return err
}

// stop lets the server stop, if there is one.
func (l *life) stop() error {
	if l.server == nil {
		return nil
	}
	s := l.server
	l.server = nil
	return s.stop()
}

// end gives up what the life holds.
func (l *life) end() error {
	if s := l.server; s != nil {
		s.disconnect()
		l.medium.breakOff()
		s.kill()
		l.medium.killed()
		<-s.gone
		l.server = nil
	}
	return l.medium.close()
}
