package disk

import (
	"bytes"
	"fmt"
	"testing"

	"github.com/hanwen/go-fuse/v2/fuse"
)

// seeds is how many power cuts each test makes, each with another seed.
const seeds = 300

// file makes a file with durable content under a durable name.
func file(d *Disk, above *node, name string, content string) *node {
	n := d.add(false, 0o600)
	n.content.writeAt([]byte(content), 0)
	n.content.flush()
	d.note(&change{folder: above, edits: []edit{{name, n}}})
	d.flushFolder(above)
	return n
}

func (d *Disk) flushFolder(n *node) {
	d.makeDurable(func(_ int, c *change) bool { return c.folder == n })
}

// outcomes cuts the power of disks that f has worked on, and counts what is there
// afterwards, as tell says it.
func outcomes(t *testing.T, f func(*Disk), tell func(*Disk) string) map[string]int {
	t.Helper()
	out := map[string]int{}
	for seed := range uint64(seeds) {
		d := New(seed, Options{})
		f(d)
		d.Cut()
		after, _ := d.Survive()
		out[tell(after)]++
	}
	return out
}

// want fails unless exactly these outcomes have come.
func want(t *testing.T, got map[string]int, all ...string) {
	t.Helper()
	for _, o := range all {
		if got[o] == 0 {
			t.Errorf("%q has never come: %v", o, got)
		}
		delete(got, o)
	}
	if len(got) > 0 {
		t.Errorf("there also came %v", got)
	}
}

// read tells a file's content, or that there is no such name.
func read(paths ...string) func(*Disk) string {
	return func(d *Disk) string {
		var out []byte
		for _, path := range paths {
			if n := d.find(path); n != nil {
				out = fmt.Appendf(out, "%s=%s ", path, n.content.data)
			}
		}
		return string(bytes.TrimSpace(out))
	}
}

func TestNames(t *testing.T) {
	for _, row := range []struct {
		name string
		do   func(*Disk)
		tell []string
		want []string
	}{
		{"FlushedFileInUnflushedFolder", func(d *Disk) {
			n := d.add(false, 0o600)
			d.note(&change{folder: d.root, edits: []edit{{"a", n}}})
			n.content.writeAt([]byte("1"), 0)
			n.content.flush()
		}, []string{"a"}, []string{"", "a=1"}},
		{"FlushedFolder", func(d *Disk) { file(d, d.root, "a", "1") }, []string{"a"}, []string{"a=1"}},
		{"FolderWithoutADurableName", func(d *Disk) {
			n := d.add(true, 0o700)
			d.note(&change{folder: d.root, edits: []edit{{"f", n}}})
			file(d, n, "a", "1")
		}, []string{"f/a"}, []string{"", "f/a=1"}},
		{"Replaced", func(d *Disk) {
			file(d, d.root, "a", "old")
			file(d, d.root, "new", "new")
			d.rename(d.root, "new", d.root, "a")
		}, []string{"a", "new"}, []string{"a=old new=new", "a=new"}},
		{"Moved", func(d *Disk) {
			f := d.add(true, 0o700)
			d.note(&change{folder: d.root, edits: []edit{{"f", f}}})
			file(d, d.root, "a", "1")
			d.rename(d.root, "a", f, "b")
		}, []string{"a", "f/b"}, []string{"a=1", "a=1 f/b=1", "f/b=1"}},
		{"MovedAndOneFolderFlushed", func(d *Disk) {
			f := d.add(true, 0o700)
			d.note(&change{folder: d.root, edits: []edit{{"f", f}}})
			file(d, d.root, "a", "1")
			d.rename(d.root, "a", f, "b")
			d.flushFolder(d.root)
		}, []string{"a", "f/b"}, []string{"f/b=1"}},
		{"Removed", func(d *Disk) {
			file(d, d.root, "a", "1")
			d.note(&change{folder: d.root, edits: []edit{{"a", nil}}})
		}, []string{"a"}, []string{"", "a=1"}},
		{"SecondName", func(d *Disk) {
			n := file(d, d.root, "a", "1")
			d.note(&change{folder: d.root, edits: []edit{{"b", n}}})
			d.flushFolder(d.root)
			d.note(&change{folder: d.root, edits: []edit{{"a", nil}}})
			d.flushFolder(d.root)
		}, []string{"a", "b"}, []string{"b=1"}},
	} {
		t.Run(row.name, func(t *testing.T) {
			want(t, outcomes(t, row.do, read(row.tell...)), row.want...)
		})
	}
}

// TestIgnored holds that a disk that ignores flushes loses what was flushed.
func TestIgnored(t *testing.T) {
	d := New(1, Options{IgnoreFolders: true})
	m := &mounted{disk: d}
	d.note(&change{folder: d.root, edits: []edit{{"a", d.add(false, 0o600)}}})
	m.FsyncDir(nil, flushOf(d.root))
	if len(d.root.durable) != 0 {
		t.Error("a folder was flushed")
	}
	d = New(1, Options{IgnoreFiles: true})
	m = &mounted{disk: d}
	n := d.add(false, 0o600)
	n.content.writeAt([]byte("1"), 0)
	m.Fsync(nil, flushOf(n))
	if len(n.content.durable) != 0 {
		t.Error("a file was flushed")
	}
}

// TestPages holds that what was not flushed of a file survives in any part, and what was
// flushed as it is.
func TestPages(t *testing.T) {
	old, fresh := bytes.Repeat([]byte("o"), 4*pageSize), bytes.Repeat([]byte("n"), 2*pageSize)
	var all, none, page, sector, short int
	for seed := range uint64(seeds) {
		d := New(seed, Options{})
		n := file(d, d.root, "a", string(old))
		n.content.writeAt(fresh, pageSize)
		n.content.writeAt([]byte("more"), len(old))
		d.Cut()
		after, _ := d.Survive()
		got := after.find("a").content.data
		if !bytes.Equal(got[:pageSize], old[:pageSize]) || !bytes.Equal(got[3*pageSize:4*pageSize], old[:pageSize]) {
			t.Fatalf("seed %d: what was flushed is gone", seed)
		}
		if len(got) == len(old) {
			short++
		}
		changed := bytes.Count(got, []byte("n"))
		switch {
		case changed == 0:
			none++
		case changed == len(fresh):
			all++
		case changed%pageSize == 0:
			page++
		case changed%sectorSize == 0:
			sector++
		default:
			t.Fatalf("seed %d: %d bytes of a sector survived", seed, changed%sectorSize)
		}
	}
	if all == 0 || none == 0 || page == 0 || sector == 0 || short == 0 {
		t.Errorf("some outcomes have never come: all %d, none %d, a page %d, sectors %d, the old size %d", all, none, page, sector, short)
	}
}

// TestContent compares what is flushed with what was written, in random order.
func TestContent(t *testing.T) {
	for seed := range uint64(seeds) {
		d := New(seed, Options{})
		var c content
		var model []byte
		for range 40 {
			at, n := d.random.IntN(3*pageSize), 1+d.random.IntN(2*pageSize)
			switch d.random.IntN(4) {
			case 0:
				c.setSize(at)
				model = resized(bytes.Clone(model), at)
			case 1:
				c.flush()
				if !bytes.Equal(c.durable, model) || len(c.dirty) != 0 {
					t.Fatalf("seed %d: what is durable is not what was written", seed)
				}
			case 2:
				if pages := c.dirtyPages(); len(pages) > 0 {
					c.write(pages[d.random.IntN(len(pages))])
				}
			default:
				b := bytes.Repeat([]byte{byte(1 + d.random.IntN(255))}, n)
				c.writeAt(b, at)
				model = resized(bytes.Clone(model), max(len(model), at+n))
				copy(model[at:], b)
			}
			if !bytes.Equal(c.data, model) {
				t.Fatalf("seed %d: what is read is not what was written", seed)
			}
		}
		c.flush()
		if !bytes.Equal(c.durable, model) {
			t.Fatalf("seed %d: what is durable in the end is not what was written", seed)
		}
	}
}

// TestOff holds that the power goes before the step it was told to, and that nothing
// happens from then on.
func TestOff(t *testing.T) {
	d := New(1, Options{})
	n := file(d, d.root, "a", "old")
	m := &mounted{disk: d}
	d.CutAfter(1)
	write := func() bool {
		_, status := m.Write(nil, writeTo(n), []byte("new"))
		return status.Ok()
	}
	if !write() {
		t.Fatal("the first step failed")
	}
	ended := make(chan bool)
	go func() { ended <- write() }()
	<-d.Off()
	select {
	case <-ended:
		t.Fatal("an operation ended after the power was off")
	default:
	}
	d.Fail()
	if <-ended {
		t.Error("a step was made after the power was off")
	}
}

// flushOf is the kernel's request to flush a file or a folder.
func flushOf(n *node) *fuse.FsyncIn {
	return &fuse.FsyncIn{InHeader: fuse.InHeader{NodeId: n.number}}
}

// writeTo is its request to write to the beginning of a file.
func writeTo(n *node) *fuse.WriteIn {
	return &fuse.WriteIn{InHeader: fuse.InHeader{NodeId: n.number}}
}
