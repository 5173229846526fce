package definition

import (
	"cmp"
	"fmt"
	"net"
	"slices"
	"strconv"

	"google.golang.org/protobuf/proto"

	isthmusv1 "github.com/isthmus-mesh/isthmus/proto/isthmus/v1"
)

// placed is a definition on its node, ready to be judged and added.
type placed struct {
	*draft
	host *host
}

// addServices puts the service instances into the catalog: each on its node,
// with sidecars expanded as an agent does (Consul agent/sidecar_service.go).
func (b *builder) addServices(services []*draft, agents []*agent, all hosts) {
	var explicit, inline []placed
	for _, s := range services {
		h := all.of(directoryOf(s.at().file))
		h.used = true
		s.instance.Node = h.node.GetName()
		explicit = append(explicit, placed{s, h})
	}
	b.attachChecks(explicit, agents, all)
	proxies := map[isthmusv1.Key]spot{}
	for _, p := range explicit {
		if p.instance.GetKind() == isthmusv1.InstanceKindProxy {
			proxies[p.key()] = p.at()
		}
	}
	for _, p := range explicit {
		if p.inline == nil {
			continue
		}
		b.expand(p.draft)
		sidecar := placed{p.inline, p.host}
		if at, replaced := proxies[sidecar.key()]; replaced {
			b.report(SeverityWarning, p.inline.at(), fmt.Sprintf("the proxy %s in %s:%d stands for this sidecar, which is left out", sidecar.instance.GetId(), at.file, at.line),
				"keep one of the two")
			continue
		}
		inline = append(inline, sidecar)
	}
	b.assignPorts(explicit, inline)
	everything := slices.Concat(explicit, inline)
	for _, p := range everything {
		b.judge(p)
	}
	b.sharedPorts(everything)
}

// attachChecks gives services the checks that stand outside of their
// definitions and name them by service_id.
func (b *builder) attachChecks(services []placed, agents []*agent, all hosts) {
	for _, a := range agents {
		for _, c := range a.checks {
			if c.service.text == "" {
				continue
			}
			h := all.of(a.directory)
			i := slices.IndexFunc(services, func(p placed) bool { return p.host == h && p.instance.GetId() == c.service.text })
			if i < 0 {
				b.refuse(c.service.at, fmt.Sprintf("no service on node %s has the ID %q", h.node.GetName(), c.service.text), "define the service, or correct service_id")
				continue
			}
			s := services[i].instance
			s.Checks = append(s.Checks, c.check)
			sortChecks(s.Checks)
			services[i].places[checkPath(c.check)] = c.at
		}
	}
}

func (p placed) key() isthmusv1.Key {
	s := p.instance
	return isthmusv1.InstanceKey(s.GetPartition(), s.GetNode(), s.GetNamespace(), s.GetId())
}

// judge checks a definition by the rules of its kind and adds it if it obeys.
func (b *builder) judge(p placed) {
	problems := judge(p.places, p.instance.Validate(), p.known)
	b.problems = append(b.problems, problems...)
	if len(problems) == 0 && !p.broken {
		b.add(p.key(), p.instance, p.at(), p.instance.GetId())
	}
}

// expand fills the inline sidecar of a definition from its service.
func (b *builder) expand(d *draft) {
	service, sidecar := d.instance, d.inline.instance
	if service.GetKind() != "" {
		b.refuse(d.inline.at(), fmt.Sprintf("a %s has no sidecar", service.GetKind()), "leave out sidecar_service")
		d.inline.broken = true
	}
	d.inline.broken = d.inline.broken || d.broken
	sidecar.Kind = isthmusv1.InstanceKindProxy
	sidecar.Node = service.GetNode()
	sidecar.Id = service.GetId() + "-sidecar-proxy"
	sidecar.Name = cmp.Or(sidecar.GetName(), service.GetName()+"-sidecar-proxy")
	sidecar.Namespace = cmp.Or(sidecar.GetNamespace(), service.GetNamespace())
	sidecar.Partition = cmp.Or(sidecar.GetPartition(), service.GetPartition())
	sidecar.Address = cmp.Or(sidecar.GetAddress(), service.GetAddress())
	sidecar.Locality = cmp.Or(sidecar.GetLocality(), proto.CloneOf(service.GetLocality()))
	if len(sidecar.Tags) == 0 {
		sidecar.Tags = slices.Clone(service.GetTags())
	}
	if len(sidecar.Meta) == 0 {
		for _, pair := range service.GetMeta() {
			sidecar.Meta = append(sidecar.Meta, proto.CloneOf(pair))
		}
	}
	expandProxy(service, sidecar)
	expandChecks(service, d.inline)
}

func expandProxy(service, sidecar *isthmusv1.ServiceInstance) {
	if sidecar.Proxy == nil {
		sidecar.Proxy = &isthmusv1.Proxy{}
	}
	p := sidecar.Proxy
	p.DestinationServiceName = cmp.Or(p.GetDestinationServiceName(), service.GetName())
	p.DestinationServiceId = cmp.Or(p.GetDestinationServiceId(), service.GetId())
	if p.GetLocalServiceSocketPath() != "" {
		return
	}
	if service.GetSocketPath() != "" && p.GetLocalServiceAddress() == "" && p.GetLocalServicePort() == 0 {
		p.LocalServiceSocketPath = service.GetSocketPath()
		return
	}
	p.LocalServiceAddress = cmp.Or(p.GetLocalServiceAddress(), loopback)
	p.LocalServicePort = cmp.Or(p.GetLocalServicePort(), service.GetPort())
}

// expandChecks gives a sidecar without checks the two of an agent: one for its
// port, passing as nothing is run here, and one that follows its service.
func expandChecks(service *isthmusv1.ServiceInstance, inline *draft) {
	sidecar := inline.instance
	if len(sidecar.Checks) == 0 {
		sidecar.Checks = []*isthmusv1.Check{
			{Name: "Connect Sidecar Listening", Status: isthmusv1.CheckPassing, Type: "tcp"},
			{Name: "Connect Sidecar Aliasing " + service.GetId(), Status: worst(service.GetChecks()), Type: "alias"},
		}
	}
	inline.finishChecks()
}

// assignPorts gives each sidecar without a port the lowest of its node's range
// that no definition of the node has, in the order of files and lines.
func (b *builder) assignPorts(explicit, inline []placed) {
	type taken struct {
		node string
		port uint32
	}
	used := map[taken]bool{}
	for _, p := range slices.Concat(explicit, inline) {
		used[taken{p.instance.GetNode(), p.instance.GetPort()}] = true
	}
	next := map[string]uint32{}
	for _, p := range inline {
		s := p.instance
		if s.GetPort() != 0 || s.GetSocketPath() != "" {
			continue
		}
		port := max(next[s.GetNode()], p.host.sidecarMin)
		for used[taken{s.GetNode(), port}] {
			port++
		}
		next[s.GetNode()] = port + 1
		if port > p.host.sidecarMax {
			b.refuse(p.at(), fmt.Sprintf("no port from %d to %d is free on node %s for the sidecar", p.host.sidecarMin, p.host.sidecarMax, s.GetNode()),
				"give the sidecar a port, or widen ports.sidecar_min_port and sidecar_max_port")
			p.broken = true
			s.Port = p.host.sidecarMax
			continue
		}
		s.Port = port
	}
}

// sharedPorts warns where two definitions of a node listen on one address and
// port: the seed's own example 3 does so.
func (b *builder) sharedPorts(all []placed) {
	first := map[string]placed{}
	for _, p := range all {
		s := p.instance
		if s.GetPort() == 0 {
			continue
		}
		address := net.JoinHostPort(cmp.Or(s.GetAddress(), p.host.node.GetAddress()), strconv.FormatUint(uint64(s.GetPort()), 10))
		key := s.GetNode() + "\x00" + address
		other, shared := first[key]
		if !shared {
			first[key] = p
			continue
		}
		if other.key() == p.key() {
			continue
		}
		at := nearest(p.places, "port")
		b.report(SeverityWarning, at, fmt.Sprintf("%s listens on %s, as %s does in %s:%d", s.GetId(), address, other.instance.GetId(), other.at().file, other.at().line),
			"give one of them another port or address")
	}
}
