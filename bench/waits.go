package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"xuncha/client"
	xunchav1 "xuncha/proto/xuncha/v1"
)

// mostWait is the longest that a submission may take while others ask.
const mostWait = 100 * time.Millisecond

// maxDepth is how deep a report can go: to the villages.
func (c *country) maxDepth() int { return c.land.levels() - 1 }

// measureWaits measures how long submissions take, alone and while others ask the whole
// country for lists and deep reports without pause.
func (c *country) measureWaits(ctx context.Context, o options, w io.Writer) ([]row, error) {
	depth, err := c.deepest(ctx)
	if err != nil {
		return nil, err
	}
	submissions := func() (latencies, error) {
		p := startPacer(ctx, c.conns, pace, c.submission())
		select {
		case <-time.After(5 * o.window):
		case <-p.failing.Done():
		}
		took, err := p.stop()
		return took, errors.Join(err, ctx.Err())
	}
	idle, err := submissions()
	if err != nil {
		return nil, err
	}
	crowd, err := c.sendCrowd(ctx, o, depth)
	if err != nil {
		return nil, err
	}
	asked, err := submissions()
	answers, failed := crowd.call()
	if err := errors.Join(err, failed); err != nil {
		return nil, err
	}
	fmt.Fprintf(w, "%d callers asked meanwhile, reports of depth %d and %d among it: %s\n", askers, depth, c.maxDepth(), answers)
	times := float64(asked.at(0.99)) / float64(max(idle.at(0.99), 1))
	return []row{
		{name: fmt.Sprintf("SubmitCheckIn, %d a second", pace), measured: idle.String()},
		{
			name:     fmt.Sprintf("the same, while %d callers ask for lists and deep reports", askers),
			measured: fmt.Sprintf("%s: p99 %.1f × idle", asked, times),
			bar:      "p99 ≤ 3 × idle, max ≤ 100 ms", met: times <= 3 && asked.at(1) <= mostWait,
		},
	}, nil
}

// deepest returns the depth of the deepest report of the whole country that the server
// gives and that a client takes.
func (c *country) deepest(ctx context.Context) (int, error) {
	coverage := xunchav1.NewCoverageServiceClient(c.conns[0])
	var err error
	for depth := c.maxDepth(); depth >= 0; depth-- {
		if _, err = coverage.GetCoverage(ctx, c.coverageRequest(span{}, depth)); err == nil {
			return depth, nil
		}
		if !refused(err) {
			break
		}
	}
	return 0, fmt.Errorf("a report of the root: %w", err)
}

// refused reports whether the error says that the question was too large, or that too
// many ask. All else is a fault of the server.
func refused(err error) bool {
	switch status.Code(err) {
	case codes.ResourceExhausted, codes.InvalidArgument, codes.FailedPrecondition, codes.Unavailable:
		return true
	}
	return false
}

// crowdCommand is the argument by which this program is a crowd. The address of the
// server, the flags -share and -levels, and the depth of reports follow.
const crowdCommand = "be-crowd"

// A sentCrowd is a crowd in a process of its own. Its callers stand for other machines, so
// what they spend on answers should not keep the phones of this process waiting: the
// process is a nice one.
type sentCrowd struct {
	process *exec.Cmd
	end     io.Closer // of its input, which ends it
	said    *bufio.Scanner
}

// startCrowd starts this program as a crowd, with the arguments.
func startCrowd(ctx context.Context, arguments ...string) (*sentCrowd, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	p := exec.CommandContext(ctx, "nice", append([]string{"-n", "10", self}, arguments...)...)
	p.Stderr = os.Stderr
	in, err := p.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := p.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := p.Start(); err != nil {
		return nil, err
	}
	return &sentCrowd{process: p, end: in, said: bufio.NewScanner(out)}, nil
}

// sendCrowd starts a crowd, and returns once it asks.
func (c *country) sendCrowd(ctx context.Context, o options, depth int) (*sentCrowd, error) {
	sent, err := startCrowd(ctx, crowdCommand, c.address, fmt.Sprint(o.share), fmt.Sprint(o.levels), fmt.Sprint(depth))
	if err != nil {
		return nil, err
	}
	if !sent.said.Scan() {
		return nil, errors.Join(errors.New("the crowd does not ask"), sent.end.Close(), sent.process.Wait())
	}
	return sent, nil
}

// call ends the crowd and returns its tally.
func (s *sentCrowd) call() (tally, error) {
	err := s.end.Close()
	answers := tally{}
	if s.said.Scan() {
		err = errors.Join(err, json.Unmarshal(s.said.Bytes(), &answers))
	}
	return answers, errors.Join(err, s.process.Wait())
}

// beCrowd asks the server of the arguments until the input ends. It says when it has
// begun, and in the end how often it was answered.
func beCrowd(ctx context.Context, args []string, in io.Reader, out io.Writer) error {
	var share float64
	var levels, depth int
	if len(args) != 4 {
		return errors.New("want an address, a share, levels and a depth")
	}
	if _, err := fmt.Sscan(strings.Join(args[1:], " "), &share, &levels, &depth); err != nil {
		return err
	}
	l, err := newLand(share, levels)
	if err != nil {
		return err
	}
	c := &country{city: &city{child: child{address: args[0]}}, land: l}
	crowd, err := c.startCrowd(ctx, depth)
	if err != nil {
		return err
	}
	fmt.Fprintln(out, "asking")
	_, err = io.Copy(io.Discard, in)
	answers, failed := crowd.stop()
	return errors.Join(err, failed, json.NewEncoder(out).Encode(answers))
}

// A crowd is callers that ask the whole country without pause.
type crowd struct {
	cancel context.CancelFunc
	group  sync.WaitGroup
	conns  []*client.Client

	mu      sync.Mutex
	answers tally
	err     error
}

// A tally counts the answers by what they were.
type tally map[string]int

func (t tally) String() string {
	var parts []string
	for _, name := range slices.Sorted(maps.Keys(t)) {
		parts = append(parts, fmt.Sprintf("%s %d", name, t[name]))
	}
	return strings.Join(parts, ", ")
}

// startCrowd lets the callers begin, each on a connection of its own, as each head has.
func (c *country) startCrowd(ctx context.Context, depth int) (*crowd, error) {
	conns, err := dial(c.address) // as many as there are askers
	if err != nil {
		return nil, err
	}
	out := &crowd{conns: conns, answers: tally{}}
	ctx, out.cancel = context.WithCancel(ctx)
	for i := range askers {
		out.group.Go(func() {
			source := rand.New(rand.NewPCG(uint64(i), 1))
			questions := c.questions(conns[i%len(conns)], source, depth)
			for n := i; ctx.Err() == nil; n++ {
				q := questions[n%len(questions)]
				err := q.ask(ctx)
				if ctx.Err() != nil {
					return
				}
				if !out.count(q.name, err) {
					return
				}
				if wait, said := retryDelay(err); said {
					pause(ctx, wait)
				}
			}
		})
	}
	return out, nil
}

// count notes an answer, and returns whether the caller goes on.
func (c *crowd) count(name string, err error) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err == nil {
		c.answers[name]++
		return true
	}
	if refused(err) {
		c.answers[name+" refused"]++
		return true
	}
	c.err = errors.Join(c.err, fmt.Errorf("%s: %w", name, err))
	return false
}

// stop ends the questions under way, and returns the tally of those before.
func (c *crowd) stop() (tally, error) {
	c.cancel()
	c.group.Wait()
	for _, conn := range c.conns {
		c.err = errors.Join(c.err, conn.Close())
	}
	return c.answers, c.err
}

// A question is one that the crowd asks.
type question struct {
	name string
	ask  func(ctx context.Context) error
}

// questions returns what one caller of the crowd asks in turn. It reads the answers of
// the lists alone, because it needs their tokens, and grpc receives the others.
func (c *country) questions(conn *client.Client, source *rand.Rand, depth int) (out []question) {
	report := func(depth int) question {
		return question{"reports", func(ctx context.Context) error { return c.coverage(depth)(ctx, conn, source) }}
	}
	// Each list goes on where it was, with the largest pages, from its start again
	// after its end.
	for _, l := range c.lists(conn) {
		token := ""
		out = append(out, report(depth), question{"pages", func(ctx context.Context) (err error) {
			_, token, err = l.page(ctx, l.most, token)
			return err
		}})
	}
	return append(out, question{"deepest reports", report(c.maxDepth()).ask})
}
