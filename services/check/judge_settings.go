package check

import (
	"encoding/json"
	"errors"
	"slices"
	"strings"

	isthmusv1 "github.com/isthmus-mesh/isthmus/proto/isthmus/v1"
	"github.com/isthmus-mesh/isthmus/services/consul"
)

// settings judges what only the agent itself tells.
func (j *judge) settings(a *AgentFacts) {
	dc, subject := a.datacenter(), a.subject()
	if a.Self == nil {
		for _, code := range []Code{GRPC, CentralConfig} {
			j.warn(code, dc, subject, "not judged: %v", a.SelfErr).Fix = ACLAgentRead.fix()
		}
		j.fail(IntentionDefault, dc, subject, "unreadable, so deny is assumed: %v", a.SelfErr)
		return
	}
	j.grpc(a)
	if a.Self.CentralConfig {
		j.pass(CentralConfig, dc, subject, "enable_central_service_config is on")
	} else {
		j.fail(CentralConfig, dc, subject, "enable_central_service_config is off: its proxies do not get what config entries say, modes among it")
	}
	j.pass(IntentionDefault, dc, subject, "%s, where no intention says otherwise", a.Self.DefaultIntentionPolicy)
}

// grpc judges the port that Consul's own xDS needs. Isthmus does not, so a closed
// one only fails where Consul's own Envoys are registered on the agent.
func (j *judge) grpc(a *AgentFacts) {
	dc, subject := a.datacenter(), a.subject()
	if a.Self.GRPCPort > 0 || a.Self.GRPCTLSPort > 0 {
		j.pass(GRPC, dc, subject, "open")
		return
	}
	envoys, sure := j.envoys(a)
	switch {
	case len(envoys) > 0 && sure:
		j.fail(GRPC, dc, subject, "closed, though Consul's own Envoys are registered on it: %s", some(envoys))
	case len(envoys) > 0:
		j.warn(GRPC, dc, subject, "closed; Isthmus does not need it, but these would if Consul's own Envoys run them, which only the log tells (--nats): %s", some(envoys))
	default:
		j.warn(GRPC, dc, subject, "closed; Isthmus does not need it, Envoys that Consul runs would")
	}
}

// envoyCheck names the check that `consul connect envoy -gateway=mesh -register`
// gives a gateway, and `isthmus gateway --register` too.
const envoyCheck = isthmusv1.InstanceKindMeshGateway + " listening"

// envoys are the proxies on the agent's node that may be run by Consul's own Envoys:
// gateways that were registered as its command does, and proxies with an envoy_ key
// in their config. Ours look the same; only the log tells, where none of our nodes
// reports of a proxy. Without it nothing is sure.
func (j *judge) envoys(a *AgentFacts) (names []string, sure bool) {
	ours, sure := j.reported(a.datacenter())
	if a.Catalog == nil {
		return nil, sure
	}
	for _, n := range a.Catalog.Nodes {
		if !strings.EqualFold(n.Node.GetName(), a.Self.NodeName) {
			continue
		}
		for _, i := range n.Instances {
			name := n.Node.GetName() + "/" + i.GetId()
			marked := hasEnvoyKey(i.GetProxy().GetConfigJson()) ||
				slices.ContainsFunc(i.GetChecks(), func(c *isthmusv1.Check) bool { return c.GetName() == envoyCheck })
			if marked && !slices.ContainsFunc(ours, func(our string) bool { return strings.EqualFold(our, name) }) {
				names = append(names, name)
			}
		}
	}
	slices.Sort(names)
	return names, sure
}

// reported are the proxies and gateways of a datacenter that our nodes report of,
// and whether the log was asked.
func (j *judge) reported(dc string) (names []string, asked bool) {
	if j.facts.Bus == nil {
		return nil, false
	}
	for _, d := range j.facts.Bus.Datacenters {
		if !strings.EqualFold(d.Datacenter, dc) || d.ReportsErr != nil || d.Catalog == nil || d.elsewhere() {
			continue
		}
		asked = true
		for _, g := range d.Gateways {
			if g.State != "" {
				names = append(names, g.Name)
			}
		}
		for _, p := range d.Proxies {
			if p.Reporter != "" {
				names = append(names, p.Proxy)
			}
		}
	}
	return names, asked
}

// hasEnvoyKey reports whether a proxy's config is written for Envoy.
func hasEnvoyKey(config []byte) bool {
	for key := range keysOf(config) {
		if strings.HasPrefix(strings.ToLower(key), "envoy_") {
			return true
		}
	}
	return false
}

// keysOf are the keys of a JSON object; what is none has none.
func keysOf(config []byte) map[string]json.RawMessage {
	keys := map[string]json.RawMessage{}
	if len(config) == 0 || json.Unmarshal(config, &keys) != nil {
		return nil
	}
	return keys
}

// ruleCodes are the codes of the rights.
var ruleCodes = map[string]Code{
	consul.RuleNodeRead: ACLNodeRead, consul.RuleServiceRead: ACLServiceRead, consul.RuleIntentionsRead: ACLIntentionsRead,
	consul.RuleAgentRead: ACLAgentRead, consul.RuleMeshRead: ACLMeshRead, consul.RuleServiceWrite: ACLServiceWrite,
}

// rights judges what the token may do.
func (j *judge) rights(a *AgentFacts) {
	dc := a.datacenter()
	switch {
	case consul.UnknownToken(a.SelfErr):
		// Every right is missing for the one reason.
		j.fail(ACLToken, dc, "token", "the datacenter does not know the token (ACL not found): it was deleted, or is a local one of another datacenter")
		return
	case !a.Controlled:
		j.pass(ACLToken, dc, "token", "access control is off: no right is needed")
		for _, service := range j.facts.Services {
			j.pass(ACLServiceWrite, dc, "token: "+consul.RuleServiceWrite+" on "+service, "access control is off")
		}
		return
	case a.Anonymous:
		j.fail(ACLToken, dc, "token", "access control is on, and there is no token: what is hidden cannot be told from what is gone")
	default:
		j.pass(ACLToken, dc, "token", "access control is on, and the datacenter knows the token")
	}
	for _, r := range a.Rights {
		code, subject := ruleCodes[r.Rule], "token: "+r.Rule
		if code == ACLServiceWrite {
			subject += " on " + r.On
		}
		on := r.Rule
		if r.On != "" {
			on += " on " + r.On
		}
		switch {
		case errors.Is(r.Err, consul.ErrConnectDisabled):
			j.warn(code, dc, subject, "not judged: %v", r.Err).Fix = Connect.fix()
		case r.Err != nil:
			j.warn(code, dc, subject, "not judged: %v", r.Err)
		case r.Missing != "" && code == ACLServiceWrite:
			j.fail(code, dc, subject, "%s is missing: %s", on, r.Missing).Fix = strings.ReplaceAll(code.fix(), "NAME", r.On)
		case r.Missing != "":
			j.fail(code, dc, subject, "%s is missing: %s", on, r.Missing)
		default:
			j.pass(code, dc, subject, "the token has %s", on)
		}
	}
}
