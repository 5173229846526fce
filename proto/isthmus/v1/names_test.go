package isthmusv1_test

import (
	"net/url"
	"testing"

	"google.golang.org/protobuf/proto"
	"pgregory.net/rapid"

	isthmusv1 "github.com/isthmus-mesh/isthmus/proto/isthmus/v1"
)

// TestWireNames: the names are Consul's, byte for byte (reference 2.1).
func TestWireNames(t *testing.T) {
	for _, test := range []struct {
		name             string
		service          *isthmusv1.ServiceRef
		subset, dc       string
		sni, gateway, id string
	}{
		{"plain", &isthmusv1.ServiceRef{Name: "api"}, "", "dc2",
			"api.default.dc2.internal.td.consul", "dc2.internal.td.consul",
			"spiffe://td.consul/ns/default/dc/dc2/svc/api"},
		{"subset", &isthmusv1.ServiceRef{Name: "api"}, "v1", "dc2",
			"v1.api.default.dc2.internal.td.consul", "dc2.internal.td.consul",
			"spiffe://td.consul/ns/default/dc/dc2/svc/api"},
		{"registered case", &isthmusv1.ServiceRef{Name: "Api"}, "V1", "DC2",
			"V1.Api.default.dc2.internal.td.consul", "dc2.internal.td.consul",
			"spiffe://td.consul/ns/default/dc/dc2/svc/Api"},
		{"namespace", &isthmusv1.ServiceRef{Name: "api", Namespace: "ns1"}, "", "dc2",
			"api.ns1.dc2.internal.td.consul", "dc2.internal.td.consul",
			"spiffe://td.consul/ns/ns1/dc/dc2/svc/api"},
		{"default partition written out", &isthmusv1.ServiceRef{Name: "api", Partition: "Default", Namespace: "default"}, "", "dc2",
			"api.default.dc2.internal.td.consul", "dc2.internal.td.consul",
			"spiffe://td.consul/ns/default/dc/dc2/svc/api"},
		{"partition", &isthmusv1.ServiceRef{Name: "api", Partition: "p1", Namespace: "ns1"}, "v1", "dc2",
			"v1.api.ns1.p1.dc2.internal-v1.td.consul", "p1.dc2.internal-v1.td.consul",
			"spiffe://td.consul/ap/p1/ns/ns1/dc/dc2/svc/api"},
		{"partition in upper case", &isthmusv1.ServiceRef{Name: "api", Partition: "P1"}, "", "dc2",
			"api.default.p1.dc2.internal-v1.td.consul", "p1.dc2.internal-v1.td.consul",
			"spiffe://td.consul/ap/P1/ns/default/dc/dc2/svc/api"},
		{"escaped as a path", &isthmusv1.ServiceRef{Name: "a;b,c d%*?"}, "", "dc2",
			"a;b,c d%*?.default.dc2.internal.td.consul", "dc2.internal.td.consul",
			"spiffe://td.consul/ns/default/dc/dc2/svc/a;b,c%20d%25%2A%3F"},
	} {
		t.Run(test.name, func(t *testing.T) {
			if got := isthmusv1.SNI(test.service, test.subset, test.dc, "td.consul"); got != test.sni {
				t.Errorf("SNI %s, want %s", got, test.sni)
			}
			if got := isthmusv1.GatewaySNI(test.service.GetPartition(), test.dc, "td.consul"); got != test.gateway {
				t.Errorf("gateway SNI %s, want %s", got, test.gateway)
			}
			if got := isthmusv1.SPIFFEID(test.service, test.dc, "td.consul"); got != test.id {
				t.Errorf("SPIFFE ID %s, want %s", got, test.id)
			}
		})
	}
	if got, want := isthmusv1.QuerySNI("Near", "DC1", "td.consul"), "Near.default.dc1.query.td.consul"; got != want {
		t.Errorf("query SNI %s, want %s", got, want)
	}
}

// TestParseSPIFFEID: only the identity of a service is one.
func TestParseSPIFFEID(t *testing.T) {
	for _, text := range []string{
		"https://td/ns/default/dc/dc1/svc/web", "spiffe:///ns/default/dc/dc1/svc/web",
		"spiffe://td/ns/default/dc/dc1/svc/web?x=1", "spiffe://td/ns/default/dc/dc1/svc/web#x",
		"spiffe://td", "spiffe://td/", "spiffe://td/ns/default/dc/dc1/svc", "spiffe://td/ns/default/dc/dc1/svc/",
		"spiffe://td/ns//dc/dc1/svc/web", "spiffe://td/ns/default/dc//svc/web", "spiffe://td/ns/default/dc/dc1/svc/web/more",
		"spiffe://td/xx/default/dc/dc1/svc/web", "spiffe://td/ns/default/xx/dc1/svc/web", "spiffe://td/ns/default/dc/dc1/xxx/web",
		"spiffe://td/ap//ns/default/dc/dc1/svc/web", "spiffe://td/xx/p1/ns/default/dc/dc1/svc/web",
		"spiffe://td/ap", "spiffe://td/ap/p1", "spiffe://td/ap/p1/ns/default/dc/dc1",
		"spiffe://td/gateway/mesh/dc/dc1", "spiffe://td/agent/server/dc/dc1", "spiffe://td/agent/client/dc/dc1/id/n1",
	} {
		uri, err := url.Parse(text)
		if err != nil {
			t.Fatal(err)
		}
		if got, ok := isthmusv1.ParseSPIFFEID(uri); ok {
			t.Errorf("%s is %+v", text, got)
		}
	}
	if _, ok := isthmusv1.ParseSPIFFEID(nil); ok {
		t.Error("nothing is an identity")
	}
}

// TestSPIFFEIDRoundTrips: whatever the names are, an identity is read as it was
// made. A slash in a name is none that an identity can be read from, as in Consul.
func TestSPIFFEIDRoundTrips(t *testing.T) {
	name := rapid.StringMatching(`[a-zA-Z0-9 ;,%?#._~*:@-]{1,12}`)
	rapid.Check(t, func(t *rapid.T) {
		service := &isthmusv1.ServiceRef{Name: name.Draw(t, "service"), Namespace: name.Draw(t, "namespace")}
		if rapid.Bool().Draw(t, "partitioned") {
			service.Partition = "p" + name.Draw(t, "partition")
		}
		uri, err := url.Parse(isthmusv1.SPIFFEID(service, "dc-1", "td.consul"))
		if err != nil {
			t.Fatal(err)
		}
		got, ok := isthmusv1.ParseSPIFFEID(uri)
		if !ok || got.TrustDomain != "td.consul" || got.Datacenter != "dc-1" || !proto.Equal(got.Service, service) {
			t.Fatalf("%v became %+v, %v", service, got, ok)
		}
	})
}
