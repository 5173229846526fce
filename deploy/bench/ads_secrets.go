package main

import (
	"context"
	"net"
	"net/http"

	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	discovery "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	secretservice "github.com/envoyproxy/go-control-plane/envoy/service/secret/v3"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	isthmusv1 "github.com/isthmus-mesh/isthmus/proto/isthmus/v1"
)

// secrets gives an Envoy the leaf and the roots that Consul gives its service: they come
// from its own machine, and an xds node has none.
type secrets struct {
	secretservice.UnimplementedSecretDiscoveryServiceServer
	byName map[string]*anypb.Any
}

// startSecrets serves the secrets of a service on a socket of its own, until the context
// ends.
func (w *meshWorld) startSecrets(ctx context.Context, service, socket string) error {
	var leaf struct{ CertPEM, PrivateKeyPEM string }
	var roots struct{ Roots []struct{ RootCert string } }
	for path, into := range map[string]any{"/v1/agent/connect/ca/leaf/" + service: &leaf, "/v1/agent/connect/ca/roots": &roots} {
		if err := w.agents[0].Call(ctx, http.MethodGet, path, nil, into); err != nil {
			return err
		}
	}
	all := ""
	for _, root := range roots.Roots {
		all += root.RootCert + "\n"
	}
	s := &secrets{byName: map[string]*anypb.Any{}}
	for _, secret := range []*tlsv3.Secret{
		{Name: isthmusv1.SecretLeaf, Type: &tlsv3.Secret_TlsCertificate{TlsCertificate: &tlsv3.TlsCertificate{
			CertificateChain: inline(leaf.CertPEM), PrivateKey: inline(leaf.PrivateKeyPEM),
		}}},
		{Name: isthmusv1.SecretRoots, Type: &tlsv3.Secret_ValidationContext{ValidationContext: &tlsv3.CertificateValidationContext{TrustedCa: inline(all)}}},
	} {
		packed, err := anypb.New(proto.Message(secret))
		if err != nil {
			return err
		}
		s.byName[secret.GetName()] = packed
	}
	listener, err := (&net.ListenConfig{}).Listen(ctx, "unix", socket)
	if err != nil {
		return err
	}
	server := grpc.NewServer()
	secretservice.RegisterSecretDiscoveryServiceServer(server, s)
	context.AfterFunc(ctx, server.Stop)
	go func() { _ = server.Serve(listener) }()
	return nil
}

func inline(text string) *core.DataSource {
	return &core.DataSource{Specifier: &core.DataSource_InlineString{InlineString: text}}
}

// DeltaSecrets answers each name once.
func (s *secrets) DeltaSecrets(stream secretservice.SecretDiscoveryService_DeltaSecretsServer) error {
	for {
		request, err := stream.Recv()
		if err != nil {
			return err
		}
		response := &discovery.DeltaDiscoveryResponse{TypeUrl: request.GetTypeUrl(), Nonce: "1"}
		for _, name := range request.GetResourceNamesSubscribe() {
			response.Resources = append(response.Resources, &discovery.Resource{Name: name, Version: "1", Resource: s.byName[name]})
		}
		if len(response.GetResources()) == 0 {
			continue
		}
		if err := stream.Send(response); err != nil {
			return err
		}
	}
}
