package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	isthmusv1 "github.com/isthmus-mesh/isthmus/proto/isthmus/v1"
	"github.com/isthmus-mesh/isthmus/services/consul"
	"github.com/isthmus-mesh/isthmus/services/identity"
)

// proxyFlags say which registration an Envoy is the proxy of. They follow "consul
// connect envoy".
type proxyFlags struct {
	sidecarFor, gateway, id, node string
}

func (f *proxyFlags) register(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringVar(&f.sidecarFor, "sidecar-for", "", "ID of the service whose sidecar it is; without Consul, the sidecar's ID is that and -sidecar-proxy")
	flags.StringVar(&f.gateway, "gateway", "", "ID of the mesh gateway's registration")
	flags.StringVar(&f.id, "proxy-id", "", "ID of the proxy's own registration")
	flags.StringVar(&f.node, "node-name", "", "node that it is registered on, where the ID stands on several")
}

// sidecarSuffix is what Consul adds to a service's ID for that of its sidecar (Consul
// agent/sidecar_service.go).
const sidecarSuffix = "-sidecar-proxy"

func (f *proxyFlags) check() error {
	switch {
	case f.sidecarFor == "" && f.gateway == "" && f.id == "":
		return usageError{errors.New("--sidecar-for, --gateway or --proxy-id is missing: whose proxy the Envoy is")}
	case f.sidecarFor != "" && f.gateway != "":
		return usageError{errors.New("--sidecar-for and --gateway exclude each other")}
	case f.gateway != "" && f.id != "" && f.gateway != f.id:
		return usageError{errors.New("--gateway and --proxy-id name two registrations; give one of them")}
	}
	return nil
}

// byName is the proxy as the flags alone name it.
func (f *proxyFlags) byName() envoyProxy {
	p := envoyProxy{id: cmp.Or(f.id, f.gateway), node: f.node}
	if p.id == "" {
		p.id = f.sidecarFor + sidecarSuffix
	}
	return p
}

// envoyProxy is what is known of the proxy that an Envoy is.
type envoyProxy struct {
	id, node string
	// service is the one whose certificate it has; empty: not known.
	service, datacenter string
	// config is what its registration says of it.
	config map[string]any
}

// name is whose certificate it has.
func (p envoyProxy) name() identity.Name {
	return identity.Name{Service: &isthmusv1.ServiceRef{Name: p.service}, Datacenter: p.datacenter}
}

// agentOfProxy is what is asked of the local Consul agent.
type agentOfProxy interface {
	SidecarFor(ctx context.Context, id string) (string, error)
	LocalService(ctx context.Context, id, hash string, wait time.Duration) (consul.LocalService, error)
	Self(ctx context.Context) (consul.Self, error)
}

var _ agentOfProxy = (*consul.Client)(nil)

var (
	// errNotAProxy says that a registration is not one that an Envoy can serve.
	errNotAProxy = errors.New("the registration is not that of a sidecar or of a mesh gateway")
	// errOtherNode says that the agent is not of the node that was named.
	errOtherNode = errors.New("the agent is of another node")
)

// byAgent is the proxy as the local agent has it registered.
func (f *proxyFlags) byAgent(ctx context.Context, agent agentOfProxy) (envoyProxy, error) {
	p := f.byName()
	if f.id == "" && f.sidecarFor != "" {
		id, err := agent.SidecarFor(ctx, f.sidecarFor)
		switch {
		case errors.Is(err, consul.ErrSeveralProxies):
			return p, hint{err, "name one of them with --proxy-id"}
		case errors.Is(err, consul.ErrNotFound):
			return p, hint{err, "register its sidecar with this agent, or name the proxy with --proxy-id"}
		case err != nil:
			return p, err
		}
		p.id = id
	}
	service, err := agent.LocalService(ctx, p.id, "", 0)
	if errors.Is(err, consul.ErrNotFound) {
		next := "register it with this agent; where another node has it, run this there"
		if f.gateway != "" {
			next += `; --gateway is the registration's ID, not a kind as Consul's "-gateway=mesh" is`
		}
		return p, hint{err, next}
	}
	if err != nil {
		return p, err
	}
	switch service.Kind {
	case isthmusv1.InstanceKindProxy:
		p.service = service.Destination
	case isthmusv1.InstanceKindMeshGateway:
		p.service = service.Name
	default:
		return p, hint{fmt.Errorf("%s: %w, but of the %s %s", p.id, errNotAProxy, cmp.Or(service.Kind, "service"), service.Name), "name the service with --sidecar-for, or its proxy"}
	}
	p.datacenter, p.config = service.Datacenter, service.Config
	return p, p.place(ctx, agent)
}

// place says which node the proxy is on and, where the registration did not, which
// datacenter it is of. Without the right to know it (agent:read) that stays as it is.
func (p *envoyProxy) place(ctx context.Context, agent agentOfProxy) error {
	self, err := agent.Self(ctx)
	switch {
	case errors.Is(err, consul.ErrDenied) && p.datacenter != "":
		return nil
	case errors.Is(err, consul.ErrDenied):
		return hint{err, "give --datacenter, or a token with agent:read"}
	case err != nil:
		return err
	case p.node != "" && !strings.EqualFold(p.node, self.NodeName):
		return hint{fmt.Errorf("%w: --node-name is %s, and the agent is that of %s", errOtherNode, p.node, self.NodeName), "give --consul the address of the agent on that node"}
	}
	p.node = self.NodeName
	p.datacenter = cmp.Or(p.datacenter, self.Datacenter)
	return nil
}

// leafFlags say where the certificate of an Envoy comes from, and whose it is.
type leafFlags struct {
	consul                                  *consulFlags
	service, datacenter, trustDomain, caDir string
}

// register adds the flags but for those of Consul, and for --service where that is
// there.
func (f *leafFlags) register(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringVar(&f.datacenter, "datacenter", "", "name of the own datacenter; else that of the agent")
	flags.StringVar(&f.caDir, "ca-dir", "", "directory of PEM files or of a dev CA, where certificates come from without Consul")
	flags.StringVar(&f.trustDomain, "trust-domain", "", "trust domain of the dev CA in --ca-dir; else its own")
}

// files reports whether certificates come from a directory.
func (f *leafFlags) files() bool { return f.consul.url == "" }

// check finds out where certificates come from, and what is missing.
func (f *leafFlags) check(a *app) error {
	if f.caDir == "" && f.trustDomain == "" {
		f.consul.fromEnvironment(a)
	}
	switch {
	case f.files() && f.caDir == "":
		return usageError{errors.New("--consul (or CONSUL_HTTP_ADDR) or --ca-dir is missing: where the certificate comes from")}
	case f.files():
		if err := required("service", f.service, "datacenter", f.datacenter); err != nil {
			return usageError{fmt.Errorf("%w: without Consul, whose certificate it is has to be named", err)}
		}
	case f.caDir != "" || f.trustDomain != "":
		return usageError{errors.New("--consul excludes --ca-dir and --trust-domain: certificates have one source")}
	}
	return nil
}

// open makes the source of the certificate, and finds out whose it is, for which it
// waits while the agent does not answer.
func (f *leafFlags) open(ctx context.Context, a *app, proxy proxyFlags) (identity.Source, envoyProxy, error) {
	p := proxy.byName()
	if f.files() {
		source, err := a.openIdentity(f.trustDomain, f.caDir)
		p.service, p.datacenter = f.service, f.datacenter
		return source, p, err
	}
	client, err := f.consul.open(a)
	if err != nil {
		return nil, p, err
	}
	p, err = f.retry(ctx, a, func(ctx context.Context) (envoyProxy, error) { return f.askOnce(ctx, proxy, client) })
	return client.Leaves(), p, err
}

// agentPause is how long to wait before an agent that did not answer is asked again.
const agentPause = time.Second

// retry asks the agent until it answers.
func (f *leafFlags) retry(ctx context.Context, a *app, ask func(context.Context) (envoyProxy, error)) (envoyProxy, error) {
	said := ""
	for {
		p, err := ask(ctx)
		if err == nil || !errors.Is(err, consul.ErrUnavailable) && !errors.Is(err, consul.ErrTooMany) || errors.Is(err, consul.ErrMisaddressed) {
			return p, err
		}
		if text := err.Error(); text != said {
			said = text
			a.logger.Warn("waiting for the Consul agent, which knows the proxy's registration", "err", err)
		}
		select {
		case <-time.After(agentPause):
		case <-ctx.Done():
			return p, context.Cause(ctx)
		}
	}
}

// askOnce asks the agent for what the flags do not say.
func (f *leafFlags) askOnce(ctx context.Context, proxy proxyFlags, agent agentOfProxy) (envoyProxy, error) {
	p := proxy.byName()
	if f.service == "" {
		asked, err := proxy.byAgent(ctx, agent)
		if err != nil {
			return asked, err
		}
		p = asked
	}
	p.service = cmp.Or(f.service, p.service)
	p.datacenter = cmp.Or(f.datacenter, p.datacenter)
	if p.datacenter != "" {
		return p, nil
	}
	return p, p.place(ctx, agent)
}
