package sidecar

import (
	"slices"

	"google.golang.org/protobuf/types/known/timestamppb"
	"time"

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
