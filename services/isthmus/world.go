package main

import (
	"cmp"
	"context"
	"errors"
	"io"
	"maps"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/isthmus-mesh/isthmus/bus"
	"github.com/isthmus-mesh/isthmus/bus/embed"
	"github.com/isthmus-mesh/isthmus/gateway"
	"github.com/isthmus-mesh/isthmus/gateway/sidecar"
	"github.com/isthmus-mesh/isthmus/gateway/table"
	isthmusv1 "github.com/isthmus-mesh/isthmus/proto/isthmus/v1"
	"github.com/isthmus-mesh/isthmus/services/consul"
	"github.com/isthmus-mesh/isthmus/services/identity"
	"github.com/isthmus-mesh/isthmus/services/role"
	"github.com/isthmus-mesh/isthmus/watcher/file"
)

// world is every role of every datacenter of a catalog in one process, over
// real sockets: a NATS server, watchers, resolvers, the gateways and sidecars
// that the catalog registers, and an application beside each sidecar.
type world struct {
	app     *app
	catalog string
	// dir holds streams, saved tables and certificates.
	dir string
	ca  *identity.DevCA
	// agents are the Consul agents of the datacenters, which then have the catalog
	// and the certificates; nil: those are files and the dev CA's.
	agents map[string]*consul.Client
	// trustDomain is the dev CA's, or Consul's.
	trustDomain string
	// leftOut says what is registered and does not run here, and why.
	leftOut []leftOut

	server   *embed.Server
	registry *prometheus.Registry
	records  *recorder

	datacenters []string
	gateways    []*worldGateway
	sidecars    []worldSidecar
	apps        []application

	// dataplane says which parts are Envoys; nodes are where their xds nodes listen, by
	// datacenter, and made counts the Envoys.
	dataplane dataplane
	nodes     map[string]net.Listener
	made      int
	// accessLogs: the Envoys write what the demo reads.
	accessLogs bool

	// claim holds the networks of the built-in catalog, if it is that.
	claim io.Closer

	mu   sync.Mutex
	logs []*bus.JetStream
}

// worldGateway is a registered mesh gateway.
type worldGateway struct {
	datacenter, node, id string
	// name is the node's, or NODE/ID where the node has several gateways.
	name   string
	listen []string
	// on is its node, and instance its registration, which stands in a file of its
	// datacenter's directory, or is Consul's.
	on       *isthmusv1.Node
	instance *isthmusv1.ServiceInstance
	file     string
	stop     *stoppable
	// running is the Go gateway, or envoy the Envoy that it is.
	running *gateway.Gateway
	envoy   *worldEnvoy
}

// worldDrain is how long a gateway of the world lets connections go on when it
// stops: somebody waits for it at a terminal.
const worldDrain = 2 * time.Second

// worldSidecar is a registered proxy.
type worldSidecar struct {
	datacenter, node, id string
	// public is where its callers connect.
	public   string
	instance *isthmusv1.ServiceInstance
	// envoy is the Envoy that it is; nil: it is a Go sidecar.
	envoy *worldEnvoy
}

// proxy is its name: NODE/ID.
func (s worldSidecar) proxy() string { return s.node + "/" + s.id }

// newWorld reads a catalog and starts the NATS server. Close it.
func newWorld(a *app, catalog, dir string, ca *identity.DevCA) (*world, error) {
	w := &world{
		app: a, catalog: catalog, dir: dir, ca: ca, trustDomain: ca.TrustDomain(), registry: newRegistry(), records: newRecorder(),
	}
	loaded, err := loadCatalog(catalog, ca)
	if err != nil {
		return nil, err
	}
	for _, d := range loaded.Datacenters {
		w.datacenters = append(w.datacenters, d.Name)
		w.addFiles(d)
	}
	w.nameGateways()
	if err := w.checkAddresses(); err != nil {
		return nil, err
	}
	w.server, err = embed.Start(embed.Options{StoreDir: filepath.Join(dir, "nats"), Logger: a.logger})
	return w, err
}

// loadCatalog reads a catalog that is to be whole and without errors.
func loadCatalog(catalog string, ca *identity.DevCA) (*file.Loaded, error) {
	loaded, err := file.Load(catalog, file.LoadOptions{TrustDomain: ca.TrustDomain()})
	if err != nil {
		return nil, hint{err, "name the directory that holds one directory per datacenter"}
	}
	if loaded.HasErrors() {
		var errs []error
		for _, p := range loaded.Problems() {
			errs = append(errs, errors.New(p.String()))
		}
		return nil, hint{errors.Join(errs...), "isthmus validate " + catalog}
	}
	if loaded.Layout != file.LayoutCatalog {
		return nil, notCatalog(catalog)
	}
	return loaded, nil
}

// addFiles notes what a datacenter registers in files.
func (w *world) addFiles(d file.Datacenter) {
	nodes := make(map[string]*isthmusv1.Node)
	for _, v := range d.Values {
		if n, ok := v.Value.(*isthmusv1.Node); ok {
			nodes[n.GetName()] = n
		}
	}
	for _, v := range d.Values {
		if i, ok := v.Value.(*isthmusv1.ServiceInstance); ok {
			before := len(w.gateways)
			w.addInstance(d.Name, nodes[i.GetNode()], i)
			for _, g := range w.gateways[before:] {
				g.file = v.Source.GetFile()
			}
			w.addApplication(d.Name, i)
		}
	}
}

// addInstance notes an instance that is a gateway or a sidecar.
func (w *world) addInstance(datacenter string, node *isthmusv1.Node, i *isthmusv1.ServiceInstance) {
	switch i.GetKind() {
	case isthmusv1.InstanceKindMeshGateway:
		lan, lanPort := isthmusv1.LANAddress(node, i)
		wan, wanPort := isthmusv1.WANAddress(node, i)
		listen := []string{hostPort(lan, lanPort), hostPort(wan, wanPort)}
		w.gateways = append(w.gateways, &worldGateway{
			datacenter: datacenter, node: i.GetNode(), id: i.GetId(), listen: slices.Compact(listen), on: node, instance: i,
			stop: newStoppable(),
		})
	case isthmusv1.InstanceKindProxy:
		w.sidecars = append(w.sidecars, worldSidecar{
			datacenter: datacenter, node: i.GetNode(), id: i.GetId(), public: hostPort(isthmusv1.LANAddress(node, i)), instance: i,
		})
	}
}

// addApplication notes the stand-in for the application beside a sidecar.
func (w *world) addApplication(datacenter string, i *isthmusv1.ServiceInstance) {
	if p := i.GetProxy(); i.GetKind() == isthmusv1.InstanceKindProxy && p.GetLocalServicePort() != 0 {
		w.apps = append(w.apps, application{
			service: p.GetDestinationServiceName(), datacenter: datacenter, node: i.GetNode(),
			address: hostPort(cmp.Or(p.GetLocalServiceAddress(), "127.0.0.1"), p.GetLocalServicePort()),
		})
	}
}

// nameGateways names each gateway by its node, which tells most of them apart.
func (w *world) nameGateways() {
	type place struct{ datacenter, node string }
	onNode := make(map[place]int)
	for _, g := range w.gateways {
		onNode[place{g.datacenter, g.node}]++
	}
	for _, g := range w.gateways {
		g.name = g.node
		if onNode[place{g.datacenter, g.node}] > 1 {
			g.name = g.node + "/" + g.id
		}
	}
}

func hostPort(host string, port uint32) string {
	return net.JoinHostPort(host, strconv.FormatUint(uint64(port), 10))
}

// connect opens a connection to the bus, as a process of its own would.
func (w *world) connect(name string) (bus.Log, error) {
	log, err := bus.Connect(w.server.URL(), bus.Options{Name: name, Logger: w.app.logger})
	if err != nil {
		return nil, err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.logs = append(w.logs, log)
	return log, nil
}

// close ends what newWorld started, after the table has stopped.
func (w *world) close() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, log := range w.logs {
		log.Close()
	}
	if w.server != nil {
		w.server.Stop()
	}
	for _, listener := range w.nodes {
		_ = listener.Close() // Its node has, if it ran.
	}
	if w.claim != nil {
		_ = w.claim.Close() // Nothing is lost with it.
	}
}

// table is every part, in the order in which they start.
func (w *world) table() ([]role.Component, error) {
	if err := w.openNodes(); err != nil {
		return nil, err
	}
	var table []role.Component
	add := func(name string, part func(parts) (role.Component, error)) error {
		log, err := w.connect(name)
		if err != nil {
			return err
		}
		component, err := part(w.app.parts(log, w.registry))
		table = append(table, component)
		return err
	}
	var errs []error
	for _, dc := range w.datacenters {
		errs = append(errs, add("watcher "+dc, func(p parts) (role.Component, error) {
			return watcherPart(p, w.watcher(dc))
		}))
	}
	errs = append(errs, add("catalogs", func(p parts) (role.Component, error) { return catalogsPart(p, w.datacenters), nil }))
	for _, dc := range w.datacenters {
		errs = append(errs, add("resolver "+dc, func(p parts) (role.Component, error) { return resolverPart(p, dc, 1) }))
	}
	for _, dc := range slices.Sorted(maps.Keys(w.nodes)) {
		errs = append(errs, add("xds "+dc, func(p parts) (role.Component, error) { return w.xds(p, dc) }))
	}
	for _, a := range w.apps {
		table = append(table, role.Component{Name: "application " + a.name() + " on " + a.node + " at " + a.address, Run: a.run})
	}
	for _, g := range w.gateways {
		if g.envoy != nil {
			component, err := w.envoyPart(g.envoy, nil)
			table, errs = append(table, g.stop.component(component)), append(errs, err)
			continue
		}
		errs = append(errs, add("gateway "+g.name, func(p parts) (role.Component, error) { return w.gateway(p, g) }))
	}
	for _, s := range w.sidecars {
		if s.envoy != nil {
			component, err := w.envoyPart(s.envoy, w.recordLines(s))
			table, errs = append(table, component), append(errs, err)
			continue
		}
		errs = append(errs, add("sidecar "+s.proxy(), func(p parts) (role.Component, error) { return w.sidecar(p, s) }))
	}
	return table, errors.Join(errs...)
}

// watcher is how a datacenter is followed.
func (w *world) watcher(dc string) watcherSettings {
	if w.agents != nil {
		return watcherSettings{datacenter: dc, consul: w.agents[dc]}
	}
	return watcherSettings{datacenter: dc, catalog: w.catalog, trustDomain: w.trustDomain, ca: w.ca}
}

// identity is where certificates of a datacenter's services come from.
func (w *world) identity(dc string) identity.Source {
	if w.agents != nil {
		return w.agents[dc].Leaves()
	}
	return w.ca
}

func (w *world) gateway(p parts, g *worldGateway) (role.Component, error) {
	state := filepath.Join(w.dir, "gateways", g.datacenter, g.name)
	if err := os.MkdirAll(state, 0o700); err != nil {
		return role.Component{}, err
	}
	component, running, err := gatewayPart(p, gatewaySettings{
		datacenter: g.datacenter, name: g.name, listen: g.listen, stateDir: state, drain: worldDrain,
		record: func(r *table.Record) { w.records.add(seen{datacenter: g.datacenter, gateway: g.name, passed: r}) },
	})
	g.running = running
	return g.stop.component(component), err
}

// goGateways are those of this process.
func (w *world) goGateways() []*gateway.Gateway {
	var out []*gateway.Gateway
	for _, g := range w.gateways {
		if g.running != nil {
			out = append(out, g.running)
		}
	}
	return out
}

func (w *world) sidecar(p parts, s worldSidecar) (role.Component, error) {
	component, _, err := sidecarPart(p, sidecarSettings{
		datacenter: s.datacenter, proxy: s.proxy(), identity: w.identity(s.datacenter),
		access: func(r sidecar.Record) { w.records.add(seen{datacenter: s.datacenter, proxy: s.proxy(), carried: &r}) },
	})
	return component, err
}

// stoppable lets one component end while its table goes on.
type stoppable struct {
	asked, ended chan struct{}
	once         sync.Once
}

func newStoppable() *stoppable {
	return &stoppable{asked: make(chan struct{}), ended: make(chan struct{})}
}

// errAskedToStop is why a component ends that stop was called for.
var errAskedToStop = errors.New("asked to stop")

// component is the same component, which stays in its table after stop.
func (s *stoppable) component(c role.Component) role.Component {
	run := c.Run
	c.Run = func(ctx context.Context, started func()) error {
		inner, cancel := context.WithCancelCause(ctx)
		defer cancel(nil)
		go func() {
			select {
			case <-s.asked:
				cancel(errAskedToStop)
			case <-inner.Done():
			}
		}()
		err := run(inner, started)
		close(s.ended)
		if errors.Is(context.Cause(inner), errAskedToStop) && (err == nil || errors.Is(err, errAskedToStop)) {
			<-ctx.Done()
			return context.Cause(ctx)
		}
		return err
	}
	return c
}

// stop ends the component and waits for it.
func (s *stoppable) stop() {
	s.once.Do(func() { close(s.asked) })
	<-s.ended
}
