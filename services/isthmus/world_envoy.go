package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"time"

	isthmusv1 "github.com/isthmus-mesh/isthmus/proto/isthmus/v1"
	"github.com/isthmus-mesh/isthmus/services/envoy"
	"github.com/isthmus-mesh/isthmus/services/identity"
	"github.com/isthmus-mesh/isthmus/services/role"
	"github.com/isthmus-mesh/isthmus/xdsnode/bootstrap"
	"github.com/isthmus-mesh/isthmus/xdsnode/sds"
)

// worldEnvoy is a part of a world that is an Envoy: a child of this process, with its
// certificate from a socket of its own and the rest from the xds node of its datacenter.
type worldEnvoy struct {
	datacenter, node, id string
	// service is the one whose certificate it has.
	service  string
	gateway  bool
	instance *isthmusv1.ServiceInstance
	// dir is its own: the socket, and where its admin server is.
	dir string

	// live is closed when it serves.
	live chan struct{}

	mu sync.Mutex
	// admin is the address of its admin server; empty: it is not known yet.
	admin string
}

// newEnvoy makes an Envoy of a registration. Its directory's name is short, since a
// socket's path has to be.
func (w *world) newEnvoy(datacenter, node string, i *isthmusv1.ServiceInstance) *worldEnvoy {
	w.made++
	return &worldEnvoy{
		datacenter: datacenter, node: node, id: i.GetId(), instance: i,
		service: cmp.Or(i.GetProxy().GetDestinationServiceName(), i.GetName()),
		gateway: i.GetKind() == isthmusv1.InstanceKindMeshGateway,
		dir:     filepath.Join(w.dir, "envoy", strconv.Itoa(w.made)), live: make(chan struct{}),
	}
}

// proxy is its name: NODE/ID.
func (e *worldEnvoy) proxy() string { return e.node + "/" + e.id }

// kind is what it is, for people.
func (e *worldEnvoy) kind() string {
	if e.gateway {
		return "gateway"
	}
	return "sidecar"
}

// waiting says what it waits for.
func (e *worldEnvoy) waiting() string {
	select {
	case <-e.live:
		return ""
	default:
		return "Envoy has yet to get its certificate and its first configuration"
	}
}

// wait waits until it serves.
func (e *worldEnvoy) wait(ctx context.Context) error {
	select {
	case <-e.live:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("%s %s: %s: %w", e.kind(), e.proxy(), e.waiting(), context.Cause(ctx))
	}
}

// errEnvoyEnded says that an Envoy ended that nobody had told to.
var errEnvoyEnded = errors.New("the Envoy ended by itself")

// component runs the Envoy. lines takes what it writes to its access log; nil: nobody.
func (w *world) envoyPart(e *worldEnvoy, lines func(string)) (role.Component, error) {
	logger := w.app.logger.With("role", "envoy", "dc", e.datacenter, "name", e.proxy())
	if err := os.MkdirAll(e.dir, 0o700); err != nil {
		return role.Component{}, err
	}
	secrets := newSecrets(logger)
	return role.Component{
		Name:    "envoy " + e.kind() + " " + e.datacenter + " " + e.proxy(),
		Waiting: e.waiting,
		Run: func(ctx context.Context, started func()) error {
			listener, err := sds.Listen(e.socket())
			if err != nil {
				return err
			}
			started() // Many start at once.
			return together(ctx,
				func(ctx context.Context) error { return w.runEnvoy(ctx, e, secrets.live, lines) },
				func(ctx context.Context) error { return secrets.serve(ctx, listener) },
				func(ctx context.Context) error {
					name := identity.Name{Service: &isthmusv1.ServiceRef{Name: e.service}, Datacenter: e.datacenter}
					return secrets.follow(ctx, w.identity(e.datacenter), name)
				},
				e.awaitLive,
			)
		},
	}, nil
}

func (e *worldEnvoy) socket() string    { return filepath.Join(e.dir, "sds") }
func (e *worldEnvoy) adminFile() string { return filepath.Join(e.dir, "admin") }

// runEnvoy runs the Envoy once there is a certificate, until it ends.
func (w *world) runEnvoy(ctx context.Context, e *worldEnvoy, live *identity.Live, lines func(string)) error {
	if _, err := awaitIdentity(ctx, live); err != nil {
		return err
	}
	text, err := w.bootstrap(e)
	if err != nil {
		return err
	}
	said := &lastLines{}
	out := io.Discard
	if lines != nil {
		out = &lineWriter{line: lines}
	}
	command := envoy.Command{
		Binary: w.dataplane.envoy, Bootstrap: text, Stdout: out, Stderr: said, StopWithin: worldDrain, Logger: w.app.logger,
		Args: []string{
			"--concurrency", "1", "--log-level", "warning", "--admin-address-path", e.adminFile(),
			// Nothing is left in shared memory, and lines of the access log come soon.
			"--disable-hot-restart", "--file-flush-interval-msec", "20",
		},
	}
	if e.gateway {
		command.Stopping = func(context.Context) { e.drain(worldDrain) }
	}
	status, err := command.Run(ctx)
	switch {
	case err != nil:
		return hint{err, "see that it runs: " + w.dataplane.envoy + " --version; or take --dataplane go"}
	case ctx.Err() != nil:
		return context.Cause(ctx)
	}
	return fmt.Errorf("%w with the exit status %d%s", errEnvoyEnded, status, said.text())
}

// bootstrap is what the Envoy starts with; keys of its registration count as they do for
// "isthmus envoy".
func (w *world) bootstrap(e *worldEnvoy) ([]byte, error) {
	at := w.nodes[e.datacenter].Addr().(*net.TCPAddr).AddrPort()
	config := bootstrap.Config{
		ID: e.id, Node: e.node, Service: e.service, Datacenter: e.datacenter, TrustDomain: w.trustDomain,
		Nodes: []bootstrap.HostPort{{Host: at.Addr().String(), Port: at.Port()}},
		SDS:   e.socket(), Admin: netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), 0),
	}
	var keys map[string]any
	if text := e.instance.GetProxy().GetConfigJson(); len(text) > 0 {
		if err := json.Unmarshal(text, &keys); err != nil {
			return nil, fmt.Errorf("config of %s: %w", e.proxy(), err)
		}
	}
	if err := byRegistration(&config, keys); err != nil {
		return nil, hint{fmt.Errorf("%s: %w", e.proxy(), err), "correct the key in the registration"}
	}
	return bootstrap.Render(config)
}

// openNodes binds an address for the xds node of each datacenter that has an Envoy.
func (w *world) openNodes() error {
	w.nodes = make(map[string]net.Listener)
	for _, e := range w.envoys() {
		if w.nodes[e.datacenter] != nil {
			continue
		}
		listener, err := new(net.ListenConfig).Listen(context.Background(), "tcp", "127.0.0.1:0")
		if err != nil {
			return fmt.Errorf("xds node of %s: %w", e.datacenter, err)
		}
		w.nodes[e.datacenter] = listener
	}
	return nil
}

// xds is the xds node of a datacenter.
func (w *world) xds(p parts, dc string) (role.Component, error) {
	listener := w.nodes[dc]
	return xdsPart(p, xdsSettings{
		datacenter: dc, listen: listener.Addr().String(), listener: listener, identity: w.identity(dc),
	})
}

// drain has the Envoy accept no more, and waits until its connections have ended, or for
// so long.
func (e *worldEnvoy) drain(atMost time.Duration) {
	ctx, cancel := context.WithTimeout(context.Background(), atMost)
	defer cancel()
	if _, err := e.post(ctx, "/drain_listeners"); err != nil {
		return // It is gone, or was never there.
	}
	_ = every(ctx, 10*time.Millisecond, func(ctx context.Context) (bool, error) {
		active, err := e.openConnections(ctx)
		return active == 0, err
	})
}
