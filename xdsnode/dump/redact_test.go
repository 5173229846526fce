package dump_test

import (
	"encoding/json"
	"strings"
	"testing"

	isthmusv1 "github.com/isthmus-mesh/isthmus/proto/isthmus/v1"
	"github.com/isthmus-mesh/isthmus/xdsnode"
	"github.com/isthmus-mesh/isthmus/xdsnode/dump"
)

// A key that somebody wrote into a cluster of their own is served to their Envoy, and is
// in no dump.
func TestNoDumpShowsAKey(t *testing.T) {
	const secret = "nobody is to read this"
	own, err := json.Marshal(map[string]string{"envoy_local_cluster_json": `{"name":"local_app","connect_timeout":"1s","type":"STATIC","transport_socket":{"name":"tls","typed_config":{` +
		`"@type":"type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext","sni":"seen.example","common_tls_context":{"tls_certificates":[` +
		`{"certificate_chain":{"inline_string":"a certificate"},"private_key":{"inline_string":"` + secret + `"}}]}}}}`})
	if err != nil {
		t.Fatal(err)
	}
	m := xdsnode.NewMachine()
	m.Apply(&isthmusv1.Transaction{Stream: "ROUTES_dc1", Incarnation: "i", Sequence: 1, Reset: true, Changes: []isthmusv1.Change{{
		Key: isthmusv1.ProxyKey("", "n1", "", "web"), Value: &isthmusv1.ProxyRoutes{
			Node: "n1", Id: "web", Kind: isthmusv1.InstanceKindProxy, Service: &isthmusv1.ServiceRef{Name: "web"}, Address: "10.0.0.1", Port: 21000, ConfigJson: own,
		},
	}}})
	m.Ready()
	p, err := m.Find("n1", "web")
	if err != nil {
		t.Fatal(err)
	}
	text, err := dump.JSON(p, xdsnode.Types())
	if err != nil {
		t.Fatal(err)
	}
	if got := string(text); strings.Contains(got, secret) || !strings.Contains(got, `"[redacted]"`) || !strings.Contains(got, "seen.example") || !strings.Contains(got, "a certificate") {
		t.Errorf("the dump is\n%s", got)
	}
	if body := string(p.Resource(xdsnode.Cluster, "local_app").Body.GetValue()); !strings.Contains(body, secret) {
		t.Error("the Envoy is not served its key")
	}
}
