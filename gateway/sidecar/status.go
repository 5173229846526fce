package sidecar

import (
	"slices"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	isthmusv1 "github.com/isthmus-mesh/isthmus/proto/isthmus/v1"
)

// Problems are what keeps the sidecar from serving all that it should: those of
// its routes, of its listeners, and of what takes more than layer 4.
func (s *Sidecar) Problems() []*isthmusv1.Problem {
	st := s.state.Load()
	if st == nil {
		return nil
	}
	return append(slices.Clone(st.problems), s.listeners.failures()...)
}

// sayProblems logs what has become a problem since the state before, and what is
// none any more.
func (s *Sidecar) sayProblems(before, now *state) {
	var old []*isthmusv1.Problem
	if before != nil {
		old = before.problems
	}
	for _, p := range unlike(now.problems, old) {
		s.log.Warn("problem", "code", p.GetCode(), "text", p.GetText(), "fix", p.GetFix())
	}
	for _, p := range unlike(old, now.problems) {
		s.log.Info("problem solved", "code", p.GetCode(), "text", p.GetText())
	}
}

// unlike are those of the problems that are not among the others.
func unlike(problems, others []*isthmusv1.Problem) []*isthmusv1.Problem {
	var out []*isthmusv1.Problem
	for _, p := range problems {
		same := func(o *isthmusv1.Problem) bool { return proto.Equal(p, o) }
		if !slices.ContainsFunc(others, same) && !slices.ContainsFunc(out, same) {
			out = append(out, p)
		}
	}
	return out
}

// Report is what the sidecar runs, for the status stream; nil while it runs
// nothing. A listener that cannot be opened stands in it as a refusal.
func (s *Sidecar) Report() *isthmusv1.ProxyStatus {
	st := s.state.Load()
	if st == nil {
		return nil
	}
	out := &isthmusv1.ProxyStatus{
		Proxy:     st.view.Name(),
		Kind:      st.view.Proxy.GetKind(),
		Version:   s.cfg.Version,
		Basis:     st.basis,
		Routes:    st.routes,
		Connected: s.drive.Ready() == nil,
	}
	if failed := s.listeners.failures(); len(failed) > 0 {
		out.LastNack = &isthmusv1.Nack{
			Time: timestamppb.New(time.Now()), Resource: "listener", Detail: failed[0].GetText(), Cause: st.routes,
		}
	}
	return out
}

func (s *Sidecar) report() {
	if s.cfg.Status == nil {
		return
	}
	if report := s.Report(); report != nil {
		s.cfg.Status(report)
	}
}
