package disk

import (
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Load puts a folder of the machine onto the disk, under a name, and all of it is durable.
func (d *Disk) Load(folder, name string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	return filepath.WalkDir(folder, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		relative, err := filepath.Rel(folder, path)
		if err != nil {
			return err
		}
		n := d.add(entry.IsDir(), 0o600)
		if entry.IsDir() {
			n.mode = 0o700
		} else if n.content.data, err = os.ReadFile(path); err != nil {
			return err
		}
		n.content.durable = slices.Clone(n.content.data)
		n.links = 1
		to := filepath.Join(name, relative)
		above := d.find(filepath.Dir(to))
		n.label = filepath.Base(to)
		above.names[n.label], above.durable[n.label] = n, n
		return nil
	})
}

// find returns what is at a path, or nil.
func (d *Disk) find(path string) *node {
	n := d.root
	for _, name := range strings.Split(filepath.ToSlash(filepath.Clean(path)), "/") {
		if name != "." && n != nil {
			n = n.names[name]
		}
	}
	return n
}

// Remove removes a file from the disk for good, as an operator may while no program runs.
func (d *Disk) Remove(path string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if above := d.find(filepath.Dir(path)); above != nil {
		delete(above.names, filepath.Base(path))
		delete(above.durable, filepath.Base(path))
	}
}

// Save writes what programs see to a new folder of the machine.
func (d *Disk) Save(folder string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	var save func(n *node, path string) error
	save = func(n *node, path string) error {
		if !n.folder {
			return os.WriteFile(path, n.content.data, 0o600)
		}
		if err := os.MkdirAll(path, 0o700); err != nil {
			return err
		}
		for name, below := range n.names {
			if err := save(below, filepath.Join(path, name)); err != nil {
				return err
			}
		}
		return nil
	}
	return save(d.root, folder)
}
