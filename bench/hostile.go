package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"sync"
	"time"

	"google.golang.org/grpc/metadata"

	"xuncha/client"
	xunchav1 "xuncha/proto/xuncha/v1"
)

// What honest callers do in a second while a hostile crowd is there.
const (
	honestCheckIns, honestReports, honestConnections, honestSignIns = 50, 20, 2, 1
	// honestCall is after how long an honest call has failed.
	honestCall = 20 * time.Second
	// honestPhones is how many accounts sign in by turns.
	honestPhones = 20
)

// The bars under attack: the server's resident memory in MiB, and how much more than before
// it may have a minute after.
const mostUnderAttack, mostKept = 150, 16

// measureHostile measures a server while many connections without a token do what harms it
// most, and how its honest callers fare meanwhile.
func measureHostile(ctx context.Context, o options, binary, folder string, w io.Writer) (rows []row, err error) {
	issuer := silentProvider()
	defer issuer.Close()
	c, sites, err := startVictim(ctx, binary, folder, issuer.URL)
	if err != nil {
		return nil, err
	}
	stopped := false
	defer func() {
		if !stopped {
			err = errors.Join(err, c.stop())
		}
	}()
	people, err := c.newHonest(ctx, sites)
	if err != nil {
		return nil, err
	}
	defer people.close()
	calm := min(o.attack, max(15*time.Second, o.attack/10))
	before, err := c.during(ctx, calm, people)
	if err != nil {
		return nil, err
	}
	crowd, err := sendHostile(ctx, c.address, issuer.URL, o.hostile)
	if err != nil {
		return nil, err
	}
	under, err := c.during(ctx, o.attack, people)
	said, failed := crowd.call()
	if err := errors.Join(err, failed); err != nil {
		return nil, err
	}
	fmt.Fprintf(w, "%d hostile connections at a time: %s\n", o.hostile, said)
	pause(ctx, time.Minute)
	after, err := c.memory()
	if err != nil {
		return nil, err
	}
	begun := time.Now()
	stopped = true
	if err := c.stop(); err != nil {
		return nil, err
	}
	took := time.Since(begun)
	rows = []row{
		{
			name:     fmt.Sprintf("resident memory at most, %d hostile connections for %s", o.hostile, o.attack),
			measured: fmt.Sprintf("%.1f MiB, without attack %.1f", under.memory, before.memory),
			bar:      fmt.Sprintf("≤ %d MiB", mostUnderAttack), met: under.memory <= mostUnderAttack,
		},
		{
			name: "resident memory a minute after", measured: fmt.Sprintf("%.1f MiB, before %.1f", after, before.rest),
			bar: fmt.Sprintf("≤ before + %d MiB", mostKept), met: after <= before.rest+mostKept,
		},
		{
			name: "the log that was written meanwhile", measured: fmt.Sprintf("%.1f KiB a second, before %.1f", under.log/1024, before.log/1024),
		},
		{
			name: "SIGTERM to the end", measured: took.Round(time.Millisecond).String(), bar: "≤ 35 s", met: took <= 35*time.Second,
		},
	}
	for _, what := range honestKinds {
		a, b := before.calls[what], under.calls[what]
		rows = append(rows,
			row{name: what + ", without attack", measured: fmt.Sprintf("%s, %d calls, %d failed", a.took, len(a.took)+a.failed, a.failed)},
			row{
				name: what + ", under attack", measured: fmt.Sprintf("%s, %d calls, %d failed", b.took, len(b.took)+b.failed, b.failed),
				bar: "none fails", met: b.failed == 0 && len(b.took) > 0,
			})
		if b.first != nil {
			fmt.Fprintf(w, "%s, under attack: the first that failed: %v\n", what, b.first)
		}
	}
	return rows, nil
}

// silentProvider is an identity provider that says where its keys are, and never gives them.
func silentProvider() *httptest.Server {
	mux := http.NewServeMux()
	s := httptest.NewServer(mux)
	mux.HandleFunc("/.well-known/openid-configuration", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(map[string]any{ // whoever asks asks again
			"issuer": s.URL, "jwks_uri": s.URL + "/keys", "authorization_endpoint": s.URL + "/auth", "token_endpoint": s.URL + "/token",
			"response_types_supported": []string{"code"}, "subject_types_supported": []string{"public"}, "id_token_signing_alg_values_supported": []string{"RS256"},
		})
	})
	mux.HandleFunc("/keys", func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	return s
}

// startVictim starts a city's server with accounts and an identity provider.
func startVictim(ctx context.Context, binary, folder, issuer string) (*city, []string, error) {
	c, err := startServer(ctx, binary, folder, "")
	if err != nil {
		return nil, nil, err
	}
	sites, err := c.fill(ctx)
	if err == nil {
		err = c.enrol(ctx)
	}
	if err == nil {
		err = c.enrolPhones(ctx)
	}
	if err := errors.Join(err, c.stop()); err != nil {
		return nil, nil, err
	}
	c, err = startServer(ctx, binary, folder, "", "--oidc-issuer", issuer, "--oidc-audience", "bench")
	return c, sites, err
}

func phoneName(i int) string { return fmt.Sprintf("phone%02d", i) }

// enrolPhones creates accounts of officers.
func (c *city) enrolPhones(ctx context.Context) error {
	ctx, err := c.as(ctx, admin)
	if err != nil {
		return err
	}
	for i := range honestPhones {
		_, err := xunchav1.NewAccountServiceClient(c.conns[0]).CreateAccount(ctx, &xunchav1.CreateAccountRequest{
			Account: &xunchav1.Account{Username: phoneName(i), Role: xunchav1.Role_ROLE_OFFICER, DivisionCodes: []string{cityCode}}, Password: password,
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// honestKinds are the kinds of honest calls.
var honestKinds = []string{
	fmt.Sprintf("SubmitCheckIn, %d a second", honestCheckIns),
	fmt.Sprintf("GetCoverage, %d a second", honestReports),
	fmt.Sprintf("GetMe on a new connection, %d a second", honestConnections),
	fmt.Sprintf("signing in on a new connection, %d a second", honestSignIns),
}

// An honest crowd is those who work with the server.
type honest struct {
	city             *city
	officers, heads  []*client.Client
	submit, coverage call
}

// newHonest signs honest callers in.
func (c *city) newHonest(ctx context.Context, sites []string) (*honest, error) {
	h := &honest{city: c, submit: c.submit(sites), coverage: c.coverage()}
	for i := range connections {
		name, list := officer, &h.officers
		if i%2 == 1 {
			name, list = head, &h.heads
		}
		one, err := dialOne(c.address)
		if err != nil {
			return nil, err
		}
		if _, err := one.SignIn(ctx, client.SignIn{Username: name, Password: password}); err != nil {
			return nil, errors.Join(err, one.Close())
		}
		*list = append(*list, one)
	}
	return h, nil
}

func (h *honest) close() {
	for _, c := range slices.Concat(h.officers, h.heads) {
		c.Close()
	}
}

// call makes the honest call of the kind with the number.
func (h *honest) call(ctx context.Context, kind, i int, source *rand.Rand) (err error) {
	switch kind {
	case 0:
		return h.submit(ctx, h.officers[i%len(h.officers)], source)
	case 1:
		return h.coverage(ctx, h.heads[i%len(h.heads)], source)
	}
	fresh, err := dialOne(h.city.address)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, fresh.Close()) }()
	if kind == 2 {
		ctx = metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+h.officers[0].Session().AccessToken)
		_, err = xunchav1.NewAccountServiceClient(fresh).GetMe(ctx, &xunchav1.GetMeRequest{})
		return err
	}
	if _, err := fresh.SignIn(ctx, client.SignIn{Username: phoneName(i % honestPhones), Password: password}); err != nil {
		return err
	}
	return fresh.SignOut(ctx)
}

// A fate is how the calls of a kind went.
type fate struct {
	took   latencies
	failed int
	first  error // of those that failed
}

// A stretch is how a stretch of time went.
type stretch struct {
	calls  map[string]fate
	memory float64 // MiB at most
	rest   float64 // MiB in the end
	log    float64 // bytes a second
}

// during makes honest calls for so long, at a fixed pace, and measures the server.
func (c *city) during(ctx context.Context, d time.Duration, h *honest) (s stretch, err error) {
	s.calls = map[string]fate{}
	logged := func() int64 {
		info, err := os.Stat(c.log)
		if err != nil {
			return 0
		}
		return info.Size()
	}
	if err := c.forgetPeak(); err != nil {
		return s, err
	}
	began, size := time.Now(), logged()
	ctx, cancel := context.WithTimeout(ctx, d)
	defer cancel()
	var mu sync.Mutex
	var group sync.WaitGroup
	for kind, perSecond := range []int{honestCheckIns, honestReports, honestConnections, honestSignIns} {
		group.Go(func() {
			for i := 0; ; i++ {
				pause(ctx, time.Until(began.Add(time.Duration(i)*time.Second/time.Duration(perSecond))))
				if ctx.Err() != nil {
					return
				}
				group.Go(func() {
					ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), honestCall)
					defer cancel()
					sent := time.Now()
					err := h.call(ctx, kind, i, rand.New(rand.NewPCG(uint64(kind), rand.Uint64())))
					took := time.Since(sent)
					mu.Lock()
					defer mu.Unlock()
					f := s.calls[honestKinds[kind]]
					if err == nil {
						f.took = append(f.took, took)
					} else {
						f.failed++
						if f.first == nil {
							f.first = err
						}
					}
					s.calls[honestKinds[kind]] = f
				})
			}
		})
	}
	group.Wait()
	for _, f := range s.calls {
		slices.Sort(f.took)
	}
	s.log = float64(logged()-size) / time.Since(began).Seconds()
	var errRest error
	s.rest, errRest = c.memory()
	s.memory, err = c.peak()
	err = errors.Join(err, errRest)
	if errors.Is(ctx.Err(), context.Canceled) {
		err = errors.Join(err, ctx.Err())
	}
	return s, err
}

// forgetPeak lets peak begin anew: proc(5), clear_refs.
func (c child) forgetPeak() error {
	return os.WriteFile(fmt.Sprintf("/proc/%d/clear_refs", c.process.Process.Pid), []byte("5"), 0)
}

// sendHostile starts a hostile crowd, in a process of its own, which is a nice one for the
// same reason as that of sendCrowd.
func sendHostile(ctx context.Context, address, issuer string, n int) (*sentCrowd, error) {
	return startCrowd(ctx, hostileCommand, address, issuer, fmt.Sprint(n))
}
