package resolver

import (
	"cmp"
	"slices"
	"strings"

	isthmusv1 "github.com/isthmus-mesh/isthmus/proto/isthmus/v1"
)

// Finding is something about a datacenter's entries and registrations that
// deserves a look and stops nothing.
type Finding struct {
	// Subject is the entry as service-defaults/web, the proxy as NODE/ID, or the
	// service, that it is about.
	Subject string
	// Problem has one of the codes [CodeStickyDefaults], [CodeModePendingAgent],
	// [CodeInvalidMode], [CodeHiddenMode] and [CodeCaseClash].
	Problem *isthmusv1.Problem
	// Key and Origin of the value that it is about.
	Key    isthmusv1.Key
	Origin *Origin
}

// Audit looks through the catalog of a datacenter for suspected sticky defaults,
// proxies whose agent has yet to merge their entries, modes that are invalid,
// modes that decide nothing, and names that differ only in case. Each catalog is
// a transaction that holds all of it; the own one is enough. Findings are sorted
// by code and subject.
//
// Possible error: [ErrNotWhole].
func Audit(datacenter string, catalogs ...*isthmusv1.Transaction) ([]Finding, error) {
	m := New(datacenter)
	for _, t := range catalogs {
		m.Apply(t)
	}
	return m.Audit()
}

// Audit is [Audit] of what was applied.
func (m *Machine) Audit() ([]Finding, error) {
	if !m.advance() {
		return nil, ErrNotWhole
	}
	a := &audit{
		machine: m, view: &view{machine: m, datacenter: m.datacenter},
		fates: map[string]*fate{}, invalid: map[string]bool{},
	}
	values := sortedValues(m.catalogs[m.datacenter])
	for _, v := range values {
		a.entry(v)
	}
	for _, v := range m.sidecars() {
		a.proxy(v)
	}
	a.hidden()
	a.names(values)
	slices.SortStableFunc(a.findings, func(x, y Finding) int {
		return cmp.Or(cmp.Compare(x.Problem.GetCode(), y.Problem.GetCode()), cmp.Compare(x.Subject, y.Subject),
			cmp.Compare(x.Problem.GetText(), y.Problem.GetText()))
	})
	return a.findings, nil
}

func sortedValues(c *catalog) []*value {
	out := make([]*value, 0, len(c.values))
	for _, v := range c.values {
		out = append(out, v)
	}
	slices.SortFunc(out, func(a, b *value) int { return a.key.Compare(b.key) })
	return out
}

type audit struct {
	machine  *Machine
	view     *view
	findings []Finding
	// fates are what became of each mode, by where it is written.
	fates map[string]*fate
	// invalid are the invalid modes of entries: a proxy that shows one merged has
	// it from there.
	invalid map[string]bool
}

func (a *audit) find(subject string, v *value, p *isthmusv1.Problem) {
	a.findings = append(a.findings, Finding{
		Subject: subject, Problem: p, Key: v.key, Origin: a.machine.origin(a.machine.datacenter, v),
	})
}

// entry looks at the modes of one config entry.
func (a *audit) entry(v *value) {
	e, _ := v.message.(*isthmusv1.ConfigEntry)
	subject := entryName(v.key.String())
	if d := e.GetProxyDefaults(); d != nil {
		a.valid(subject, v, "MeshGateway", d.GetMeshGateway())
		a.valid(subject, v, "Config.mesh_gateway", &isthmusv1.MeshGateway{Mode: parseOpaque(d.GetConfigJson()).mode()})
	}
	d := e.GetServiceDefaults()
	if d == nil {
		return
	}
	a.valid(subject, v, "MeshGateway", d.GetMeshGateway())
	a.valid(subject, v, "UpstreamConfig.Defaults", d.GetUpstreamDefaults().GetMeshGateway())
	for _, o := range d.GetUpstreamOverrides() {
		a.valid(subject, v, "UpstreamConfig.Overrides of "+o.GetName(), o.GetMeshGateway())
	}
	// The upstream is none that an override could know.
	s := &source{service: newRef(e.GetPartition(), e.GetNamespace(), e.GetName())}
	x := &explainer{machine: a.machine}
	if problem := sticky(x.levels(a.view.entryLevels(s, &isthmusv1.Upstream{}))); problem != nil {
		a.find(subject, v, problem)
	}
}

// valid states a mode that is none of Consul's.
func (a *audit) valid(subject string, v *value, field string, mode *isthmusv1.MeshGateway) {
	if isthmusv1.Mode(mode.GetMode()).Valid() {
		return
	}
	if v.instance() == nil {
		a.invalid[mode.GetMode()] = true
	} else if v.instance().GetMergedCentralConfig() && a.invalid[mode.GetMode()] {
		return
	}
	a.find(subject, v, problemError(CodeInvalidMode, "write none, local or remote",
		"mesh gateway mode %q of %s is none of none, local and remote; it acts as none", mode.GetMode(), field))
}

// proxy looks at the modes of one proxy, and at what decides for its upstreams.
func (a *audit) proxy(v *value) {
	proxy := v.instance().GetProxy()
	a.valid(proxyName(v), v, "the instance", proxy.GetMeshGateway())
	for _, up := range proxy.GetUpstreams() {
		a.valid(proxyName(v), v, "upstream "+up.GetDestinationName(), up.GetMeshGateway())
	}
	s, _ := newSource(v.instance(), a.machine.datacenter)
	x := &explainer{machine: a.machine, proxy: v, source: s}
	var pending *isthmusv1.Problem
	for _, up := range a.machine.upstreamsOf(v) {
		for _, p := range up.route.GetProblems() {
			if p.GetCode() == CodeModePendingAgent && pending == nil {
				pending = p
				a.find(proxyName(v), v, p)
			}
		}
		for _, t := range up.route.GetTargets() {
			// No mode acts on an external target, and none is hidden there by another.
			if !t.GetExternal() {
				a.decision(x, up, t.GetDecision())
			}
		}
	}
}

// fate is what became of one mode that is written somewhere.
type fate struct {
	level ExplainedLevel
	// subject and field say where it stands.
	subject, field string
	// decides for at least one target; hiders are the levels that decide for the
	// others.
	decides bool
	hiders  map[string]struct{}
}

// decision notes which of the modes in a decision act, and which are hidden.
func (a *audit) decision(x *explainer, up registered, d *isthmusv1.Decision) {
	acting := []*isthmusv1.LevelMode{d.GetWinner()}
	if from := likeliest(d, x.source, up.upstream); len(from) > 0 {
		acting = from
	}
	for _, l := range acting {
		a.fate(x, up, l).decides = true
	}
	for _, l := range d.GetHidden() {
		if !slices.Contains(acting, l) {
			a.fate(x, up, l).hiders[acting[0].GetLevel().Name()] = struct{}{}
		}
	}
}

// fate finds that of a mode. Levels 5 and 7 are one field: a service's own mode.
func (a *audit) fate(x *explainer, up registered, l *isthmusv1.LevelMode) *fate {
	f := &fate{level: x.level(l), subject: entryName(l.GetKey()), hiders: map[string]struct{}{}}
	switch l.GetLevel() {
	case isthmusv1.Level_LEVEL_OVERRIDE:
		f.field = "UpstreamConfig.Overrides of " + x.source.destination(up.upstream).Qualified()
	case isthmusv1.Level_LEVEL_UPSTREAM_DEFAULTS:
		f.field = "UpstreamConfig.Defaults"
	case isthmusv1.Level_LEVEL_INSTANCE:
		f.subject, f.field = proxyName(x.proxy), "the instance"
	case isthmusv1.Level_LEVEL_UPSTREAM:
		f.subject, f.field = proxyName(x.proxy), "upstream "+up.label
	default:
		f.field = "MeshGateway"
	}
	id := f.subject + "\x00" + f.field
	if a.fates[id] == nil {
		a.fates[id] = f
	}
	return a.fates[id]
}

// hidden states the modes that decide for no upstream of any proxy. Where no
// proxy has an upstream that they could decide for, nothing hides them.
func (a *audit) hidden() {
	for _, id := range sortedKeys(a.fates) {
		f := a.fates[id]
		if f.decides || f.level.Origin == nil {
			continue
		}
		a.findings = append(a.findings, Finding{
			Subject: f.subject, Key: f.level.Key, Origin: f.level.Origin,
			Problem: problemWarning(CodeHiddenMode, "take it away, or the modes that hide it",
				"mode %s of %s decides for no upstream of any proxy: it is hidden by the level %s",
				f.level.GetMode(), f.field, strings.Join(sortedKeys(f.hiders), ", ")),
		})
	}
}

// names states services whose names differ only in case. Consul finds them as
// one, and each shows its own name in its certificate.
func (a *audit) names(values []*value) {
	spellings := map[string]map[string]*value{}
	for _, v := range values {
		m := v.instance()
		for _, name := range []string{m.GetName(), destinationOf(m).GetName()} {
			folded := newRef(m.GetPartition(), m.GetNamespace(), name).Qualified()
			if spellings[folded] == nil {
				spellings[folded] = map[string]*value{}
			}
			if name != "" && spellings[folded][name] == nil {
				spellings[folded][name] = v
			}
		}
	}
	for _, folded := range sortedKeys(spellings) {
		if names := sortedKeys(spellings[folded]); len(names) > 1 {
			a.find(names[0], spellings[folded][names[0]], problemWarning(CodeCaseClash, "register the service under one spelling",
				"services %s differ only in case: they are found as one, and each has its own identity", strings.Join(names, " and ")))
		}
	}
}
