package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/isthmus-mesh/isthmus/deploy/wan"
)

const (
	// wanDelay is how long a packet is under way between the datacenters: half a
	// round trip.
	wanDelay = 25 * time.Millisecond
	// openAhead is how many connections are kept ready for a gateway of another
	// datacenter, by the variants that do so: less than come at once in a burst.
	openAhead = 32
)

// wanWorld is two datacenters: clients and the gateways of dc1 on the left, the
// gateways of dc2 and their backend on the right. Ports are free there.
type wanWorld struct {
	scratch, program string
	link             *wan.Link
	backend          *backend
	processes        []*process
	port             uint16
}

// farGateway is a gateway of dc2.
type farGateway struct {
	name    string
	address netip.AddrPort
}

func openWANWorld(scratch, program string) (*wanWorld, error) {
	link, err := wan.Open(wan.Options{Delay: wanDelay})
	if err != nil {
		return nil, err
	}
	w := &wanWorld{scratch: scratch, program: program, link: link, port: lowestPort}
	err = link.Right.Do(func() error {
		w.backend, err = startBackendAt(w.free(loopback))
		return err
	})
	if err != nil {
		link.Close()
		return nil, err
	}
	return w, nil
}

var loopback = netip.AddrFrom4([4]byte{127, 0, 0, 1})

// free is an address that nobody has.
func (w *wanWorld) free(ip netip.Addr) netip.AddrPort {
	w.port++
	return netip.AddrPortFrom(ip, w.port)
}

// close ends the processes first: whoever still has a connection to the backend.
func (w *wanWorld) close() {
	for _, p := range w.processes {
		p.stop()
	}
	w.backend.stop()
	w.link.Close()
}

// run starts a program on a side and waits until a client there gets its answer.
func (w *wanWorld) run(ctx context.Context, side *wan.Side, listen netip.AddrPort, program string, arguments ...string) error {
	p, err := startBy(side.Start, w.scratch, program, arguments...)
	if err != nil {
		return err
	}
	w.processes = append(w.processes, p)
	return side.Do(func() error { return p.ready(ctx, listen.String()) })
}

// farIsthmus starts a gateway of ours in dc2.
func (w *wanWorld) farIsthmus(ctx context.Context) (farGateway, error) {
	far := farGateway{"isthmus", w.free(w.link.Right.Address())}
	catalog, err := w.catalog(far)
	if err != nil {
		return far, err
	}
	return far, w.run(ctx, w.link.Right, far.address, w.program, gatewayArguments(catalog, "dc2", far.address)...)
}

// farEnvoy starts an Envoy with the duties of a mesh gateway in dc2.
func (w *wanWorld) farEnvoy(ctx context.Context) (farGateway, error) {
	far := farGateway{"Envoy", w.free(w.link.Right.Address())}
	program, err := findEnvoy()
	if err != nil {
		return far, err
	}
	d := duty{Listen: far.address, Backend: w.backend.address(), ServerName: serverName, Folder: filepath.Join(w.scratch, "far-envoy")}
	if err := write(d.Folder, "envoy.yaml", "envoy.yaml", d); err != nil {
		return far, err
	}
	return far, w.run(ctx, w.link.Right, far.address, program, "--config-path", filepath.Join(d.Folder, "envoy.yaml"),
		"--concurrency", "1", "--disable-hot-restart", "--log-level", "error")
}

// near starts a gateway of ours in dc1, whose only way to dc2 is the far one.
func (w *wanWorld) near(ctx context.Context, far farGateway, flags []string) (netip.AddrPort, error) {
	listen := w.free(loopback)
	catalog, err := w.catalog(far)
	if err != nil {
		return listen, err
	}
	return listen, w.run(ctx, w.link.Left, listen, w.program, append(gatewayArguments(catalog, "dc1", listen), flags...)...)
}

func gatewayArguments(catalog, datacenter string, listen netip.AddrPort) []string {
	return []string{"gateway", "--catalog", catalog, "--datacenter", datacenter, "--listen", listen.String(), "--trust-domain", trustDomain}
}

// catalog writes the definitions of both datacenters.
func (w *wanWorld) catalog(far farGateway) (string, error) {
	folder := filepath.Join(w.scratch, "wan-"+strconv.Itoa(int(far.address.Port())))
	d := duty{Listen: far.address, Backend: w.backend.address()}
	return folder, errors.Join(
		write(folder, "dc1/agent.hcl", "isthmus-wan-agent.hcl", d),
		write(folder, "dc2/agent.hcl", "isthmus-agent.hcl", d),
		write(folder, "dc2/api.hcl", "isthmus-api.hcl", d),
		write(folder, "dc2/gateway.hcl", "isthmus-wan-gateway.hcl", d),
	)
}

// write fills in a template and makes a file of it.
func write(folder, name, source string, d duty) error {
	content, err := contender{}.configure(source, d)
	if err != nil {
		return err
	}
	path := filepath.Join(folder, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	return os.WriteFile(path, content, 0o600)
}

// variant is a way in which our gateway of dc1 can run.
type variant struct {
	name  string
	flags []string
	// without is the variant that does the same without connections opened
	// ahead; empty for one that opens none.
	without string
}

// variants are those that are measured.
var variants = []variant{
	{name: "isthmus, relay", flags: []string{"--engine", "relay"}},
	{name: "isthmus, loop", flags: []string{"--engine", "loop"}},
	{
		name: fmt.Sprintf("isthmus, loop, %d ahead", openAhead), without: "isthmus, loop",
		flags: []string{"--engine", "loop", "--open-ahead", strconv.Itoa(openAhead)},
	},
}
