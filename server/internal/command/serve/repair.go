package serve

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	"golang.org/x/term"

	"xuncha/ledger"
	"xuncha/server/internal/command/outcome"
	"xuncha/sites"
)

// RepairCommand is "xuncha repair".
type RepairCommand struct {
	StoreConfig `embed:""`
	History     []string `placeholder:"HISTORY" help:"Repair only this history, such as site/ and the site's id, as xuncha check names it; may be given several times. Default: all that do not verify."`
	Reason      string   `placeholder:"TEXT" help:"Why, which goes on record."`
	Yes         bool     `help:"Do not ask before anything is stored."`
	DryRun      bool     `help:"Only list what would be set aside."`

	asked bool // and told to go on, once
}

// asidesEach is how many entries one repair sets aside, so that its content is not too
// long.
const asidesEach = 300

// A plannedRepair is what a repair stores in one history.
type plannedRepair struct {
	history ledger.History
	flaws   []ledger.Flaw
	entries []ledger.Entry
}

// Run lists the entries that do not verify, asks, and sets them aside. It deletes and
// changes none of them.
func (c *RepairCommand) Run(ctx context.Context, stdout, stderr io.Writer) (err error) {
	// How long it may be is seen when it is written beside what is set aside.
	if err := sites.CheckText("--reason", c.Reason, 0, math.MaxInt); err != nil {
		return err
	}
	open := func() (examinable, string, error) {
		return openExaminable(ctx, c.name(), c.options(commandLog(stderr)))
	}
	if c.DryRun {
		open = func() (examinable, string, error) { return openAtRest(ctx, c.name()) }
	} else if err := mustExist(c.StoreConfig); err != nil {
		return err
	}
	store, where, err := open()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	for looks := 1; ; looks++ {
		x, stored, err := c.look(ctx, store, where, stdout, stderr)
		switch {
		case err != nil || x == nil:
			return err
		case !stored && looks > 1:
			_, err = fmt.Fprintln(stdout, "Done. What was set aside is still stored, and on record in its history.")
			return errors.Join(err, c.left(x))
		case !stored:
			return c.left(x)
		case looks == maxLooks:
			if _, err := fmt.Fprintln(stdout, "There is more than can be named at once. Run the same command again."); err != nil {
				return err
			}
			return c.left(x)
		}
	}
}

// maxLooks is how often a repair looks at the store. What it has stored may show more: an
// entry that somebody has moved can lie behind the repair that names it and be another
// flaw there, and of very many only some are named at once.
const maxLooks = 5

// look examines the store, lists what does not verify, and sets it aside. It reports
// whether it has stored anything, and returns nil where it only was to look.
func (c *RepairCommand) look(ctx context.Context, store examinable, where string, stdout, stderr io.Writer) (x *examination, stored bool, err error) {
	of := func(err error) error { return fmt.Errorf("%s: %w", where, err) }
	total, err := store.CountEntries(ctx)
	if err != nil {
		total = 1 // it is only to look at
	}
	bar := watched(stderr, "checking", total)
	if x, err = examine(ctx, store, bar); err != nil {
		return nil, false, of(err)
	}
	bar.finish()
	x.Where, x.Photos = where, -1
	plan, err := c.plan(x)
	if err != nil {
		return nil, false, of(err)
	}
	if c.asked && len(plan) == 0 && !x.reindex {
		return x, false, nil
	}
	if err := c.list(ctx, x, plan, stdout); err != nil {
		return nil, false, err
	}
	if c.DryRun && (len(plan) > 0 || x.reindex) {
		_, err = fmt.Fprintln(stdout, "Nothing was stored.")
		return nil, false, err
	}
	if len(plan) == 0 && !x.reindex {
		return x, false, nil
	}
	if err := c.checkClock(ctx, store); err != nil {
		return nil, false, of(err)
	}
	if err := c.ask(stderr); err != nil {
		return nil, false, err
	}
	c.asked = true
	if err := c.store(ctx, store, x, plan); err != nil {
		return nil, false, of(err)
	}
	return x, true, nil
}

// plan makes the entries that set aside what does not verify, and holds that the
// histories verify with them.
func (c *RepairCommand) plan(x *examination) (out []plannedRepair, err error) {
	wanted := map[ledger.History]bool{}
	for _, h := range c.History {
		if !x.names[ledger.History(h)] {
			return nil, fmt.Errorf("--history: there is no history %q", h)
		}
		wanted[ledger.History(h)] = true
	}
	for _, f := range x.verifier.Flaws() {
		if len(wanted) > 0 && !wanted[f.History] {
			continue
		}
		if n := len(out); n == 0 || out[n-1].history != f.History {
			out = append(out, plannedRepair{history: f.History})
		}
		p := &out[len(out)-1]
		p.flaws = append(p.flaws, f)
	}
	for i := range out {
		p := &out[i]
		p.flaws = slices.DeleteFunc(p.flaws, unnamed)
		for part := range slices.Chunk(p.flaws, asidesEach) {
			e, err := c.seal(x.verifier.Head(p.history), p.history, part)
			if err != nil {
				return nil, err
			}
			x.verifier.Take(e)
			p.entries = append(p.entries, e)
		}
		left := x.verifier.FlawsOf(p.history)
		if len(left) > 0 && !slices.ContainsFunc(left, unnamed) { // which the next look names
			return nil, fmt.Errorf("%s cannot be repaired: at sequence %d, %s. Bring it back from a backup", p.history, left[0].Sequence, left[0].Why)
		}
	}
	return out, nil
}

// unnamed reports whether the flaw stands for those that are too many to be named.
func unnamed(f ledger.Flaw) bool { return f.Aside == ledger.Aside{} }

// seal makes an entry that sets aside what is named.
func (c *RepairCommand) seal(after ledger.Head, h ledger.History, flaws []ledger.Flaw) (ledger.Entry, error) {
	r := ledger.Repair{Reason: c.Reason}
	for _, f := range flaws {
		r.SetAside = append(r.SetAside, f.Aside)
	}
	content, err := r.Marshal()
	if err != nil {
		return ledger.Entry{}, err
	}
	if len(content) > ledger.MaxContent {
		return ledger.Entry{}, fmt.Errorf("--reason: has %d bytes; leave it shorter", len(c.Reason))
	}
	return after.Seal(ledger.Draft{
		History: h, ID: uuid.NewString(), Kind: ledger.KindRepaired, Time: time.Now(), Account: operator, Content: content,
	}), nil
}

// list prints what is set aside, and what else there is.
func (c *RepairCommand) list(ctx context.Context, x *examination, plan []plannedRepair, stdout io.Writer) error {
	var list []outcome.Finding
	entries := 0
	for _, p := range plan {
		entries += len(p.flaws)
		for _, f := range p.flaws {
			list = append(list, outcome.Finding{History: string(f.History), Sequence: int64(f.Sequence), Why: f.Why})
		}
	}
	x.nameSites(ctx, list)
	for _, f := range append(list, x.Findings...) {
		if _, err := fmt.Fprintln(stdout, f); err != nil {
			return err
		}
	}
	what := []string{}
	if entries > 0 {
		what = append(what, fmt.Sprintf("Entries to be set aside: %d, in histories: %d. They count nowhere any more; a backup may still have them.", entries, len(plan)))
	}
	if x.reindex {
		what = append(what, "The indexes do not agree with the entries and are to be made anew.")
	}
	if len(what) == 0 {
		what = append(what, "There is nothing to set aside.")
	}
	_, err := fmt.Fprintf(stdout, "%s: %s\n", x.Where, strings.Join(what, " "))
	return err
}

// ask asks on the terminal whether to go on.
func (c *RepairCommand) ask(stderr io.Writer) error {
	if c.Yes {
		return nil
	}
	if !term.IsTerminal(int(os.Stdin.Fd())) {
		return errors.New("there is no terminal to ask on; give --yes to store it, or --dry-run to look only")
	}
	fmt.Fprint(stderr, "Store this? Type yes: ")
	line, err := bufio.NewReader(os.Stdin).ReadString('\n')
	if err == nil && strings.TrimSpace(line) != "yes" {
		err = errors.New("nothing was stored")
	}
	return err
}

// store makes the indexes anew where they do not agree, and stores the repairs.
func (c *RepairCommand) store(ctx context.Context, store examinable, x *examination, plan []plannedRepair) error {
	if x.reindex || slices.ContainsFunc(plan, lacksEntries) {
		if err := store.Reindex(ctx); err != nil {
			return c.wayOut(fmt.Errorf("making the indexes anew: %w", err))
		}
	}
	for _, p := range plan {
		err := store.PutAsIs(ledger.WithReserve(ctx), p.entries)
		if errors.Is(err, ledger.ErrMoved) {
			return fmt.Errorf("%w\nA server has stored something there meanwhile. The same command looks again", err)
		}
		if err != nil {
			return c.wayOut(fmt.Errorf("repairing %s: %w", p.history, err))
		}
	}
	return nil
}

// lacksEntries reports whether entries of the history are missing. An index may lead to
// them still, and nobody could store them once more.
func lacksEntries(p plannedRepair) bool {
	return slices.ContainsFunc(p.flaws, func(f ledger.Flaw) bool { return f.Aside.Hash == "" })
}

// wayOut says what to do where the file of the database cannot be written.
func (c *RepairCommand) wayOut(err error) error {
	if c.Store != "" {
		return err
	}
	return fmt.Errorf("%w\nWhere the file of the database is damaged, bring all that can be read into a new folder with \"xuncha copy --salvage --from %s --to NEW-FOLDER\", and repair that", err, c.Data)
}

// left returns an error where something is wrong that no repair puts right.
func (c *RepairCommand) left(x *examination) error {
	if !x.damaged {
		return nil
	}
	return c.wayOut(fmt.Errorf("%s: something is wrong that no repair puts right", x.Where))
}

// mustExist returns an error where there is no data folder: to open it would make it.
func mustExist(c StoreConfig) error {
	if c.Store != "" {
		return nil
	}
	return folderExists(c.Data)
}
