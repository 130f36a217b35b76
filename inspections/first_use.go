package inspections

import (
	"context"
	"crypto/sha256"

	"xuncha/sites"
)

// This file names the check-in that used a photo first. Records are shown to whoever can see
// their own site, who need not be able to see that one. So they name it by a hash: it tells
// nothing to whoever cannot see both check-ins, and whoever can may verify it.

// A FirstUse names the check-in that used a photo first.
type FirstUse struct {
	// Name is UseOf's; zero in records of earlier versions.
	Name Digest
	// First is the check-in. It is zero where only the name is known; see FirstUses.
	First CheckInRef
}

// UseOf names a check-in by the SHA-256 of a line of text and its ids:
//
//	xuncha reuse v1
//	3f2504e0-4f89-41d3-9a0c-0305e82c3301/11111111-0000-4000-8000-000000000001
//
// without a line feed at its end.
func UseOf(c CheckInRef) FirstUse {
	return FirstUse{Name: sha256.Sum256([]byte("xuncha reuse v1\n" + string(c.Site) + "/" + string(c.CheckIn))), First: c}
}

// ParseFirstUse reads what a record says of a check-in: the ids, or the name alone.
func ParseFirstUse(site sites.SiteID, checkIn CheckInID, name string) (u FirstUse, err error) {
	if name == "" {
		return FirstUse{First: CheckInRef{site, checkIn}}, nil
	}
	u.Name, err = ParseDigest(name)
	return u, err
}

// FirstUses finds the check-ins that are only named, by the pictures with the hashes that
// they used. Those that are not found, as after an older database was put in place, stay as
// they are.
func (s *Service) FirstUses(ctx context.Context, sums []Digest, uses []*FirstUse) error {
	if len(sums) == 0 {
		return nil
	}
	firsts, err := s.Claims.Claimed(ctx, sums)
	if err != nil {
		return err
	}
	for i, u := range uses {
		if found := UseOf(firsts[i]); found.Name == u.Name {
			*u = found
		}
	}
	return nil
}

// FindReused is FirstUses for all photos of the check-ins that were used before.
func (s *Service) FindReused(ctx context.Context, list ...*Stored) error {
	var sums []Digest
	var uses []*FirstUse
	for _, c := range list {
		for i := range c.Reused {
			if p := &c.Reused[i]; p.First == (CheckInRef{}) {
				sums, uses = append(sums, p.SHA256), append(uses, &p.FirstUse)
			}
		}
	}
	return s.FirstUses(ctx, sums, uses)
}
