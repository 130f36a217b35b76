package rpc

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/timestamppb"

	xunchav1 "xuncha/proto/xuncha/v1"
	"xuncha/server/internal/accounts"
	"xuncha/server/internal/sampledata"
	"xuncha/server/internal/table"
)

// A told is something that changed where something lies: a site, or a township.
type told struct {
	what, where      string
	from             time.Time
	entered, revoked time.Time
	revision         int64
}

// A post is what an account could do from a time on.
type post struct {
	from     time.Time
	role     accounts.Role
	division string
}

// A judge knows all that was done, and says who may report what, by reading it all.
type judge struct {
	told  []*told
	posts map[string][]post
}

// where returns where something lay at t, as it was known at the time known.
func (j *judge) where(what string, t, known time.Time) (out string) {
	var best *told
	for _, e := range j.told {
		if e.what != what || e.entered.After(known) || !e.revoked.IsZero() && !e.revoked.After(known) || e.from.After(t) {
			continue
		}
		if best == nil || !e.from.Before(best.from) {
			best = e
		}
	}
	return best.where
}

func (j *judge) postAt(name string, t time.Time) post {
	list := j.posts[name]
	out := list[0]
	for _, p := range list {
		if !p.from.After(t) {
			out = p
		}
	}
	return out
}

// lies reports whether the site lay in the division at t, as it was known.
func (j *judge) lies(site, division string, t, known time.Time) bool {
	village := j.where(site, t, known)
	return slices.Contains([]string{village, village[:9], j.where(village[:9], t, known), "511600"}, division)
}

// may says how the rights answer a visit: ok, or the code of the refusal.
func (j *judge) may(name, site string, at, now time.Time) codes.Code {
	out := codes.PermissionDenied
	for _, t := range []time.Time{at, at.Add(2 * time.Minute)} {
		if t.After(now) {
			t = now
		}
		p := j.postAt(name, t)
		if p.role != accounts.Officer {
			continue
		}
		if j.lies(site, p.division, t, now) || j.lies(site, p.division, t, t) {
			return codes.OK
		}
		out = codes.NotFound
	}
	return out
}

// TestRightsAtRandom changes accounts, sites and divisions at random, today, for days
// before and for days to come, takes some of it back, and has visits of any time reported
// by phones with any clock.
func TestRightsAtRandom(t *testing.T) {
	for _, seed := range []uint64{2, 16, 28} { // which reach all branches
		t.Run(fmt.Sprint(seed), func(t *testing.T) { rightsAtRandom(t, rand.New(rand.NewPCG(seed, 1))) })
	}
}

// fresh returns what signs accounts in, and again where their tokens have expired.
func fresh(t *testing.T, w *world) func(name string) context.Context {
	type signedIn struct {
		ctx context.Context
		at  time.Time
	}
	known := map[string]signedIn{}
	return func(name string) context.Context {
		s, ok := known[name]
		if now := w.clock(); !ok || now.Sub(s.at) > 10*time.Minute {
			s = signedIn{w.as(t, name), now}
			known[name] = s
		}
		return s.ctx
	}
}

func rightsAtRandom(t *testing.T, r *rand.Rand) {
	w := newWorld(t)
	areas := w.areas(t)
	b := &border{world: w}
	as := fresh(t, w)
	j := &judge{posts: map[string][]post{}}
	var log []string
	say := func(format string, args ...any) {
		log = append(log, w.clock().Format("02 15:04 ")+fmt.Sprintf(format, args...))
	}
	villages := []string{areas[0].village, areas[1].village}
	read(t, sampledata.Divisions2019(), table.Divisions, func(row table.Row) {
		for _, v := range villages[:2] {
			if row.Cells[2] == "village" && row.Cells[3][:6] == v[:6] && row.Cells[3] != v[:9] && len(villages) < 4 {
				villages = append(villages, row.Cells[0])
			}
		}
	})
	ages := time.Date(1900, 1, 1, 0, 0, 0, 0, shanghai)
	for _, v := range villages {
		j.told = append(j.told, &told{what: v[:9], where: v[:6], from: ages})
	}
	sites := []string{areas[0].site, areas[1].site}
	for i, s := range sites {
		j.told = append(j.told, &told{what: s, where: areas[i].village, from: ages})
	}
	divisions := []string{"511602", "511603", "511600", villages[0][:9], villages[1]}
	roles := []accounts.Role{accounts.Officer, accounts.Officer, accounts.Officer, accounts.Head, accounts.Admin}
	ids := map[string]*accounts.Account{}
	names := []string{"one", "two", "three"}
	pick := func(from []string) string { return from[r.IntN(len(from))] }
	for _, n := range names {
		p := post{ages, roles[r.IntN(len(roles))], pick(divisions)}
		ids[n] = w.create(t, n, p.role, p.division)
		j.posts[n] = []post{p}
		say("%s is %v", n, p)
	}
	steps := []time.Duration{0, time.Second, time.Minute, 90 * time.Second, 2 * time.Minute, time.Hour, 7 * time.Hour, 25 * time.Hour}
	offsets := []time.Duration{0, 0, 0, time.Minute, -time.Minute, 3 * time.Hour, -3 * time.Hour, 30 * time.Hour}
	var made []*told
	var taken []struct {
		c        *xunchav1.CheckIn
		reporter string
		at       time.Time
	}
	counts := map[string]int{}
	var moments []time.Time // at which something happened
	for range 120 {
		w.advance(steps[r.IntN(len(steps))])
		now := w.clock()
		day := time.Date(now.Year(), now.Month(), now.Day(), 0, 0, 0, 0, shanghai)
		switch k := r.IntN(20); {
		case k < 3:
			n := pick(names)
			p := post{now, roles[r.IntN(len(roles))], pick(divisions)}
			w.change(t, ids[n], p.role, p.division)
			j.posts[n] = append(j.posts[n], p)
			moments = append(moments, now)
			say("%s is %s of %s", n, p.role, p.division)
		case k < 5:
			s, v := pick(sites), pick(villages)
			from := now
			req := &xunchav1.MoveSiteRequest{SiteId: s, DivisionCode: v}
			if r.IntN(2) == 0 {
				from = now.Add(time.Duration(r.IntN(60)-40) * time.Hour)
				req.EffectiveTime = timestamppb.New(from)
			}
			answer, err := w.roster.MoveSite(as("root"), req)
			if err != nil {
				counts["no move"]++
				say("no move: %v", err)
				continue
			}
			e := &told{what: s, where: v, from: from, entered: now, revision: answer.Site.GetRevision()}
			j.told, made = append(j.told, e), append(made, e)
			moments = append(moments, now, from)
			counts["move"]++
			say("%s moves to %s from %s (%d)", s[:4], v, from.Format("02 15:04"), e.revision)
		case k < 7:
			v := pick(villages)
			county := pick([]string{"511602", "511603"})
			from := day.AddDate(0, 0, r.IntN(4)-2)
			answer, err := b.importDivisionRows(as("root"), from.Format(time.DateOnly), false, b.subtree(t, v[:9], county)...)
			if err != nil || !answer.Changed {
				say("no import: %v %v", err, answer.GetProblems())
				counts["no import"]++
				continue
			}
			e := &told{what: v[:9], where: county, from: from, entered: now, revision: answer.Revision}
			j.told, made = append(j.told, e), append(made, e)
			moments = append(moments, now, from)
			counts["import"]++
			say("%s goes to %s from %s (%d)", v[:9], county, from.Format("02 15:04"), e.revision)
		case k < 8 && len(made) > 0:
			e := made[r.IntN(len(made))]
			if _, err := w.roster.RevokeChange(as("root"), &xunchav1.RevokeChangeRequest{Revision: e.revision, Reason: "by mistake"}); err != nil {
				counts["no revocation"]++
				say("not revoked: %v", err)
				continue
			}
			e.revoked = now
			moments = append(moments, now)
			counts["revocation"]++
			say("%d is taken back", e.revision)
		case k < 10 && len(taken) > 0:
			c := taken[r.IntN(len(taken))]
			n := pick(names)
			_, err := w.photos.GetPhotoUpload(as(n), &xunchav1.GetPhotoUploadRequest{SiteId: c.c.SiteId, CheckInId: c.c.CheckInId, Sha256: sum(testPhoto)})
			p := j.postAt(n, now)
			want := codes.OK
			if c.reporter != n && !(p.role == accounts.Officer && j.lies(c.c.SiteId, p.division, now, now)) {
				want = j.may(n, c.c.SiteId, c.at, now)
			}
			if !slices.ContainsFunc(j.posts[n], func(p post) bool { return p.role == accounts.Officer }) {
				want = codes.PermissionDenied
			}
			counts["photo "+want.String()]++
			if got := status.Code(err); got != want {
				t.Fatalf("%s\nphoto of %s by %s, of a visit of %s at %s: got %s (%v), want %s", strings.Join(log, "\n"), c.reporter, n, c.c.SiteId[:4], c.at.Format("02 15:04:05"), got, err, want)
			}
		default:
			n, s := pick(names), pick(sites)
			at := now.Add(-time.Duration(r.Int64N(int64(60 * time.Hour))))
			if len(moments) > 0 && r.IntN(2) == 0 {
				at = moments[r.IntN(len(moments))].Add([]time.Duration{0, -time.Second, time.Second, -2 * time.Minute, -2*time.Minute - time.Second, time.Minute}[r.IntN(6)])
			}
			off := offsets[r.IntN(len(offsets))]
			if at.After(now.Add(4 * time.Minute)) {
				at = now
			}
			shown := at.Add(off)
			if off == time.Minute || off == -time.Minute {
				shown = at // it is not corrected
			}
			c := w.visitAt(s, shown)
			c.Photos = declare(testPhoto)
			_, err := w.checkIns.SubmitCheckIn(as(n), &xunchav1.SubmitCheckInRequest{CheckIn: c, ClientTime: timestamppb.New(now.Add(off))})
			if at.After(now) {
				at = now
			}
			want := j.may(n, s, at, now)
			got := status.Code(err)
			if got == codes.FailedPrecondition || got == codes.InvalidArgument || got == codes.OutOfRange {
				got = codes.OK // there was no order, which is told to those who may
			}
			counts["visit "+want.String()]++
			if !slices.ContainsFunc(j.posts[n], func(p post) bool { return p.role == accounts.Officer }) {
				want = codes.PermissionDenied
			}
			if got != want {
				t.Fatalf("%s\nvisit of %s by %s at %s, off by %s: got %s (%v), want %s", strings.Join(log, "\n"), s[:4], n, at.Format("02 15:04:05"), off, got, err, want)
			}
			if err == nil {
				taken = append(taken, struct {
					c        *xunchav1.CheckIn
					reporter string
					at       time.Time
				}{c, n, at})
				// What is shown goes by the rights of now.
				p := j.postAt(n, now)
				_, err := w.checkIns.GetCheckIn(as(n), &xunchav1.GetCheckInRequest{SiteId: s, CheckInId: c.CheckInId})
				want := codes.OK
				if p.role == accounts.Admin {
					want = codes.PermissionDenied
				} else if !j.lies(s, p.division, now, now) {
					want = codes.NotFound
				}
				if got := status.Code(err); got != want {
					t.Fatalf("%s\nshown to %s: got %s, want %s", strings.Join(log, "\n"), n, got, want)
				}
			}
		}
	}
	t.Log(counts)
}
