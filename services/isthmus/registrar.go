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
	LocalFails(ctx context.Context, id string) (bool, error)
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

	// failing is since when another gateway is registered in its place, and fails its
	// checks; only [registrar.Keep] uses it.
	failing time.Time

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

// errReplaced says that another gateway was registered in this one's place.
var errReplaced = errors.New("another gateway was registered under the same ID")

// registerWithin is how long a registration may take. It is not broken off when the
// gateway is told to stop: what the agent came to have of it could not be told then.
const registerWithin = 5 * time.Second

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
		case errors.Is(err, errReplaced):
			hash = next
			r.say(err.Error())
			continue
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
	case r.registered() && !r.ours(service):
		if !r.takesBack(ctx) {
			return service.Hash, r.replaced(service)
		}
	case hash != "":
		return service.Hash, nil
	default:
		if err := r.own(service.Datacenter); err != nil {
			return "", err
		}
		if !r.ours(service) {
			r.logger.Warn("a gateway of the same ID is registered at another address; it is replaced", "id", at.ID, "address", service.Address)
		}
	}
	return r.register(ctx, registered)
}

// register registers the gateway, and returns the hash of what the agent then has.
func (r *registrar) register(ctx context.Context, registered func(string)) (string, error) {
	at := r.registration
	node, err := r.ownNode(ctx)
	if err != nil {
		return "", err
	}
	if err := r.put(ctx); err != nil {
		return "", r.explain(err)
	}
	service, err := r.agent.LocalService(ctx, at.ID, "", 0)
	if err != nil {
		return "", r.explain(err)
	}
	if err := r.own(service.Datacenter); err != nil {
		return "", errors.Join(err, r.Withdraw(ctx))
	}
	r.logger.Info("the gateway is registered", "id", at.ID, "service", at.Name, "node", node, "lan", at.LAN, "wan", at.WAN)
	registered(node)
	return service.Hash, nil
}

// put has the agent take the registration, also while the gateway is told to stop.
func (r *registrar) put(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), registerWithin)
	defer cancel()
	if err := r.agent.RegisterGateway(ctx, r.registration); err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	// Whoever was to start has started when the agent loses it.
	r.made, r.registration.Starting = true, false
	return nil
}

// registered reports whether the gateway was registered here.
func (r *registrar) registered() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.made
}

// ours reports whether a registration leads to this gateway.
func (r *registrar) ours(service consul.LocalService) bool {
	return service.Address == r.registration.LAN
}

// replaced states that the registration leads to another gateway, which is let be: two
// that take it from each other would be worse.
func (r *registrar) replaced(service consul.LocalService) error {
	return fmt.Errorf("%w: %s is at %s now, and this one at %s gets no callers; stop one of them, or give each its own --proxy-id", errReplaced,
		r.registration.ID, service.Address, r.registration.LAN)
}

// takesBack reports whether the gateway that is registered in this one's place has
// failed for so long that it is no more.
func (r *registrar) takesBack(ctx context.Context) bool {
	fails, err := r.agent.LocalFails(ctx, r.registration.ID)
	switch {
	case err != nil || !fails:
		r.failing = time.Time{}
		return false
	case r.failing.IsZero():
		r.failing = time.Now()
	}
	if time.Since(r.failing) < watchAgent {
		return false
	}
	r.failing = time.Time{}
	r.logger.Warn("the gateway that was registered in this one's place fails its checks; this one is registered again", "id", r.registration.ID)
	return true
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

// Withdraw deregisters the gateway, if it was registered here and the registration
// still leads to it.
func (r *registrar) Withdraw(ctx context.Context) error {
	if !r.registered() {
		return nil
	}
	id := r.registration.ID
	service, err := r.agent.LocalService(ctx, id, "", 0)
	took := err == nil && service.Kind == isthmusv1.InstanceKindMeshGateway && r.ours(service)
	if took {
		err = r.agent.Deregister(ctx, id)
	}
	if err != nil && !errors.Is(err, consul.ErrNotFound) {
		return r.explain(err)
	}
	r.mu.Lock()
	r.made = false
	r.mu.Unlock()
	if took {
		r.logger.Info("the gateway is deregistered", "id", id)
	} else {
		r.logger.Info("the registration is gone, or leads to another gateway: it is let be", "id", id)
	}
	return nil
}
