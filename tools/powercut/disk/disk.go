// Package disk is a file system in memory whose power can be cut. It keeps two states
// of everything: what programs see, and what would be there after a power cut.
//
// What a program writes to a file becomes durable when the file is flushed, by fsync or
// fdatasync. A name becomes durable when the folder that it is in is flushed, also the
// name of a new file: real file systems promise no more. Before, and by chance, the disk
// may write anything earlier, as real ones do. When the power is cut, any part of what
// was not flushed may survive: single pages of 4 KiB or sectors of 512 bytes of a file,
// its old or its new size, and some changes of names without others. A seed chooses.
//
// Two things are promised beyond that, because all journaling file systems promise them
// and programs could not do without: a rename within a folder happens or does not, and a
// file that moves between folders is never in neither.
package disk

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"time"
)

const (
	// pageSize is what is written at once unless the power is cut meanwhile.
	pageSize = 4096
	// sectorSize is what is written at once in any case.
	sectorSize = 512
)

// Options say what a disk does wrong.
type Options struct {
	// IgnoreFiles and IgnoreFolders make a disk that takes a flush of a file, or of a
	// folder, and does nothing. It is as if the program had made none.
	IgnoreFiles, IgnoreFolders bool
}

// A Disk is one file system. It is safe for concurrent use.
type Disk struct {
	options Options

	mu      sync.Mutex
	random  *rand.Rand
	nodes   map[uint64]*node
	root    *node
	changes []*change // those that are not durable, in their order
	steps   int       // operations that change or flush something
	limit   int       // the step before which the power goes; 0 for none
	cutting string    // that step
	off     bool
	cut     chan struct{} // closed once the power is off
	failing chan struct{} // closed once what hangs is to fail
}

// A node is a file or a folder.
type node struct {
	number uint64
	folder bool
	mode   uint32
	mtime  time.Time
	links  int    // how many names it has
	label  string // its newest name, for people

	content content
	// names are those in a folder, and durable those that would survive.
	names, durable map[string]*node
}

// New returns an empty disk. The seed chooses what happens by chance.
func New(seed uint64, o Options) *Disk {
	d := &Disk{options: o, random: rand.New(rand.NewPCG(seed, 1)), nodes: map[uint64]*node{}, cut: make(chan struct{}), failing: make(chan struct{})}
	d.root = d.add(true, 0o700)
	d.root.links, d.root.label = 1, "/"
	return d
}

// add makes a node that has no name.
func (d *Disk) add(folder bool, mode uint32) *node {
	n := &node{number: uint64(len(d.nodes) + 1), folder: folder, mode: mode & 0o7777, mtime: time.Now()}
	if folder {
		n.names, n.durable = map[string]*node{}, map[string]*node{}
	}
	d.nodes[n.number] = n
	return n
}

// CutAfter lets the power go before the step that comes after n more. Steps are
// operations that change or flush something.
func (d *Disk) CutAfter(n int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.limit = d.steps + n + 1
}

// Cut lets the power go at once.
func (d *Disk) Cut() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.turnOff("an idle moment")
}

// Off is closed once the power is off. From then on all operations hang, so that a
// program can do nothing more until it is killed.
func (d *Disk) Off() <-chan struct{} { return d.cut }

// Fail lets what hangs fail, so that a program that was killed can end.
func (d *Disk) Fail() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.turnOff("an idle moment")
	select {
	case <-d.failing:
	default:
		close(d.failing)
	}
}

// turnOff needs d.mu.
func (d *Disk) turnOff(step string) {
	if !d.off {
		d.off, d.cutting = true, step
		close(d.cut)
	}
}

// enter begins an operation, which ends with leave. It returns false where the power is
// off. A step is named; whatever changes and flushes nothing has no name.
func (d *Disk) enter(step string, n *node, more ...string) bool {
	d.mu.Lock()
	if step != "" && !d.off {
		d.steps++
		if d.steps == d.limit {
			d.turnOff(strings.Join(append([]string{fmt.Sprintf("step %d,", d.steps), step, n.label}, more...), " "))
		} else {
			d.writeByChance()
		}
	}
	if !d.off {
		return true
	}
	d.mu.Unlock()
	<-d.failing
	return false
}

func (d *Disk) leave() { d.mu.Unlock() }

// writeByChance does what a system does in the background: sometimes it writes a page,
// and now and then all names up to some change.
func (d *Disk) writeByChance() {
	if !d.options.IgnoreFiles && d.random.IntN(32) == 0 {
		if dirty := d.unflushed(); len(dirty) > 0 {
			c := &dirty[d.random.IntN(len(dirty))].content
			pages := c.dirtyPages()
			c.write(pages[d.random.IntN(len(pages))])
		}
	}
	if !d.options.IgnoreFolders && len(d.changes) > 0 && d.random.IntN(128) == 0 {
		until := d.random.IntN(len(d.changes) + 1)
		d.makeDurable(func(i int, _ *change) bool { return i < until })
	}
}

// unflushed returns the files that have pages to write, in the order of their numbers.
func (d *Disk) unflushed() (out []*node) {
	for number := uint64(1); number <= uint64(len(d.nodes)); number++ {
		if n := d.nodes[number]; len(n.content.dirty) > 0 {
			out = append(out, n)
		}
	}
	return out
}
