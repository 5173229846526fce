package sidecar

import (
	"context"
	"errors"
	"io"
	"net"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/isthmus-mesh/isthmus/bus"
	"github.com/isthmus-mesh/isthmus/bus/memlog"
	"github.com/isthmus-mesh/isthmus/deploy/freeport"
	"github.com/isthmus-mesh/isthmus/deploy/onethread"
	isthmusv1 "github.com/isthmus-mesh/isthmus/proto/isthmus/v1"
	"github.com/isthmus-mesh/isthmus/services/identity"
)

func TestMain(m *testing.M) {
	onethread.UnderRace()
	goleak.VerifyTestMain(m)
}

// site is a datacenter, dc1, with a log and a CA, in which sidecars run on
// loopback.
type site struct {
	*testing.T
	log     *memlog.Log
	ca      *identity.DevCA
	routes  *bus.Writer
	catalog uint64
}

func newSite(t *testing.T, clock identity.Clock) *site {
	t.Helper()
	ca, err := identity.NewDevCA(identity.DevCAConfig{TrustDomain: td, Clock: clock})
	if err != nil {
		t.Fatal(err)
	}
	s := &site{T: t, log: memlog.New(memlog.Options{}), ca: ca}
	s.routes, err = bus.NewWriter(bus.WriterConfig{Log: s.log, Stream: "ROUTES_dc1", Owner: "test"})
	if err != nil {
		t.Fatal(err)
	}
	s.background(func(ctx context.Context) { _ = s.routes.Run(ctx) })
	for told := s.routes.Notify(); !s.routes.Active(); {
		<-told
	}
	return s
}

// background runs f until the test ends.
func (s *site) background(f func(context.Context)) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		f(ctx)
	}()
	s.Cleanup(func() {
		cancel()
		<-done
	})
}

// put writes values as one transaction and returns its sequence.
func (s *site) put(values ...keyed) uint64 {
	s.Helper()
	s.catalog++
	d := bus.Difference{Basis: &isthmusv1.Basis{Positions: []*isthmusv1.Position{
		{Stream: "CATALOG_dc1", Incarnation: "c", Sequence: s.catalog},
	}}}
	for _, v := range values {
		d.Puts = append(d.Puts, bus.Put{Key: v.key, Value: v.value})
	}
	position, err := s.routes.Write(s.Context(), d)
	if err != nil {
		s.Fatal(err)
	}
	return position.GetSequence()
}

// running is a sidecar that runs.
type running struct {
	*Sidecar
	site    *site
	records chan Record
	cancel  context.CancelCauseFunc
	done    chan error

	mu      sync.Mutex
	changed chan struct{}
}

var errStopped = errors.New("stopped by the test")

// start runs a sidecar until the test ends, or until stop.
func (s *site) start(proxy string, change ...func(*Config)) *running {
	s.Helper()
	r := &running{site: s, records: make(chan Record, 4096), done: make(chan error, 1), changed: make(chan struct{})}
	config := Config{
		Log: s.log, Datacenter: "dc1", Proxy: proxy, Identity: s.ca, Version: "test",
		Access: func(record Record) { r.records <- record },
		Status: func(*isthmusv1.ProxyStatus) { r.tell() },
	}
	for _, c := range change {
		c(&config)
	}
	var err error
	if r.Sidecar, err = New(config); err != nil {
		s.Fatal(err)
	}
	ctx, cancel := context.WithCancelCause(context.Background())
	r.cancel = cancel
	go func() { r.done <- r.Run(ctx) }()
	s.Cleanup(func() { r.stop() })
	return r
}

// ready waits until it serves.
func (r *running) ready() *running {
	r.site.Helper()
	select {
	case <-r.Ready():
	case err := <-r.done:
		r.done <- err
		r.site.Fatalf("the sidecar ended: %v", err)
	}
	return r
}

func (r *running) stop() error {
	r.cancel(errStopped)
	err := <-r.done
	r.done <- err
	return err
}

func (r *running) tell() {
	r.mu.Lock()
	defer r.mu.Unlock()
	close(r.changed)
	r.changed = make(chan struct{})
}

// until waits until the condition holds; it is looked at whenever the sidecar
// reports.
func (r *running) until(holds func() bool) {
	r.site.Helper()
	for {
		r.mu.Lock()
		changed := r.changed
		r.mu.Unlock()
		if holds() {
			return
		}
		select {
		case <-changed:
		case <-r.site.Context().Done():
			r.site.Fatal("the test ended first")
		}
	}
}

// reached waits until the sidecar runs the routes of the sequence.
func (r *running) reached(sequence uint64) {
	r.site.Helper()
	r.until(func() bool { return r.Report().GetRoutes().GetSequence() >= sequence })
}

// record waits for the next connection to end.
func (r *running) record() Record { return <-r.records }

// service is a service with a sidecar: what stands in the routes about it.
type service struct {
	name      string
	proxy     *isthmusv1.ProxyRoutes
	inbound   *isthmusv1.Inbound
	upstreams []*isthmusv1.Route
}

// freePort is a port of loopback that nobody listens on.
func freePort(t *testing.T) uint32 {
	t.Helper()
	return uint32(freeport.Hold(t).Port())
}

// service makes one whose application is at the address.
func (s *site) service(name, application string) *service {
	s.Helper()
	proxy := proxyAt("node", name+"-proxy", name).value.(*isthmusv1.ProxyRoutes)
	proxy.Port = freePort(s.T)
	proxy.SpiffeId = isthmusv1.SPIFFEID(proxy.GetService(), "dc1", td)
	if host, port, err := net.SplitHostPort(application); err == nil {
		n, _ := strconv.ParseUint(port, 10, 16)
		proxy.LocalServiceAddress, proxy.LocalServicePort = host, uint32(n)
	} else {
		proxy.LocalServiceSocketPath = application
	}
	return &service{name: name, proxy: proxy, inbound: &isthmusv1.Inbound{
		Service: proxy.GetService(), Protocol: "tcp", DefaultAction: "allow", TrustDomain: td,
	}}
}

// address is where callers connect.
func (v *service) address() string { return tcpKey(v.proxy.GetAddress(), v.proxy.GetPort()).address }

// upstream adds one on a unix socket, over the targets, and returns the path.
func (v *service) upstream(t *testing.T, id string, targets ...*isthmusv1.Target) string {
	path := filepath.Join(t.TempDir(), "s")
	v.upstreams = append(v.upstreams, resolverRoute(id, targets...))
	v.proxy.RoutesetHash = "h"
	v.proxy.Binds = append(v.proxy.Binds, &isthmusv1.Bind{Route: id, SocketPath: path, SocketMode: "0600"})
	return path
}

// values are what stands in the routes.
func (v *service) values() []keyed {
	ref := v.proxy.GetService()
	return []keyed{
		{isthmusv1.ProxyKey("", v.proxy.GetNode(), "", v.proxy.GetId()), v.proxy},
		routeSet(ref.GetName(), "h", v.upstreams...),
		{isthmusv1.InboundKey(ref), v.inbound},
	}
}

// leads makes a target that leads to a service as a place of its own, with the endpoints at the
// addresses, and gives the values for the routes.
func leads(service, place string, addresses ...string) (*isthmusv1.Target, keyed) {
	ref := serviceRef(service)
	set := &isthmusv1.EndpointSetRef{Datacenter: "dc1", Scope: isthmusv1.Scope_SCOPE_LAN, Service: serviceRef(service + "-" + place)}
	value := &isthmusv1.EndpointSet{Ref: set, Chunks: 1, Availability: isthmusv1.Availability_AVAILABILITY_HEALTHY}
	for _, address := range addresses {
		host, port, _ := net.SplitHostPort(address)
		n, _ := strconv.ParseUint(port, 10, 16)
		value.Endpoints = append(value.Endpoints, &isthmusv1.Endpoint{
			Address: host, Port: uint32(n), Weight: 1, Health: isthmusv1.Health_HEALTH_HEALTHY,
		})
	}
	return &isthmusv1.Target{
		Id: service + "." + place, Service: ref, Datacenter: "dc1", Path: isthmusv1.Path_PATH_DIRECT,
		Sni:          isthmusv1.SNI(ref, "", "dc1", td),
		SpiffeIds:    []string{isthmusv1.SPIFFEID(ref, "dc1", td)},
		EndpointSets: []*isthmusv1.EndpointSetRef{set},
	}, keyed{set.ID().Key(0), value}
}

// listen accepts on loopback until the test ends; each connection has a
// goroutine, and is closed at the end.
func (s *site) listen(handle func(*net.TCPConn)) string {
	s.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		s.Fatal(err)
	}
	s.serve(l, func(c net.Conn) { handle(c.(*net.TCPConn)) })
	return l.Addr().String()
}

func (s *site) serve(l net.Listener, handle func(net.Conn)) {
	var group sync.WaitGroup
	var mu sync.Mutex
	var open []net.Conn
	group.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			mu.Lock()
			open = append(open, conn)
			mu.Unlock()
			group.Go(func() { handle(conn) })
		}
	})
	s.Cleanup(func() {
		l.Close()
		mu.Lock()
		for _, conn := range open {
			conn.Close()
		}
		mu.Unlock()
		group.Wait()
	})
}

// echo is an application that answers each byte at once, and closes when the
// caller has.
func (s *site) echo() string {
	return s.listen(func(c *net.TCPConn) {
		_, _ = io.Copy(c, c)
		_ = c.CloseWrite()
	})
}

// dial connects to a socket or an address.
func (s *site) dial(address string) net.Conn {
	s.Helper()
	network := "tcp"
	if filepath.IsAbs(address) {
		network = "unix"
	}
	conn, err := net.Dial(network, address)
	if err != nil {
		s.Fatal(err)
	}
	s.Cleanup(func() { conn.Close() })
	return conn
}

// ask is one connection to an echo, from beginning to end.
func (s *site) ask(address, text string) error {
	s.Helper()
	conn := s.dial(address)
	defer conn.Close()
	return say(conn, text)
}

// say writes to an echo and reads the answer.
func say(conn net.Conn, text string) error {
	if _, err := io.WriteString(conn, text); err != nil {
		return err
	}
	answer := make([]byte, len(text))
	if _, err := io.ReadFull(conn, answer); err != nil {
		return err
	}
	if string(answer) != text {
		return errors.New("the answer is " + string(answer))
	}
	return nil
}

// manualClock is a clock that moves when it is told to.
type manualClock struct {
	mu      sync.Mutex
	now     time.Time
	waiting []alarm
}

type alarm struct {
	at   time.Time
	ring chan time.Time
}

func (c *manualClock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *manualClock) After(d time.Duration) <-chan time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	ring := make(chan time.Time, 1)
	c.waiting = append(c.waiting, alarm{c.now.Add(d), ring})
	c.ring()
	return ring
}

func (c *manualClock) advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
	c.ring()
}

func (c *manualClock) ring() {
	var left []alarm
	for _, a := range c.waiting {
		if a.at.After(c.now) {
			left = append(left, a)
		} else {
			a.ring <- c.now
		}
	}
	c.waiting = left
}
