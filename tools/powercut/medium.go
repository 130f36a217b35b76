package main

import (
	"fmt"
	"math/bits"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"time"

	"xuncha/tools/powercut/disk"
)

// A medium is what a server's data folder lies on, and how the server is broken off.
type medium interface {
	// data is the path of the data folder.
	data() string
	// open makes the folder usable, after new and after survive.
	open() error
	// arm lets the server be broken off at a moment of the phase that chance chooses.
	arm(p phase)
	// acknowledged is called for everything that the server acknowledges.
	acknowledged()
	// off is closed once the server is to be killed, and breakOff closes it at once.
	off() <-chan struct{}
	breakOff()
	// killed is called once the process was told to end, and survive once it has. It
	// returns what was done.
	killed()
	survive() (string, error)
	// forget removes a file while no server runs.
	forget(name string) error
	// save copies the folder to a new one.
	save(folder string) error
	close() error
}

// A phase is what a server does while it is broken off.
type phase string

const (
	starting phase = "start"
	loaded   phase = "load"
	stopping phase = "stop"
)

// upTo returns a number from 1 to most, of which the small ones are as likely in all as
// the large ones.
func upTo(random *rand.Rand, most int) int {
	n := 1 << random.IntN(bits.Len(uint(most)))
	return n + random.IntN(min(n, most-n+1))
}

// A powered medium is a disk whose power is cut.
type powered struct {
	random  *rand.Rand
	folder  string // where it is mounted
	disk    *disk.Disk
	unmount func() error
}

// most is how many steps of a phase there may be before the power is cut.
var most = map[phase]int{starting: 100, loaded: 6000, stopping: 150}

func newPowered(random *rand.Rand, folder string, o disk.Options) (*powered, error) {
	return &powered{random: random, folder: folder, disk: disk.New(random.Uint64(), o)}, os.MkdirAll(folder, 0o700)
}

func (p *powered) data() string { return filepath.Join(p.folder, "data") }

func (p *powered) open() (err error) {
	p.unmount, err = p.disk.Mount(p.folder)
	return err
}

func (p *powered) arm(at phase)         { p.disk.CutAfter(upTo(p.random, most[at])) }
func (p *powered) acknowledged()        {}
func (p *powered) off() <-chan struct{} { return p.disk.Off() }
func (p *powered) breakOff()            { p.disk.Cut() }
func (p *powered) killed()              { p.disk.Fail() }

func (p *powered) survive() (string, error) {
	if err := p.close(); err != nil {
		return "", err
	}
	var loss disk.Loss
	p.disk, loss = p.disk.Survive()
	return loss.String(), p.open()
}

func (p *powered) forget(name string) error {
	if err := p.close(); err != nil {
		return err
	}
	p.disk.Remove(filepath.Join("data", name))
	return p.open()
}

func (p *powered) save(folder string) error { return p.disk.Save(folder) }

func (p *powered) close() error {
	if p.unmount == nil {
		return nil
	}
	unmount := p.unmount
	p.unmount = nil
	return unmount()
}

// A plain medium is a folder of the machine, whose server is killed.
type plain struct {
	random *rand.Rand
	folder string

	mu     sync.Mutex
	ended  chan struct{}
	after  int // acknowledgements until it is; 0 for none
	reason string
	timer  *time.Timer
}

// longestPhase is how long after the beginning of a start or a stop it is broken off at
// the latest.
const longestPhase = 60 * time.Millisecond

func newPlain(random *rand.Rand, folder string) (*plain, error) {
	return &plain{random: random, folder: folder, ended: make(chan struct{})}, os.MkdirAll(folder, 0o700)
}

func (p *plain) data() string { return filepath.Join(p.folder, "data") }
func (p *plain) open() error  { return nil }

func (p *plain) arm(at phase) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if at == loaded {
		p.after = upTo(p.random, 600)
		p.reason = fmt.Sprintf("killed after %d acknowledgements", p.after)
		return
	}
	wait, ended := time.Duration(p.random.Int64N(int64(longestPhase))), p.ended
	p.reason = fmt.Sprintf("killed after %v", wait)
	p.timer = time.AfterFunc(wait, func() { p.end(ended) })
}

func (p *plain) acknowledged() {
	p.mu.Lock()
	last, ended := p.after == 1, p.ended
	if p.after > 0 {
		p.after--
	}
	p.mu.Unlock()
	if last {
		p.end(ended)
	}
}

// end closes the channel unless it is closed.
func (p *plain) end(ended chan struct{}) {
	p.mu.Lock()
	defer p.mu.Unlock()
	select {
	case <-ended:
	default:
		close(ended)
	}
}

func (p *plain) off() <-chan struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.ended
}

func (p *plain) breakOff() {
	p.mu.Lock()
	ended := p.ended
	select {
	case <-ended:
	default:
		p.reason = "killed while it did nothing"
	}
	p.mu.Unlock()
	p.end(ended)
}

func (p *plain) killed() {}

func (p *plain) survive() (string, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.timer != nil {
		p.timer.Stop()
	}
	p.ended, p.after = make(chan struct{}), 0
	return p.reason, nil
}

func (p *plain) forget(name string) error {
	err := os.Remove(filepath.Join(p.data(), name))
	if os.IsNotExist(err) {
		return nil
	}
	return err
}

func (p *plain) save(folder string) error {
	return os.CopyFS(filepath.Join(folder, "data"), os.DirFS(p.data()))
}
func (p *plain) close() error { return nil }
