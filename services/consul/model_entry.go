package consul

import (
	"fmt"
	"strings"

	"github.com/hashicorp/consul/api"

	isthmusv1 "github.com/isthmus-mesh/isthmus/proto/isthmus/v1"
)

// EntryKinds are the kinds of config entries that are read, each by a query of
// its own.
func EntryKinds() []string {
	return []string{
		isthmusv1.EntryExportedServices, isthmusv1.EntryMesh, isthmusv1.EntryProxyDefaults, isthmusv1.EntryServiceDefaults,
		isthmusv1.EntryServiceIntentions, isthmusv1.EntryServiceResolver, isthmusv1.EntryServiceRouter, isthmusv1.EntryServiceSplitter,
	}
}

// entry converts one config entry.
func entry(e api.ConfigEntry) (*isthmusv1.ConfigEntry, error) {
	out := &isthmusv1.ConfigEntry{
		Kind: e.GetKind(), Name: e.GetName(), Namespace: plainName(e.GetNamespace()), Partition: plainName(e.GetPartition()),
		Meta: pairs(e.GetMeta()),
	}
	switch e := e.(type) {
	case *api.ProxyConfigEntry:
		out.Entry = &isthmusv1.ConfigEntry_ProxyDefaults{ProxyDefaults: proxyDefaults(e)}
	case *api.ServiceConfigEntry:
		out.Entry = &isthmusv1.ConfigEntry_ServiceDefaults{ServiceDefaults: serviceDefaults(e)}
	case *api.ServiceResolverConfigEntry:
		out.Entry = &isthmusv1.ConfigEntry_ServiceResolver{ServiceResolver: serviceResolver(e)}
	case *api.ServiceSplitterConfigEntry:
		out.Entry = &isthmusv1.ConfigEntry_ServiceSplitter{ServiceSplitter: serviceSplitter(e)}
	case *api.ServiceRouterConfigEntry:
		out.Entry = &isthmusv1.ConfigEntry_ServiceRouter{ServiceRouter: serviceRouter(e)}
	case *api.ServiceIntentionsConfigEntry:
		out.Entry = &isthmusv1.ConfigEntry_ServiceIntentions{ServiceIntentions: serviceIntentions(e)}
	case *api.MeshConfigEntry:
		out.Entry = &isthmusv1.ConfigEntry_Mesh{Mesh: mesh(e)}
	case *api.ExportedServicesConfigEntry:
		out.Partition = plainName(e.Partition)
		out.Entry = &isthmusv1.ConfigEntry_ExportedServices{ExportedServices: exportedServices(e)}
	default:
		return nil, fmt.Errorf("config entry %s/%s: a kind that was not asked for", e.GetKind(), e.GetName())
	}
	return out, nil
}

func proxyDefaults(e *api.ProxyConfigEntry) *isthmusv1.ProxyDefaults {
	out := &isthmusv1.ProxyDefaults{
		ConfigJson: object(e.Config), MeshGateway: meshGateway(e.MeshGateway), Mode: string(e.Mode),
		TransparentProxy: transparentProxy(e.TransparentProxy), MutualTlsMode: string(e.MutualTLSMode), Expose: expose(e.Expose),
		AccessLogs: accessLogs(e.AccessLogs), EnvoyExtensionsJson: extensions(e.EnvoyExtensions),
	}
	if p := e.FailoverPolicy; p != nil {
		out.FailoverPolicy = failoverPolicy(p.Mode, p.Regions)
	}
	if p := e.PrioritizeByLocality; p != nil {
		out.PrioritizeByLocality = p.Mode
	}
	return out
}

func serviceDefaults(e *api.ServiceConfigEntry) *isthmusv1.ServiceDefaults {
	out := &isthmusv1.ServiceDefaults{
		Protocol: strings.ToLower(e.Protocol), Mode: string(e.Mode), TransparentProxy: transparentProxy(e.TransparentProxy),
		MutualTlsMode: string(e.MutualTLSMode), MeshGateway: meshGateway(e.MeshGateway), Expose: expose(e.Expose),
		ExternalSni: e.ExternalSNI, MaxInboundConnections: number(e.MaxInboundConnections),
		LocalConnectTimeoutMs: number(e.LocalConnectTimeoutMs), LocalRequestTimeoutMs: number(e.LocalRequestTimeoutMs),
		BalanceInboundConnections: e.BalanceInboundConnections, EnvoyExtensionsJson: extensions(e.EnvoyExtensions),
	}
	if u := e.UpstreamConfig; u != nil {
		out.UpstreamDefaults = upstreamConfig(u.Defaults)
		for _, o := range u.Overrides {
			out.UpstreamOverrides = append(out.UpstreamOverrides, upstreamConfig(o))
		}
	}
	if e.Destination != nil {
		out.DestinationJson = respelledJSON(e.Destination)
	}
	if e.RateLimits != nil {
		out.RateLimitsJson = respelledJSON(e.RateLimits)
	}
	return out
}

func serviceResolver(e *api.ServiceResolverConfigEntry) *isthmusv1.ServiceResolver {
	out := &isthmusv1.ServiceResolver{
		DefaultSubset: e.DefaultSubset, ConnectTimeout: duration(e.ConnectTimeout), RequestTimeout: duration(e.RequestTimeout),
	}
	for name, s := range e.Subsets {
		out.Subsets = append(out.Subsets, &isthmusv1.ServiceSubset{Name: name, Filter: s.Filter, OnlyPassing: s.OnlyPassing})
	}
	sortedBy(out.Subsets, (*isthmusv1.ServiceSubset).GetName)
	if r := e.Redirect; r != nil {
		out.Redirect = &isthmusv1.ServiceRedirect{
			Service: r.Service, ServiceSubset: r.ServiceSubset, Namespace: plainName(r.Namespace), Partition: plainName(r.Partition),
			Datacenter: r.Datacenter, Peer: r.Peer, SamenessGroup: r.SamenessGroup,
		}
	}
	for subset, f := range e.Failover {
		out.Failover = append(out.Failover, failover(subset, f))
	}
	sortedBy(out.Failover, (*isthmusv1.ServiceFailover).GetSubset)
	if e.LoadBalancer != nil {
		out.LoadBalancerJson = respelledJSON(e.LoadBalancer)
	}
	if p := e.PrioritizeByLocality; p != nil {
		out.PrioritizeByLocality = p.Mode
	}
	return out
}

func failover(subset string, f api.ServiceResolverFailover) *isthmusv1.ServiceFailover {
	out := &isthmusv1.ServiceFailover{
		Subset: subset, Service: f.Service, ServiceSubset: f.ServiceSubset, Namespace: plainName(f.Namespace),
		Datacenters: f.Datacenters, SamenessGroup: f.SamenessGroup,
	}
	for _, t := range f.Targets {
		out.Targets = append(out.Targets, &isthmusv1.ServiceFailoverTarget{
			Service: t.Service, ServiceSubset: t.ServiceSubset, Namespace: plainName(t.Namespace), Partition: plainName(t.Partition),
			Datacenter: t.Datacenter, Peer: t.Peer,
		})
	}
	if f.Policy != nil {
		out.Policy = failoverPolicy(f.Policy.Mode, f.Policy.Regions)
	}
	return out
}

func serviceSplitter(e *api.ServiceSplitterConfigEntry) *isthmusv1.ServiceSplitter {
	out := &isthmusv1.ServiceSplitter{}
	for _, s := range e.Splits {
		out.Splits = append(out.Splits, &isthmusv1.ServiceSplit{
			Weight: hundredths(s.Weight), Service: s.Service, ServiceSubset: s.ServiceSubset,
			Namespace: plainName(s.Namespace), Partition: plainName(s.Partition),
			RequestHeaders: headerModifiers(s.RequestHeaders), ResponseHeaders: headerModifiers(s.ResponseHeaders),
		})
	}
	return out
}

func mesh(e *api.MeshConfigEntry) *isthmusv1.Mesh {
	out := &isthmusv1.Mesh{
		TransparentProxyMeshDestinationsOnly: e.TransparentProxy.MeshDestinationsOnly,
		AllowEnablingPermissiveMutualTls:     e.AllowEnablingPermissiveMutualTLS, ValidateClusters: e.ValidateClusters,
	}
	if e.TLS != nil {
		out.TlsIncoming, out.TlsOutgoing = meshTLS(e.TLS.Incoming), meshTLS(e.TLS.Outgoing)
	}
	if e.HTTP != nil {
		out.SanitizeXForwardedClientCert = e.HTTP.SanitizeXForwardedClientCert
		if e.HTTP.Incoming != nil && e.HTTP.Incoming.RequestNormalization != nil {
			n := e.HTTP.Incoming.RequestNormalization
			out.RequestNormalization = unlessEmpty(&isthmusv1.RequestNormalization{
				InsecureDisablePathNormalization: n.InsecureDisablePathNormalization, MergeSlashes: n.MergeSlashes,
				PathWithEscapedSlashesAction: n.PathWithEscapedSlashesAction, HeadersWithUnderscoresAction: n.HeadersWithUnderscoresAction,
			})
		}
	}
	if e.Peering != nil {
		out.PeerThroughMeshGateways = e.Peering.PeerThroughMeshGateways
	}
	return out
}

func meshTLS(t *api.MeshDirectionalTLSConfig) *isthmusv1.MeshTLS {
	if t == nil {
		return nil
	}
	return unlessEmpty(&isthmusv1.MeshTLS{TlsMinVersion: t.TLSMinVersion, TlsMaxVersion: t.TLSMaxVersion, CipherSuites: t.CipherSuites})
}

func exportedServices(e *api.ExportedServicesConfigEntry) *isthmusv1.ExportedServices {
	out := &isthmusv1.ExportedServices{}
	for _, s := range e.Services {
		exported := &isthmusv1.ExportedService{Name: s.Name, Namespace: plainName(s.Namespace)}
		for _, c := range s.Consumers {
			exported.Consumers = append(exported.Consumers, &isthmusv1.ServiceConsumer{
				Partition: plainName(c.Partition), Peer: c.Peer, SamenessGroup: c.SamenessGroup,
			})
		}
		out.Services = append(out.Services, exported)
	}
	return out
}
