package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	xunchav1 "xuncha/proto/xuncha/v1"
)

// longestCount is after how long a server that does not count all check-ins has lost one.
const longestCount = 30 * time.Second

// binaries are the programs of a cluster.
type binaries struct{ server, standIn string }

// A cluster is some servers with one database, a stand-in in memory. No server has
// accounts, so that a call costs nothing but what is measured.
type cluster struct {
	standIn *standIn
	servers []*city
	sites   []string
	folder  string
	begun   time.Time
	// done check-ins were acknowledged; failed ones may have been stored all the same.
	done, failed int
}

// startCluster starts so many servers on a new database, with the sample roster. The
// flags are the stand-in's.
func startCluster(ctx context.Context, b binaries, servers int, flags ...string) (_ *cluster, err error) {
	c := &cluster{begun: time.Now()}
	defer func() {
		if err != nil {
			err = errors.Join(err, c.stop())
		}
	}()
	if c.folder, err = os.MkdirTemp("", "xuncha-bench-"); err != nil {
		return nil, err
	}
	if c.standIn, err = startStandIn(ctx, b.standIn, flags...); err != nil {
		return nil, err
	}
	for i := range servers {
		folder := filepath.Join(c.folder, strconv.Itoa(i))
		if err := os.Mkdir(folder, 0o777); err != nil {
			return nil, err
		}
		server, err := startServer(ctx, b.server, folder, c.standIn.database())
		if err != nil {
			return nil, err
		}
		c.servers = append(c.servers, server)
		if i > 0 {
			continue
		}
		// The others find it when they start.
		if c.sites, err = server.fill(ctx); err != nil {
			return nil, err
		}
	}
	return c, nil
}

// stop ends the servers, then the database.
func (c *cluster) stop() (err error) {
	for _, s := range c.servers {
		err = errors.Join(err, s.stop())
	}
	if c.standIn != nil {
		err = errors.Join(err, c.standIn.stop())
	}
	if c.folder != "" {
		err = errors.Join(err, os.RemoveAll(c.folder))
	}
	return err
}

// each returns a group of so many callers for each server, who submit check-ins of the
// sites.
func (c *cluster) each(callers int, sites []string) (groups []group) {
	for _, s := range c.servers {
		groups = append(groups, group{server: s.child, callers: callers, call: s.submit(sites)})
	}
	return groups
}

// load lets the groups call for the window.
func (c *cluster) load(ctx context.Context, window time.Duration, groups []group) ([]outcome, burden, error) {
	out, before, after, err := loadGroups(ctx, window, groups, func() (burden, error) { return c.burden(ctx) })
	for _, o := range out {
		c.done += o.done
		c.failed += o.failed
	}
	return out, after.since(before), err
}

// agree waits until each server counts each check-in that was acknowledged, whoever took
// it. One that counts any that was never sent, or one twice, is wrong.
func (c *cluster) agree(ctx context.Context) error {
	for i, s := range c.servers {
		for late := time.Now().Add(longestCount); ; {
			n, err := c.count(ctx, s)
			if err != nil {
				return fmt.Errorf("server %d: %w", i, err)
			}
			if n > c.done+c.failed {
				return fmt.Errorf("server %d counts %d check-ins of %d", i, n, c.done+c.failed)
			}
			if n >= c.done {
				break
			}
			if time.Now().After(late) {
				return fmt.Errorf("server %d counts %d check-ins, and %d were acknowledged", i, n, c.done)
			}
			pause(ctx, 20*time.Millisecond)
		}
	}
	return nil
}

// count asks a server how many check-ins it counts.
func (c *cluster) count(ctx context.Context, s *city) (int, error) {
	answer, err := xunchav1.NewCoverageServiceClient(s.conns[0]).GetCoverage(ctx, &xunchav1.GetCoverageRequest{
		DivisionCode: cityCode, StartTime: timestamppb.New(c.begun.Add(-time.Hour)), EndTime: timestamppb.New(c.begun.Add(day)),
	})
	if err != nil {
		return 0, err
	}
	return int(answer.Row.CheckIns), nil
}

// A burden is what a cluster has cost: CPU time, and questions to the database.
type burden struct {
	took                       time.Duration
	servers, database, callers time.Duration // CPU time
	busy, all                  time.Duration // of the machine's processors, whoever used them
	asked                      questions

	at time.Time
}

// burden returns what the cluster has cost since it began.
func (c *cluster) burden(ctx context.Context) (b burden, err error) {
	for _, s := range c.servers {
		cpu, err := s.cpu()
		if err != nil {
			return b, err
		}
		b.servers += cpu
	}
	if b.database, err = c.standIn.cpu(); err != nil {
		return b, err
	}
	if b.callers, err = ownCPU(); err != nil {
		return b, err
	}
	stat, err := os.ReadFile("/proc/stat")
	if err != nil {
		return b, err
	}
	if b.busy, b.all, err = readMachine(string(stat)); err != nil {
		return b, err
	}
	b.asked, err = c.standIn.asked(ctx)
	b.at = time.Now()
	return b, err
}

// since returns what was added to the burden before.
func (b burden) since(before burden) burden {
	return burden{
		took: b.at.Sub(before.at), servers: b.servers - before.servers, database: b.database - before.database, callers: b.callers - before.callers,
		busy: b.busy - before.busy, all: b.all - before.all, asked: b.asked.since(before.asked),
	}
}

// busyPart returns which part of the processors' time was used, in percent.
func (b burden) busyPart() float64 { return 100 * float64(b.busy) / float64(max(b.all, 1)) }

// othersPart returns which part was used by other processes than these.
func (b burden) othersPart() float64 {
	others := b.busy - b.servers - b.database - b.callers
	return 100 * float64(max(others, 0)) / float64(max(b.all, 1))
}

// readMachine reads the first line of /proc/stat: how long all processors were busy
// together, and how long there was.
func readMachine(stat string) (busy, all time.Duration, err error) {
	line, _, _ := strings.Cut(stat, "\n")
	fields := strings.Fields(line)
	// user, nice, system, idle, iowait, irq, softirq, steal; guests are in user.
	if len(fields) < 9 || fields[0] != "cpu" {
		return 0, 0, errors.New("the kernel does not tell how busy the machine is")
	}
	for i, f := range fields[1:9] {
		ticks, err := strconv.ParseInt(f, 10, 64)
		if err != nil {
			return 0, 0, fmt.Errorf("/proc/stat: %w", err)
		}
		all += time.Duration(ticks) * clockTick
		if i != 3 && i != 4 {
			busy += time.Duration(ticks) * clockTick
		}
	}
	return busy, all, nil
}
