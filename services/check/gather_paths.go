package check

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	isthmusv1 "github.com/isthmus-mesh/isthmus/proto/isthmus/v1"
)

const (
	// atOnce is how many paths are tried side by side.
	atOnce = 32
	// mostServices is how many proxies of a datacenter are tried, each service once
	// before any is tried again.
	mostServices = 256
)

// mostNames is how many services are asked for by name before a gateway is said not
// to pass names on: what is behind it may be at fault.
const mostNames = 3

// path is one path to try.
type path struct {
	PathFacts
	// others are like it with other names.
	others []path
	// spiffe is who should answer.
	spiffe string
	roots  *x509.CertPool
}

// tryPaths tries the network paths that this machine may use: to every mesh
// gateway, and to the proxies of the datacenters that it is in.
func tryPaths(ctx context.Context, f *Facts, o Options) []PathFacts {
	j := f.judge()
	domains, _ := j.domains()
	homes := f.homes()
	var paths []path
	for _, c := range j.catalogs() {
		paths = append(paths, pathsOf(c, domains[c.dc], homes)...)
	}
	out := make([]PathFacts, len(paths))
	tokens := make(chan struct{}, atOnce)
	var group sync.WaitGroup
	for i, p := range paths {
		tokens <- struct{}{}
		group.Go(func() {
			defer func() { <-tokens }()
			began := time.Now()
			out[i] = p.PathFacts
			out[i].Outcome, out[i].Err = try(ctx, p, o)
			for _, other := range p.others {
				if out[i].Outcome != NotPassed {
					break
				}
				began, p.SNI, p.Service, p.spiffe = time.Now(), other.SNI, other.Service, other.spiffe
				if outcome, err := try(ctx, p, o); outcome == Reached {
					out[i].Outcome, out[i].Err, out[i].SNI, out[i].Service = outcome, err, p.SNI, p.Service
				}
			}
			out[i].Took = time.Since(began)
		})
	}
	group.Wait()
	return out
}

// pathsOf are the paths to a datacenter.
func pathsOf(c seen, trustDomain string, homes []string) []path {
	if c.facts.Err != nil {
		return nil
	}
	roots := pool(c.facts)
	proxies := proxiesOf(c, trustDomain, roots)
	var paths []path
	for _, n := range c.facts.Nodes {
		for _, i := range n.Instances {
			if i.GetKind() != isthmusv1.InstanceKindMeshGateway {
				continue
			}
			p := path{PathFacts: PathFacts{Gateway: true, Datacenter: c.dc, Name: n.Node.GetName() + "/" + i.GetId(), WAN: true}, roots: roots}
			// Any service that is healthy will do.
			if len(proxies) > 0 {
				p.SNI, p.Service, p.spiffe = proxies[0].SNI, proxies[0].Service, proxies[0].spiffe
				p.others = proxies[1:min(len(proxies), mostNames)]
			}
			p.Address = hostPort(isthmusv1.WANAddress(n.Node, i))
			paths = append(paths, p)
			// A machine of this datacenter alone uses the LAN address.
			if slices.Equal(homes, []string{c.dc}) {
				p.WAN, p.Address = false, hostPort(isthmusv1.LANAddress(n.Node, i))
				paths = append(paths, p)
			}
		}
	}
	if !slices.Contains(homes, c.dc) {
		return paths
	}
	if len(proxies) > mostServices {
		proxies[mostServices-1].Skipped = len(proxies) - mostServices
		proxies = proxies[:mostServices]
	}
	return append(paths, proxies...)
}

// proxiesOf are the paths to the healthy proxies of a datacenter, and to instances
// that are in the mesh by themselves: each service's first one, then their second,
// and so on.
func proxiesOf(c seen, trustDomain string, roots *x509.CertPool) []path {
	type ranked struct {
		path
		rank int
	}
	var list []ranked
	counts := map[string]int{}
	for _, n := range c.facts.Nodes {
		for _, i := range n.Instances {
			name := i.GetProxy().GetDestinationServiceName()
			if i.GetKind() != isthmusv1.InstanceKindProxy {
				if !i.GetConnectNative() {
					continue
				}
				name = i.GetName()
			}
			health, _ := isthmusv1.InstanceHealth(n.Node, i, false)
			if health != isthmusv1.Health_HEALTH_HEALTHY || i.GetSocketPath() != "" {
				continue
			}
			service := &isthmusv1.ServiceRef{Name: name, Namespace: i.GetNamespace(), Partition: i.GetPartition()}
			p := path{
				PathFacts: PathFacts{
					Datacenter: c.dc, Name: n.Node.GetName() + "/" + i.GetId(), Service: name,
					Address: hostPort(isthmusv1.LANAddress(n.Node, i)),
				},
				roots: roots,
			}
			// Without a trust domain there is no name to ask for, nor anybody to expect.
			if trustDomain != "" {
				p.SNI, p.spiffe = isthmusv1.SNI(service, "", c.dc, trustDomain), isthmusv1.SPIFFEID(service, c.dc, trustDomain)
			}
			list = append(list, ranked{p, counts[strings.ToLower(name)]})
			counts[strings.ToLower(name)]++
		}
	}
	slices.SortStableFunc(list, func(a, b ranked) int {
		return cmp.Or(cmp.Compare(a.rank, b.rank), cmp.Compare(a.Service, b.Service), cmp.Compare(a.Name, b.Name))
	})
	out := make([]path, len(list))
	for i, r := range list {
		out[i] = r.path
	}
	return out
}

// pool are the datacenter's roots and intermediates; nil when they are not known.
func pool(f *CatalogFacts) *x509.CertPool {
	if f.Roots == nil {
		return nil
	}
	roots := x509.NewCertPool()
	for _, r := range f.Roots.GetRoots() {
		roots.AppendCertsFromPEM([]byte(r.GetRootCertPem()))
	}
	return roots
}

func hostPort(host string, port uint32) string {
	return net.JoinHostPort(host, strconv.FormatUint(uint64(port), 10))
}

// What ends a handshake on purpose.
var (
	errProven   = errors.New("the other side asked for a certificate")
	errImpostor = errors.New("another service answered")
)

// try tries one path. The handshake is broken off when the other side, having
// proved who it is, asks for a certificate: the name was passed on.
func try(ctx context.Context, p path, o Options) (Outcome, error) {
	ctx, cancel := context.WithTimeout(ctx, o.PathTimeout)
	defer cancel()
	connection, err := o.Dial(ctx, "tcp", p.Address)
	if err != nil {
		return NotConnected, err
	}
	defer connection.Close()
	if p.SNI == "" {
		return Connected, nil
	}
	config := &tls.Config{
		ServerName: p.SNI,
		MinVersion: tls.VersionTLS12,
		// A leaf of the mesh names no host: peer looks at what it does name.
		InsecureSkipVerify:   true,
		VerifyConnection:     p.peer,
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return nil, errProven },
	}
	err = tls.Client(connection, config).HandshakeContext(ctx)
	switch {
	case errors.Is(err, errProven):
		return Reached, nil
	case errors.Is(err, errImpostor):
		return Impostor, err
	case err == nil:
		return NotMesh, nil
	}
	return NotPassed, err
}

// peer checks who answers.
func (p path) peer(state tls.ConnectionState) error {
	leaf := state.PeerCertificates[0]
	var said []string
	for _, uri := range leaf.URIs {
		said = append(said, uri.String())
	}
	// Certificates keep the case of the registered name.
	if !slices.ContainsFunc(said, func(s string) bool { return strings.EqualFold(s, p.spiffe) }) {
		return fmt.Errorf("%w: %s, not %s", errImpostor, cmp.Or(strings.Join(said, ", "), leaf.Subject.String(), "one without a name"), p.spiffe)
	}
	if p.roots == nil {
		return nil
	}
	intermediates := x509.NewCertPool()
	for _, c := range state.PeerCertificates[1:] {
		intermediates.AddCert(c)
	}
	_, err := leaf.Verify(x509.VerifyOptions{Roots: p.roots, Intermediates: intermediates, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}})
	if err != nil {
		return fmt.Errorf("%w: %s, whose certificate is not good: %w", errImpostor, p.spiffe, err)
	}
	return nil
}
