package disk

import (
	"fmt"
	"maps"
	"os"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/hanwen/go-fuse/v2/fuse"
)

// Device is what a file system of a program needs.
const Device = "/dev/fuse"

// Mount shows the disk at a folder of the machine until the function that it returns is
// called. Only one program may then use the folder.
func (d *Disk) Mount(folder string) (unmount func() error, err error) {
	if _, err := os.Stat(Device); err != nil {
		return nil, fmt.Errorf("a file system whose power can be cut needs %s: %w", Device, err)
	}
	m := &mounted{RawFileSystem: fuse.NewDefaultRawFileSystem(), disk: d, open: map[uint64]*handle{}}
	server, err := fuse.NewServer(m, folder, &fuse.MountOptions{
		Name: "powercut", FsName: "powercut",
		// As root, no other program is needed. Anybody else needs fusermount.
		DirectMount:   true,
		DisableXAttrs: true,
		// Whatever changes comes through the kernel. So it need not ask again.
		ExplicitDataCacheControl: true,
		DisableReadDirPlus:       true,
		MaxWrite:                 1 << 20,
	})
	if err != nil {
		return nil, fmt.Errorf("mounting a file system at %s, which needs root or fusermount: %w", folder, err)
	}
	go server.Serve()
	return server.Unmount, server.WaitMount()
}

// A mounted answers the kernel. The kernel keeps locks itself, and shared memory lies in
// its cache.
type mounted struct {
	fuse.RawFileSystem
	disk *Disk

	mu   sync.Mutex
	last uint64
	open map[uint64]*handle // folders that are being read
}

// A handle is a folder as it was when it was opened.
type handle struct {
	names []string
	nodes []*node
}

// forever is for how long the kernel may remember what it was told.
const forever = 24 * time.Hour

const (
	noEntry = fuse.Status(syscall.ENOENT)
	ioError = fuse.Status(syscall.EIO)
)

func fillAttr(n *node, a *fuse.Attr) {
	a.Ino, a.Mode, a.Nlink, a.Blksize = n.number, n.mode|syscall.S_IFREG, uint32(n.links), pageSize
	if n.folder {
		a.Mode = n.mode | syscall.S_IFDIR
	}
	a.Size = uint64(len(n.content.data))
	a.Blocks = (a.Size + sectorSize - 1) / sectorSize
	a.SetTimes(&n.mtime, &n.mtime, &n.mtime)
	a.Owner = fuse.Owner{Uid: uint32(os.Getuid()), Gid: uint32(os.Getgid())}
}

func fillEntry(n *node, out *fuse.EntryOut) {
	out.NodeId, out.Generation = n.number, 1
	out.SetEntryTimeout(forever)
	out.SetAttrTimeout(forever)
	fillAttr(n, &out.Attr)
}

// Lookup implements fuse.RawFileSystem.
func (m *mounted) Lookup(_ <-chan struct{}, h *fuse.InHeader, name string, out *fuse.EntryOut) fuse.Status {
	if !m.disk.enter("", nil) {
		return ioError
	}
	defer m.disk.leave()
	n := m.disk.nodes[h.NodeId].names[name]
	if n == nil {
		return noEntry
	}
	fillEntry(n, out)
	return fuse.OK
}

// GetAttr implements fuse.RawFileSystem.
func (m *mounted) GetAttr(_ <-chan struct{}, in *fuse.GetAttrIn, out *fuse.AttrOut) fuse.Status {
	if !m.disk.enter("", nil) {
		return ioError
	}
	defer m.disk.leave()
	out.SetTimeout(forever)
	fillAttr(m.disk.nodes[in.NodeId], &out.Attr)
	return fuse.OK
}

// SetAttr implements fuse.RawFileSystem. Modes and times are durable at once.
func (m *mounted) SetAttr(_ <-chan struct{}, in *fuse.SetAttrIn, out *fuse.AttrOut) fuse.Status {
	size, resize := in.GetSize()
	step := ""
	if resize {
		step = "truncate"
	}
	if !m.disk.enter(step, m.node(in.NodeId)) {
		return ioError
	}
	defer m.disk.leave()
	n := m.disk.nodes[in.NodeId]
	if resize {
		n.content.setSize(int(size))
		n.mtime = time.Now()
	}
	if mode, ok := in.GetMode(); ok {
		n.mode = mode & 0o7777
	}
	if t, ok := in.GetMTime(); ok {
		n.mtime = t
	}
	out.SetTimeout(forever)
	fillAttr(n, &out.Attr)
	return fuse.OK
}

// node returns a node by its number, outside of operations.
func (m *mounted) node(number uint64) *node {
	m.disk.mu.Lock()
	defer m.disk.mu.Unlock()
	return m.disk.nodes[number]
}

// make makes a file or a folder under a new name.
func (m *mounted) make(step string, above uint64, name string, folder bool, mode uint32, out *fuse.EntryOut) fuse.Status {
	if !m.disk.enter(step, m.node(above), name) {
		return ioError
	}
	defer m.disk.leave()
	to := m.disk.nodes[above]
	if to.names[name] != nil {
		return fuse.Status(syscall.EEXIST)
	}
	n := m.disk.add(folder, mode)
	m.disk.note(&change{folder: to, edits: []edit{{name, n}}})
	fillEntry(n, out)
	return fuse.OK
}

// Mkdir implements fuse.RawFileSystem.
func (m *mounted) Mkdir(_ <-chan struct{}, in *fuse.MkdirIn, name string, out *fuse.EntryOut) fuse.Status {
	return m.make("mkdir", in.NodeId, name, true, in.Mode, out)
}

// Create implements fuse.RawFileSystem.
func (m *mounted) Create(_ <-chan struct{}, in *fuse.CreateIn, name string, out *fuse.CreateOut) fuse.Status {
	out.OpenFlags = fuse.FOPEN_KEEP_CACHE
	return m.make("create", in.NodeId, name, false, in.Mode, &out.EntryOut)
}

// remove removes a name.
func (m *mounted) remove(step string, above uint64, name string) fuse.Status {
	if !m.disk.enter(step, m.node(above), name) {
		return ioError
	}
	defer m.disk.leave()
	from := m.disk.nodes[above]
	n := from.names[name]
	switch {
	case n == nil:
		return noEntry
	case len(n.names) > 0:
		return fuse.Status(syscall.ENOTEMPTY)
	}
	m.disk.note(&change{folder: from, edits: []edit{{name, nil}}})
	return fuse.OK
}

// Unlink implements fuse.RawFileSystem.
func (m *mounted) Unlink(_ <-chan struct{}, h *fuse.InHeader, name string) fuse.Status {
	return m.remove("unlink", h.NodeId, name)
}

// Rmdir implements fuse.RawFileSystem.
func (m *mounted) Rmdir(_ <-chan struct{}, h *fuse.InHeader, name string) fuse.Status {
	return m.remove("rmdir", h.NodeId, name)
}

// Rename implements fuse.RawFileSystem for files.
func (m *mounted) Rename(_ <-chan struct{}, in *fuse.RenameIn, name, newName string) fuse.Status {
	if !m.disk.enter("rename", m.node(in.NodeId), name, newName) {
		return ioError
	}
	defer m.disk.leave()
	from, to := m.disk.nodes[in.NodeId], m.disk.nodes[in.Newdir]
	switch n := from.names[name]; {
	case n == nil:
		return noEntry
	case n.folder || in.Flags != 0:
		return fuse.ENOSYS
	case to.names[newName] == n:
		return fuse.OK // as rename(2) has it
	}
	m.disk.rename(from, name, to, newName)
	return fuse.OK
}

// Link implements fuse.RawFileSystem.
func (m *mounted) Link(_ <-chan struct{}, in *fuse.LinkIn, name string, out *fuse.EntryOut) fuse.Status {
	if !m.disk.enter("link", m.node(in.NodeId), name) {
		return ioError
	}
	defer m.disk.leave()
	to, n := m.disk.nodes[in.NodeId], m.disk.nodes[in.Oldnodeid]
	if to.names[name] != nil {
		return fuse.Status(syscall.EEXIST)
	}
	m.disk.note(&change{folder: to, edits: []edit{{name, n}}})
	fillEntry(n, out)
	return fuse.OK
}

// Open implements fuse.RawFileSystem.
func (m *mounted) Open(_ <-chan struct{}, _ *fuse.OpenIn, out *fuse.OpenOut) fuse.Status {
	out.OpenFlags = fuse.FOPEN_KEEP_CACHE
	return fuse.OK
}

// Read implements fuse.RawFileSystem.
func (m *mounted) Read(_ <-chan struct{}, in *fuse.ReadIn, b []byte) (fuse.ReadResult, fuse.Status) {
	if !m.disk.enter("", nil) {
		return nil, ioError
	}
	defer m.disk.leave()
	data := m.disk.nodes[in.NodeId].content.data
	return fuse.ReadResultData(b[:copy(b, data[min(int(in.Offset), len(data)):])]), fuse.OK
}

// Write implements fuse.RawFileSystem.
func (m *mounted) Write(_ <-chan struct{}, in *fuse.WriteIn, data []byte) (uint32, fuse.Status) {
	if !m.disk.enter("write", m.node(in.NodeId), fmt.Sprintf("%d bytes at %d", len(data), in.Offset)) {
		return 0, ioError
	}
	defer m.disk.leave()
	n := m.disk.nodes[in.NodeId]
	n.content.writeAt(data, int(in.Offset))
	n.mtime = time.Now()
	return uint32(len(data)), fuse.OK
}

// Fallocate implements fuse.RawFileSystem.
func (m *mounted) Fallocate(_ <-chan struct{}, in *fuse.FallocateIn) fuse.Status {
	if in.Mode != 0 {
		return fuse.Status(syscall.EOPNOTSUPP)
	}
	if !m.disk.enter("allocate", m.node(in.NodeId)) {
		return ioError
	}
	defer m.disk.leave()
	if c := &m.disk.nodes[in.NodeId].content; int(in.Offset+in.Length) > len(c.data) {
		c.setSize(int(in.Offset + in.Length))
	}
	return fuse.OK
}

// Fsync implements fuse.RawFileSystem, also for fdatasync: a size is content too.
func (m *mounted) Fsync(_ <-chan struct{}, in *fuse.FsyncIn) fuse.Status {
	if !m.disk.enter("flush of", m.node(in.NodeId)) {
		return ioError
	}
	defer m.disk.leave()
	if !m.disk.options.IgnoreFiles {
		m.disk.nodes[in.NodeId].content.flush()
	}
	return fuse.OK
}

// FsyncDir implements fuse.RawFileSystem.
func (m *mounted) FsyncDir(_ <-chan struct{}, in *fuse.FsyncIn) fuse.Status {
	if !m.disk.enter("flush of the folder", m.node(in.NodeId)) {
		return ioError
	}
	defer m.disk.leave()
	if !m.disk.options.IgnoreFolders {
		folder := m.disk.nodes[in.NodeId]
		m.disk.makeDurable(func(_ int, c *change) bool { return c.folder == folder })
	}
	return fuse.OK
}

// Flush implements fuse.RawFileSystem. It is what close does, and flushes nothing.
func (m *mounted) Flush(<-chan struct{}, *fuse.FlushIn) fuse.Status { return fuse.OK }

// Access implements fuse.RawFileSystem.
func (m *mounted) Access(<-chan struct{}, *fuse.AccessIn) fuse.Status { return fuse.OK }

// OpenDir implements fuse.RawFileSystem.
func (m *mounted) OpenDir(_ <-chan struct{}, in *fuse.OpenIn, out *fuse.OpenOut) fuse.Status {
	if !m.disk.enter("", nil) {
		return ioError
	}
	defer m.disk.leave()
	names := m.disk.nodes[in.NodeId].names
	h := &handle{names: slices.Sorted(maps.Keys(names))}
	for _, name := range h.names {
		h.nodes = append(h.nodes, names[name])
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.last++
	out.Fh = m.last
	m.open[m.last] = h
	return fuse.OK
}

// ReadDir implements fuse.RawFileSystem.
func (m *mounted) ReadDir(_ <-chan struct{}, in *fuse.ReadIn, out *fuse.DirEntryList) fuse.Status {
	m.mu.Lock()
	h := m.open[in.Fh]
	m.mu.Unlock()
	for i := int(in.Offset); i < len(h.names); i++ {
		mode := uint32(syscall.S_IFREG)
		if h.nodes[i].folder {
			mode = syscall.S_IFDIR
		}
		if !out.AddDirEntry(fuse.DirEntry{Name: h.names[i], Ino: h.nodes[i].number, Mode: mode, Off: uint64(i + 1)}) {
			break
		}
	}
	return fuse.OK
}

// ReleaseDir implements fuse.RawFileSystem.
func (m *mounted) ReleaseDir(in *fuse.ReleaseIn) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.open, in.Fh)
}

// StatFs implements fuse.RawFileSystem.
func (m *mounted) StatFs(_ <-chan struct{}, _ *fuse.InHeader, out *fuse.StatfsOut) fuse.Status {
	*out = fuse.StatfsOut{Bsize: pageSize, Frsize: pageSize, Blocks: 1 << 22, Bfree: 1 << 21, Bavail: 1 << 21, Files: 1 << 20, Ffree: 1 << 19, NameLen: 255}
	return fuse.OK
}
