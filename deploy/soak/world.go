package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"

	"github.com/isthmus-mesh/isthmus/bus"
	"github.com/isthmus-mesh/isthmus/bus/embed"
	isthmusv1 "github.com/isthmus-mesh/isthmus/proto/isthmus/v1"
)

const (
	datacenter  = "dc1"
	trustDomain = "11111111-2222-3333-4444-555555555555.consul"
	// listeners is how many addresses a gateway listens on, so that no pair of
	// addresses runs out of ports.
	listeners = 4
)

// world is the bus, the writer of its routes, and the gateways that follow them.
type world struct {
	scratch, binary string
	// network is the first three numbers of the addresses of this process alone,
	// below the ports that the system gives to clients.
	network string
	engines []string
	bus     *embed.Server
	log     *bus.JetStream
	routes  *bus.Writer
	// catalog is the sequence of the catalog that routes are said to be made of.
	catalog uint64

	writer    sync.WaitGroup
	endWriter context.CancelFunc

	mu       sync.Mutex // guards the one that follows
	gateways []*process
}

// inWorld runs in a world, and takes it down.
func inWorld(ctx context.Context, s settings, run func(*world) ([]verdict, error)) ([]verdict, error) {
	w, err := newWorld(ctx, s)
	if err != nil {
		return nil, err
	}
	defer w.close()
	return run(w)
}

func newWorld(ctx context.Context, s settings) (_ *world, err error) {
	own := os.Getpid() % 250
	w := &world{binary: s.binary, engines: s.engines, network: fmt.Sprintf("127.253.%d.", own)}
	// The path of a unix socket has a hundred bytes or so.
	if w.scratch, err = os.MkdirTemp("", "soak"); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			w.close()
		}
	}()
	if w.bus, err = embed.Start(embed.Options{StoreDir: w.path("nats")}); err != nil {
		return nil, err
	}
	if w.log, err = bus.Connect(w.bus.URL(), bus.Options{Name: "soak"}); err != nil {
		return nil, err
	}
	w.routes, err = bus.NewWriter(bus.WriterConfig{
		Log: w.log, Stream: isthmusv1.StreamName(isthmusv1.ClassRoutes, datacenter), Owner: "soak",
	})
	if err != nil {
		return nil, err
	}
	writing, end := context.WithCancel(context.WithoutCancel(ctx))
	w.endWriter = end
	w.writer.Go(func() { _ = w.routes.Run(writing) })
	for !w.routes.Active() {
		select {
		case <-w.routes.Notify():
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
	return w, nil
}

// close ends all that runs, and removes what it wrote.
func (w *world) close() {
	for _, g := range w.all() {
		g.kill()
	}
	if w.endWriter != nil {
		w.endWriter()
		w.writer.Wait()
	}
	if w.log != nil {
		w.log.Close()
	}
	if w.bus != nil {
		w.bus.Stop()
	}
	os.RemoveAll(w.scratch)
}

func (w *world) path(name string) string { return filepath.Join(w.scratch, name) }

// all are the gateways that were started.
func (w *world) all() []*process {
	w.mu.Lock()
	defer w.mu.Unlock()
	return append([]*process(nil), w.gateways...)
}

// address is one of the world's.
func (w *world) address(host int) string { return fmt.Sprintf("%s%d:8443", w.network, host) }

// addresses are where gateways listen.
func (w *world) addresses() []string {
	var out []string
	for i := range listeners {
		out = append(out, w.address(1+i))
	}
	return out
}

// kind is what sets gateways apart: a hand-over may be to another engine, or to one
// with another number of loops.
type kind struct {
	engine string
	// alone: it has one processor.
	alone bool
}

// kind is that of the gateway of this number: one of each engine
// with all processors, then one of each with a single one.
func (w *world) kind(number int) kind {
	k := kind{}
	if n := len(w.engines); n > 0 {
		k.engine = w.engines[number%n]
		number /= n
	}
	k.alone = number%2 == 1
	return k
}

// gateway starts a gateway, which takes over from the one that runs, if any. It
// need not be ready yet.
func (w *world) gateway(flags ...string) (*process, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	number := len(w.gateways)
	admin := fmt.Sprintf("%s%d:%d", w.network, 100+number%100, 9500+number/100)
	arguments := []string{
		"gateway", "--datacenter", datacenter, "--nats", w.bus.URL(), "--name", "soak", "--admin-bind", admin,
		"--state-dir", w.path("state"), "--handover", w.path("handover"),
	}
	for _, a := range w.addresses() {
		arguments = append(arguments, "--listen", a)
	}
	k := w.kind(number)
	if k.engine != "" {
		arguments = append(arguments, "--engine", k.engine)
	}
	command := exec.Command(w.binary, append(arguments, flags...)...)
	if k.alone {
		command.Env = append(os.Environ(), "GOMAXPROCS=1")
	}
	p, err := start(command, w.path(fmt.Sprintf("gateway-%d.log", number)), admin)
	if err == nil {
		w.gateways = append(w.gateways, p)
	}
	return p, err
}
