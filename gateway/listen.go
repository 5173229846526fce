package gateway

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"time"

	"github.com/isthmus-mesh/isthmus/gateway/engine"
)

// gather returns a listener for each configured address and for each socket of
// systemd's: from a running predecessor, else from systemd, else bound here. The
// hand-over is nil when there is no predecessor.
func (g *Gateway) gather(ctx context.Context) ([]namedListener, *handover, error) {
	ofSystemd, err := activated(g.cfg.Environment, os.Getpid(), os.NewFile)
	if err != nil {
		return nil, nil, err
	}
	var predecessor *handover
	var handed []namedListener
	if g.cfg.HandoverSocket != "" {
		if predecessor, err = askForListeners(g.cfg.HandoverSocket); err != nil {
			closeAll(ofSystemd, nil)
			return nil, nil, fmt.Errorf("gateway: %s: %w", g.cfg.HandoverSocket, err)
		}
		if predecessor != nil {
			handed = predecessor.listeners
		}
	}
	chosen, err := choose(ctx, g.cfg.Listen, handed, ofSystemd)
	if err != nil {
		closeAll(slices.Concat(chosen.use, chosen.leave), predecessor)
		return nil, nil, err
	}
	for _, l := range chosen.leave {
		g.cfg.Logger.Info("a listener that was given is not used", "address", l.name)
	}
	closeAll(chosen.leave, nil)
	return chosen.use, predecessor, nil
}

// gatherRegistered opens the listeners of the registration, from a running
// predecessor those that it has. It returns when at least one is open.
func (g *Gateway) gatherRegistered(ctx context.Context) (*handover, error) {
	var predecessor *handover
	if g.cfg.HandoverSocket != "" {
		var err error
		if predecessor, err = askForListeners(g.cfg.HandoverSocket); err != nil {
			return nil, fmt.Errorf("gateway: %s: %w", g.cfg.HandoverSocket, err)
		}
		if predecessor != nil {
			g.listeners.set(predecessor.listeners, nil)
		}
	}
	for {
		if g.listeners.move(ctx, g.wantedBinds()); len(g.listeners.all()) > 0 {
			return predecessor, nil
		}
		g.tellStatus()
		select {
		case <-time.After(retryListen):
		case <-g.newBinds:
		case <-ctx.Done():
			return predecessor, nil
		}
	}
}

// chosen is the listeners to use, and those to close.
type chosen struct{ use, leave []namedListener }

// choose takes the listeners that were given for the wanted addresses, binds what
// is missing, and adds what systemd gave beyond that. On an error the listeners
// so far are returned too.
func choose(ctx context.Context, wanted []string, handed, ofSystemd []namedListener) (chosen, error) {
	wanted = slices.Clone(wanted)
	c := chosen{leave: slices.Clone(handed)}
	for _, l := range ofSystemd {
		address := l.Addr().String()
		c.leave = append(c.leave, namedListener{address, l.Listener})
		if !slices.ContainsFunc(wanted, func(w string) bool { return sameAddress(w, l.Listener) }) {
			wanted = append(wanted, address)
		}
	}
	if len(wanted) == 0 {
		return c, ErrNoListen
	}
	for _, address := range wanted {
		i := slices.IndexFunc(c.leave, func(l namedListener) bool {
			return l.name == address || sameAddress(address, l.Listener)
		})
		if i >= 0 {
			c.use = append(c.use, namedListener{address, c.leave[i].Listener})
			c.leave = slices.Delete(c.leave, i, i+1)
			continue
		}
		bound, err := bind(ctx, "tcp", address)
		if err != nil {
			return c, err
		}
		c.use = append(c.use, namedListener{address, bound})
	}
	return c, nil
}

// sameAddress reports whether binding the address would ask for what the
// listener has: the text may name a host, or none for all addresses.
func sameAddress(address string, l *engine.Listener) bool {
	if l.Addr().String() == address {
		return true
	}
	wanted, err := net.ResolveTCPAddr("tcp", address)
	if err != nil || wanted.Port == 0 {
		return false
	}
	has, ok := l.Addr().(*net.TCPAddr)
	if !ok || has.Port != wanted.Port || has.Zone != wanted.Zone {
		return false
	}
	everywhere := wanted.IP == nil || wanted.IP.IsUnspecified()
	return has.IP.Equal(wanted.IP) || everywhere && has.IP.IsUnspecified()
}

func bind(ctx context.Context, network, address string) (*engine.Listener, error) {
	config := listenConfig()
	listener, err := config.Listen(ctx, network, address)
	if err != nil {
		return nil, fmt.Errorf("gateway: %w", err)
	}
	tcp, ok := listener.(*net.TCPListener)
	if !ok {
		return nil, errors.Join(fmt.Errorf("gateway: %s: a %T is not a TCP listener", address, listener), listener.Close())
	}
	return engine.Adopt(tcp)
}

func closeAll(listeners []namedListener, predecessor *handover) {
	for _, l := range listeners {
		_ = l.Close()
	}
	if predecessor != nil {
		predecessor.close()
	}
}
