package definition

import (
	"cmp"
	"fmt"
	"slices"

	isthmusv1 "github.com/isthmus-mesh/isthmus/proto/isthmus/v1"
)

// draft is a service definition before the whole directory is known: its node,
// and a sidecar's port, come from there.
type draft struct {
	instance *isthmusv1.ServiceInstance
	// places by path; "" is the definition itself.
	places map[string]spot
	// checks are the places of the checks, which get their IDs at the end.
	checks map[*isthmusv1.Check]spot
	// inline is the definition in connect.sidecar_service, or nil.
	inline *draft
	// known are the problems found so far; broken: an error is among them, so
	// that the definition does not come out.
	known  []Problem
	broken bool
}

// at is where the definition stands.
func (d *draft) at() spot { return d.places[""] }

// service decodes one service definition.
func (d *decoder) service(c cursor) *draft {
	before, errors := len(d.problems), d.errors
	c = d.fresh(c)
	out := &draft{instance: &isthmusv1.ServiceInstance{}, places: d.places, checks: map[*isthmusv1.Check]spot{}}
	fields := d.instance(out)
	fields["id"] = d.text(&out.instance.Id)
	fields["connect"] = d.nested(schema{
		"native": d.flag(&out.instance.ConnectNative),
		"sidecar_service": func(c cursor) {
			if c.kind == nullNode {
				d.warn(c, "sidecar_service is null, so there is no sidecar", "write {} for a sidecar with defaults")
				return
			}
			out.inline = d.sidecar(c)
		},
	})
	d.object(c, fields)
	if name, named := d.places["name"]; named && out.instance.Id == "" {
		out.instance.Id, d.places["id"] = out.instance.Name, name
	}
	out.finishChecks()
	out.known, out.broken = slices.Clone(d.problems[before:]), d.errors > errors
	return out
}

// sidecar decodes connect.sidecar_service: a service definition whose ID,
// nesting and kind are not free.
func (d *decoder) sidecar(c cursor) *draft {
	c, ok := d.unwrap(c)
	if !ok {
		// An empty list is how YAML made from HCL writes an empty block.
		c.node = &node{kind: objectNode, line: c.line, column: 1}
	}
	outer := d.places
	defer func() { d.places = outer }()
	before, errors := len(d.problems), d.errors
	c = d.fresh(c)
	out := &draft{instance: &isthmusv1.ServiceInstance{}, places: d.places, checks: map[*isthmusv1.Check]spot{}}
	fields := d.instance(out)
	fields["id"] = func(c cursor) {
		d.refuse(c, "a sidecar's ID is that of its service with -sidecar-proxy", "leave out id")
	}
	fields["connect"] = func(c cursor) {
		d.refuse(c, "a sidecar has no sidecar and is not Connect-native", "leave out connect")
	}
	d.object(c, fields)
	if k := out.instance.Kind; k != "" && k != isthmusv1.InstanceKindProxy {
		at := nearest(d.places, "kind")
		d.report(SeverityError, at.line, at.key, fmt.Sprintf("a sidecar is a connect-proxy, not a %s", k), "leave out kind")
	}
	out.known, out.broken = slices.Clone(d.problems[before:]), d.errors > errors
	return out
}

// instance are the keys that every service definition has.
func (d *decoder) instance(out *draft) schema {
	s := out.instance
	checks := func(c cursor) {
		d.checks(c, func(check *isthmusv1.Check, at spot, _ said) {
			s.Checks = append(s.Checks, check)
			out.checks[check] = at
		})
	}
	return schema{
		"name": d.text(&s.Name), "namespace": d.text(&s.Namespace), "partition": d.text(&s.Partition),
		"kind": d.instanceKind(s), "address": d.text(&s.Address), "port": d.port(&s.Port),
		"socket_path": d.text(&s.SocketPath), "tagged_addresses": d.taggedAddresses(&s.TaggedAddresses),
		"tags": d.tags(&s.Tags), "meta": d.pairs(&s.Meta), "weights": d.weights(&s.Weights),
		"check": checks, "checks": checks, "proxy": whole(d, &s.Proxy, d.proxy(s)),
		"locality": part(d, &s.Locality, d.locality), "enable_tag_override": d.flag(&s.EnableTagOverride),
		// A secret of the agent's: it must not leave its machine.
		"token": accepted,
	}
}

func (d *decoder) instanceKind(s *isthmusv1.ServiceInstance) func(cursor) {
	return func(c cursor) {
		d.text(&s.Kind)(c)
		if s.Kind == "typical" {
			s.Kind = ""
		}
		switch s.Kind {
		case isthmusv1.InstanceKindIngressGateway, isthmusv1.InstanceKindTerminatingGateway, isthmusv1.InstanceKindAPIGateway:
			d.unsupported(s, c, fmt.Sprintf("a service of kind %s is not supported", s.Kind), "use Consul's own gateway for it")
		}
	}
}

// unsupported states, in the value and as a warning, what is kept and not
// served.
func (d *decoder) unsupported(s *isthmusv1.ServiceInstance, c cursor, problem, fix string) {
	d.warn(c, problem, fix)
	if !slices.Contains(s.Unsupported, problem) {
		s.Unsupported = append(s.Unsupported, problem)
		slices.Sort(s.Unsupported)
	}
}

func (d *decoder) tags(dst *[]string) func(cursor) {
	return func(c cursor) {
		d.texts(dst)(c)
		slices.Sort(*dst)
		*dst = slices.Compact(*dst)
	}
}

func (d *decoder) taggedAddresses(dst *[]*isthmusv1.TaggedAddress) func(cursor) {
	return func(c cursor) {
		d.named(func(tag string, c cursor) {
			t := &isthmusv1.TaggedAddress{Tag: tag}
			d.nested(schema{"address": d.text(&t.Address), "port": d.port(&t.Port)})(c)
			*dst = append(*dst, t)
		})(c)
		slices.SortFunc(*dst, func(a, b *isthmusv1.TaggedAddress) int { return cmp.Compare(a.GetTag(), b.GetTag()) })
	}
}

// weights reads weights; a missing one is 1.
func (d *decoder) weights(dst **isthmusv1.Weights) func(cursor) {
	weight := func(value *uint32, low int64) func(cursor) {
		return func(c cursor) {
			if n, ok := d.integer(c, low, 65535, "weight"); ok {
				*value = uint32(n)
			}
		}
	}
	return func(c cursor) {
		w := &isthmusv1.Weights{Passing: 1, Warning: 1}
		d.nested(schema{"passing": weight(&w.Passing, 1), "warning": weight(&w.Warning, 0)})(c)
		*dst = w
	}
}

func (d *decoder) locality(l *isthmusv1.Locality) schema {
	return schema{"region": d.text(&l.Region), "zone": d.text(&l.Zone)}
}

func (d *decoder) proxy(s *isthmusv1.ServiceInstance) func(*isthmusv1.Proxy) schema {
	return func(p *isthmusv1.Proxy) schema {
		return schema{
			"destination_service_name":  d.text(&p.DestinationServiceName),
			"destination_service_id":    d.text(&p.DestinationServiceId),
			"local_service_address":     d.text(&p.LocalServiceAddress),
			"local_service_port":        d.port(&p.LocalServicePort),
			"local_service_socket_path": d.text(&p.LocalServiceSocketPath),
			"mode": func(c cursor) {
				d.text(&p.Mode)(c)
				if p.Mode == "transparent" {
					d.unsupported(s, c, "transparent proxy mode is not supported", "define the upstreams of the proxy")
				}
			},
			"config":            d.opaqueObject(&p.ConfigJson),
			"upstreams":         list(d, &p.Upstreams, d.upstream(s)),
			"mesh_gateway":      part(d, &p.MeshGateway, d.meshGateway),
			"expose":            part(d, &p.Expose, d.expose),
			"transparent_proxy": part(d, &p.TransparentProxy, d.transparentProxy),
			"access_logs":       part(d, &p.AccessLogs, d.accessLogs),
			"envoy_extensions":  d.shaped(&p.EnvoyExtensionsJson, envoyExtensionsShape),
			"mutual_tls_mode":   d.text(&p.MutualTlsMode),
		}
	}
}

func (d *decoder) upstream(s *isthmusv1.ServiceInstance) func(*isthmusv1.Upstream) schema {
	return func(u *isthmusv1.Upstream) schema {
		return schema{
			"destination_type":       d.text(&u.DestinationType),
			"destination_name":       d.text(&u.DestinationName),
			"destination_namespace":  d.text(&u.DestinationNamespace),
			"destination_partition":  d.text(&u.DestinationPartition),
			"datacenter":             d.text(&u.Datacenter),
			"local_bind_address":     d.text(&u.LocalBindAddress),
			"local_bind_port":        d.port(&u.LocalBindPort),
			"local_bind_socket_path": d.text(&u.LocalBindSocketPath),
			"local_bind_socket_mode": d.text(&u.LocalBindSocketMode),
			"config":                 d.opaqueObject(&u.ConfigJson),
			"mesh_gateway":           part(d, &u.MeshGateway, d.meshGateway),
			"destination_peer": func(c cursor) {
				d.text(&u.DestinationPeer)(c)
				if u.DestinationPeer != "" {
					d.unsupported(s, c, "cluster peering is not supported", "name a datacenter instead")
				}
			},
		}
	}
}
