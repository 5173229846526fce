package resolver_test

import (
	"cmp"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/txtar"
	"google.golang.org/protobuf/encoding/prototext"
	"google.golang.org/protobuf/proto"

	isthmusv1 "github.com/isthmus-mesh/isthmus/proto/isthmus/v1"
	"github.com/isthmus-mesh/isthmus/services/resolver"
)

const trustDomain = "td.consul"

// world is catalogs by datacenter, written tersely. A catalog is a list of
// statements, each a line, with a body in braces where there is more to say:
//
//	sidecar NAME HOST:PORT [option…]  a connect-proxy of NAME
//	native NAME HOST:PORT [option…]   a connect-native instance
//	gateway HOST:PORT [option…]       a mesh gateway
//	node NAME HOST [option…]
//	config KIND NAME                  the body is the entry's message
//	query NAME                        the body is a PreparedQuery
//	facts                             the body is a MeshFacts
//
// Bodies are prototext, merged into the message. Options are id=, node=, wan=,
// ns=, partition=, tag=, meta.KEY=, weight=PASSING/WARNING, warning and
// critical. Mesh facts with all datacenters and the policy allow are there
// without being written.
type world map[string]string

// catalog gives the changes of one datacenter, in the order of the text.
func (w world) catalog(t testing.TB, dc string) []isthmusv1.Change {
	t.Helper()
	p := &parser{t: t, dc: dc, facts: &isthmusv1.MeshFacts{
		Datacenter: dc, TrustDomain: trustDomain, DefaultIntentionPolicy: "allow", PrimaryDatacenter: "dc1",
		CentralConfig: true,
	}}
	for name := range w {
		p.facts.KnownDatacenters = append(p.facts.KnownDatacenters, name)
	}
	slices.Sort(p.facts.KnownDatacenters)
	p.parse(w[dc])
	p.add(isthmusv1.MeshFactsKey(), p.facts, 0)
	return p.changes
}

// transaction is one datacenter's catalog as a reset.
func (w world) transaction(t testing.TB, dc string) *isthmusv1.Transaction {
	t.Helper()
	changes := w.catalog(t, dc)
	return &isthmusv1.Transaction{
		Stream:      isthmusv1.StreamName(isthmusv1.ClassCatalog, dc),
		Incarnation: "first", Sequence: uint64(len(changes)), Reset: true, Changes: changes,
	}
}

// machine is dc1's, with all catalogs applied.
func (w world) machine(t testing.TB) *resolver.Machine {
	t.Helper()
	m := resolver.New("dc1")
	for _, dc := range slices.Sorted(keys(w)) {
		m.Apply(w.transaction(t, dc))
	}
	return m
}

func keys(w world) func(func(string) bool) {
	return func(yield func(string) bool) {
		for k := range w {
			if !yield(k) {
				return
			}
		}
	}
}

type parser struct {
	t       testing.TB
	dc      string
	facts   *isthmusv1.MeshFacts
	changes []isthmusv1.Change
}

func (p *parser) add(key isthmusv1.Key, m proto.Message, line int) {
	sequence := uint64(len(p.changes) + 1)
	p.changes = append(p.changes, isthmusv1.Change{
		Key: key, Value: m, Sequence: sequence,
		Origin: isthmusv1.Cause{Incarnation: "first", Sequence: sequence},
		Source: &isthmusv1.Source{File: p.dc + ".txt", Line: uint32(line)},
	})
}

func (p *parser) parse(text string) {
	p.t.Helper()
	lines := strings.Split(text, "\n")
	for i := 0; i < len(lines); i++ {
		line := strings.TrimSpace(lines[i])
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		at, body := i+1, ""
		if head, ok := strings.CutSuffix(line, "{"); ok {
			line = head
			for i++; i < len(lines) && strings.TrimRight(lines[i], " ") != "}"; i++ {
				body += lines[i] + "\n"
			}
		} else if head, rest, ok := strings.Cut(line, "{"); ok {
			line, body = head, strings.TrimSuffix(strings.TrimSpace(rest), "}")
		}
		p.statement(strings.Fields(line), body, at)
	}
}

func (p *parser) statement(words []string, body string, line int) {
	p.t.Helper()
	switch words[0] {
	case "sidecar", "native":
		p.instance(words[0], words[1], words[2], words[3:], body, line)
	case "gateway":
		p.instance(words[0], "mesh-gateway", words[1], words[2:], body, line)
	case "node":
		n := &isthmusv1.Node{Name: words[1], Address: words[2]}
		p.into(body, n)
		p.add(isthmusv1.NodeKey(n.GetPartition(), n.GetName()), n, line)
	case "config":
		p.config(words[1], words[2], words[3:], body, line)
	case "query":
		q := &isthmusv1.PreparedQuery{Name: words[1]}
		p.into(body, q)
		p.add(isthmusv1.PreparedQueryKey(q.GetName()), q, line)
	case "facts":
		p.into(body, p.facts)
	default:
		p.t.Fatalf("%s line %d: what is %q?", p.dc, line, words[0])
	}
}

func (p *parser) into(body string, m proto.Message) {
	p.t.Helper()
	other := m.ProtoReflect().New().Interface()
	if err := prototext.Unmarshal([]byte(body), other); err != nil {
		p.t.Fatalf("%s: %v in\n%s", p.dc, err, body)
	}
	proto.Merge(m, other)
}

func (p *parser) instance(kind, name, address string, options []string, body string, line int) {
	p.t.Helper()
	m := &isthmusv1.ServiceInstance{Node: p.dc + "-node", Name: name, Id: name}
	m.Address, m.Port = p.hostPort(address)
	switch kind {
	case "sidecar":
		m.Kind = isthmusv1.InstanceKindProxy
		m.Name, m.Id = name+"-sidecar-proxy", name+"-sidecar-proxy"
		m.Proxy = &isthmusv1.Proxy{DestinationServiceName: name}
	case "native":
		m.ConnectNative = true
	case "gateway":
		m.Kind = isthmusv1.InstanceKindMeshGateway
	}
	for _, o := range options {
		p.option(m, o)
	}
	p.into(body, m)
	p.add(isthmusv1.InstanceKey(m.GetPartition(), m.GetNode(), m.GetNamespace(), m.GetId()), m, line)
}

func (p *parser) hostPort(text string) (string, uint32) {
	p.t.Helper()
	host, port, err := net.SplitHostPort(text)
	if err != nil {
		p.t.Fatalf("%s: %v", p.dc, err)
	}
	n, err := strconv.ParseUint(port, 10, 32)
	if err != nil {
		p.t.Fatalf("%s: %v", p.dc, err)
	}
	return host, uint32(n)
}

func (p *parser) option(m *isthmusv1.ServiceInstance, option string) {
	p.t.Helper()
	name, text, _ := strings.Cut(option, "=")
	switch {
	case name == "id":
		m.Id = text
	case name == "node":
		m.Node = text
	case name == "ns":
		m.Namespace = text
	case name == "partition":
		m.Partition = text
	case name == "tag":
		m.Tags = append(m.Tags, text)
	case name == "wan":
		host, port := p.hostPort(text)
		m.TaggedAddresses = append(m.TaggedAddresses, &isthmusv1.TaggedAddress{Tag: "wan", Address: host, Port: port})
	case name == "warning" || name == "critical":
		m.Checks = append(m.Checks, &isthmusv1.Check{CheckId: "check:" + m.GetId(), Status: name})
	case name == "weight":
		m.Weights = &isthmusv1.Weights{}
		if _, err := fmt.Sscanf(text, "%d/%d", &m.Weights.Passing, &m.Weights.Warning); err != nil {
			p.t.Fatalf("%s: weight %q: %v", p.dc, text, err)
		}
	case strings.HasPrefix(name, "meta."):
		m.Meta = append(m.Meta, &isthmusv1.KeyValue{Key: strings.TrimPrefix(name, "meta."), Value: text})
	default:
		p.t.Fatalf("%s: what is the option %q?", p.dc, option)
	}
}

func (p *parser) config(kind, name string, options []string, body string, line int) {
	p.t.Helper()
	e := &isthmusv1.ConfigEntry{Kind: kind, Name: name}
	for _, o := range options {
		key, text, _ := strings.Cut(o, "=")
		switch key {
		case "ns":
			e.Namespace = text
		case "partition":
			e.Partition = text
		default:
			p.t.Fatalf("%s: what is the option %q?", p.dc, o)
		}
	}
	field := strings.ReplaceAll(kind, "-", "_")
	p.into(field+" {\n"+body+"\n}", e)
	p.add(isthmusv1.ConfigKey(kind, e.GetPartition(), e.GetNamespace(), name), e, line)
}

// readWorld reads the files of an archive that are catalogs: those named dc….
func readWorld(a *txtar.Archive) world {
	w := world{}
	for _, f := range a.Files {
		if strings.HasPrefix(f.Name, "dc") {
			w[f.Name] = string(f.Data)
		}
	}
	return w
}

// routesText shows routes for people: every output, in the order of emission.
func routesText(m *resolver.Machine) string {
	var b strings.Builder
	for key, value := range m.All() {
		switch v := value.(type) {
		case *isthmusv1.EndpointSet:
			fmt.Fprintf(&b, "%v %s\n", key, word(v.GetAvailability().String()))
			for _, e := range v.GetEndpoints() {
				fmt.Fprintf(&b, "  %s weight %d %s %s/%s\n", net.JoinHostPort(e.GetAddress(), fmt.Sprint(e.GetPort())),
					e.GetWeight(), word(e.GetHealth().String()), e.GetNode(), e.GetInstanceId())
			}
		case *isthmusv1.Inbound:
			inboundText(&b, key, v)
		case *isthmusv1.RouteSet:
			fmt.Fprintf(&b, "%s/%s\n", key.Kind, v.GetService().Qualified())
			for _, r := range v.GetRoutes() {
				routeText(&b, r)
			}
		case *isthmusv1.ProxyRoutes:
			fmt.Fprintf(&b, "%v %s %s at %s:%d as %s\n", key, v.GetKind(), v.GetService().GetName(), v.GetAddress(), v.GetPort(), v.GetSpiffeId())
			for _, bind := range v.GetBinds() {
				fmt.Fprintf(&b, "  %s:%d%s → %s\n", bind.GetAddress(), bind.GetPort(), bind.GetSocketPath(), bind.GetRoute())
			}
			gatewayText(&b, v.GetGateway())
			problemsText(&b, "  ", v.GetProblems())
		case *isthmusv1.NameRoute:
			fmt.Fprintf(&b, "%v %s → %v\n", key, v.GetSni(), v.GetEndpoints().ID().Key(0))
			problemsText(&b, "  ", v.GetProblems())
		case *isthmusv1.WildcardRoute:
			fmt.Fprintf(&b, "%v *%s → %v\n", key, v.GetSuffix(), v.GetEndpoints().ID().Key(0))
			problemsText(&b, "  ", v.GetProblems())
		case *isthmusv1.MeshRoutes:
			fmt.Fprintf(&b, "mesh %s %s, knows %s\n", v.GetDatacenter(), v.GetTrustDomain(), strings.Join(v.GetKnownDatacenters(), " "))
		default:
			fmt.Fprintf(&b, "%v %T\n", key, value)
		}
	}
	return b.String()
}

// word is the last word of a name of an enumeration, lower-cased.
func word(name string) string {
	return strings.ToLower(name[strings.LastIndex(name, "_")+1:])
}

func inboundText(b *strings.Builder, key isthmusv1.Key, in *isthmusv1.Inbound) {
	fmt.Fprintf(b, "%v %s of %s, default %s\n", key, in.GetProtocol(), in.GetTrustDomain(), in.GetDefaultAction())
	for _, i := range in.GetIntentions() {
		action := i.GetAction()
		for _, p := range i.GetPermissions() {
			action += fmt.Sprintf(" %s %s%s%s", p.GetAction(), p.GetPathExact(), p.GetPathPrefix(), p.GetPathRegex())
		}
		if len(i.GetJwtJson()) > 0 {
			action += " with tokens"
		}
		peer := ""
		if i.GetPeer() != "" {
			peer = " of peer " + i.GetPeer()
		}
		fmt.Fprintf(b, "  %d %s%s %s (%s)\n", i.GetPrecedence(), i.GetSource().Qualified(), peer, strings.TrimSpace(action), i.GetKey())
	}
	problemsText(b, "  ", in.GetProblems())
}

func routeText(b *strings.Builder, r *isthmusv1.Route) {
	shaped := ""
	if r.GetChain().GetIsDefault() {
		shaped = " (default chain)"
	}
	fmt.Fprintf(b, "  route %s %s from %s%s\n", r.GetId(), r.GetProtocol(), r.GetChain().GetStart(), shaped)
	problemsText(b, "    ", r.GetProblems())
	for _, n := range r.GetChain().GetNodes() {
		nodeText(b, n)
	}
	for _, t := range r.GetTargets() {
		targetText(b, t)
	}
}

func nodeText(b *strings.Builder, n *isthmusv1.ChainNode) {
	fmt.Fprintf(b, "    %s\n", n.GetName())
	for _, r := range n.GetRouter().GetRoutes() {
		fmt.Fprintf(b, "      %s → %s\n", matchText(r.GetMatch()), r.GetNext())
	}
	for _, s := range n.GetSplitter().GetSplits() {
		fmt.Fprintf(b, "      %d.%02d %% → %s\n", s.GetWeight()/100, s.GetWeight()%100, s.GetNext())
		for _, p := range s.GetRequestHeaders().GetSet() {
			fmt.Fprintf(b, "        set %s: %s\n", p.GetName(), p.GetValue())
		}
	}
	if r := n.GetResolver(); r != nil {
		fmt.Fprintf(b, "      → %s within %v%s\n", r.GetTarget(), r.GetConnectTimeout().AsDuration(), balancer(r))
		for _, f := range r.GetFailover() {
			fmt.Fprintf(b, "      else %s\n", f)
		}
	}
}

func balancer(r *isthmusv1.ChainResolver) string {
	if len(r.GetLoadBalancerJson()) == 0 {
		return ""
	}
	return " by " + string(r.GetLoadBalancerJson())
}

func matchText(m *isthmusv1.ServiceRouteMatch) string {
	return cmp.Or(strings.TrimSpace(m.GetPathExact()+" "+m.GetPathPrefix()+" "+m.GetPathRegex()), "all")
}

func targetText(b *strings.Builder, t *isthmusv1.Target) {
	fmt.Fprintf(b, "    target %s\n      %s, mode %s by %s\n", t.GetId(), t.GetPath().Name(), t.GetDecision().GetMode(),
		levelText(t.GetDecision().GetWinner()))
	for _, h := range t.GetDecision().GetHidden() {
		fmt.Fprintf(b, "      hides %s by %s\n", h.GetMode(), levelText(h))
	}
	external := ""
	if t.GetExternal() {
		external = " (external)"
	}
	fmt.Fprintf(b, "      sni %s%s\n", t.GetSni(), external)
	for _, id := range t.GetSpiffeIds() {
		fmt.Fprintf(b, "      peer %s\n", id)
	}
	for _, ref := range t.GetEndpointSets() {
		fmt.Fprintf(b, "      connects to %v\n", ref.ID().Key(0))
	}
	if t.GetBackend() != nil {
		fmt.Fprintf(b, "      while healthy %v\n", t.GetBackend().ID().Key(0))
	}
	problemsText(b, "      ", t.GetProblems())
}

func levelText(l *isthmusv1.LevelMode) string {
	return strings.TrimSpace(l.GetLevel().Name() + " " + l.GetKey())
}

func problemsText(b *strings.Builder, indent string, problems []*isthmusv1.Problem) {
	for _, p := range problems {
		fmt.Fprintf(b, "%s%s %s: %s\n", indent, word(p.GetSeverity().String()), p.GetCode(), p.GetText())
		if p.GetFix() != "" {
			fmt.Fprintf(b, "%s  fix: %s\n", indent, p.GetFix())
		}
	}
}
