package gateway_test

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"strconv"
	"sync"
	"testing"

	"go.uber.org/goleak"
	"google.golang.org/protobuf/proto"

	"github.com/isthmus-mesh/isthmus/bus"
	"github.com/isthmus-mesh/isthmus/bus/memlog"
	"github.com/isthmus-mesh/isthmus/gateway"
	"github.com/isthmus-mesh/isthmus/gateway/enginetest"
	"github.com/isthmus-mesh/isthmus/gateway/table"
	isthmusv1 "github.com/isthmus-mesh/isthmus/proto/isthmus/v1"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	routesStream = "ROUTES_dc1"
	statusStream = "STATUS_dc1"
	api          = "api.default.dc1.internal.td"
)

// routes writes a routes stream, as a resolver would.
type routes struct {
	log         *memlog.Log
	incarnation string
	last        uint64
}

func newRoutes(t *testing.T) *routes {
	t.Helper()
	r := &routes{log: memlog.New(memlog.Options{})}
	state, err := r.log.Create(t.Context(), bus.StreamConfig{Name: routesStream})
	if err != nil {
		t.Fatal(err)
	}
	r.incarnation = state.Incarnation
	return r
}

// value is one key's new value; nil is a tombstone.
type value struct {
	key   isthmusv1.Key
	value proto.Message
}

// publish writes a transaction and returns the sequence of its last message.
func (r *routes) publish(t *testing.T, values ...value) uint64 {
	t.Helper()
	var messages []bus.Message
	for i, v := range values {
		record := &isthmusv1.Record{Envelope: &isthmusv1.Envelope{
			Incarnation: r.incarnation, Term: 1, Transaction: strconv.FormatUint(r.last+1, 10), Position: uint32(i + 1),
		}}
		if v.value == nil {
			record.Tombstone = true
		} else {
			b, err := isthmusv1.Marshal(v.value)
			if err != nil {
				t.Fatal(err)
			}
			record.Value = b
		}
		if i == len(values)-1 {
			record.Envelope.End = &isthmusv1.TransactionEnd{Complete: true, Messages: uint32(len(values)), Basis: &isthmusv1.Basis{
				Positions: []*isthmusv1.Position{{Stream: "CATALOG_dc1", Incarnation: "c", Sequence: 100 + r.last}},
			}}
		}
		b, err := isthmusv1.Marshal(record)
		if err != nil {
			t.Fatal(err)
		}
		messages = append(messages, bus.Message{Key: v.key, Record: b})
	}
	last, err := r.log.Append(t.Context(), routesStream, r.last, messages)
	if err != nil {
		t.Fatal(err)
	}
	r.last = last
	return last
}

func apiRef() *isthmusv1.EndpointSetRef {
	return &isthmusv1.EndpointSetRef{Datacenter: "dc1", Scope: isthmusv1.Scope_SCOPE_LAN, Service: &isthmusv1.ServiceRef{Name: "api"}}
}

func apiName() value {
	service := &isthmusv1.ServiceRef{Name: "api"}
	return value{isthmusv1.NameKey(service, ""), &isthmusv1.NameRoute{Sni: api, Service: service, Endpoints: apiRef()}}
}

func apiEndpoints(endpoints ...*isthmusv1.Endpoint) value {
	return value{apiRef().ID().Key(0), &isthmusv1.EndpointSet{Ref: apiRef(), Endpoints: endpoints, Chunks: 1}}
}

func at(addresses ...netip.AddrPort) []*isthmusv1.Endpoint { return enginetest.Endpoints(addresses...) }

// awaitStatus waits until a gateway reports a status that is as wanted.
func awaitStatus(t *testing.T, log bus.Log, wanted func(*isthmusv1.GatewayStatus) bool) *isthmusv1.GatewayStatus {
	t.Helper()
	if _, err := log.Create(t.Context(), bus.StreamConfig{Name: statusStream}); err != nil {
		t.Fatal(err)
	}
	errSeen := errors.New("seen")
	var seen *isthmusv1.GatewayStatus
	err := log.Follow(t.Context(), statusStream, func(d bus.Delivery) error {
		if d.Start != nil {
			return nil
		}
		record, report := new(isthmusv1.Record), new(isthmusv1.Report)
		if err := errors.Join(proto.Unmarshal(d.Message.Record, record), proto.Unmarshal(record.GetValue(), report)); err != nil {
			return err
		}
		if g := report.GetGateway(); g != nil && wanted(g) {
			seen = g
			return errSeen
		}
		return nil
	})
	if !errors.Is(err, errSeen) {
		t.Fatal(err)
	}
	return seen
}

// awaitApplied waits until a gateway serves by the given sequence of the stream.
func awaitApplied(t *testing.T, log bus.Log, sequence uint64) *isthmusv1.GatewayStatus {
	t.Helper()
	return awaitStatus(t, log, func(g *isthmusv1.GatewayStatus) bool {
		return g.GetRoutes().GetSequence() >= sequence && !g.GetFromSavedTable()
	})
}

// running is a gateway that runs until it is stopped, at the latest at the end of
// the test.
type running struct {
	*gateway.Gateway
	stop    context.CancelFunc
	ended   chan error
	records chan *table.Record
}

func run(t *testing.T, cfg gateway.Config) *running {
	t.Helper()
	r := &running{ended: make(chan error, 1), records: make(chan *table.Record, 10000)}
	cfg.Datacenter = "dc1"
	if cfg.Listen == nil {
		cfg.Listen = []string{"127.0.0.1:0"}
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.NewTextHandler(t.Output(), nil))
	}
	if told := cfg.OnRecord; told == nil {
		cfg.OnRecord = func(record *table.Record) { r.records <- record }
	}
	g, err := gateway.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	r.Gateway = g
	ctx, cancel := context.WithCancel(t.Context())
	started := make(chan struct{})
	done := make(chan struct{})
	go func() {
		defer close(done)
		r.ended <- g.Run(ctx, sync.OnceFunc(func() { close(started) }))
	}()
	r.stop = cancel
	t.Cleanup(func() {
		cancel()
		<-done
	})
	select {
	case <-started:
	case <-done:
	}
	return r
}

// ask sends a hello for api on a new connection and returns what the server
// behind it says of itself.
func ask(address string) (string, error) {
	c, err := net.Dial("tcp", address)
	if err != nil {
		return "", err
	}
	defer c.Close()
	if _, err := c.Write(enginetest.HelloFor(api)); err != nil {
		return "", err
	}
	if err := c.(*net.TCPConn).CloseWrite(); err != nil {
		return "", err
	}
	b, err := io.ReadAll(c)
	return string(b), err
}

func mustAsk(t *testing.T, r *running, want string) {
	t.Helper()
	got, err := ask(r.Addresses()[0])
	if err != nil || got != want {
		t.Errorf("answered %q (%v); want %q", got, err, want)
	}
}

// named is a server that says its name: the first letter at once, so that a client
// knows that it has been connected and to whom, and the rest at the client's end.
func named(t *testing.T, name string) netip.AddrPort {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := listener.Accept()
			if err != nil {
				return
			}
			wg.Go(func() {
				defer c.Close()
				_, _ = io.WriteString(c, name[:1])
				_, _ = io.Copy(io.Discard, c)
				_, _ = io.WriteString(c, name[1:])
			})
		}
	})
	t.Cleanup(func() {
		_ = listener.Close()
		wg.Wait()
	})
	return listener.Addr().(*net.TCPAddr).AddrPort()
}

// halfAsk begins what ask does, waits until the gateway has connected it to a
// server, and returns what ends it.
func halfAsk(t *testing.T, r *running) func() string {
	t.Helper()
	c, err := net.Dial("tcp", r.Addresses()[0])
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	if _, err := c.Write(enginetest.HelloFor(api)); err != nil {
		t.Fatal(err)
	}
	first := make([]byte, 1)
	if _, err := io.ReadFull(c, first); err != nil {
		t.Fatal(err)
	}
	return func() string {
		_ = c.(*net.TCPConn).CloseWrite()
		rest, err := io.ReadAll(c)
		if err != nil {
			return err.Error()
		}
		return string(first) + string(rest)
	}
}
