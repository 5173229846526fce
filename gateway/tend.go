package gateway

import (
	"context"
	"net/netip"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"
)

const (
	// saveAtMostEvery bounds how often a table that changes all the time is
	// written to disk; the last one is always written, at the latest at the end.
	saveAtMostEvery = 5 * time.Second
	// hostTimeout bounds one look-up of a host name, hostsAtOnce how many run.
	hostTimeout = 5 * time.Second
	hostsAtOnce = 8
)

// loadSaved takes the saved table, so that there is one from the start. A file
// that cannot be used is stated and left alone.
func (g *Gateway) loadSaved() {
	if g.cfg.StateDir == "" {
		return
	}
	at, err := g.feed.load(g.cfg.StateDir, g.cfg.Datacenter)
	if err != nil {
		g.cfg.Logger.Error("the saved table is not used", "err", err)
		return
	}
	if !at.IsZero() {
		g.cfg.Logger.Info("a saved table is used until the routes stream is caught up with", "saved", at, "age", time.Since(at).Round(time.Second))
	}
}

// tend does what a change of the table asks for: it lets the serving begin, has
// new host names resolved, saves and reports. It waits for one of four things: a
// change, the time to save again, the time to report, the end.
func (g *Gateway) tend(ctx context.Context) {
	status := time.NewTicker(g.cfg.StatusInterval)
	defer status.Stop()
	save := time.NewTicker(saveAtMostEvery)
	defer save.Stop()
	unsaved, justSaved, served := false, false, false
	for {
		select {
		case <-g.feed.Changed():
			if !served && g.mayServe() {
				served = true
				close(g.whole)
			}
			notify(g.newHosts)
			notify(g.newBinds)
			g.tellRegistration()
			g.tellTable()
			unsaved = true
			if justSaved {
				continue
			}
			g.save()
			unsaved, justSaved = false, true
		case <-save.C:
			justSaved = unsaved
			if unsaved {
				g.save()
				unsaved = false
			}
		case <-status.C:
			g.tellRegistration()
			g.tellStatus()
		case <-ctx.Done():
			if unsaved {
				g.save()
			}
			return
		}
	}
}

func notify(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// save saves a table of the stream; one that came from the file is there
// already, with its true age.
func (g *Gateway) save() {
	if _, savedAt := g.feed.Whole(); g.cfg.StateDir == "" || !savedAt.IsZero() {
		return
	}
	if err := g.feed.save(g.cfg.StateDir, g.cfg.Datacenter, time.Now()); err != nil {
		g.cfg.Logger.Error("the table is not saved", "err", err)
	}
}

// resolveHosts keeps the addresses of host names: new names at once, all of
// them again at the interval. Connections never wait for it.
func (g *Gateway) resolveHosts(ctx context.Context) {
	again := time.NewTicker(g.cfg.HostInterval)
	defer again.Stop()
	var known []string
	for {
		select {
		case <-g.newHosts:
			names := g.feed.HostNames()
			g.resolve(ctx, slices.DeleteFunc(slices.Clone(names), func(name string) bool {
				_, ok := slices.BinarySearch(known, name)
				return ok
			}))
			known = names
		case <-again.C:
			known = g.feed.HostNames()
			g.resolve(ctx, known)
		case <-ctx.Done():
			return
		}
	}
}

func (g *Gateway) resolve(ctx context.Context, names []string) {
	var group errgroup.Group
	group.SetLimit(hostsAtOnce)
	for _, name := range names {
		group.Go(func() error {
			ctx, cancel := context.WithTimeout(ctx, hostTimeout)
			defer cancel()
			addresses, err := g.cfg.Hosts.LookupNetIP(ctx, "ip", name)
			if err != nil {
				if ctx.Err() == nil {
					g.cfg.Logger.Warn("a host name is not resolved; its last addresses stay", "host", name, "err", err)
				}
				return nil
			}
			g.resolved(name, addresses)
			return nil
		})
	}
	_ = group.Wait()
}

func (g *Gateway) resolved(name string, addresses []netip.Addr) {
	if g.feed.Resolve(name, addresses) {
		g.cfg.Logger.Info("host name resolved", "host", name, "addresses", addresses)
	}
}
