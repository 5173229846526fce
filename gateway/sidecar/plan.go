package sidecar

import (
	"cmp"
	"fmt"
	"net"
	"os"
	"slices"
	"strconv"

	isthmusv1 "github.com/isthmus-mesh/isthmus/proto/isthmus/v1"
)

// listenerKey is what makes a listener the same one: it is kept while it is
// asked for, whatever it leads to.
type listenerKey struct {
	// network is tcp or unix.
	network string
	// address is host:port, or a path.
	address string
}

// String shows the key for people: host:port, or the path.
func (k listenerKey) String() string { return k.address }

// listenerSpec is a listener that should be there.
type listenerSpec struct {
	listenerKey
	// route is the upstream's; empty for the public listener.
	route string
	// mode of a socket's file; 0: as the process's umask makes it.
	mode os.FileMode
}

// public reports whether it is where callers connect.
func (s listenerSpec) public() bool { return s.route == "" }

// listenerSpecs are the listeners of a proxy, sorted by key, and the problems of
// those that cannot be. Of two with one key the first one stays.
func listenerSpecs(proxy *isthmusv1.ProxyRoutes) ([]listenerSpec, []*isthmusv1.Problem) {
	var problems []*isthmusv1.Problem
	var out []listenerSpec
	add := func(s listenerSpec) {
		if slices.ContainsFunc(out, func(o listenerSpec) bool { return o.listenerKey == s.listenerKey }) {
			problems = append(problems, problem(CodeBadListener, "give each upstream an address and port of its own",
				"%s is asked for twice; %s is not served there", s, cmp.Or(s.route, "the public listener")))
			return
		}
		out = append(out, s)
	}
	switch {
	case proxy.GetAddress() == "":
		// Without a host, every interface would be meant.
		problems = append(problems, problem(CodeBadListener, "give the proxy an address, or register its node with one",
			"callers cannot connect: the proxy has no address"))
	case proxy.GetPort() > 0 && proxy.GetPort() <= maxPort:
		add(listenerSpec{listenerKey: tcpKey(proxy.GetAddress(), proxy.GetPort())})
	default:
		problems = append(problems, problem(CodeBadListener, "give the proxy a port from 1 to 65535",
			"callers cannot connect: port %d is none", proxy.GetPort()))
	}
	for _, bind := range proxy.GetBinds() {
		spec, err := bindSpec(bind)
		if err != nil {
			problems = append(problems, problem(CodeBadListener, "correct the upstream's bind",
				"upstream %s is not served: %s", bind.GetRoute(), err.Error()))
			continue
		}
		add(spec)
	}
	slices.SortFunc(out, func(a, b listenerSpec) int {
		return cmp.Or(cmp.Compare(a.network, b.network), cmp.Compare(a.address, b.address))
	})
	return out, problems
}

const maxPort = 65535

func tcpKey(host string, port uint32) listenerKey {
	return listenerKey{"tcp", net.JoinHostPort(host, strconv.FormatUint(uint64(port), 10))}
}

func bindSpec(bind *isthmusv1.Bind) (listenerSpec, error) {
	if path := bind.GetSocketPath(); path != "" {
		mode, err := socketMode(bind.GetSocketMode())
		if err != nil {
			return listenerSpec{}, err
		}
		return listenerSpec{listenerKey: listenerKey{"unix", path}, route: bind.GetRoute(), mode: mode}, nil
	}
	if bind.GetPort() == 0 || bind.GetPort() > maxPort {
		return listenerSpec{}, fmt.Errorf("port %d is none", bind.GetPort())
	}
	return listenerSpec{listenerKey: tcpKey(cmp.Or(bind.GetAddress(), "127.0.0.1"), bind.GetPort()), route: bind.GetRoute()}, nil
}

// socketMode reads an octal mode, like 0600.
func socketMode(text string) (os.FileMode, error) {
	if text == "" {
		return 0, nil
	}
	mode, err := strconv.ParseUint(text, 8, 32)
	if err != nil || mode > 0o777 {
		return 0, fmt.Errorf("%q is no octal mode like 0600", text)
	}
	return os.FileMode(mode), nil
}

// addresses are where the state listens, for people.
func (s *state) addresses() []string {
	out := make([]string, len(s.listeners))
	for i, spec := range s.listeners {
		out[i] = spec.String()
	}
	return out
}

// listenerPlan is how to come from the listeners that are there to those that
// should be.
type listenerPlan struct {
	open  []listenerSpec
	keep  []listenerSpec
	close []listenerKey
}

// planListeners makes the plan; has are the listeners that are open.
func planListeners(has []listenerKey, want []listenerSpec) listenerPlan {
	var p listenerPlan
	for _, spec := range want {
		if slices.Contains(has, spec.listenerKey) {
			p.keep = append(p.keep, spec)
		} else {
			p.open = append(p.open, spec)
		}
	}
	for _, key := range has {
		if !slices.ContainsFunc(want, func(s listenerSpec) bool { return s.listenerKey == key }) {
			p.close = append(p.close, key)
		}
	}
	return p
}
