package consul

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"time"

	"github.com/hashicorp/consul/api"

	isthmusv1 "github.com/isthmus-mesh/isthmus/proto/isthmus/v1"
)

// GatewayRegistration is a mesh gateway as its own agent is told of it, in the
// form of "consul connect envoy -gateway=mesh -register".
type GatewayRegistration struct {
	// ID and Name of the service.
	ID, Name string
	// LAN is where callers of the own datacenter reach it, WAN those of others;
	// without one, the LAN address is for both.
	LAN, WAN HostPort
	// Binds are where it listens, by name. Empty: at LAN, or with BindTagged at
	// LAN and WAN.
	Binds      map[string]netip.AddrPort
	BindTagged bool
	// Starting: it accepts no connections yet, so its check begins as critical.
	Starting bool
}

// HostPort is an address as it is registered: a host may be a name.
type HostPort struct {
	Host string
	Port int
}

// String is host:port; nothing without a host.
func (a HostPort) String() string {
	if a.Host == "" {
		return ""
	}
	return net.JoinHostPort(a.Host, strconv.Itoa(a.Port))
}

// Terms of a gateway's registration, as Consul's own command has them.
const (
	gatewayCheckInterval = "10s"
	gatewayForgottenIn   = "6h"
)

// RegisterGateway registers a gateway with the agent, or registers it anew. Unless
// it is starting it must accept connections by now: its check begins as passing, where
// Consul's command has it begin as critical for up to ten seconds. Possible error:
// [ErrDenied], without service:write on its name.
func (c *Client) RegisterGateway(ctx context.Context, r GatewayRegistration) error {
	token, err := c.token.get()
	if err != nil {
		return err
	}
	checked := r.LAN.Host
	if checked == "" {
		checked = "127.0.0.1" // It and the agent are on one machine.
	}
	service := &api.AgentServiceRegistration{
		Kind: api.ServiceKindMeshGateway, ID: r.ID, Name: r.Name, Address: r.LAN.Host, Port: r.LAN.Port,
		TaggedAddresses: map[string]api.ServiceAddress{}, Proxy: r.proxy(),
		Check: &api.AgentServiceCheck{
			Name: isthmusv1.InstanceKindMeshGateway + " listening", TCP: HostPort{checked, r.LAN.Port}.String(),
			Interval: gatewayCheckInterval, DeregisterCriticalServiceAfter: gatewayForgottenIn, Status: api.HealthPassing,
		},
	}
	for tag, address := range map[string]HostPort{"lan": r.LAN, "wan": r.WAN} {
		if address.Host != "" {
			service.TaggedAddresses[tag] = api.ServiceAddress{Address: address.Host, Port: address.Port}
		}
	}
	if r.Starting {
		service.Check.Status = api.HealthCritical
	}
	ctx, cancel := context.WithTimeout(ctx, 3*waitGrace)
	defer cancel()
	options := api.ServiceRegisterOpts{ReplaceExistingChecks: true, Token: token}.WithContext(ctx)
	if err := c.api.Agent().ServiceRegisterOpts(service, options); err != nil {
		return failed(ctx, "register "+r.ID, err)
	}
	return nil
}

// proxy says where the gateway listens, in the keys that Consul's command writes.
func (r GatewayRegistration) proxy() *api.AgentServiceConnectProxyConfig {
	config := map[string]any{}
	switch {
	case len(r.Binds) > 0:
		addresses := map[string]api.ServiceAddress{}
		for name, at := range r.Binds {
			addresses[name] = api.ServiceAddress{Address: at.Addr().String(), Port: int(at.Port())}
		}
		config["envoy_gateway_no_default_bind"], config["envoy_gateway_bind_addresses"] = true, addresses
	case r.BindTagged:
		config["envoy_gateway_no_default_bind"], config["envoy_gateway_bind_tagged_addresses"] = true, true
	default:
		return nil
	}
	return &api.AgentServiceConnectProxyConfig{Config: config}
}

// Deregister takes a service from the agent. Possible errors: [ErrNotFound],
// [ErrDenied].
func (c *Client) Deregister(ctx context.Context, id string) error {
	options, cancel, err := c.options(ctx, Query{})
	if err != nil {
		return err
	}
	defer cancel()
	if err := c.api.Agent().ServiceDeregisterOpts(id, options); err != nil {
		return failed(ctx, "deregister "+id, err)
	}
	return nil
}

// LocalService is a service as its agent has it.
type LocalService struct {
	ID, Name, Kind string
	// Address and port as registered, for callers of the own datacenter.
	Address HostPort
	// Destination is the name of the service that it is the proxy of, Config what its
	// registration says of it, with what the agent has merged in; nothing where it is no
	// proxy.
	Destination string
	Config      map[string]any
	// Datacenter is the agent's.
	Datacenter string
	// Hash changes with its content.
	Hash string
}

// LocalService reads a service of the agent's; with a hash it waits until the
// service has another one, or is gone, or the wait is over. Possible errors:
// [ErrNotFound], [ErrDenied].
func (c *Client) LocalService(ctx context.Context, id, hash string, wait time.Duration) (LocalService, error) {
	index := uint64(0)
	if hash != "" {
		index = 1 // It counts as a wait; the agent goes by the hash alone.
	}
	options, cancel, err := c.options(ctx, Query{Index: index, Wait: wait})
	if err != nil {
		return LocalService{}, err
	}
	defer cancel()
	options.WaitIndex, options.WaitHash = 0, hash
	service, _, err := c.api.Agent().Service(id, options)
	if err != nil {
		return LocalService{}, failed(ctx, fmt.Sprintf("service %s of the agent", id), err)
	}
	local := LocalService{
		ID: service.ID, Name: service.Service, Kind: string(service.Kind), Address: HostPort{service.Address, service.Port},
		Datacenter: service.Datacenter, Hash: service.ContentHash,
	}
	if service.Proxy != nil {
		local.Destination, local.Config = service.Proxy.DestinationServiceName, service.Proxy.Config
	}
	return local, nil
}

// LocalFails reports whether a check of a service of the agent's, or of its node, is
// critical. Possible errors: [ErrNotFound], [ErrDenied].
func (c *Client) LocalFails(ctx context.Context, id string) (bool, error) {
	options, cancel, err := c.options(ctx, Query{})
	if err != nil {
		return false, err
	}
	defer cancel()
	status, _, err := c.api.Agent().AgentHealthServiceByIDOpts(id, options)
	switch {
	case err != nil:
		return false, failed(ctx, fmt.Sprintf("health of the service %s of the agent", id), err)
	case status == api.HealthMaint:
		return false, nil // Somebody means it.
	}
	return status == api.HealthCritical, nil
}
