package sidecar

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/isthmus-mesh/isthmus/bus/memlog"
	isthmusv1 "github.com/isthmus-mesh/isthmus/proto/isthmus/v1"
	"github.com/isthmus-mesh/isthmus/services/identity"
)

// changeWeb writes web's proxy anew.
func (p *pair) changeWeb(change func(*isthmusv1.ProxyRoutes)) {
	p.Helper()
	next := proto.CloneOf(p.web.proxy)
	change(next)
	p.web.proxy = next
	p.webRun.reached(p.put(p.web.values()...))
}

// changeInbound writes api's intentions anew.
func (p *pair) changeInbound(in *isthmusv1.Inbound) {
	p.Helper()
	p.api.inbound = in
	p.apiRun.reached(p.put(p.api.values()...))
}

// TestIntentionsChange: the next connection is judged anew; one that was let in
// stays, as in Consul.
func TestIntentionsChange(t *testing.T) {
	p := newPair(t, nil)
	kept := p.dial(p.socket)
	if err := say(kept, "before"); err != nil {
		t.Fatal(err)
	}
	p.changeInbound(inboundOf("allow", "deny web"))
	if err := p.ask(p.socket, "denied"); err == nil {
		t.Error("a new connection was let in")
	}
	if r := p.apiRun.record(); r.Reason != ReasonIntentionDenied || r.Intention != "deny web" {
		t.Errorf("%+v", r)
	}
	if err := say(kept, "after"); err != nil {
		t.Errorf("the connection from before was dropped: %v", err)
	}
	p.changeInbound(inboundOf("deny", "allow web"))
	if err := p.ask(p.socket, "allowed again"); err != nil {
		t.Error(err)
	}
}

func TestListenersChange(t *testing.T) {
	p := newPair(t, nil)
	kept := p.dial(p.socket)
	if err := say(kept, "before"); err != nil {
		t.Fatal(err)
	}
	port := freePort(t)
	p.changeWeb(func(proxy *isthmusv1.ProxyRoutes) {
		proxy.Binds = []*isthmusv1.Bind{{Route: "api", Address: "127.0.0.1", Port: port}}
	})
	p.webRun.until(func() bool { return p.webRun.listening("127.0.0.1") && !p.webRun.listening(p.socket) })
	if _, err := net.Dial("unix", p.socket); err == nil {
		t.Error("the old listener is still there")
	}
	if _, err := os.Stat(p.socket); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the old socket's file: %v", err)
	}
	if err := say(kept, "after"); err != nil {
		t.Errorf("the connection from before was dropped: %v", err)
	}
	if err := p.ask(tcpKey("127.0.0.1", port).address, "new"); err != nil {
		t.Error(err)
	}
}

// listening reports whether an upstream's listener is open whose address begins
// so.
func (r *running) listening(prefix string) bool {
	r.listeners.mu.Lock()
	defer r.listeners.mu.Unlock()
	for key, l := range r.listeners.open {
		if !l.spec.Load().public() && strings.HasPrefix(key.address, prefix) {
			return true
		}
	}
	return false
}

// TestListenerThatCannotBeOpened: it is said, the others serve, and it is tried
// again until it can.
func TestListenerThatCannotBeOpened(t *testing.T) {
	s := newSite(t, nil)
	web := s.service("web", s.echo())
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	to, endpoints := leads("web", "here", web.address())
	web.upstream(t, "web", to)
	web.proxy.Binds = append(web.proxy.Binds, &isthmusv1.Bind{Route: "web", Port: uint32(taken.Addr().(*net.TCPAddr).Port)})
	s.put(append(web.values(), endpoints)...)
	r := s.start("web-proxy")
	r.until(func() bool { return r.Report().GetLastNack() != nil })
	if got := r.Waiting(); !strings.Contains(got, taken.Addr().String()) {
		t.Errorf("it waits for %q", got)
	}
	if err := s.ask(web.proxy.GetBinds()[0].GetSocketPath(), "meanwhile"); err != nil {
		t.Error(err)
	}
	taken.Close()
	r.ready()
	if err := s.ask(taken.Addr().String(), "at last"); err != nil {
		t.Error(err)
	}
	if got := r.Waiting(); got != "" {
		t.Errorf("it still waits for %q", got)
	}
}

func TestListenUnixReplacesOnlyTheDead(t *testing.T) {
	dir := t.TempDir()
	file, left, used := filepath.Join(dir, "file"), filepath.Join(dir, "left"), filepath.Join(dir, "used")
	if err := os.WriteFile(file, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := listenUnix(t.Context(), file, 0); err == nil || !strings.Contains(err.Error(), "not a socket") {
		t.Errorf("a file: %v", err)
	}
	dead, err := net.ListenUnix("unix", &net.UnixAddr{Name: left})
	if err != nil {
		t.Fatal(err)
	}
	dead.SetUnlinkOnClose(false)
	dead.Close()
	replaced, err := listenUnix(t.Context(), left, 0o660)
	if err != nil {
		t.Fatalf("a socket that was left behind: %v", err)
	}
	defer replaced.Close()
	if info, err := os.Stat(left); err != nil || info.Mode().Perm() != 0o660 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	alive, err := net.Listen("unix", used)
	if err != nil {
		t.Fatal(err)
	}
	defer alive.Close()
	if _, err := listenUnix(t.Context(), used, 0); !errors.Is(err, errSocketBusy) {
		t.Errorf("another's socket: %v", err)
	}
}

// TestRotationDropsNothing: leaves are renewed and roots replaced, three times
// over, under constant traffic on new and on kept connections. At the end
// nothing of the beginning is valid any more.
func TestRotationDropsNothing(t *testing.T) {
	clock := &manualClock{now: time.Now()}
	s := newSite(t, clock)
	web, api := s.service("web", "127.0.0.1:1"), s.service("api", s.echo())
	to, endpoints := leads("api", "here", api.address())
	socket := web.upstream(t, "api", to)
	s.put(slices.Concat(api.values(), web.values(), []keyed{endpoints})...)
	timed := func(c *Config) { c.Clock = clock }
	apiRun, webRun := s.start("api-proxy", timed).ready(), s.start("web-proxy", timed).ready()
	first := webRun.live.Current()

	kept := s.dial(socket)
	traffic := s.traffic(socket)
	for range 3 {
		if err := s.ca.Rotate(); err != nil {
			t.Fatal(err)
		}
		settled(apiRun, webRun, func(i *identity.Identity) bool { return i.Leaf().NotBefore.Equal(notBefore(clock)) })
		traffic.settle(t)
		clock.advance(45 * time.Minute)
		settled(apiRun, webRun, func(i *identity.Identity) bool { return i.Leaf().NotBefore.Equal(notBefore(clock)) })
		traffic.settle(t)
		if err := say(kept, "still here"); err != nil {
			t.Fatalf("the kept connection was dropped: %v", err)
		}
	}
	traffic.stop(t)
	if first.NotAfter().After(clock.Now()) {
		t.Error("the first leaf is still valid, so the test shows nothing")
	}
	roots := webRun.live.Current().RootsPEM()
	if strings.Contains(string(roots), string(first.RootsPEM())) {
		t.Error("the first root is still trusted")
	}
}

// notBefore is that of a leaf issued now, as a certificate has it.
func notBefore(clock *manualClock) time.Time {
	return clock.Now().Add(-time.Minute).Truncate(time.Second).UTC()
}

// settled waits until both hold such an identity.
func settled(a, b *running, holds func(*identity.Identity) bool) {
	for _, r := range []*running{a, b} {
		for {
			current, changed := r.live.Changed()
			if holds(current) {
				break
			}
			<-changed
		}
	}
}

// traffic makes connections all the time.
type traffic struct {
	workers []*worker
	ctx     context.Context
	cancel  context.CancelFunc
	group   sync.WaitGroup
}

type worker struct {
	done   chan struct{}
	failed atomic.Pointer[error]
}

func (s *site) traffic(address string) *traffic {
	tr := new(traffic)
	tr.ctx, tr.cancel = context.WithCancel(context.Background())
	for range 4 {
		w := &worker{done: make(chan struct{})}
		tr.workers = append(tr.workers, w)
		tr.group.Go(func() { w.run(tr.ctx, address) })
	}
	s.Cleanup(tr.cancel)
	return tr
}

// run makes one connection after another; it gives a sign for each, when anyone
// takes it.
func (w *worker) run(ctx context.Context, address string) {
	for ctx.Err() == nil {
		conn, err := net.Dial("unix", address)
		if err == nil {
			err = say(conn, "request")
			conn.Close()
		}
		if err != nil {
			w.failed.CompareAndSwap(nil, &err)
		}
		select {
		case w.done <- struct{}{}:
		default:
		}
	}
}

// settle waits until each worker has made a connection from beginning to end, and
// fails the test if any connection failed.
func (tr *traffic) settle(t *testing.T) {
	t.Helper()
	for _, w := range tr.workers {
		<-w.done
		<-w.done
		if err := w.failed.Load(); err != nil {
			t.Fatalf("a connection failed: %v", *err)
		}
	}
}

func (tr *traffic) stop(t *testing.T) {
	t.Helper()
	tr.cancel()
	tr.group.Wait()
	for _, w := range tr.workers {
		if err := w.failed.Load(); err != nil {
			t.Errorf("a connection failed: %v", *err)
		}
	}
}

// TestSavedStateServesWithoutTheBus: a restart while the log is away.
func TestSavedStateServesWithoutTheBus(t *testing.T) {
	file := filepath.Join(t.TempDir(), "state.json")
	p := newPair(t, nil)
	saving := func(c *Config) { c.StateFile = file }
	_ = p.webRun.stop()
	before := p.start("web-proxy", saving).ready()
	_ = before.stop()

	away := func(c *Config) { c.Log = memlog.New(memlog.Options{}) }
	after := p.start("web-proxy", saving, away).ready()
	if err := p.ask(p.socket, "hello"); err != nil {
		t.Fatal(err)
	}
	report := after.Report()
	if report.GetConnected() || report.GetRoutes().GetSequence() != before.Report().GetRoutes().GetSequence() || report.GetBasis() == nil {
		t.Errorf("it reports %v", report)
	}
	if fresh, saved := before.SavedAge(time.Now()), after.SavedAge(time.Now()); fresh != 0 || saved <= 0 {
		t.Errorf("the age of the state is %v from the bus and %v from the file", fresh, saved)
	}
	_ = after.stop()

	if err := os.WriteFile(file, []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	p.start("web-proxy", saving).ready()
	if err := p.ask(p.socket, "hello"); err != nil {
		t.Errorf("a broken file kept it from serving: %v", err)
	}
}

func TestDrain(t *testing.T) {
	t.Run("connections may end", func(t *testing.T) {
		p := newPair(t, nil)
		conn := p.dial(p.socket)
		if err := say(conn, "before"); err != nil {
			t.Fatal(err)
		}
		p.webRun.cancel(errStopped)
		p.webRun.listeners.loops.Wait()
		if err := say(conn, "draining"); err != nil {
			t.Fatal(err)
		}
		conn.Close()
		if err := p.webRun.stop(); !errors.Is(err, errStopped) {
			t.Errorf("Run returned %v", err)
		}
		if r := p.webRun.record(); r.Reason != ReasonDone {
			t.Errorf("%+v", r)
		}
	})
	t.Run("those that do not are broken", func(t *testing.T) {
		p := newPair(t, nil)
		_ = p.webRun.stop()
		short := p.start("web-proxy", func(c *Config) { c.DrainTimeout = time.Millisecond }).ready()
		conn := p.dial(p.socket)
		if err := say(conn, "before"); err != nil {
			t.Fatal(err)
		}
		if err := short.stop(); !errors.Is(err, errStopped) {
			t.Errorf("Run returned %v", err)
		}
		if r := short.record(); r.Reason != ReasonDrained {
			t.Errorf("%+v", r)
		}
		if _, err := conn.Read(make([]byte, 1)); err == nil {
			t.Error("the connection is still there")
		}
	})
}
