package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/isthmus-mesh/isthmus/gateway"
	isthmusv1 "github.com/isthmus-mesh/isthmus/proto/isthmus/v1"
	"github.com/isthmus-mesh/isthmus/services/consul"
)

// localAgent is what a registrar needs of the local Consul agent.
type localAgent interface {
	RegisterGateway(ctx context.Context, r consul.GatewayRegistration) error
	Deregister(ctx context.Context, id string) error
	LocalService(ctx context.Context, id, hash string, wait time.Duration) (consul.LocalService, error)
	Self(ctx context.Context) (consul.Self, error)
}

// registrar keeps a gateway registered with the local agent.
type registrar struct {
	agent localAgent
	// datacenter is the gateway's, and must be the agent's.
	datacenter string
	// node is the one that the gateway is to be on; empty: any.
	node         string
	registration consul.GatewayRegistration
	logger       *slog.Logger
	// pause is how long to wait after a failure. Zero: 1 s.
	pause time.Duration

	mu      sync.Mutex
	made    bool
	trouble string
}

var (
	_ gateway.Registrar = (*registrar)(nil)
	_ localAgent        = (*consul.Client)(nil)
)

// errOtherService says that the agent has another service of the gateway's ID.
var errOtherService = errors.New("the agent has another service of this ID")

// errOtherDatacenter says that the agent is not of the gateway's datacenter, where the
// gateway would replace another one.
var errOtherDatacenter = errors.New("the agent is of another datacenter")

// watchAgent is how long one look at the agent waits for a change: an agent that
// was replaced without closing the connection is noticed then, at the latest.
const watchAgent = 30 * time.Second

// Keep registers the gateway and looks after it. Until it is registered for the
// first time a refusal is final: whoever started the gateway should see it. Later
// ones are tried again, as is an agent that does not answer.
func (r *registrar) Keep(ctx context.Context, registered func(node string)) error {
	hash := ""
	for ctx.Err() == nil {
		next, err := r.look(ctx, hash, registered)
		switch {
		case ctx.Err() != nil: // That is how it ends.
			continue
		case err == nil:
			hash = next
			r.say("")
			continue
		case r.final(err):
			return err
		}
		hash = ""
		r.say(err.Error())
		r.wait(ctx)
	}
	return nil
}

// look waits for a change beyond the hash, and registers what is not there. With
// no hash it registers in any case: what is there may be of an earlier start,
// with other flags.
func (r *registrar) look(ctx context.Context, hash string, registered func(string)) (string, error) {
	at := r.registration
	service, err := r.agent.LocalService(ctx, at.ID, hash, watchAgent)
	switch {
	case errors.Is(err, consul.ErrNotFound):
		if hash != "" {
			r.logger.Warn("the agent has lost the gateway; it is registered again", "id", at.ID)
		}
	case err != nil:
		return "", r.explain(err)
	case service.Kind != isthmusv1.InstanceKindMeshGateway:
		kind := service.Kind
		if kind == "" {
			kind = "typical service"
		}
		return "", fmt.Errorf("%w: %s is a %s named %s; give another --proxy-id, or deregister it", errOtherService, at.ID, kind, service.Name)
	case hash != "":
		return service.Hash, nil
	default:
		if err := r.own(service.Datacenter); err != nil {
			return "", err
		}
	}
	node, err := r.ownNode(ctx)
	if err != nil {
		return "", err
	}
	if err := r.agent.RegisterGateway(ctx, at); err != nil {
		return "", r.explain(err)
	}
	r.mu.Lock()
	r.made = true
	r.mu.Unlock()
	if service, err = r.agent.LocalService(ctx, at.ID, "", 0); err != nil {
		return "", r.explain(err)
	}
	if err := r.own(service.Datacenter); err != nil {
		return "", errors.Join(err, r.Withdraw(ctx))
	}
	r.logger.Info("the gateway is registered", "id", at.ID, "service", at.Name, "node", node, "lan", at.LAN, "wan", at.WAN)
	registered(node)
	return service.Hash, nil
}

// ownNode is the agent's node; empty when the agent does not say.
func (r *registrar) ownNode(ctx context.Context) (string, error) {
	self, err := r.agent.Self(ctx)
	if err == nil {
		err = r.own(self.Datacenter)
	}
	switch {
	case err == nil && r.node != "" && r.node != self.NodeName:
		return "", fmt.Errorf("%w: --proxy-id names the node %s, and the agent is that of %s", errOtherService, r.node, self.NodeName)
	case err == nil:
		return self.NodeName, nil
	case errors.Is(err, consul.ErrDenied):
		if r.node == "" {
			r.logger.Info("which node the agent is of is not readable (agent:read); --proxy-id NODE/ID says it too", "err", err)
		}
		return r.node, nil
	}
	return "", err
}

// own wants a datacenter to be the gateway's; an agent may say none.
func (r *registrar) own(datacenter string) error {
	if datacenter == "" || strings.EqualFold(datacenter, r.datacenter) {
		return nil
	}
	return fmt.Errorf("%w: it is of %s, and the gateway of %s; give --consul the local agent's address, or --datacenter %s", errOtherDatacenter, datacenter, r.datacenter, datacenter)
}

// explain names the right that is missing.
func (r *registrar) explain(err error) error {
	if errors.Is(err, consul.ErrDenied) {
		return fmt.Errorf("the token may not register the gateway: it needs service:write on %q: %w", r.registration.Name, err)
	}
	return err
}

func (r *registrar) final(err error) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return !r.made && (errors.Is(err, errOtherService) || errors.Is(err, errOtherDatacenter) || errors.Is(err, consul.ErrDenied))
}

// say keeps why the gateway is not registered, and logs it when that changes.
func (r *registrar) say(trouble string) {
	r.mu.Lock()
	before := r.trouble
	r.trouble = trouble
	r.mu.Unlock()
	if trouble != "" && trouble != before {
		r.logger.Warn("the gateway is not registered, or that cannot be seen", "err", trouble)
	}
}

// Trouble says why the gateway is not registered.
func (r *registrar) Trouble() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.trouble
}

func (r *registrar) wait(ctx context.Context) {
	pause := r.pause
	if pause == 0 {
		pause = time.Second
	}
	timer := time.NewTimer(pause)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

// Withdraw deregisters the gateway, if it was registered here and still is a
// gateway.
func (r *registrar) Withdraw(ctx context.Context) error {
	r.mu.Lock()
	made := r.made
	r.mu.Unlock()
	if !made {
		return nil
	}
	id := r.registration.ID
	service, err := r.agent.LocalService(ctx, id, "", 0)
	if err == nil && service.Kind == isthmusv1.InstanceKindMeshGateway {
		err = r.agent.Deregister(ctx, id)
	}
	if err != nil && !errors.Is(err, consul.ErrNotFound) {
		return r.explain(err)
	}
	r.mu.Lock()
	r.made = false
	r.mu.Unlock()
	r.logger.Info("the gateway is deregistered", "id", id)
	return nil
}
