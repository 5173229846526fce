package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/isthmus-mesh/isthmus/bus"
	"github.com/isthmus-mesh/isthmus/bus/embed"
	"github.com/isthmus-mesh/isthmus/services/consul/devagent"
)

// fillers is how many registrations are written side by side.
const fillers = 8

// consulWorld is a Consul agent with a catalog, a NATS server, and a watcher
// process between them.
type consulWorld struct {
	program, scratch  string
	services, perNode int

	agent *devagent.Agent
	// http speaks HTTP/2 to the agent, as the watcher does.
	http   *http.Client
	server *embed.Server
	log    *bus.JetStream
	seen   *observer
	// end ends what reads the log, and running waits for it.
	end     context.CancelFunc
	running sync.WaitGroup

	watcher, resolver *process
	// marked is the number of the last change.
	marked int
}

func startConsulWorld(ctx context.Context, program, scratch string, services, perNode int) (w *consulWorld, err error) {
	dir, err := os.MkdirTemp(scratch, "consul-")
	if err != nil {
		return nil, err
	}
	w = &consulWorld{program: program, scratch: dir, services: services, perNode: perNode, seen: newObserver()}
	ctx, w.end = context.WithCancel(ctx)
	defer func() {
		if err != nil {
			err = errors.Join(err, w.close())
		}
	}()
	ca, err := devagent.NewCA()
	if err != nil {
		return w, err
	}
	if w.agent, err = devagent.Start(ctx, devagent.Config{Dir: filepath.Join(dir, "agent"), CA: ca, Durable: true}); err != nil {
		return w, err
	}
	w.http = &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: ca.Pool(), MinVersion: tls.VersionTLS12}, ForceAttemptHTTP2: true, DisableCompression: true}}
	if w.server, err = embed.Start(embed.Options{StoreDir: filepath.Join(dir, "nats")}); err != nil {
		return w, err
	}
	if w.log, err = bus.Connect(w.server.URL(), bus.Options{Name: "bench"}); err != nil {
		return w, err
	}
	for _, stream := range []string{catalogStream, routesStream} {
		drive := &bus.Drive{Log: w.log, Streams: []string{stream}, Machine: bus.MachineFunc(w.seen.apply)}
		w.running.Go(func() { _ = drive.Run(ctx) })
	}
	return w, nil
}

// close ends everything.
func (w *consulWorld) close() error {
	for _, p := range []*process{w.watcher, w.resolver} {
		if p != nil {
			p.stop()
		}
	}
	w.end()
	w.running.Wait()
	if w.log != nil {
		w.log.Close()
	}
	if w.server != nil {
		w.server.Stop()
	}
	if w.http != nil {
		w.http.CloseIdleConnections()
	}
	if w.agent != nil {
		return w.agent.Close()
	}
	return nil
}

// progress tells whoever waits what is being done.
func (w *consulWorld) progress(what string) {
	fmt.Fprintf(os.Stderr, "bench: consul, %d services: %s\n", w.services, what)
}

func (w *consulWorld) nodes() int { return (w.services + w.perNode - 1) / w.perNode }

func (w *consulWorld) nodeOf(service int) string { return fmt.Sprintf("node-%d", service/w.perNode) }

// object is JSON.
type object = map[string]any

// registration is that of a service's sidecar, marked with a tag.
func (w *consulWorld) registration(service int, mark string) object {
	name := fmt.Sprintf("service-%d", service)
	host := service / w.perNode
	return object{
		"Node": w.nodeOf(service), "Address": fmt.Sprintf("10.%d.%d.1", host/256, host%256),
		"Service": object{
			"Kind": "connect-proxy", "ID": name + "-sidecar-proxy", "Service": name + "-sidecar-proxy",
			"Port": 20_000 + service%w.perNode, "Tags": []string{mark}, "Proxy": sidecarOf(name),
		},
		"Checks": []object{{"CheckID": name, "Name": "TCP", "Status": "passing", "ServiceID": name + "-sidecar-proxy"}},
	}
}

// sidecarOf is a proxy with an upstream in another datacenter.
func sidecarOf(service string) object {
	return object{
		"DestinationServiceName": service,
		"Upstreams":              []object{{"DestinationName": "api", "Datacenter": "dc2", "LocalBindPort": 9191}},
	}
}

// call sends JSON to the agent.
func (w *consulWorld) call(ctx context.Context, method, path string, body any) error {
	text, err := json.Marshal(body)
	if err != nil {
		return err
	}
	request, err := http.NewRequestWithContext(ctx, method, w.agent.HTTPS+path, bytes.NewReader(text))
	if err != nil {
		return err
	}
	response, err := w.http.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	said, err := io.ReadAll(response.Body)
	if err == nil && response.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s %s: %s: %s", method, path, response.Status, said)
	}
	return err
}

func (w *consulWorld) register(ctx context.Context, service int, mark string) error {
	return w.call(ctx, http.MethodPut, "/v1/catalog/register", w.registration(service, mark))
}

// fill writes the whole catalog.
func (w *consulWorld) fill(ctx context.Context) error {
	numbers := make(chan int)
	var group sync.WaitGroup
	problems := make(chan error, fillers)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	for range fillers {
		group.Go(func() {
			for service := range numbers {
				if err := w.register(ctx, service, "first"); err != nil {
					problems <- err
					cancel()
					return
				}
			}
		})
	}
	for service := range w.services {
		select {
		case numbers <- service:
		case <-ctx.Done():
		}
	}
	close(numbers)
	group.Wait()
	select {
	case err := <-problems:
		return err
	default:
		return nil
	}
}

// change registers services anew, so many a second, each with another tag. Every
// second one is on the first nodes, which the bare queries follow. Nil marks: nobody
// looks on.
func (w *consulWorld) change(ctx context.Context, perSecond int, d time.Duration, first int, marks *marks) error {
	pace := time.NewTicker(time.Second / time.Duration(perSecond))
	defer pace.Stop()
	var group sync.WaitGroup
	count := int(d.Seconds() * float64(perSecond))
	problems := make(chan error, count)
	few := min(first*w.perNode, w.services)
	for i := range count {
		select {
		case <-pace.C:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		w.marked++
		number := w.marked
		// Steps that visit all, in no order that a node's queries could follow.
		service, bare := (number*7919)%w.services, false
		if i%2 == 0 {
			service, bare = (number*7919)%few, true
		}
		group.Go(func() {
			if marks != nil {
				marks.sent(number, bare)
			}
			if err := w.register(ctx, service, markOf(number)); err != nil {
				problems <- err
			}
		})
	}
	group.Wait()
	select {
	case err := <-problems:
		return err
	default:
		return nil
	}
}

// watch starts the watcher, and returns how long it took until the log had the
// whole catalog.
func (w *consulWorld) watch(ctx context.Context) (time.Duration, error) {
	begin := time.Now()
	var err error
	w.watcher, err = start(w.scratch, w.program, "watcher", "--datacenter", "dc1", "--log-level", "warn",
		"--consul", w.agent.HTTPS, "--consul-ca-file", w.agent.CAFile, "--nats", w.server.URL())
	if err != nil {
		return 0, err
	}
	at, err := w.await(ctx, w.watcher, func(o *observer) (time.Time, bool) { return o.grown, o.instances >= w.services })
	return at.Sub(begin), err
}

// await waits until the observer has seen what is looked for; the process that
// makes it must live on.
func (w *consulWorld) await(ctx context.Context, p *process, look func(*observer) (time.Time, bool)) (time.Time, error) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	for {
		at, seen, more := w.seen.look(look)
		if seen {
			return at, nil
		}
		select {
		case <-more:
		case <-p.done:
			return at, fmt.Errorf("it ended (%w):\n%s", p.err, p.tail())
		case <-ctx.Done():
			return at, fmt.Errorf("the log did not follow (%w):\n%s", context.Cause(ctx), p.tail())
		}
	}
}
