package resolver

import (
	"errors"
	"fmt"
	"strings"

	isthmusv1 "github.com/isthmus-mesh/isthmus/proto/isthmus/v1"
)

// Question asks how upstreams are routed.
type Question struct {
	// Proxy is NODE/ID, an ID that is unique in the datacenter, or the name of a
	// service, which stands for all its proxies.
	Proxy string
	// Upstream is the name of the upstream's destination: a service, qualified
	// as PARTITION/NAMESPACE/NAME outside the default ones, or a prepared query.
	// Empty: every upstream.
	Upstream string
	// Datacenter of the upstream. Empty: any.
	Datacenter string
}

// Explanation is how one upstream of one proxy is routed. Everything in it is
// shared with the machine and must not be written to.
type Explanation struct {
	// Proxy is NODE/ID.
	Proxy string
	// Service that the proxy stands for.
	Service *isthmusv1.ServiceRef
	// Upstream as registered, and its datacenter: the proxy's own when it has none.
	Upstream   *isthmusv1.Upstream
	Datacenter string
	// Protocol is tcp, http, http2 or grpc.
	Protocol string
	// Route is the route whole, as it stands in the route set.
	Route *isthmusv1.Route
	// Targets in the order of the chain: by route of the router, by split, the
	// first choice and then its failover.
	Targets []ExplainedTarget
	// Authorization is that of the first target that would refuse, else that of
	// the first target; targets whose intentions are not known count only where
	// there are no others.
	Authorization Authorization
	// Problems of the proxy and of the route; targets have their own.
	Problems []*isthmusv1.Problem
	// Basis that the answer holds for.
	Basis *isthmusv1.Basis
}

// ExplainedTarget is one place in a chain where traffic may go. A target that a
// chain reaches in several ways stands there several times.
type ExplainedTarget struct {
	// Target as it stands in the route: mode, decision, path, names, problems.
	Target *isthmusv1.Target
	// Match of the router's route that leads here; nil when there is no router,
	// and in its last route, which takes all.
	Match *isthmusv1.ServiceRouteMatch
	// Weight in hundredths of a percent of what reaches the splitter: 10000 is all.
	Weight uint32
	// FailoverIndex is 0 for the first choice, then counts the failover targets.
	FailoverIndex int
	// Winner is the level that decided.
	Winner ExplainedLevel
	// Hidden levels also set a mode, highest first.
	Hidden []ExplainedLevel
	// Likeliest are the levels that the mode probably comes from, where Winner is
	// the level merged: one of the hidden ones, or the upstream definition or the
	// instance, or both where nothing tells them apart.
	Likeliest []ExplainedLevel
	// Pending says whether the proxy's agent has yet to merge the entries.
	Pending Pending
	// Unmerged are the modes of entries that do not act because no agent has
	// merged them, highest first: those of a proxy that shows no mode at all.
	Unmerged []ExplainedLevel
	// Endpoints are the candidates as a proxy has them: of gateways, healthy only
	// if a backend is ([isthmusv1.Candidates]).
	Endpoints []*isthmusv1.Endpoint
	// Problems of the target, and those that only an explanation can state.
	Problems []*isthmusv1.Problem
	// Authorization at this target.
	Authorization Authorization
}

// ExplainedLevel is a mode at a level, and where it was written.
type ExplainedLevel struct {
	*isthmusv1.LevelMode
	// Key of the value that it was written in; zero for the level default.
	Key isthmusv1.Key
	// Origin of that value; nil for the level default.
	Origin *Origin
}

// Origin is where a value of a catalog came from.
type Origin struct {
	// Stream like CATALOG_dc1; the incarnation and sequence of the event.
	Stream      string
	Incarnation string
	Sequence    uint64
	// Source is the place in a file or the query; nil when it was not said.
	Source *isthmusv1.Source
}

// Authorization is what a target's intentions say about the proxy's service.
type Authorization struct {
	// Allowed whatever the request is.
	Allowed bool
	// ByRequest: permissions decide by request; Allowed is false.
	ByRequest bool
	// Intention that decided; nil when the default action did.
	Intention *isthmusv1.InboundIntention
	// DefaultAction of the target's datacenter: allow or deny.
	DefaultAction string
	// Origin of the intention's entry, or of the mesh facts for the default
	// action; nil when the target's datacenter has no catalog here.
	Origin *Origin
	// Reason in one sentence.
	Reason string
}

// Why a question has no answer. Each comes in a [NoAnswerError], which lists
// what could have been asked.
var (
	// ErrNotWhole: the own catalog has no mesh facts or no trust domain yet.
	ErrNotWhole = errors.New("the catalog is not whole: it has no mesh facts or no trust domain")
	// ErrUnknownProxy: the datacenter has no such proxy or service.
	ErrUnknownProxy = errors.New("no such proxy or service")
	// ErrAmbiguousProxy: several nodes have a proxy of this ID.
	ErrAmbiguousProxy = errors.New("several proxies have this ID: name one as NODE/ID")
	// ErrUnknownUpstream: the proxy has no such upstream.
	ErrUnknownUpstream = errors.New("no such upstream")
)

// NoAnswerError says what was asked for in vain, and what is there instead.
type NoAnswerError struct {
	// Err is one of the errors above.
	Err error
	// Name is the part of the question that failed.
	Name string
	// Candidates are what it could have been, sorted.
	Candidates []string
}

// Error names what was asked for, why it failed and the candidates.
func (e *NoAnswerError) Error() string {
	text := fmt.Sprintf("%q: %v", e.Name, e.Err)
	if len(e.Candidates) == 0 {
		return text
	}
	return text + "; there is " + strings.Join(e.Candidates, ", ")
}

// Unwrap returns the sentinel.
func (e *NoAnswerError) Unwrap() error { return e.Err }
