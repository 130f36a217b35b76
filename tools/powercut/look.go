package main

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"

	"github.com/google/uuid"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	xunchav1 "xuncha/proto/xuncha/v1"
)

// look starts a server on what has survived and looks for all that was acknowledged.
func (l *life) look(ctx context.Context) error {
	if _, err := l.start(ctx); err != nil {
		return err
	}
	s := servicesOf(l.server.conn)
	// Whatever was under way is acknowledged in the end.
	if err := l.prepare(ctx, s); err != nil {
		return err
	}
	before := 0
	if l.origin == released {
		before = releasedCheckIns
	}
	err := (&check{ctx: ctx, book: l.book, services: s, root: l.root, reader: l.auditor, before: before}).all()
	return errors.Join(err, l.server.log.errors())
}

// finish has everything acknowledged that is under way, looks once more, stops the server
// and verifies the folder.
func (l *life) finish(ctx context.Context) error {
	if _, err := l.start(ctx); err != nil {
		return err
	}
	s := servicesOf(l.server.conn)
	for _, p := range l.phones {
		if err := p.settle(ctx, l.book, s); err != nil {
			return err
		}
	}
	if err := l.importer.settle(ctx, l.book, s); err != nil {
		return err
	}
	if l.registrar != nil {
		if err := l.registrar.settle(ctx, l.book, s); err != nil {
			return err
		}
	}
	if err := l.reuse(ctx, s); err != nil {
		return err
	}
	if err := l.look(ctx); err != nil {
		return err
	}
	if err := l.stop(); err != nil {
		return err
	}
	return l.verify(ctx)
}

// verify has the program check the folder at rest, and copy it, which reads every entry
// and every photo too.
func (l *life) verify(ctx context.Context) error {
	folder, err := os.MkdirTemp(filepath.Dir(l.binary), "copy")
	if err != nil {
		return err
	}
	defer os.RemoveAll(folder)
	for _, args := range [][]string{
		{"check", "--data", l.medium.data()},
		{"copy", "--from", l.medium.data(), "--to", filepath.Join(folder, "data")},
	} {
		command := exec.CommandContext(ctx, l.binary, args...)
		command.Dir = filepath.Dir(l.binary)
		if out, err := command.CombinedOutput(); err != nil {
			return faultf("the folder does not verify: %s: %w: %s", args[0], err, out)
		}
	}
	return nil
}

// mostReused is how many photos are used once more.
const mostReused = 5

// reuse reports visits with photos of other visits that were acknowledged. The server must
// know whose they are.
func (l *life) reuse(ctx context.Context, s services) error {
	left := mostReused
	for _, v := range l.book.all() {
		if left == 0 || v.photo == nil || v.receipt == nil {
			continue
		}
		left--
		again := &visit{checkIn: proto.CloneOf(v.checkIn)}
		again.checkIn.CheckInId, again.checkIn.CaptureTime = uuid.NewString(), timestamppb.Now()
		l.book.note(func() { l.book.visits[again.checkIn.CheckInId] = again })
		answer, err := once(ctx, l.officer.token(), s.inspections.SubmitCheckIn, &xunchav1.SubmitCheckInRequest{CheckIn: again.checkIn})
		if err != nil {
			return whatCame(err, "a check-in with the photo of %s", v.checkIn.CheckInId)
		}
		l.book.record(func() { again.receipt = answer.Receipt })
		if !slices.Contains(answer.Receipt.Flags, xunchav1.Flag_FLAG_PHOTO_REUSED) {
			return faultf("the photo of the check-in %s was used once more, and the server does not say so", v.checkIn.CheckInId)
		}
	}
	return nil
}
