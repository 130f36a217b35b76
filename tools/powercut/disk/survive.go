package disk

import (
	"fmt"
	"maps"
	"slices"
)

// A Loss says what a power cut has done.
type Loss struct {
	// Step is the operation that was not made any more.
	Step string
	// Files had pages that were not flushed, of which some survived in whole and some in
	// part.
	Files, Pages, Kept, Torn int
	// Names are the changes of names that were not flushed.
	Names, KeptNames int
}

func (l Loss) String() string {
	return fmt.Sprintf("cut at %s; not flushed: %d pages of %d files, of which %d survived and %d were torn, and %d names, of which %d survived",
		l.Step, l.Pages, l.Files, l.Kept, l.Torn, l.Names, l.KeptNames)
}

// Survive returns what is there once the power is back, as a disk of its own. The power
// must be off, and nobody may use the disk any more.
func (d *Disk) Survive() (*Disk, Loss) {
	d.mu.Lock()
	defer d.mu.Unlock()
	loss := Loss{Step: d.cutting, Names: len(d.changes)}
	general := []fate{lostFate, lostFate, keptFate, mixedFate, mixedFate, mixedFate}[d.random.IntN(6)]
	fateOf := func() fate {
		if general == mixedFate {
			return fate(d.random.IntN(3))
		}
		return general
	}
	// The names. Either some are chosen each by itself, or all up to one.
	switch until, each := d.random.IntN(len(d.changes)+1), d.random.IntN(2) == 0; {
	case general == keptFate:
		loss.KeptNames = d.makeDurable(func(int, *change) bool { return true })
	case general == mixedFate && each:
		loss.KeptNames = d.makeDurable(func(int, *change) bool { return d.random.IntN(2) == 0 })
	case general == mixedFate:
		loss.KeptNames = d.makeDurable(func(i int, _ *change) bool { return i < until })
	}
	out := New(d.random.Uint64(), d.options)
	known := map[*node]*node{d.root: out.root}
	var copyFolder func(from, to *node)
	copyFolder = func(from, to *node) {
		for _, name := range slices.Sorted(maps.Keys(from.durable)) {
			old := from.durable[name]
			fresh, seen := known[old]
			if !seen {
				fresh = out.add(old.folder, old.mode)
				fresh.mtime, fresh.label = old.mtime, name
				known[old] = fresh
				if old.folder {
					copyFolder(old, fresh)
				} else {
					survived, kept, torn := old.content.survivors(d.random, fateOf())
					if n := len(old.content.dirty); n > 0 {
						loss.Files++
						loss.Pages += n
					}
					loss.Kept += kept
					loss.Torn += torn
					fresh.content = content{data: survived, durable: slices.Clone(survived)}
				}
			}
			fresh.links++
			to.names[name], to.durable[name] = fresh, fresh
		}
	}
	copyFolder(d.root, out.root)
	return out, loss
}
