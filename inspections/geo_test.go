package inspections

import (
	"math"
	"testing"

	"xuncha/sites"
)

// The pairs are those that the public implementations of the formula agree on.
func TestGCJ02(t *testing.T) {
	for _, test := range []struct {
		name     string
		wgs, gcj sites.Position
	}{
		{"Shanghai", sites.Position{Latitude: 31.1774276, Longitude: 121.5272106}, sites.Position{Latitude: 31.17530398364597, Longitude: 121.531541859215}},
		{"Shenzhen", sites.Position{Latitude: 22.543847, Longitude: 113.912316}, sites.Position{Latitude: 22.540796131694766, Longitude: 113.9171764808363}},
		{"Beijing", sites.Position{Latitude: 39.911954, Longitude: 116.377817}, sites.Position{Latitude: 39.91334545536069, Longitude: 116.38404722455657}},
		{"OutsideChina", sites.Position{Latitude: 48.8566, Longitude: 2.3522}, sites.Position{Latitude: 48.8566, Longitude: 2.3522}},
	} {
		t.Run(test.name, func(t *testing.T) {
			near := func(got, want sites.Position, degrees float64) {
				t.Helper()
				if math.Abs(got.Latitude-want.Latitude) > degrees || math.Abs(got.Longitude-want.Longitude) > degrees {
					t.Errorf("got %v, want %v", got, want)
				}
			}
			near(toGCJ02(test.wgs), test.gcj, 1e-9)
			near(toWGS84(test.gcj), test.wgs, 1e-8)
		})
	}
}

func TestDistance(t *testing.T) {
	degree := 2 * math.Pi * earthRadius / 360
	for _, test := range []struct {
		name string
		a, b sites.Position
		want float64
	}{
		{"Nothing", sites.Position{Latitude: 30, Longitude: 106}, sites.Position{Latitude: 30, Longitude: 106}, 0},
		{"ADegreeNorth", sites.Position{Latitude: 30, Longitude: 106}, sites.Position{Latitude: 31, Longitude: 106}, degree},
		{"ADegreeEastAt60", sites.Position{Latitude: 60, Longitude: 106}, sites.Position{Latitude: 60, Longitude: 107}, degree / 2},
		{"AcrossTheDateLine", sites.Position{Longitude: 179.5}, sites.Position{Longitude: -179.5}, degree},
		{"OtherSideOfTheEarth", sites.Position{Latitude: 90}, sites.Position{Latitude: -90}, 180 * degree},
	} {
		t.Run(test.name, func(t *testing.T) {
			if got := distance(test.a, test.b); math.Abs(got-test.want) > 10 {
				t.Errorf("got %.0f m, want %.0f m", got, test.want)
			}
		})
	}
}
