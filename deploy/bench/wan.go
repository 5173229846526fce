package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"sync"
	"text/tabwriter"
	"time"

	"github.com/isthmus-mesh/isthmus/deploy/wan"
)

// askedAhead is what a new connection may take at most with connections opened
// ahead, as a share of what it takes without: one round trip of two.
const askedAhead = 0.6

const (
	// wanClients is how many clients open one connection after the other, in the
	// second scene.
	wanClients = 16
	// wanBursts bursts of wanBurst connections at once are the third, more than
	// are open ahead, with a rest between them in which some are opened again.
	wanBurst, wanBursts = 2 * openAhead, 5
	wanRest             = time.Second
	// wanPause is longer than a gateway waits for a ClientHello by default: what
	// was opened before it is of no use any more.
	wanPause = 7 * time.Second
)

// scene is one way in which clients come.
type scene struct {
	name string
	play func(c clientsOf, d time.Duration) sample
}

var scenes = []scene{
	{"one by one", func(c clientsOf, d time.Duration) sample { return c.come(1, until(d)) }},
	{fmt.Sprintf("%d clients", wanClients), func(c clientsOf, d time.Duration) sample { return c.come(wanClients, until(d)) }},
	{fmt.Sprintf("%d at once", wanBurst), func(c clientsOf, _ time.Duration) sample { return c.again(wanBursts, wanRest, wanBurst) }},
	{fmt.Sprintf("after %s", wanPause), func(c clientsOf, _ time.Duration) sample { return c.again(2, wanPause, 1) }},
}

// until goes on for a while, whatever has been done.
func until(d time.Duration) func(int) bool {
	end := time.Now().Add(d)
	return func(int) bool { return time.Now().Before(end) }
}

// clientsOf are the clients on a side, who all go to one address.
type clientsOf struct {
	ctx     context.Context
	side    *wan.Side
	address string
}

// come has clients open one connection after the other, while there are to be
// more than those that each has had.
func (c clientsOf) come(clients int, more func(had int) bool) sample {
	var all sample
	var lock sync.Mutex
	var group sync.WaitGroup
	for range clients {
		group.Go(func() {
			var own sample
			err := c.side.Do(func() error {
				for had := 0; more(had) && own.failed < mostFailures && c.ctx.Err() == nil; had++ {
					own.note(connection(c.ctx, c.address))
				}
				return c.ctx.Err()
			})
			if err != nil {
				own.note(0, err)
			}
			lock.Lock()
			defer lock.Unlock()
			all.add(own)
		})
	}
	group.Wait()
	return all
}

// again has clients come some times with one connection each, after a rest.
func (c clientsOf) again(times int, rest time.Duration, clients int) sample {
	var all sample
	for range times {
		select {
		case <-time.After(rest):
		case <-c.ctx.Done():
		}
		all.add(c.come(clients, func(had int) bool { return had == 0 }))
	}
	return all
}

// sample is how long connections took from connect to the first byte of the
// answer.
type sample struct {
	took    []time.Duration
	failed  int
	failure error
}

// note takes in one connection.
func (s *sample) note(took time.Duration, err error) {
	if err != nil {
		s.failed, s.failure = s.failed+1, err
		return
	}
	s.took = append(s.took, took)
}

func (s *sample) add(other sample) {
	s.took = append(s.took, other.took...)
	s.failed += other.failed
	if other.failure != nil {
		s.failure = other.failure
	}
}

// wanRow is a way from the clients to the backend, with what was measured of it.
type wanRow struct {
	name    string
	far     string
	address netip.AddrPort
	// without is the name of the row that does the same without connections
	// opened ahead; empty for a row that opens none.
	without string
	samples []sample
}

// benchWAN measures new connections from one datacenter to another.
func benchWAN(ctx context.Context, s settings, scratch string, out io.Writer) ([]verdict, error) {
	program, err := buildIsthmus()
	if err != nil {
		return nil, err
	}
	w, err := openWANWorld(scratch, program)
	if errors.Is(err, wan.ErrForbidden) && !s.required {
		fmt.Fprintf(out, "SKIPPED: %v\n", err)
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer w.close()
	rows, err := w.rows(ctx, s, variants, out)
	if err != nil {
		return nil, err
	}
	for round := range s.rounds {
		for i := range rows {
			// Each round begins with another one.
			r := rows[(i+round)%len(rows)]
			for n, scene := range scenes {
				r.samples[n].add(scene.play(clientsOf{ctx, w.link.Left, r.address.String()}, s.duration))
			}
			if ctx.Err() != nil {
				return nil, ctx.Err()
			}
		}
	}
	fmt.Fprintf(out, "\nwan: a new connection over %s of round trip, from connect to the first byte of the answer, in ms; %d rounds\n\n", 2*wanDelay, s.rounds)
	reportWAN(rows, out)
	dropped := w.link.Stats().Dropped
	if dropped > 0 {
		fmt.Fprintf(out, "The link has dropped %d packets: read the figures with care.\n\n", dropped)
	}
	return wanVerdicts(rows), wanFailures(rows)
}

// rows starts the gateways: each way to run ours in dc1, towards each kind of
// gateway in dc2, and the same without a gateway in dc1.
func (w *wanWorld) rows(ctx context.Context, s settings, ways []variant, out io.Writer) ([]*wanRow, error) {
	var rows []*wanRow
	for _, startFar := range []func(context.Context) (farGateway, error){w.farIsthmus, w.farEnvoy} {
		far, err := startFar(ctx)
		if errors.Is(err, errMissing) && !s.required {
			fmt.Fprintf(out, "SKIPPED: %s is %v\n", far.name, err)
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("%s in dc2: %w", far.name, err)
		}
		rows = append(rows, &wanRow{name: "no gateway", far: far.name, address: far.address})
		for _, v := range ways {
			listen, err := w.near(ctx, far, v.flags)
			if err != nil {
				return nil, fmt.Errorf("%s in dc1: %w", v.name, err)
			}
			rows = append(rows, &wanRow{name: v.name, far: far.name, address: listen, without: v.without})
		}
	}
	for _, r := range rows {
		r.samples = make([]sample, len(scenes))
	}
	return rows, nil
}

// reportWAN prints the table.
func reportWAN(rows []*wanRow, out io.Writer) {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprint(w, "in dc1\tin dc2\t")
	for _, scene := range scenes {
		fmt.Fprintf(w, "%s: p50\tp99\t", scene.name)
	}
	fmt.Fprint(w, "of\tfailed\t\n")
	for _, r := range rows {
		fmt.Fprintf(w, "%s\t%s\t", r.name, r.far)
		count, failed := 0, 0
		for _, s := range r.samples {
			fmt.Fprintf(w, "%.1f\t%.1f\t", s.at(0.50), s.at(0.99))
			count, failed = count+len(s.took)+s.failed, failed+s.failed
		}
		fmt.Fprintf(w, "%d\t%d\t\n", count, failed)
	}
	w.Flush()
	fmt.Fprintln(out)
}

// at is the time below which a share of the connections had their answer, in
// milliseconds.
func (s *sample) at(share float64) float64 {
	slices.Sort(s.took)
	return quantile(s.took, share).Seconds() * 1000
}

// wanVerdicts compare each row that opens ahead with the one that does not, for
// a client whose connections the refilling keeps up with.
func wanVerdicts(rows []*wanRow) []verdict {
	var verdicts []verdict
	for _, r := range rows {
		i := slices.IndexFunc(rows, func(base *wanRow) bool { return base.far == r.far && base.name == r.without })
		if i < 0 {
			continue
		}
		ratio := r.samples[0].at(0.50) / rows[i].samples[0].at(0.50)
		verdicts = append(verdicts, verdict{
			fmt.Sprintf("%s, to %s, new connection", r.name, r.far),
			fmt.Sprintf("%.2fx", ratio), fmt.Sprintf("at most %.1fx", askedAhead), ratio <= askedAhead,
		})
	}
	return verdicts
}

// wanFailures is an error when a connection got no answer.
func wanFailures(rows []*wanRow) error {
	var problems []error
	for _, r := range rows {
		for i, s := range r.samples {
			if s.failed > 0 {
				problems = append(problems, fmt.Errorf("%s to %s, %s: %d connections failed, one so: %w", r.name, r.far, scenes[i].name, s.failed, s.failure))
			}
		}
	}
	return errors.Join(problems...)
}
