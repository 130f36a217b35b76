package inspections

import (
	"math"

	"xuncha/sites"
)

// known reports whether the location says where the phone was. Phones that do not know it
// say so in many ways: 0,0 with any accuracy, and what maps' libraries make of that; a
// negative accuracy; -180,-180; what is no number. A visit is not refused for that, nor
// for coordinates that are nowhere.
func (l *Location) known() bool {
	return l != nil && (l.Datum == WGS84 || l.Datum == GCJ02) &&
		// So written that what is not a number fails too.
		l.Accuracy >= 0 && l.Accuracy <= MaxAccuracy &&
		math.Abs(l.Point.Latitude) <= 90 && math.Abs(l.Point.Longitude) <= 180 &&
		(math.Abs(l.Point.Latitude) > nowhere || math.Abs(l.Point.Longitude) > nowhere)
}

// nowhere is how far from 0,0 in degrees a point of the sea is still no place. Libraries
// that turn one datum into another move 0,0 by less.
const nowhere = 0.01

// inWGS84 returns the point of a location that is known.
func (l *Location) inWGS84() sites.Position {
	if l.Datum == GCJ02 {
		return toWGS84(l.Point)
	}
	return l.Point
}

// earthRadius is the mean radius of the earth in metres (IUGG).
const earthRadius = 6_371_008.8

// distance returns the length of the great circle between two points in
// metres, by the haversine formula.
func distance(a, b sites.Position) float64 {
	lat1, lat2 := radians(a.Latitude), radians(b.Latitude)
	sinLat := math.Sin((lat2 - lat1) / 2)
	sinLon := math.Sin(radians(b.Longitude-a.Longitude) / 2)
	h := sinLat*sinLat + math.Cos(lat1)*math.Cos(lat2)*sinLon*sinLon
	return 2 * earthRadius * math.Asin(math.Min(1, math.Sqrt(h)))
}

func radians(degrees float64) float64 { return degrees * math.Pi / 180 }

// The ellipsoid of Krasovsky, on which GCJ-02 computes its offset: the long
// half-axis in metres and the square of the eccentricity.
const (
	krasovskyA  = 6_378_245.0
	krasovskyE2 = 0.006_693_421_622_965_943_23
)

// toGCJ02 returns the point of GCJ-02 that maps in China show for a point in
// WGS 84. The formula is the publicly known approximation of the survey
// authority's offset; outside a rectangle around China there is none.
func toGCJ02(p sites.Position) sites.Position {
	if p.Longitude < 72.004 || p.Longitude > 137.8347 || p.Latitude < 0.8293 || p.Latitude > 55.8271 {
		return p
	}
	x, y := p.Longitude-105, p.Latitude-35
	waves := 20*math.Sin(6*x*math.Pi) + 20*math.Sin(2*x*math.Pi)
	north := -100 + 2*x + 3*y + 0.2*y*y + 0.1*x*y + 0.2*math.Sqrt(math.Abs(x)) +
		(waves+20*math.Sin(y*math.Pi)+40*math.Sin(y/3*math.Pi)+160*math.Sin(y/12*math.Pi)+320*math.Sin(y*math.Pi/30))*2/3
	east := 300 + x + 2*y + 0.1*x*x + 0.1*x*y + 0.1*math.Sqrt(math.Abs(x)) +
		(waves+20*math.Sin(x*math.Pi)+40*math.Sin(x/3*math.Pi)+150*math.Sin(x/12*math.Pi)+300*math.Sin(x/30*math.Pi))*2/3

	// North and east are metres; the radii of curvature turn them into degrees.
	sin := math.Sin(radians(p.Latitude))
	w2 := 1 - krasovskyE2*sin*sin
	w := math.Sqrt(w2)
	meridian := krasovskyA * (1 - krasovskyE2) / (w2 * w)
	parallel := krasovskyA / w * math.Cos(radians(p.Latitude))
	return sites.Position{
		Latitude:  p.Latitude + north/radians(meridian),
		Longitude: p.Longitude + east/radians(parallel),
	}
}

// toWGS84 is the inverse of toGCJ02, found by correcting a guess with its own
// offset; four rounds bring it below a millimetre.
func toWGS84(p sites.Position) sites.Position {
	guess := p
	for range 4 {
		there := toGCJ02(guess)
		guess.Latitude += p.Latitude - there.Latitude
		guess.Longitude += p.Longitude - there.Longitude
	}
	return guess
}
