package sds

import (
	"slices"
	"strings"

	discovery "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	secretservice "github.com/envoyproxy/go-control-plane/envoy/service/secret/v3"
)

// wholeStream is a client that is sent all that it asks for at a time ("state of the
// world").
type wholeStream struct {
	server *Server
	answer func(*discovery.DiscoveryResponse) error
	nonces nonces
	nonce  string
	begun  bool
	// names that it asks for, and the version that it has of these, or has refused.
	names   []string
	version string
}

// StreamSecrets implements the service.
func (s *Server) StreamSecrets(with secretservice.SecretDiscoveryService_StreamSecretsServer) error {
	return serve(with.Context(), s, with.Recv, stream[*discovery.DiscoveryRequest](&wholeStream{server: s, answer: with.Send}))
}

// take takes a request. One that answers an older response than the last says nothing
// that still counts.
func (st *wholeStream) take(r *discovery.DiscoveryRequest) error {
	if err := checkType(r.GetTypeUrl()); err != nil {
		return err
	}
	if st.begun && r.GetResponseNonce() != st.nonce {
		return nil
	}
	if why := r.GetErrorDetail(); why != nil {
		st.server.refused(why.GetMessage())
	}
	if !st.begun {
		st.begun, st.version = true, r.GetVersionInfo()
	}
	st.names = slices.Compact(slices.Sorted(slices.Values(r.GetResourceNames())))
	for _, name := range st.names {
		if !known(name) {
			st.server.unknown(name)
		}
	}
	return nil
}

// send sends what is asked for if the version, which is of all of it, is another one: a
// name more, or less, makes another version too.
func (st *wholeStream) send(now map[string]secret) error {
	response := &discovery.DiscoveryResponse{TypeUrl: secretType}
	var of []string
	for _, name := range names {
		if s, there := now[name]; there && slices.Contains(st.names, name) {
			response.Resources = append(response.Resources, s.body)
			of = append(of, name+" "+s.version)
		}
	}
	if len(response.GetResources()) == 0 {
		return nil
	}
	response.VersionInfo = hash([]byte(strings.Join(of, "\n")))
	if response.GetVersionInfo() == st.version {
		return nil
	}
	st.version = response.GetVersionInfo()
	st.nonce = st.nonces.next()
	response.Nonce = st.nonce
	return st.answer(response)
}
