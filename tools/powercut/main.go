// Command powercut breaks off servers of Xuncha, again and again, and looks whether what
// they had acknowledged is there afterwards: every check-in once and with its receipt,
// photos byte for byte, imported tables, accounts and tokens, with every chain whole.
//
// With -cuts it cuts the power of the file system that the data folder lies on, which
// needs Linux, /dev/fuse, and root or fusermount. With -kills it kills the process. Servers are broken
// off while they start, also where that migrates the folder, under load, and while they
// stop and write a snapshot. Each line says with which seed and what was done, and -seed
// does the same again as far as the order of concurrent calls allows.
//
// It ends with 0 where nothing was lost, with 1 where something was, and with 2 where it
// could not tell.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"xuncha/tools/powercut/disk"
)

// mostOfLife is how many times the servers of one data folder are broken off at most. A
// run has at least three folders, if it can.
const mostOfLife = 5

// origins are those of the lives, by turns.
var origins = []origin{anew, large, released, anew, open, anew, released}

type config struct {
	cuts, kills int
	seed        uint64
	server      string
	ignore      string
	wantLoss    bool
	keep        string
}

func main() {
	var c config
	flag.IntVar(&c.cuts, "cuts", 0, "how many times to cut the power")
	flag.IntVar(&c.kills, "kills", 0, "how many times to kill the server")
	flag.Uint64Var(&c.seed, "seed", 0, "the seed of the first data folder; 0 takes one by chance")
	flag.StringVar(&c.server, "server", "", "the program to test; it is built where none is given")
	flag.StringVar(&c.ignore, "ignore-fsync", "", "let the file system do nothing when it flushes: files, folders or all")
	flag.BoolVar(&c.wantLoss, "want-loss", false, "end with 0 as soon as something was lost, and with 1 where nothing was")
	flag.StringVar(&c.keep, "keep", "", "a folder to copy the data folder to where something was lost")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, c, os.Stdout)
	stop()
	var f fault
	lost := errors.As(err, &f)
	switch {
	case err != nil && !lost:
		fmt.Println("could not go on:", err)
		os.Exit(2)
	case lost && c.wantLoss:
		fmt.Println("a loss was noticed, as it had to be:", err)
	case lost:
		fmt.Println("FAILED:", err)
		os.Exit(1)
	case c.wantLoss:
		fmt.Println("FAILED: no loss was noticed")
		os.Exit(1)
	}
}

// run does all lives.
func run(ctx context.Context, c config, out io.Writer) (err error) {
	if (c.cuts > 0) == (c.kills > 0) {
		return errors.New("either -cuts or -kills is needed")
	}
	times, word := c.cuts, "cut"
	if c.kills > 0 {
		times, word = c.kills, "kill"
	}
	scratch, err := os.MkdirTemp("", "powercut")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(scratch)) }()
	w := world{config: c, scratch: scratch, out: out}
	if err := w.prepare(ctx); err != nil {
		return err
	}
	seed := c.seed
	if seed == 0 {
		seed = rand.Uint64N(1_000_000) + 1
	}
	begun, done := time.Now(), 0
	var total totals
	each := min(mostOfLife, max(1, times/3))
	for i := 0; done < times && ctx.Err() == nil; i++ {
		n, counted, err := w.life(ctx, seed+uint64(i), min(each, times-done), word)
		done += n
		total.add(counted)
		if err != nil {
			return fmt.Errorf("seed %d (the same again: -%ss %d -seed %d): %w", seed+uint64(i), word, each, seed+uint64(i), err)
		}
	}
	fmt.Fprintf(out, "%d %ss from seed %d on in %v: acknowledged %d check-ins, %d photos, %d tables, %d changes of accounts; nothing lost, nothing doubled, every chain verifies\n",
		done, word, seed, time.Since(begun).Round(time.Second), total[0], total[1], total[2], total[3])
	return ctx.Err()
}

// totals are the counts of a book.
type totals [4]int

func (t *totals) add(o totals) {
	for i := range t {
		t[i] += o[i]
	}
}

// A world is what all lives share.
type world struct {
	config
	scratch string
	out     io.Writer
	module  string // where the server's module lies
	large   *life  // the folder of many check-ins, once one is made
}

// prepare has the server to test.
func (w *world) prepare(ctx context.Context) (err error) {
	if w.module, err = moduleFolder(ctx); err != nil || w.server != "" {
		return err
	}
	w.server = filepath.Join(w.scratch, "xuncha")
	build := exec.CommandContext(ctx, "go", "build", "-o", w.server, "./server")
	build.Dir = w.module
	if text, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("building the server: %w: %s", err, text)
	}
	return nil
}

// moduleFolder is where the module lies that has the server.
func moduleFolder(ctx context.Context) (string, error) {
	text, err := exec.CommandContext(ctx, "go", "list", "-m", "-f", "{{.Dir}}", "xuncha").Output()
	if err != nil {
		return "", fmt.Errorf("the server's module is not found; run this in its repository: %w", err)
	}
	return strings.TrimSpace(string(text)), nil
}

// life runs one life.
func (w *world) life(ctx context.Context, seed uint64, times int, word string) (done int, counted totals, err error) {
	from := origins[seed%uint64(len(origins))]
	random := rand.New(rand.NewPCG(seed, 0))
	folder, err := os.MkdirTemp(w.scratch, "life")
	if err != nil {
		return 0, counted, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(folder)) }()
	m, err := w.medium(ctx, from, random, folder)
	if err != nil {
		return 0, counted, err
	}
	l, err := newLife(seed, from, w.server, m, random, w.scratch)
	if err != nil {
		return 0, counted, err
	}
	if from == large {
		w.large.lend(l)
	}
	done, err = l.run(ctx, times, func(n int, text string) {
		fmt.Fprintf(w.out, "seed %d (%s), %s %d, %s\n", seed, from, word, n, text)
	})
	counted[0], counted[1], counted[2], counted[3] = l.book.counts()
	counted[0] -= l.lent
	if err != nil && w.keep != "" {
		err = errors.Join(err, m.save(filepath.Join(w.keep, fmt.Sprint(seed))))
	}
	return done, counted, err
}

// medium returns the medium of a life, with what its origin says on it.
func (w *world) medium(ctx context.Context, from origin, random *rand.Rand, folder string) (medium, error) {
	source := ""
	switch from {
	case released:
		source = filepath.Join(w.module, "server", "internal", "command", "testdata", "released", "sqlite", "data")
	case large:
		if w.large == nil {
			var err error
			if w.large, err = w.makeLarge(ctx); err != nil {
				return nil, err
			}
		}
		source = w.large.medium.data()
	}
	if w.kills > 0 {
		m, err := newPlain(random, folder)
		if err == nil && source != "" {
			err = os.CopyFS(m.data(), os.DirFS(source))
		}
		return m, err
	}
	o := disk.Options{IgnoreFiles: w.ignore == "files" || w.ignore == "all", IgnoreFolders: w.ignore == "folders" || w.ignore == "all"}
	m, err := newPowered(random, folder, o)
	if err == nil && source != "" {
		err = m.disk.Load(source, "data")
	}
	return m, err
}
