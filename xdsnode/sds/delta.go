package sds

import (
	"slices"

	discovery "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	secretservice "github.com/envoyproxy/go-control-plane/envoy/service/secret/v3"
)

// deltaStream is a client that is told of each secret by itself.
type deltaStream struct {
	server *Server
	answer func(*discovery.DeltaDiscoveryResponse) error
	nonces nonces
	begun  bool
	// has is what it asks for, and the version that it has, or has refused; empty: none.
	has map[string]string
	// gone are names to say that there is nothing of them.
	gone []string
}

// DeltaSecrets implements the service.
func (s *Server) DeltaSecrets(with secretservice.SecretDiscoveryService_DeltaSecretsServer) error {
	return serve(with.Context(), s, with.Recv, stream[*discovery.DeltaDiscoveryRequest](&deltaStream{
		server: s, answer: with.Send, has: map[string]string{},
	}))
}

func (st *deltaStream) take(r *discovery.DeltaDiscoveryRequest) error {
	if err := checkType(r.GetTypeUrl()); err != nil {
		return err
	}
	if why := r.GetErrorDetail(); why != nil {
		st.server.refused(why.GetMessage())
	}
	for _, name := range r.GetResourceNamesUnsubscribe() {
		delete(st.has, name)
	}
	for _, name := range r.GetResourceNamesSubscribe() {
		if !known(name) {
			st.server.unknown(name)
			if !slices.Contains(st.gone, name) {
				st.gone = append(st.gone, name)
			}
			continue
		}
		st.has[name] = "" // Who asks again is answered again.
		if !st.begun {
			st.has[name] = r.GetInitialResourceVersions()[name]
		}
	}
	st.begun = true
	return nil
}

func (st *deltaStream) send(now map[string]secret) error {
	response := &discovery.DeltaDiscoveryResponse{TypeUrl: secretType, RemovedResources: st.gone}
	for _, name := range names {
		version, asked := st.has[name]
		s, there := now[name]
		if !asked || !there || s.version == version {
			continue
		}
		st.has[name] = s.version
		response.Resources = append(response.Resources, &discovery.Resource{Name: name, Version: s.version, Resource: s.body})
	}
	st.gone = nil
	if len(response.GetResources()) == 0 && len(response.GetRemovedResources()) == 0 {
		return nil
	}
	response.Nonce = st.nonces.next()
	return st.answer(response)
}
