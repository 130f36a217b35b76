package serve

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"xuncha/inspections"
	"xuncha/inspections/photos"
	xunchav1 "xuncha/proto/xuncha/v1"
	"xuncha/server/internal/rpc"
)

// A photo that is lost is a problem until a later round finds it whole, or not at all
// because it was purged, and keeps the time at which that was seen first.
func TestPhotoProblems(t *testing.T) {
	var log bytes.Buffer
	now := time.Date(2026, 11, 26, 0, 0, 0, 0, time.UTC)
	p := &photoProblems{log: slog.New(slog.NewTextHandler(&log, nil)), problems: new(rpc.Problems), now: func() time.Time { return now }}
	photo := func(n int) photos.Kept {
		return photos.Kept{Ref: photos.Ref{CheckInRef: inspections.CheckInRef{Site: "site", CheckIn: "a"}, SHA256: sha256.Sum256(fmt.Append(nil, n))}}
	}
	p.lost(photo(1), photos.ErrLost)
	p.lost(photo(2), photos.ErrLost)
	p.lost(photo(3), errors.New("input/output error"))
	p.endRound()
	first := now
	now = now.Add(time.Hour)
	p.lost(photo(1), photos.ErrLost)
	p.whole(photo(2))
	p.endRound()
	all := p.problems.All()
	if len(all) != 1 || all[0].Kind != xunchav1.ProblemKind_PROBLEM_KIND_PHOTO_LOST || all[0].Site != "site" || !all[0].Since.Equal(first) ||
		!strings.Contains(all[0].Message, photo(1).SHA256.String()) {
		t.Errorf("got %+v", all)
	}
	if n := strings.Count(log.String(), "photo lost or altered"); n != 3 || !strings.Contains(log.String(), "a photo cannot be read") {
		t.Errorf("the log has %s", log.String())
	}
	// However many are lost, some are named.
	for n := range 2 * maxPhotoProblems {
		p.lost(photo(n), photos.ErrLost)
	}
	if n := len(p.problems.All()); n != maxPhotoProblems {
		t.Errorf("%d are named, want %d", n, maxPhotoProblems)
	}
	p.endRound()
	p.endRound()
	if all := p.problems.All(); len(all) != 0 {
		t.Errorf("got %+v", all)
	}
}
