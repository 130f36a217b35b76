// Package sampledata holds the tables that the demo and the tests work with:
// real divisions of Guang'an in 2019 and 2023, and made-up sites. README.md
// beside it says where they come from.
package sampledata

import "embed"

//go:embed *.csv
var files embed.FS

// The names of the tables.
const (
	Divisions2019Name = "guangan_divisions_2019-10-31.csv"
	Divisions2023Name = "guangan_divisions_2023-06-30.csv"
	SitesName         = "guangan_sites_sample.csv"
	MovesName         = "guangan_sites_moves_2023-06-30.csv"
)

func read(name string) []byte {
	b, err := files.ReadFile(name)
	if err != nil {
		panic(err) // the file is part of the program
	}
	return b
}

// Divisions2019 is the division table of 2019-10-31: 1 city, 6 counties, 182
// townships, 2,990 villages.
func Divisions2019() []byte { return read(Divisions2019Name) }

// Divisions2023 is the division table of 2023-06-30, after the mergers: 124
// townships, 1,715 villages.
func Divisions2023() []byte { return read(Divisions2023Name) }

// Sites is a roster of 85 made-up sites in villages of 2019.
func Sites() []byte { return read(SitesName) }

// Moves names, for each sample site whose village had ended by 2023, the
// village that it moves to.
func Moves() []byte { return read(MovesName) }
