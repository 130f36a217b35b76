package main

import (
	"fmt"
	"iter"

	xunchav1 "xuncha/proto/xuncha/v1"
)

// The ranks of a land, from the widest.
const (
	nation = iota
	province
	prefecture
	county
	township
	village
	ranks
)

// How much a whole country has: 665,000 divisions in six ranks, and its sites.
const countrySites = 144_000

var countryDivisions = [ranks]int{1, len(provinceCodes), 341, 2_900, 41_000, 620_727}

// provinceCodes are the first two digits of the codes of the provinces.
var provinceCodes = [...]int{
	11, 12, 13, 14, 15, 21, 22, 23, 31, 32, 33, 34, 35, 36, 37, 41, 42, 43, 44, 45, 46, 50, 51, 52, 53, 54, 61, 62, 63, 64, 65,
}

// A land is a made-up country, or a share of one. Its codes are as long as real ones,
// and a code begins with that of the division above.
type land struct {
	root  string // the code of the whole
	words [ranks]string
	// counts holds how many divisions each rank has.
	counts [ranks]int
	sites  int
}

// newLand returns the share of a country that has so many levels: 6, or 4 for a server
// that knows only cities, counties, townships and villages. With 4, one city is the
// whole, the provinces are its counties, and the townships lie right below them.
func newLand(share float64, levels int) (land, error) {
	l := land{
		root:  "100000",
		words: [ranks]string{"nation", "province", "city", "county", "township", "village"},
		sites: max(1, int(share*countrySites+0.5)),
	}
	switch levels {
	case 6:
	case 4:
		l.root = "990000" // which no province has
		l.words = [ranks]string{nation: "city", province: "county", township: "township", village: "village"}
	default:
		return land{}, fmt.Errorf("-levels: %d; it is 6 or 4", levels)
	}
	if !(share > 0 && share <= 1) {
		return land{}, fmt.Errorf("-share: %g; it lies above 0 and is at most 1", share)
	}
	for r, n := range countryDivisions {
		l.counts[r] = n
		if r > province {
			l.counts[r] = max(l.counts[r-1], int(share*float64(n)+0.5))
		}
	}
	return l, nil
}

// size returns how many divisions the land has.
func (l land) size() (n int) {
	for r, word := range l.words {
		if word != "" {
			n += l.counts[r]
		}
	}
	return n
}

// levels returns how many ranks the land has.
func (l land) levels() (n int) {
	for _, word := range l.words {
		if word != "" {
			n++
		}
	}
	return n
}

// above returns which division of the rank above the i-th of a rank lies in. Divisions
// are spread evenly.
func (l land) above(rank, i int) int { return i * l.counts[rank-1] / l.counts[rank] }

// code returns the code of the i-th division of a rank.
func (l land) code(rank, i int) string {
	if rank == nation {
		return l.root
	}
	above := l.above(rank, i)
	first := (above*l.counts[rank] + l.counts[rank-1] - 1) / l.counts[rank-1] // of the division above
	number := i - first + 1
	switch rank {
	case province:
		return fmt.Sprintf("%02d0000", provinceCodes[i])
	case prefecture:
		return fmt.Sprintf("%s%02d00", l.code(province, above)[:2], number)
	case county:
		return fmt.Sprintf("%s%02d", l.code(prefecture, above)[:4], number)
	default:
		return fmt.Sprintf("%s%03d", l.code(rank-1, above), number)
	}
}

// parent returns the code of the division that the i-th of a rank lies in, among the
// ranks that the land has; empty for the whole.
func (l land) parent(rank, i int) string {
	for rank > nation {
		i = l.above(rank, i)
		rank--
		if l.words[rank] != "" {
			return l.code(rank, i)
		}
	}
	return ""
}

// divisions returns the rows of the table of divisions. The prefix begins each name.
func (l land) divisions(prefix string) iter.Seq[*xunchav1.DivisionRow] {
	kinds := [ranks]string{"国", "省", "市", "县", "乡", "村"}
	return func(yield func(*xunchav1.DivisionRow) bool) {
		row := int32(1)
		for rank, word := range l.words {
			if word == "" {
				continue
			}
			for i := range l.counts[rank] {
				row++
				if !yield(&xunchav1.DivisionRow{
					Row: row, Code: l.code(rank, i), Name: fmt.Sprintf("%s第%d%s", prefix, i+1, kinds[rank]),
					Level: word, ParentCode: l.parent(rank, i),
				}) {
					return
				}
			}
		}
	}
}

// siteVillage returns which village the i-th site stands in.
func (l land) siteVillage(i int) int { return i * l.counts[village] / l.sites }

// registration returns the registration number of the i-th site. The numbers are in the
// order of the sites.
func (l land) registration(i int) string {
	return fmt.Sprintf("%s-%06d", l.code(village, l.siteVillage(i))[:6], i+1)
}

// position returns where the i-th site stands, in degrees.
func (l land) position(i int) (latitude, longitude float64) {
	return 20 + float64(i%250)/10, 80 + float64(i/250%500)/10
}

// siteNames returns the rows of a table of sites that says nothing but their names. The
// prefix begins each name.
func (l land) siteNames(prefix string) iter.Seq[*xunchav1.SiteRow] {
	return func(yield func(*xunchav1.SiteRow) bool) {
		for row := range l.siteRows(prefix) {
			if !yield(&xunchav1.SiteRow{Row: row.Row, RegistrationNo: row.RegistrationNo, Name: row.Name}) {
				return
			}
		}
	}
}

// siteRows returns the rows of the table of sites. The prefix begins each name.
func (l land) siteRows(prefix string) iter.Seq[*xunchav1.SiteRow] {
	return func(yield func(*xunchav1.SiteRow) bool) {
		for i := range l.sites {
			latitude, longitude := l.position(i)
			if !yield(&xunchav1.SiteRow{
				Row: int32(i + 2), RegistrationNo: l.registration(i), Name: fmt.Sprintf("%s第%d号场所", prefix, i+1),
				DivisionCode: l.code(village, l.siteVillage(i)), Address: fmt.Sprintf("解放路%d号", i%300+1),
				Latitude: fmt.Sprintf("%.4f", latitude), Longitude: fmt.Sprintf("%.4f", longitude), RegisteredOn: "2019-12-31",
			}) {
				return
			}
		}
	}
}
