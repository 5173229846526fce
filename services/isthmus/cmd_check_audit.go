package main

import (
	"slices"
	"strings"

	"google.golang.org/protobuf/proto"

	isthmusv1 "github.com/isthmus-mesh/isthmus/proto/isthmus/v1"
	"github.com/isthmus-mesh/isthmus/services/check"
	"github.com/isthmus-mesh/isthmus/services/resolver"
)

// auditCodes are the codes of what only the resolver's rules tell; the others of an
// audit check judges by itself.
var auditCodes = map[string]check.Code{
	resolver.CodeStickyDefaults: check.StickyDefaults, resolver.CodeModePendingAgent: check.ModePending, resolver.CodeHiddenMode: check.ModeHidden,
}

// auditCatalog has the resolver look at a catalog that was read from Consul, and says
// so when it finds nothing.
func auditCatalog(c check.Audited) []check.Finding {
	found, err := resolver.Audit(c.Datacenter, auditTransaction(c))
	if err != nil {
		return []check.Finding{{
			Code: check.StickyDefaults, Datacenter: c.Datacenter, Status: check.Warn, Subject: "service-defaults",
			Found: "not judged: " + err.Error(), Fix: "see what else fails: the catalog is not whole",
		}}
	}
	var out []check.Finding
	bad := map[check.Code]bool{}
	for _, f := range found {
		code, ok := auditCodes[f.Problem.GetCode()]
		if !ok {
			continue
		}
		bad[code] = true
		status := check.Warn
		if f.Problem.GetSeverity() == isthmusv1.Severity_SEVERITY_ERROR {
			status = check.Fail
		}
		out = append(out, check.Finding{
			Code: code, Datacenter: c.Datacenter, Status: status, Subject: f.Subject, Found: f.Problem.GetText(), Fix: f.Problem.GetFix(),
		})
	}
	for code, subject := range map[check.Code]string{check.StickyDefaults: "service-defaults", check.ModePending: "proxies"} {
		if !bad[code] {
			out = append(out, check.Finding{Code: code, Datacenter: c.Datacenter, Status: check.Pass, Subject: subject, Found: "none is suspected"})
		}
	}
	return out
}

// auditTransaction is a catalog as its watcher would publish it.
func auditTransaction(c check.Audited) *isthmusv1.Transaction {
	facts := &isthmusv1.MeshFacts{Datacenter: c.Datacenter, TrustDomain: c.TrustDomain, DefaultIntentionPolicy: "deny", CentralConfig: true}
	for _, name := range c.Known {
		facts.KnownDatacenters = append(facts.KnownDatacenters, strings.ToLower(name))
	}
	slices.Sort(facts.KnownDatacenters)
	if s := c.Self; s != nil {
		facts.DefaultIntentionPolicy, facts.CentralConfig = s.DefaultIntentionPolicy, s.CentralConfig
		facts.PrimaryDatacenter = strings.ToLower(s.PrimaryDatacenter)
	}
	t := &isthmusv1.Transaction{Stream: isthmusv1.StreamName(isthmusv1.ClassCatalog, c.Datacenter), Incarnation: "check", Sequence: 1, Reset: true}
	// What a query showed may have been merged by Consul; what a file says was written.
	source := &isthmusv1.Source{Query: "check"}
	add := func(key isthmusv1.Key, value proto.Message) {
		t.Changes = append(t.Changes, isthmusv1.Change{Key: key, Value: value, Sequence: t.Sequence, Source: source})
	}
	add(isthmusv1.MeshFactsKey(), facts)
	if c.Catalog.Roots != nil {
		add(isthmusv1.RootsKey(), c.Catalog.Roots)
	}
	for _, e := range c.Catalog.Entries {
		add(isthmusv1.ConfigKey(e.GetKind(), e.GetPartition(), e.GetNamespace(), e.GetName()), e)
	}
	for _, n := range c.Catalog.Nodes {
		add(isthmusv1.NodeKey(n.Node.GetPartition(), n.Node.GetName()), n.Node)
		for _, i := range n.Instances {
			if n.Agent && facts.CentralConfig && i.GetProxy() != nil {
				i = proto.CloneOf(i)
				i.MergedCentralConfig = true
			}
			add(isthmusv1.InstanceKey(i.GetPartition(), i.GetNode(), i.GetNamespace(), i.GetId()), i)
		}
	}
	return t
}
