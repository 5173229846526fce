package table

import (
	"fmt"
	"slices"
	"strings"
	"time"

	isthmusv1 "github.com/isthmus-mesh/isthmus/proto/isthmus/v1"
)

// Settings are what a gateway's registration says of its connections. The zero
// Settings say nothing.
type Settings struct {
	// ConnectTimeout is the time that one endpoint has to answer whose route
	// does not say. Zero leaves it to the engine.
	ConnectTimeout time.Duration
	// Keepalive is for connections to other datacenters. Nil leaves it to the
	// engine.
	Keepalive *Keepalive
	// MaxConnections is how many connections each route may have at a time; one
	// more is refused. Nil: any number.
	MaxConnections *uint32
}

// Keepalive is how an idle connection is probed; what is zero is the engine's own.
type Keepalive struct {
	Idle, Interval time.Duration
	Count          int
}

// Own is a gateway's own registration. It is immutable.
type Own struct {
	// Name is NODE/ID of Proxy; empty when there is none.
	Name string
	// Proxy is the registration as the routes last had it; nil when they never
	// did.
	Proxy *isthmusv1.ProxyRoutes
	// Missing says why the routes have no such registration now; empty when they
	// have.
	Missing string
}

// ownName tells registrations apart: node and ID, in lower case.
func ownName(p *isthmusv1.ProxyRoutes) string {
	return strings.ToLower(p.GetNode() + "/" + p.GetId())
}

// Follow makes the tables from now on have the registration named NODE/ID, or ID
// where that is unique. It is called before the first Apply.
func (b *Builder) Follow(proxy string) {
	b.own = &ownBuilder{wanted: strings.ToLower(proxy), given: proxy, found: make(map[isthmusv1.Key]*isthmusv1.ProxyRoutes)}
}

// Narrow says which node the registration is on that is followed by its ID. It
// reports whether that makes another table.
func (b *Builder) Narrow(node string) bool {
	if b.own == nil || node == "" || strings.EqualFold(b.own.node, node) {
		return false
	}
	b.own.node = strings.ToLower(node)
	b.own.choose()
	b.setOwn()
	return true
}

// setOwn makes the next table have the registration as it is now.
func (b *Builder) setOwn() {
	next := *b.table
	own := b.own.current
	next.Own, next.Settings = &own, b.own.settings()
	b.table = &next
}

// ownBuilder finds a gateway's own registration among the proxies.
type ownBuilder struct {
	wanted, given string
	// node is the one that it is on, in lower case; empty: not known.
	node string
	// found are the registrations of that name.
	found map[isthmusv1.Key]*isthmusv1.ProxyRoutes
	// last is the one that is in use, by key.
	last    isthmusv1.Key
	current Own
}

// concerns reports whether a change is about a registration of the name.
func (o *ownBuilder) concerns(value any) (*isthmusv1.ProxyRoutes, bool) {
	if o == nil {
		return nil, false
	}
	p, ok := value.(*isthmusv1.ProxyRoutes)
	if !ok || o.wanted != ownName(p) && o.wanted != strings.ToLower(p.GetId()) {
		return nil, false
	}
	return p, true
}

// take takes a transaction, and reports whether it changed something.
func (o *ownBuilder) take(t *isthmusv1.Transaction) bool {
	if o == nil {
		return false
	}
	touched := t.Reset
	if t.Reset {
		clear(o.found)
	}
	for _, c := range t.Changes {
		if c.Key.Kind != isthmusv1.KindProxy {
			continue
		}
		p, ok := o.concerns(c.Value)
		if _, had := o.found[c.Key]; had && (c.Tombstone || !ok) {
			delete(o.found, c.Key)
			touched = true
		}
		if ok && !c.Tombstone {
			o.found[c.Key] = p
			touched = true
		}
	}
	if touched {
		o.choose()
	}
	return touched
}

// choose finds the one registration. The last one stays while it cannot be told
// which it is, or while it is gone: a gateway goes on as it was.
func (o *ownBuilder) choose() {
	key, missing := o.only()
	if missing == "" {
		o.last = key
		p := o.found[key]
		o.current = Own{Name: p.GetNode() + "/" + p.GetId(), Proxy: p}
		return
	}
	o.current.Missing = missing
}

// only is the key of the one registration, or why there is none.
func (o *ownBuilder) only() (isthmusv1.Key, string) {
	var keys []isthmusv1.Key
	for key, p := range o.found {
		if p.GetKind() == isthmusv1.InstanceKindMeshGateway && (o.node == "" || o.node == strings.ToLower(p.GetNode())) {
			keys = append(keys, key)
		}
	}
	isthmusv1.SortKeys(keys)
	switch {
	case len(keys) == 1:
		return keys[0], ""
	case len(keys) > 1:
		names := make([]string, len(keys))
		for i, key := range keys {
			names[i] = o.found[key].GetNode() + "/" + o.found[key].GetId()
		}
		return isthmusv1.Key{}, fmt.Sprintf("several gateways have the ID %s; name one as NODE/ID: %s", o.given, strings.Join(names, ", "))
	}
	kinds := make([]string, 0, len(o.found))
	for _, p := range o.found {
		if p.GetKind() == isthmusv1.InstanceKindMeshGateway {
			continue
		}
		kinds = append(kinds, fmt.Sprintf("%s/%s is a %s, not a mesh gateway", p.GetNode(), p.GetId(), p.GetKind()))
	}
	if len(kinds) > 0 {
		slices.Sort(kinds)
		return isthmusv1.Key{}, strings.Join(kinds, "; ")
	}
	return isthmusv1.Key{}, fmt.Sprintf("no gateway %s is registered in the datacenter", o.given)
}

// settings are what the registration in use says of connections.
func (o *ownBuilder) settings() Settings {
	g := o.current.Proxy.GetGateway()
	s := Settings{ConnectTimeout: max(g.GetConnectTimeout().AsDuration(), 0)}
	if k := g.GetRemoteKeepalive(); k != nil {
		s.Keepalive = &Keepalive{
			Idle: time.Duration(k.GetTimeSeconds()) * time.Second, Interval: time.Duration(k.GetIntervalSeconds()) * time.Second,
			Count: int(k.GetProbes()),
		}
	}
	if l := g.GetLimits(); l != nil {
		s.MaxConnections = l.MaxConnections
	}
	return s
}

// value is the registration in use, with its key; a saved table has it also when
// it is gone from the routes.
func (o *ownBuilder) value() (KeyValue, bool) {
	if o == nil || o.current.Proxy == nil {
		return KeyValue{}, false
	}
	return KeyValue{o.last, o.current.Proxy}, true
}
