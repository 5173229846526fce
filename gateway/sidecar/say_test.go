package sidecar

import (
	"log/slog"
	"strings"
	"sync"
	"testing"

	"google.golang.org/protobuf/proto"

	isthmusv1 "github.com/isthmus-mesh/isthmus/proto/isthmus/v1"
)

// sayings keeps what a sidecar says in its log.
type sayings struct {
	mu   sync.Mutex
	text strings.Builder
}

// Write takes a line.
func (s *sayings) Write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.Write(b)
}

// take returns the lines since the last take.
func (s *sayings) take() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	defer s.text.Reset()
	return s.text.String()
}

func (s *sayings) logger(c *Config) {
	c.Logger = slog.New(slog.NewTextHandler(s, &slog.HandlerOptions{Level: slog.LevelInfo}))
}

// TestProblemsAreSaid: what keeps the sidecar from serving all that it should is
// said aloud, once, and so is the end of it.
func TestProblemsAreSaid(t *testing.T) {
	s := newSite(t, nil)
	web := s.service("web", "127.0.0.1:1")
	to, endpoints := leads("api", "1")
	to.Problems = []*isthmusv1.Problem{problem("NO_PATH", "register one", "no path: no mesh gateway in dc2")}
	web.upstream(t, "api", to)
	direct := web.upstreams[0]
	split := proto.CloneOf(direct)
	split.Chain = &isthmusv1.Chain{Start: "s", Nodes: []*isthmusv1.ChainNode{{Name: "s", Node: &isthmusv1.ChainNode_Splitter{}}}}

	var said sayings
	web.upstreams[0] = split
	s.put(append(web.values(), endpoints)...)
	r := s.start("web-proxy", said.logger).ready()
	first := said.take()
	for _, part := range []string{"level=WARN", CodeNeedsLayer7, "a service-splitter chooses by request", "run Envoy", `msg="sidecar serves"`, "node/web-proxy", web.address()} {
		if !strings.Contains(first, part) {
			t.Errorf("%q is not said in\n%s", part, first)
		}
	}

	web.inbound.DefaultAction = "deny"
	r.reached(s.put(web.values()...))
	if again := said.take(); strings.Contains(again, "splitter") {
		t.Errorf("it is said again:\n%s", again)
	}

	web.upstreams[0] = direct
	r.reached(s.put(web.values()...))
	if solved := said.take(); !strings.Contains(solved, `msg="problem solved"`) || !strings.Contains(solved, "splitter") {
		t.Errorf("its end is not said:\n%s", solved)
	} else if !strings.Contains(solved, "WARN") || !strings.Contains(solved, "no mesh gateway in dc2") {
		t.Errorf("the problem of a target is not said:\n%s", solved)
	}
}

// TestMissingProxyIsSaid: with what there is instead.
func TestMissingProxyIsSaid(t *testing.T) {
	site := newSite(t, nil)
	var said sayings
	config := Config{Log: site.log, Datacenter: "dc1", Proxy: "wbe-proxy", Identity: site.ca}
	said.logger(&config)
	s, err := New(config)
	if err != nil {
		t.Fatal(err)
	}
	f := feed{machine: s.machine}
	f.apply(true, nil, proxyAt("n1", "web-proxy", "web"), proxyAt("n2", "api-proxy", "api"))
	if err := s.emit(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	waiting, text := s.Waiting(), said.take()
	for _, part := range []string{"wbe-proxy: the datacenter has no such proxy", "n1/web-proxy, n2/api-proxy"} {
		if !strings.Contains(waiting, part) || !strings.Contains(text, part) {
			t.Errorf("%q is missing from %q or\n%s", part, waiting, text)
		}
	}
	if strings.Contains(text, "stays") {
		t.Errorf("nothing was served before:\n%s", text)
	}
}
