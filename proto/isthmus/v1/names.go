package isthmusv1

import (
	"cmp"
	"net/url"
	"strings"
)

// SNI is the server name of a service or subset, as Consul puts it on the wire
// (Consul agent/connect/sni.go): [subset.]service.namespace.dc.internal.TD, and
// with a partition other than default
// [subset.]service.namespace.partition.dc.internal-v1.TD. The case of the
// service is kept; datacenters are lower-cased.
func SNI(service *ServiceRef, subset, datacenter, trustDomain string) string {
	ns := cmp.Or(service.GetNamespace(), DefaultName)
	name := service.GetName() + "." + ns
	if subset != "" {
		name = subset + "." + name
	}
	return name + "." + GatewaySNI(service.GetPartition(), datacenter, trustDomain)
}

// GatewaySNI is the name of a datacenter at the gateways of others: the suffix
// of all its services' names, without a leading dot.
func GatewaySNI(partition, datacenter, trustDomain string) string {
	dc := strings.ToLower(datacenter)
	if partition == "" || strings.EqualFold(partition, DefaultName) {
		return dc + ".internal." + trustDomain
	}
	return strings.ToLower(partition) + "." + dc + ".internal-v1." + trustDomain
}

// QuerySNI is the server name of a prepared query.
func QuerySNI(query, datacenter, trustDomain string) string {
	return query + "." + DefaultName + "." + strings.ToLower(datacenter) + ".query." + trustDomain
}

// SPIFFEID is the identity of a service (Consul agent/connect/uri_service.go):
// spiffe://TD[/ap/PARTITION]/ns/NS/dc/DC/svc/SERVICE. The registered case of
// the service is kept. It is escaped as a path is, which leaves a semicolon and a
// comma as they are: peers are held against it byte for byte.
func SPIFFEID(service *ServiceRef, datacenter, trustDomain string) string {
	path := "/ns/" + cmp.Or(service.GetNamespace(), DefaultName) + "/dc/" + strings.ToLower(datacenter) + "/svc/" + service.GetName()
	if p := service.GetPartition(); p != "" && !strings.EqualFold(p, DefaultName) {
		path = "/ap/" + p + path
	}
	return "spiffe://" + trustDomain + (&url.URL{Path: path}).EscapedPath()
}

// ParsedSPIFFEID is the identity of a service, taken apart.
type ParsedSPIFFEID struct {
	TrustDomain string
	Service     *ServiceRef
	Datacenter  string
}

// ParseSPIFFEID takes apart the identity of a service; other identities
// (gateways, agents, servers, the signing CA) are not ok.
func ParseSPIFFEID(uri *url.URL) (ParsedSPIFFEID, bool) {
	if uri == nil || uri.Scheme != "spiffe" || uri.Host == "" || uri.RawQuery != "" || uri.Fragment != "" {
		return ParsedSPIFFEID{}, false
	}
	parts := strings.Split(strings.TrimPrefix(uri.EscapedPath(), "/"), "/")
	ref := &ServiceRef{}
	if len(parts) == 8 && parts[0] == "ap" {
		p, err := url.PathUnescape(parts[1])
		if err != nil || p == "" {
			return ParsedSPIFFEID{}, false
		}
		ref.Partition = p
		parts = parts[2:]
	}
	if len(parts) != 6 || parts[0] != "ns" || parts[2] != "dc" || parts[4] != "svc" {
		return ParsedSPIFFEID{}, false
	}
	var values [3]string
	for i := range values {
		v, err := url.PathUnescape(parts[2*i+1])
		if err != nil || v == "" {
			return ParsedSPIFFEID{}, false
		}
		values[i] = v
	}
	ref.Namespace, ref.Name = values[0], values[2]
	return ParsedSPIFFEID{TrustDomain: uri.Host, Service: ref, Datacenter: values[1]}, true
}
