package history

import (
	"fmt"
	"strings"

	isthmusv1 "github.com/isthmus-mesh/isthmus/proto/isthmus/v1"
	"github.com/isthmus-mesh/isthmus/services/resolver"
)

// Answer is how one upstream of one proxy is routed and why, as commands show
// it: the JSON of `isthmus explain` is an array of these.
type Answer struct {
	// Proxy is NODE/ID.
	Proxy string `json:"proxy"`
	// Service that the proxy stands for, qualified outside the default namespace.
	Service string `json:"service"`
	// Upstream is the destination's name, and Datacenter the upstream's: the
	// proxy's own when it has none.
	Upstream   string `json:"upstream"`
	Datacenter string `json:"datacenter"`
	// Route is the id of the upstream's route, like api@dc2.
	Route string `json:"route"`
	// Protocol is tcp, http, http2 or grpc.
	Protocol      string              `json:"protocol"`
	Targets       []AnswerTarget      `json:"targets"`
	Authorization AnswerAuthorization `json:"authorization"`
	Problems      []AnswerProblem     `json:"problems"`
	// Basis is the position of each catalog that the answer holds for, by stream.
	Basis map[string]AnswerPosition `json:"basis"`
	// Stale are the catalogs of the basis that may not be how things are now; absent
	// where that was not asked, or none is.
	Stale []Stale `json:"stale,omitzero"`
}

// AnswerTarget is one place where the traffic may go.
type AnswerTarget struct {
	Service    string `json:"service"`
	Subset     string `json:"subset"`
	Datacenter string `json:"datacenter"`
	// Match of the router that leads here, in words; absent where all goes here.
	Match string `json:"match,omitzero"`
	// Weight in percent of what reaches the splitter; 100 without one.
	Weight float64 `json:"weight"`
	// FailoverIndex is 0 for the first choice.
	FailoverIndex int `json:"failover_index"`
	// Mode is the effective one: none, local or remote.
	Mode     string         `json:"mode"`
	Decision AnswerDecision `json:"decision"`
	// Path is direct, local-gateway, remote-gateway or none.
	Path      string           `json:"path"`
	SNI       string           `json:"sni"`
	SPIFFEIDs []string         `json:"spiffe_ids"`
	Endpoints []AnswerEndpoint `json:"endpoints"`
	Problems  []AnswerProblem  `json:"problems"`
}

// AnswerDecision is which level set the mode.
type AnswerDecision struct {
	Level string `json:"level"`
	// Source is where it was written; null for the level default.
	Source *AnswerSource `json:"source"`
	// Hidden levels also set a mode, highest first.
	Hidden []AnswerLevel `json:"hidden"`
	// Likeliest are the levels that the mode probably comes from, where Level is
	// merged: one of the hidden ones, or upstream, instance or both. Absent
	// elsewhere.
	Likeliest []AnswerLevel `json:"likeliest,omitzero"`
	// PendingAgent is possible, likely or certain where the proxy's agent may not
	// have merged the present entries; absent where it has.
	PendingAgent string `json:"pending_agent,omitzero"`
	// Unmerged levels set a mode that does not act before an agent merges it.
	Unmerged []AnswerLevel `json:"unmerged,omitzero"`
}

// AnswerLevel is a mode that another level hid.
type AnswerLevel struct {
	Level  string        `json:"level"`
	Mode   string        `json:"mode"`
	Source *AnswerSource `json:"source"`
}

// AnswerSource is a place in a file, <datacenter>/<path> as it stands below the
// catalog's directory, or an event of a stream where there is no file.
type AnswerSource struct {
	File     string `json:"file,omitzero"`
	Line     uint32 `json:"line,omitzero"`
	Stream   string `json:"stream,omitzero"`
	Sequence uint64 `json:"sequence,omitzero"`
}

// String is file:line, or stream@sequence.
func (s *AnswerSource) String() string {
	switch {
	case s == nil:
		return ""
	case s.File != "":
		return fmt.Sprintf("%s:%d", s.File, s.Line)
	default:
		return fmt.Sprintf("%s@%d", s.Stream, s.Sequence)
	}
}

// AnswerEndpoint is one address to connect to.
type AnswerEndpoint struct {
	Address string `json:"address"`
	Port    uint32 `json:"port"`
	// Health is healthy or unhealthy.
	Health     string `json:"health"`
	Weight     uint32 `json:"weight"`
	Datacenter string `json:"datacenter"`
}

// AnswerAuthorization is what the target's intentions say of the proxy's service.
type AnswerAuthorization struct {
	// Allowed whatever the request is.
	Allowed bool `json:"allowed"`
	// Intention is the entry that decided, like service-intentions/api; null when
	// it was the default.
	Intention *string `json:"intention"`
	// Source of that entry, or of the default where it was written.
	Source *AnswerSource `json:"source"`
	// ByRequest: permissions decide by request.
	ByRequest bool `json:"by_request,omitzero"`
	// Reason in one sentence.
	Reason string `json:"reason"`
}

// AnswerProblem is a stated fact that stops nothing else.
type AnswerProblem struct {
	Code     string `json:"code"`
	Severity string `json:"severity"`
	Problem  string `json:"problem"`
	Fix      string `json:"fix"`
}

// AnswerPosition is the place of one catalog.
type AnswerPosition struct {
	Incarnation string `json:"incarnation"`
	Sequence    uint64 `json:"sequence"`
}

// NewAnswer is an explanation of the resolver as commands show it.
func NewAnswer(e resolver.Explanation) Answer {
	answer := Answer{
		Proxy: e.Proxy, Service: shown(e.Service), Datacenter: e.Datacenter, Protocol: e.Protocol, Route: e.Route.GetId(),
		Upstream: shown(&isthmusv1.ServiceRef{
			Name: e.Upstream.GetDestinationName(), Namespace: e.Upstream.GetDestinationNamespace(), Partition: e.Upstream.GetDestinationPartition(),
		}),
		Targets:       make([]AnswerTarget, len(e.Targets)),
		Authorization: newAuthorization(e.Authorization),
		Problems:      newProblems(e.Problems),
		Basis:         positionsOf(e.Basis),
	}
	for i, t := range e.Targets {
		answer.Targets[i] = newTarget(t)
	}
	return answer
}

// positionsOf is a basis as commands show it.
func positionsOf(basis *isthmusv1.Basis) map[string]AnswerPosition {
	out := make(map[string]AnswerPosition)
	for _, p := range basis.GetPositions() {
		out[p.GetStream()] = AnswerPosition{Incarnation: p.GetIncarnation(), Sequence: p.GetSequence()}
	}
	return out
}

// weightPerPercent is how the model counts weights: hundredths of a percent.
const weightPerPercent = 100

func newTarget(t resolver.ExplainedTarget) AnswerTarget {
	target := AnswerTarget{
		Service: shown(t.Target.GetService()), Subset: t.Target.GetSubset(), Datacenter: t.Target.GetDatacenter(),
		Match: matchText(t.Match), Weight: float64(t.Weight) / weightPerPercent, FailoverIndex: t.FailoverIndex,
		Mode: t.Target.GetDecision().GetMode(),
		Decision: AnswerDecision{
			Level: t.Winner.GetLevel().Name(), Source: newSource(t.Winner.Origin), Hidden: newLevels(t.Hidden),
			PendingAgent: string(t.Pending),
		},
		Path: t.Target.GetPath().Name(), SNI: t.Target.GetSni(),
		SPIFFEIDs: append([]string{}, t.Target.GetSpiffeIds()...),
		Endpoints: make([]AnswerEndpoint, len(t.Endpoints)),
		Problems:  newProblems(t.Problems),
	}
	if len(t.Likeliest) > 0 {
		target.Decision.Likeliest = newLevels(t.Likeliest)
	}
	if len(t.Unmerged) > 0 {
		target.Decision.Unmerged = newLevels(t.Unmerged)
	}
	for i, e := range t.Endpoints {
		target.Endpoints[i] = AnswerEndpoint{
			Address: e.GetAddress(), Port: e.GetPort(), Health: healthName(e.GetHealth()), Weight: e.GetWeight(), Datacenter: e.GetDatacenter(),
		}
	}
	return target
}

func newLevels(list []resolver.ExplainedLevel) []AnswerLevel {
	out := make([]AnswerLevel, len(list))
	for i, l := range list {
		out[i] = AnswerLevel{Level: l.GetLevel().Name(), Mode: l.GetMode(), Source: newSource(l.Origin)}
	}
	return out
}

func healthName(h isthmusv1.Health) string {
	if h == isthmusv1.Health_HEALTH_HEALTHY {
		return "healthy"
	}
	return "unhealthy"
}

func newAuthorization(a resolver.Authorization) AnswerAuthorization {
	out := AnswerAuthorization{Allowed: a.Allowed, ByRequest: a.ByRequest, Reason: a.Reason, Source: newSource(a.Origin)}
	if a.Intention != nil {
		entry := strings.TrimPrefix(a.Intention.GetKey(), string(isthmusv1.KindConfig)+"/")
		out.Intention = &entry
	}
	return out
}

func newProblems(problems []*isthmusv1.Problem) []AnswerProblem {
	out := make([]AnswerProblem, len(problems))
	for i, p := range problems {
		severity := "warning"
		if p.GetSeverity() == isthmusv1.Severity_SEVERITY_ERROR {
			severity = "error"
		}
		out[i] = AnswerProblem{Code: p.GetCode(), Severity: severity, Problem: p.GetText(), Fix: p.GetFix()}
	}
	return out
}

func newSource(o *resolver.Origin) *AnswerSource {
	switch {
	case o == nil:
		return nil
	case o.Source.GetFile() != "":
		_, datacenter, _ := isthmusv1.ParseStreamName(o.Stream)
		return &AnswerSource{File: datacenter + "/" + o.Source.GetFile(), Line: o.Source.GetLine()}
	default:
		return &AnswerSource{Stream: o.Stream, Sequence: o.Sequence}
	}
}

// shown is a service's name for people, in its registered case.
func shown(ref *isthmusv1.ServiceRef) string {
	if strings.EqualFold(ref.Qualified(), ref.GetName()) {
		return ref.GetName()
	}
	return fmt.Sprintf("%s/%s/%s", orDefault(ref.GetPartition()), orDefault(ref.GetNamespace()), ref.GetName())
}

func orDefault(name string) string {
	if name == "" {
		return isthmusv1.DefaultName
	}
	return name
}

// matchText is a router's match in words: each field that is set.
func matchText(match *isthmusv1.ServiceRouteMatch) string {
	if match == nil {
		return ""
	}
	var parts []string
	for _, path := range []struct{ kind, text string }{
		{"path", match.GetPathExact()}, {"path prefix", match.GetPathPrefix()}, {"path like", match.GetPathRegex()},
	} {
		if path.text != "" {
			parts = append(parts, path.kind+" "+path.text)
		}
	}
	for _, h := range match.GetHeaders() {
		parts = append(parts, "header "+h.GetName())
	}
	for _, q := range match.GetQueryParams() {
		parts = append(parts, "query parameter "+q.GetName())
	}
	if len(match.GetMethods()) > 0 {
		parts = append(parts, "method "+strings.Join(match.GetMethods(), " or "))
	}
	return strings.Join(parts, ", ")
}
