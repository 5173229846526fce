package oracle_test

import (
	"regexp"
	"slices"
	"strings"

	"github.com/isthmus-mesh/isthmus/xdsnode/client"
)

// ofCluster takes a cluster's name apart: what Consul puts before the target's own
// name when it is one of a failover, and when the source's mode made its chain
// another one.
var ofCluster = regexp.MustCompile(`^(?:failover-target~\d+~)?(?:([0-9a-f]{8})~)?(?:failover-target~\d+~)?`)

// hashes are the beginnings of the names of clusters, by the mode that alone made
// the chain another one.
var hashes = map[string]string{"fc9afadf": "none", "c225dc1c": "local", "dd412229": "remote"}

// gateways are the addresses at which sidecars of dc1 find the mesh gateways of
// both datacenters.
type gateways struct{ near, far []string }

// path says by which way endpoints are reached. Addresses are of one kind only, as
// they come from one list.
func (g gateways) path(endpoints []client.Endpoint) string {
	if len(endpoints) == 0 {
		return ""
	}
	kinds := map[string]bool{}
	for _, e := range endpoints {
		switch {
		case slices.Contains(g.near, e.Address):
			kinds[localGateway] = true
		case slices.Contains(g.far, e.Address):
			kinds[remoteGateway] = true
		default:
			kinds[direct] = true
		}
	}
	for _, path := range []string{direct, localGateway, remoteGateway} {
		if len(kinds) == 1 && kinds[path] {
			return path
		}
	}
	return "mixed"
}

// their is Consul's view of a proxy.
func (g gateways) their(s *client.Snapshot) view {
	members := map[string]bool{}
	for _, c := range s.Clusters {
		for _, m := range c.Members {
			members[m] = true
		}
	}
	var v view
	for name, c := range s.Clusters {
		switch {
		case name == "local_app" || members[name]:
		case len(c.Members) > 0:
			var place []target
			for _, m := range c.Members {
				place = append(place, g.target(s, m))
			}
			v = append(v, place)
		default:
			v = append(v, []target{g.target(s, name)})
		}
	}
	return v.sort()
}

func (g gateways) target(s *client.Snapshot, name string) target {
	c := s.Clusters[name]
	out := target{SNI: c.SNI, SANs: slices.Clone(c.SANs), Timeout: c.ConnectTimeout}
	out.Mode = hashes[ofCluster.FindStringSubmatch(name)[1]]
	endpoints, ok := s.EndpointsOf(name)
	out.Unassigned = !ok
	for _, e := range endpoints {
		out.Endpoints = append(out.Endpoints, theirs(e))
	}
	out.Path = g.path(endpoints)
	return out
}

func theirs(e client.Endpoint) string {
	return endpoint(e.Address, e.Port, e.Health == "HEALTHY", e.Weight)
}

// theirNames are the names that a mesh gateway of Consul leads on, and what to.
func theirNames(s *client.Snapshot) names {
	out := names{}
	for _, l := range s.Listeners {
		for _, chain := range l.Chains {
			for _, server := range chain.ServerNames {
				for _, cluster := range chain.Targets {
					out[server] = leading(s, cluster)
				}
			}
		}
	}
	for name := range s.Clusters {
		if strings.Contains(name, ".default.") { // The others are datacenters', and stand in chains.
			out[name] = leading(s, name)
		}
	}
	return out
}

func leading(s *client.Snapshot, cluster string) lead {
	out := lead{Timeout: s.Clusters[cluster].ConnectTimeout}
	endpoints, _ := s.EndpointsOf(cluster)
	for _, e := range endpoints {
		out.Endpoints = append(out.Endpoints, theirs(e))
	}
	slices.Sort(out.Endpoints)
	return out
}
