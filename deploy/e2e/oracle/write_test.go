package oracle_test

import (
	"bytes"
	"encoding/json"
	"io"
	"maps"
	"net/http"
	"testing"

	"github.com/isthmus-mesh/isthmus/services/consul/devagent"
)

// object is JSON as Consul's API takes it.
type object = map[string]any

// send writes to Consul's API.
func send(t *testing.T, agent *devagent.Agent, method, path string, body any) {
	t.Helper()
	text, err := json.Marshal(body)
	if err != nil {
		t.Fatal(err)
	}
	request, err := http.NewRequestWithContext(t.Context(), method, agent.HTTP+path, bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	response, err := (&http.Client{}).Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	if answer, _ := io.ReadAll(response.Body); response.StatusCode != http.StatusOK {
		t.Fatalf("%s %s of %s: %s: %s", method, path, text, response.Status, answer)
	}
}

// entry writes a config entry to the primary datacenter.
func (w *world) entry(t *testing.T, kind, name string, fields object) {
	t.Helper()
	body := object{"Kind": kind, "Name": name}
	maps.Copy(body, fields)
	send(t, w.dc1, http.MethodPut, "/v1/config", body)
}

// instance is a registration: of an agent, or of a node of the catalog.
type instance struct {
	agent *devagent.Agent
	// node is one without an agent; empty: it is registered with the agent.
	node   string
	id     string
	fields object
	checks []object
}

// register registers an instance.
func (i instance) register(t *testing.T) {
	t.Helper()
	fields := object{"ID": i.id}
	maps.Copy(fields, i.fields)
	if i.node == "" {
		if len(i.checks) > 0 {
			fields["Checks"] = i.checks
		}
		send(t, i.agent, http.MethodPut, "/v1/agent/service/register", fields)
		return
	}
	fields["Service"] = fields["Name"]
	delete(fields, "Name")
	body := object{"Node": i.node, "Address": nodeAddress(i.agent.Datacenter), "SkipNodeUpdate": true, "Service": fields}
	for _, check := range i.checks {
		check["ServiceID"], check["Node"] = i.id, i.node
	}
	if len(i.checks) > 0 {
		body["Checks"] = i.checks
	}
	send(t, i.agent, http.MethodPut, "/v1/catalog/register", body)
}

// deregister ends a registration.
func (i instance) deregister(t *testing.T) {
	t.Helper()
	if i.node == "" {
		send(t, i.agent, http.MethodPut, "/v1/agent/service/deregister/"+i.id, nil)
		return
	}
	send(t, i.agent, http.MethodPut, "/v1/catalog/deregister", object{"Node": i.node, "ServiceID": i.id})
}

// nodeAddress is that of the nodes of a datacenter that have no agent.
func nodeAddress(datacenter string) string {
	if datacenter == "dc1" {
		return "10.1.0.100"
	}
	return "10.2.0.100"
}

// mode is a mesh gateway mode as Consul's API takes it.
func mode(mode string) object { return object{"Mode": mode} }

// sidecar is a proxy without upstreams, which others may reach.
func sidecar(agent *devagent.Agent, node, service, lan, wan string, port int) instance {
	fields := object{
		"Name": service + "-proxy", "Kind": "connect-proxy", "Address": lan, "Port": port,
		"Proxy": object{"DestinationServiceName": service, "LocalServicePort": 8080},
	}
	if wan != "" {
		fields["TaggedAddresses"] = object{"wan": object{"Address": wan, "Port": port + 1000}}
	}
	return instance{agent: agent, node: node, id: service + "-" + lan, fields: fields}
}

// gateway is a mesh gateway.
func gateway(agent *devagent.Agent, node, id, name, lan, wan string) instance {
	return instance{agent: agent, node: node, id: id, fields: object{
		"Name": name, "Kind": "mesh-gateway", "Address": lan, "Port": 8443,
		"TaggedAddresses": object{"lan": object{"Address": lan, "Port": 8443}, "wan": object{"Address": wan, "Port": 443}},
	}}
}
