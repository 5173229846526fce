package table

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	isthmusv1 "github.com/isthmus-mesh/isthmus/proto/isthmus/v1"
)

// Why a set has nothing to connect to.
var (
	// ErrEmpty indicates a set without any instance.
	ErrEmpty = errors.New("no instance is registered")
	// ErrUnhealthy indicates a set whose instances all fail their checks.
	ErrUnhealthy = errors.New("no instance passes its checks")
	// ErrUnresolved indicates a set that has healthy instances, but at host
	// names of which none has been resolved.
	ErrUnresolved = errors.New("no host name has been resolved")
)

// Hosts says what a host name stands for: nothing while it is not known.
type Hosts func(name string) []netip.Addr

// Set is the endpoints of a route. Readers never wait; the zero Set is not
// usable, see [NewSet].
type Set struct {
	ejection Ejection
	members  atomic.Pointer[members]
	// failures is how many attempts at endpoints failed, of those that have left
	// the set too.
	failures atomic.Uint64
	// mu orders Replace and Failed among themselves.
	mu sync.Mutex
}

// members is one immutable state of a Set: its healthy endpoints.
type members struct {
	candidates []candidate
	// total is the sum of all weights.
	total uint64
	// why there is no candidate; nil when there is one.
	why error
	// hosts are the host names among the healthy ones, sorted.
	hosts []string
}

type candidate struct {
	endpoint *Endpoint
	weight   uint64
	// upTo is the sum of the weights up to and with this one.
	upTo uint64
}

// NewSet makes an empty set with the rule of ejection.
func NewSet(ejection Ejection) *Set {
	s := &Set{ejection: ejection.withDefaults()}
	s.members.Store(&members{why: ErrEmpty})
	return s
}

// weightScale keeps the share of a host name's instance exact when it is
// divided among up to ten addresses, save seven and nine.
const weightScale = 720

// Replace makes the given endpoints the members, at once and whole. Unhealthy
// ones are left out. A host name becomes one endpoint for each of its addresses,
// which share its weight. Endpoints whose address stays keep their state. hosts
// may be nil when there are no host names.
func (s *Set) Replace(endpoints []*isthmusv1.Endpoint, hosts Hosts) {
	s.mu.Lock()
	defer s.mu.Unlock()
	kept := make(map[netip.AddrPort]*Endpoint)
	for _, c := range s.members.Load().candidates {
		kept[c.endpoint.Address] = c.endpoint
	}
	s.members.Store(newMembers(endpoints, hosts, kept))
}

func newMembers(endpoints []*isthmusv1.Endpoint, hosts Hosts, kept map[netip.AddrPort]*Endpoint) *members {
	m := &members{}
	healthy := 0
	at := make(map[netip.AddrPort]int, len(endpoints))
	for _, e := range endpoints {
		if e.GetHealth() != isthmusv1.Health_HEALTH_HEALTHY {
			continue
		}
		healthy++
		addresses, host := addressesOf(e, hosts)
		if host {
			m.hosts = append(m.hosts, e.GetAddress())
		}
		for _, address := range addresses {
			weight := uint64(max(e.GetWeight(), 1)) * weightScale / uint64(len(addresses))
			if i, ok := at[address]; ok {
				// Two instances at one address: one endpoint with both weights.
				m.candidates[i].weight += weight
				continue
			}
			at[address] = len(m.candidates)
			m.candidates = append(m.candidates, candidate{endpoint: endpointAt(address, e, kept), weight: weight})
		}
	}
	for i := range m.candidates {
		m.total += m.candidates[i].weight
		m.candidates[i].upTo = m.total
	}
	switch {
	case len(m.candidates) > 0:
	case healthy > 0:
		m.why = ErrUnresolved
	case len(endpoints) > 0:
		m.why = ErrUnhealthy
	default:
		m.why = ErrEmpty
	}
	slices.Sort(m.hosts)
	m.hosts = slices.Compact(m.hosts)
	return m
}

func endpointAt(address netip.AddrPort, e *isthmusv1.Endpoint, kept map[netip.AddrPort]*Endpoint) *Endpoint {
	if endpoint, ok := kept[address]; ok {
		return endpoint
	}
	return &Endpoint{
		Address: address,
		Name:    net.JoinHostPort(e.GetAddress(), strconv.FormatUint(uint64(e.GetPort()), 10)),
	}
}

// addressesOf returns where an endpoint is, and whether it is named by a host.
func addressesOf(e *isthmusv1.Endpoint, hosts Hosts) ([]netip.AddrPort, bool) {
	if e.GetPort() == 0 || e.GetPort() > 65535 {
		return nil, false
	}
	port := uint16(e.GetPort())
	if ip, err := netip.ParseAddr(e.GetAddress()); err == nil {
		return []netip.AddrPort{netip.AddrPortFrom(ip.Unmap(), port)}, false
	}
	if hosts == nil {
		return nil, true
	}
	var out []netip.AddrPort
	for _, ip := range hosts(e.GetAddress()) {
		out = append(out, netip.AddrPortFrom(ip.Unmap(), port))
	}
	return out, true
}

// Why returns the reason for which nothing can be chosen, or nil: [ErrEmpty],
// [ErrUnhealthy] or [ErrUnresolved].
func (s *Set) Why() error { return s.members.Load().why }

// HostNames returns the host names among the healthy members, sorted.
func (s *Set) HostNames() []string { return s.members.Load().hosts }

// Endpoints returns the healthy members in the order of the set.
func (s *Set) Endpoints() []*Endpoint {
	candidates := s.members.Load().candidates
	out := make([]*Endpoint, len(candidates))
	for i, c := range candidates {
		out[i] = c.endpoint
	}
	return out
}

// Connected reports that the endpoint answered: its failures are forgotten.
func (s *Set) Connected(e *Endpoint) {
	if e.failures.Load() == 0 {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	e.failures.Store(0)
	e.ejections = 0
	e.ejectedUntil.Store(0)
}

// Failed reports that the endpoint did not answer, and returns whether that
// ejected it. The last live endpoint of a set is never ejected: trying it is
// better than refusing. After its time an endpoint is tried again, and one more
// failure ejects it for twice as long.
func (s *Set) Failed(e *Endpoint, now time.Time) (ejected bool) {
	e.Counters.Failures.Add(1)
	s.failures.Add(1)
	s.mu.Lock()
	defer s.mu.Unlock()
	if e.failures.Add(1) < s.ejection.Failures || e.Ejected(now) {
		return false
	}
	if !s.othersLive(e, now) {
		return false
	}
	e.ejectedUntil.Store(now.Add(s.ejection.backoff(e.ejections)).UnixNano())
	e.ejections++
	return true
}

func (s *Set) othersLive(e *Endpoint, now time.Time) bool {
	return slices.ContainsFunc(s.members.Load().candidates, func(c candidate) bool {
		return c.endpoint != e && !c.endpoint.Ejected(now)
	})
}

// Failures returns how many attempts at endpoints failed so far. It never falls,
// whatever [Set.Replace] takes away.
func (s *Set) Failures() uint64 { return s.failures.Load() }

// Liveness returns how many members connections may go to at the given time, and
// how many are ejected, of which it names the first most in the order of the set.
func (s *Set) Liveness(now time.Time, most int) (live, ejected int, names []string) {
	candidates := s.members.Load().candidates
	if s.failures.Load() == 0 {
		return len(candidates), 0, nil // None was ever ejected: most sets, at any time.
	}
	for _, c := range candidates {
		if !c.endpoint.Ejected(now) {
			live++
			continue
		}
		if ejected++; len(names) < most {
			names = append(names, c.endpoint.Name)
		}
	}
	return live, ejected, names
}

// String shows the set for people: its endpoints with their weights.
func (s *Set) String() string {
	m := s.members.Load()
	if m.why != nil {
		return m.why.Error()
	}
	parts := make([]string, len(m.candidates))
	for i, c := range m.candidates {
		parts[i] = fmt.Sprintf("%s (%d%%)", c.endpoint.Name, c.weight*100/m.total)
	}
	return strings.Join(parts, ", ")
}
