package resolver

import (
	"cmp"
	"slices"
	"strings"

	"google.golang.org/protobuf/types/known/durationpb"

	isthmusv1 "github.com/isthmus-mesh/isthmus/proto/isthmus/v1"
)

// targetBuilder makes the targets of one route.
type targetBuilder struct {
	*view
	source *source
	// levels of the upstream, without the target's own.
	levels  []*isthmusv1.LevelMode
	timeout *durationpb.Duration
	// elsewhere: a target is in another datacenter or partition.
	elsewhere bool
}

// target decides the mode of one place, its path, and its names on the wire.
func (b *targetBuilder) target(p place, problems []*isthmusv1.Problem) *isthmusv1.Target {
	sd := b.serviceDefaults(p.service)
	_, entry := b.resolver(p.service)
	levels := slices.Concat(b.levels, b.targetLevels(p.service, b.levels))
	t := &isthmusv1.Target{
		Id:             p.id(),
		Service:        b.spelled(p.datacenter, p.service),
		Subset:         subsetName(entry, p.subset),
		Datacenter:     p.datacenter,
		Decision:       decide(levels),
		ConnectTimeout: b.connectTimeout(entry),
		Problems:       problems,
	}
	if sd.GetExternalSni() != "" {
		t.External = true
		t.Decision = decideExternal(levels)
	}
	b.name(t, p, sd)
	b.lead(t, p)
	b.stateUnsupported(t, sd)
	return t
}

func (b *targetBuilder) connectTimeout(entry *isthmusv1.ServiceResolver) *durationpb.Duration {
	c := compiler{timeout: b.timeout}
	return c.connectTimeout(entry)
}

// name sets the server name and the identities to expect. Instances that spell
// their service differently show different identities; each is as good.
func (b *targetBuilder) name(t *isthmusv1.Target, p place, sd *isthmusv1.ServiceDefaults) {
	td := b.trustDomain()
	t.Sni = cmp.Or(sd.GetExternalSni(), isthmusv1.SNI(t.GetService(), t.GetSubset(), p.datacenter, td))
	for _, name := range b.names(p.datacenter, p.service) {
		ref := newRef(p.service.GetPartition(), p.service.GetNamespace(), name)
		t.SpiffeIds = append(t.SpiffeIds, isthmusv1.SPIFFEID(ref, p.datacenter, td))
	}
	if len(t.GetSpiffeIds()) == 0 {
		t.SpiffeIds = []string{isthmusv1.SPIFFEID(p.service, p.datacenter, td)}
	}
}

// lead sets the path. A target in the own datacenter and partition is reached
// directly, whatever the mode; another one as the mode says. Where there is no
// path there are no endpoint sets, so that whoever does not look at the path
// finds no endpoint either.
func (b *targetBuilder) lead(t *isthmusv1.Target, p place) {
	if winner := t.GetDecision().GetWinner(); !isthmusv1.Mode(winner.GetMode()).Valid() {
		t.Problems = addProblem(t.Problems, problemError(CodeInvalidMode, "write none, local or remote",
			"mesh gateway mode %q of level %s is none of none, local and remote; it acts as none",
			winner.GetMode(), winner.GetLevel().Name()))
	}
	if !b.knows(p.datacenter) {
		t.Path = isthmusv1.Path_PATH_NONE
		t.Problems = addProblem(t.Problems, problemError(CodeUnknownDatacenter, "correct the name, or join the datacenter",
			"no path: datacenter %s is not known", p.datacenter))
		return
	}
	if !b.hasCatalog(p.datacenter) {
		t.Problems = addProblem(t.Problems, problemError(CodeNoCatalog, "",
			"the catalog of %s is not here: its instances and gateways are not known", p.datacenter))
	}
	if b.isOwn(p) {
		b.direct(t, p, isthmusv1.Scope_SCOPE_LAN)
		return
	}
	switch isthmusv1.Mode(t.GetDecision().GetMode()) {
	case isthmusv1.ModeLocal:
		b.viaLocal(t, p)
	case isthmusv1.ModeRemote:
		b.viaRemote(t, p)
	default:
		b.direct(t, p, isthmusv1.Scope_SCOPE_WAN)
	}
}

// isOwn reports whether a place is in the proxy's datacenter and partition.
func (b *targetBuilder) isOwn(p place) bool {
	return p.datacenter == b.machine.datacenter &&
		foldPartition(p.service.GetPartition()) == foldPartition(b.source.service.GetPartition())
}

func (b *targetBuilder) direct(t *isthmusv1.Target, p place, scope isthmusv1.Scope) {
	t.Path = isthmusv1.Path_PATH_DIRECT
	t.EndpointSets = []*isthmusv1.EndpointSetRef{p.set(scope)}
	b.stateBackend(t, p)
}

// viaRemote leads through the target datacenter's gateways at their WAN
// addresses.
func (b *targetBuilder) viaRemote(t *isthmusv1.Target, p place) {
	t.Path = isthmusv1.Path_PATH_REMOTE_GATEWAY
	far := gatewaySet(p.datacenter, isthmusv1.Scope_SCOPE_WAN, p.service.GetPartition())
	b.viaGateways(t, p, far)
}

// viaLocal leads through the own gateways at their LAN addresses, which forward
// to the target datacenter's gateways: both must be there.
func (b *targetBuilder) viaLocal(t *isthmusv1.Target, p place) {
	t.Path = isthmusv1.Path_PATH_LOCAL_GATEWAY
	near := gatewaySet(b.machine.datacenter, isthmusv1.Scope_SCOPE_LAN, b.source.service.GetPartition())
	far := gatewaySet(p.datacenter, isthmusv1.Scope_SCOPE_WAN, p.service.GetPartition())
	b.viaGateways(t, p, near, far)
}

// viaGateways connects to the first of the sets. All sets on the way need a
// gateway that passes its checks.
func (b *targetBuilder) viaGateways(t *isthmusv1.Target, p place, way ...*isthmusv1.EndpointSetRef) {
	open := true
	for _, set := range way {
		if problem := b.gatewayProblem(set); problem != nil {
			open = false
			t.Problems = addProblem(t.Problems, problem)
		}
	}
	if open {
		t.EndpointSets = way[:1]
		t.Backend = p.set(isthmusv1.Scope_SCOPE_HEALTH)
	} else {
		t.Path = isthmusv1.Path_PATH_NONE
	}
	b.stateBackend(t, p)
}

// gatewayProblem says why nothing gets through a set of gateways, if so.
func (v *view) gatewayProblem(set *isthmusv1.EndpointSetRef) *isthmusv1.Problem {
	where := set.GetDatacenter()
	if partition := set.GetService().GetPartition(); partition != "" {
		where += " (partition " + partition + ")"
	}
	switch v.availability(set) {
	case isthmusv1.Availability_AVAILABILITY_HEALTHY:
		return nil
	case isthmusv1.Availability_AVAILABILITY_UNHEALTHY:
		return problemError(CodeGatewaysFailing, "look at the checks of the mesh gateways of "+where,
			"no path: all mesh gateways in %s fail their checks", where)
	}
	return problemError(CodeNoGateway, "register a service of kind mesh-gateway in "+where,
		"no path: no mesh gateway in %s", where)
}

// stateBackend says why a target has no instance, if so.
func (b *targetBuilder) stateBackend(t *isthmusv1.Target, p place) {
	if p.subset != "" {
		if problem := b.subsetProblem(p); problem != nil {
			t.Problems = addProblem(t.Problems, problem)
			return
		}
	}
	if b.availability(p.set(isthmusv1.Scope_SCOPE_HEALTH)) != isthmusv1.Availability_AVAILABILITY_EMPTY {
		return
	}
	what := p.service.Qualified()
	if p.subset != "" {
		what += " in subset " + p.subset
	}
	t.Problems = addProblem(t.Problems, problemError(CodeNoInstance,
		"register "+p.service.GetName()+" with a sidecar, or as connect-native, in "+p.datacenter,
		"no instance of %s in the mesh of %s", what, p.datacenter))
}

func (b *targetBuilder) stateUnsupported(t *isthmusv1.Target, sd *isthmusv1.ServiceDefaults) {
	if len(sd.GetDestinationJson()) > 0 {
		t.Problems = addProblem(t.Problems, unsupported(
			"service-defaults/%s has a Destination, which needs a terminating gateway: not supported",
			strings.ToLower(t.GetService().GetName())))
	}
}
