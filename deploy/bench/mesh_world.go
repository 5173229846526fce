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

	"github.com/isthmus-mesh/isthmus/bus/embed"
	"github.com/isthmus-mesh/isthmus/services/consul/devagent"
)

// meshWorld is one Consul agent for each datacenter, a NATS server, and our roles between
// them as processes of their own.
type meshWorld struct {
	program, scratch string
	agents           devagent.Group
	http             *http.Client
	server           *embed.Server
	roles            []*process
	// mode is the global one.
	mode string
}

// startMeshWorld starts the agents and the NATS server. extra is configuration of the
// agents.
func startMeshWorld(ctx context.Context, program, scratch, extra string, datacenters ...string) (w *meshWorld, err error) {
	dir, err := os.MkdirTemp(scratch, "mesh-")
	if err != nil {
		return nil, err
	}
	w = &meshWorld{program: program, scratch: dir}
	defer func() {
		if err != nil {
			err = errors.Join(err, w.close())
		}
	}()
	ca, err := devagent.NewCA()
	if err != nil {
		return w, err
	}
	w.http = &http.Client{Transport: &http.Transport{
		TLSClientConfig: &tls.Config{RootCAs: ca.Pool(), MinVersion: tls.VersionTLS12}, ForceAttemptHTTP2: true, DisableCompression: true,
	}}
	w.agents, err = devagent.StartFederation(ctx, devagent.Config{Dir: filepath.Join(dir, "agents"), CA: ca, LogLevel: "warn", Extra: extra}, datacenters...)
	if err != nil {
		return w, err
	}
	w.server, err = embed.Start(embed.Options{StoreDir: filepath.Join(dir, "nats")})
	return w, err
}

// close ends everything.
func (w *meshWorld) close() error {
	w.endRoles()
	if w.server != nil {
		w.server.Stop()
	}
	if w.http != nil {
		w.http.CloseIdleConnections()
	}
	return w.agents.Close()
}

// endRoles ends our processes, the last first.
func (w *meshWorld) endRoles() {
	for len(w.roles) > 0 {
		last := len(w.roles) - 1
		w.roles[last].stop()
		w.roles = w.roles[:last]
	}
}

// startControl starts a watcher of each datacenter and the resolver of the first.
func (w *meshWorld) startControl() error {
	for _, agent := range w.agents {
		if _, err := w.role("watcher", "--datacenter", agent.Datacenter, "--consul", agent.HTTPS, "--consul-ca-file", agent.CAFile); err != nil {
			return err
		}
	}
	_, err := w.role("resolver", "--datacenter", w.agents[0].Datacenter)
	return err
}

// role starts one of our roles.
func (w *meshWorld) role(name string, arguments ...string) (*process, error) {
	p, err := start(w.scratch, w.program, append([]string{name, "--log-level", "warn", "--nats", w.server.URL()}, arguments...)...)
	if err == nil {
		w.roles = append(w.roles, p)
	}
	return p, err
}

// xdsNode is one of our nodes.
type xdsNode struct {
	*process
	// listen is where Envoys connect, admin where its metrics are.
	listen, admin string
}

// xds starts a node of the first datacenter, and waits until it is ready to serve.
func (w *meshWorld) xds(ctx context.Context) (xdsNode, error) {
	var n xdsNode
	for _, at := range []*string{&n.listen, &n.admin} {
		address, err := freePort()
		if err != nil {
			return n, err
		}
		*at = address.String()
	}
	var err error
	n.process, err = w.role("xds", "--datacenter", "dc1", "--listen", n.listen, "--admin-bind", n.admin, "--pprof", "--stream-age", "0")
	if err != nil {
		return n, err
	}
	return n, n.await(ctx, n.admin+"/readyz")
}

// await waits until a page of the process answers that all is well.
func (p *process) await(ctx context.Context, page string) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	for {
		_, err := fetch(ctx, "http://"+page)
		if err == nil {
			return nil
		}
		select {
		case <-p.done:
			return fmt.Errorf("ended before it was ready (%w):\n%s", errors.Join(p.err, err), p.tail())
		case <-ctx.Done():
			return fmt.Errorf("not ready in time (%w):\n%s", err, p.tail())
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// plain is for pages of our own processes and of Envoys.
var plain = &http.Client{Timeout: 30 * time.Second}

// fetch gets a page.
func fetch(ctx context.Context, url string) ([]byte, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		return nil, err
	}
	return answered(plain, request)
}

// answered is what a server says, if that is well.
func answered(client *http.Client, request *http.Request) ([]byte, error) {
	response, err := client.Do(request)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	said, err := io.ReadAll(response.Body)
	if err == nil && response.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s %s: %s: %s", request.Method, request.URL.Path, response.Status, said)
	}
	return said, err
}

// put writes to the agent of a datacenter.
func (w *meshWorld) put(ctx context.Context, datacenter int, path string, body any) error {
	text, err := json.Marshal(body)
	if err != nil {
		return err
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPut, w.agents[datacenter].HTTPS+path, bytes.NewReader(text))
	if err != nil {
		return err
	}
	_, err = answered(w.http, request)
	return err
}

// putAll writes several things to the agent of a datacenter, some side by side.
func (w *meshWorld) putAll(ctx context.Context, datacenter int, path string, bodies []object) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	next := make(chan object)
	var group sync.WaitGroup
	for range fillers {
		group.Go(func() {
			for body := range next {
				if err := w.put(ctx, datacenter, path, body); err != nil {
					cancel(err)
				}
			}
		})
	}
	for _, body := range bodies {
		next <- body
	}
	close(next)
	group.Wait()
	return context.Cause(ctx)
}

// progress tells whoever waits what is being done.
func progress(part, what string) { fmt.Fprintf(os.Stderr, "bench: %s: %s\n", part, what) }
