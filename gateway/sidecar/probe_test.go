package sidecar

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	isthmusv1 "github.com/isthmus-mesh/isthmus/proto/isthmus/v1"
	"github.com/isthmus-mesh/isthmus/services/identity"
)

// refuser is a gateway that does not know any name: it answers every hello with
// the alert.
func (s *site) refuser(alert byte) string {
	return s.listen(func(c *net.TCPConn) {
		_, _ = c.Read(make([]byte, 4096))
		_, _ = c.Write([]byte{21, 3, 3, 0, 2, 2, alert})
		_ = c.CloseWrite()
		_, _ = io.Copy(io.Discard, c)
	})
}

// distrusting is a server with a leaf of the site's that trusts another CA only.
func (s *site) distrusting(name string) string {
	foreign, err := identity.NewDevCA(identity.DevCAConfig{TrustDomain: td})
	if err != nil {
		s.Fatal(err)
	}
	config := func(ca *identity.DevCA) *tls.Config {
		i, err := ca.Issue(identity.Name{Service: serviceRef(name), Datacenter: "dc1"})
		if err != nil {
			s.Fatal(err)
		}
		live := identity.NewLive(nil)
		live.Take(i, nil)
		return live.ServerConfig(identity.Parameters{})
	}
	server := config(foreign)
	server.GetCertificate = config(s.ca).GetCertificate
	return s.listen(func(c *net.TCPConn) {
		if tls.Server(c, server).Handshake() == nil {
			s.Error("it trusted the caller")
		}
		_ = c.CloseWrite()
	})
}

func TestProbeNamesTheHop(t *testing.T) {
	s := newSite(t, nil)
	web := s.service("web", "127.0.0.1:1")
	values := []keyed{}
	serve := func(name, application, action string) *service {
		v := s.service(name, application)
		v.inbound.DefaultAction = action
		values = append(values, v.values()...)
		return v
	}
	upstream := func(id string, targets ...*isthmusv1.Target) { web.upstream(t, id, targets...) }
	lead := func(service, place string, addresses ...string) *isthmusv1.Target {
		to, endpoints := leads(service, place, addresses...)
		values = append(values, endpoints)
		return to
	}
	fine, denies := serve("fine", s.echo(), "allow"), serve("denies", s.echo(), "deny")
	speaks := serve("speaks", s.listen(func(c *net.TCPConn) { _, _ = io.WriteString(c, "220 ready\r\n"); _ = c.CloseWrite() }), "allow")
	broken := serve("broken", dead(t), "allow")

	upstream("fine", lead("fine", "1", fine.address()))
	upstream("speaks", lead("speaks", "1", speaks.address()))
	upstream("second", lead("fine", "2", dead(t)), lead("fine", "3", fine.address()))
	upstream("denies", lead("denies", "1", denies.address()))
	upstream("broken", lead("broken", "1", broken.address()))
	upstream("distrusts", lead("distrusts", "1", s.distrusting("distrusts")))
	upstream("dead", lead("fine", "4", dead(t)))
	upstream("empty", lead("fine", "5"))
	upstream("unnamed", lead("fine", "6", s.refuser(112)))
	upstream("failing", lead("fine", "7", s.refuser(80)))
	by := func(path isthmusv1.Path, to *isthmusv1.Target) *isthmusv1.Target {
		to.Path = path
		return to
	}
	upstream("down", by(isthmusv1.Path_PATH_REMOTE_GATEWAY, lead("fine", "9", dead(t))))
	upstream("behind", by(isthmusv1.Path_PATH_REMOTE_GATEWAY, lead("fine", "10", s.refuser(80))))
	upstream("far", by(isthmusv1.Path_PATH_LOCAL_GATEWAY, lead("fine", "11", s.refuser(80))))
	upstream("other", lead("other", "1", fine.address()))
	upstream("router", lead("fine", "8"))
	web.upstreams[len(web.upstreams)-1].Chain = &isthmusv1.Chain{Start: "r", Nodes: []*isthmusv1.ChainNode{{Name: "r", Node: &isthmusv1.ChainNode_Router{}}}}
	s.put(append(values, web.values()...)...)
	for _, name := range []string{"fine", "denies", "speaks", "broken"} {
		s.start(name + "-proxy").ready()
	}
	r := s.start("web-proxy").ready()

	tests := []struct {
		upstream string
		hop      Hop
		attempts int
		says     string
	}{
		{"fine", "", 1, ""},
		{"FINE", "", 1, ""},
		{"speaks", "", 1, ""},
		{"second", "", 2, ""},
		{"denies", HopIntention, 1, "intentions deny"},
		{"broken", HopApplication, 1, "application does not answer"},
		{"distrusts", HopClient, 1, "certificate"},
		{"dead", HopDial, 1, "the sidecar of fine in dc1: it did not answer"},
		{"down", HopDial, 1, "the gateway of dc1: it did not answer"},
		{"behind", HopBehind, 1, "the gateway of dc1 answers, but not the sidecar of fine behind it"},
		{"far", HopBehind, 1, "the own gateway answers, but not what is behind it: a gateway of dc1, or the sidecar of fine"},
		{"empty", HopEndpoint, 0, "no instance"},
		{"unnamed", HopName, 1, "the sidecar of fine in dc1: its TLS handshake failed: remote error: tls: unrecognized name"},
		{"failing", HopTLS, 1, "internal error"},
		{"other", HopPeer, 1, "svc/fine, not spiffe"},
		{"router", HopRoute, 0, "service-router"},
		{"nothing", HopRoute, 0, "it has behind, broken, dead, denies"},
	}
	for _, test := range tests {
		t.Run(test.upstream, func(t *testing.T) {
			got, err := r.Probe(t.Context(), test.upstream, ProbeOptions{Settle: 100 * time.Millisecond})
			if err != nil {
				t.Fatal(err)
			}
			if got.Failed != test.hop || len(got.Attempts) != test.attempts || got.OK() != (test.hop == "") {
				t.Fatalf("got %q after %d attempts: %v; want %q after %d", got.Failed, len(got.Attempts), got.Err, test.hop, test.attempts)
			}
			if test.hop != "" && !strings.Contains(got.Err.Error(), test.says) {
				t.Errorf("%q does not say %q", got.Err, test.says)
			}
			if got.Proxy != "node/web-proxy" || got.Basis == nil || got.Routes == nil {
				t.Errorf("it says %+v of itself", got)
			}
			if last := len(got.Attempts) - 1; got.OK() && (got.Attempts[last].Peer == "" || got.Attempts[last].Took == 0 || got.Attempts[last].SNI == "") {
				t.Errorf("the attempt: %+v", got.Attempts[last])
			}
		})
	}
	t.Run("without an identity", func(t *testing.T) {
		st := r.state.Load()
		got := Probe(t.Context(), st.view, identity.NewLive(nil), "fine", ProbeOptions{})
		if got.Failed != HopClient || !errors.Is(got.Err, identity.ErrNone) {
			t.Errorf("got %q: %v", got.Failed, got.Err)
		}
	})
	t.Run("before there is anything to serve", func(t *testing.T) {
		if _, err := s.start("nobody").Probe(t.Context(), "fine", ProbeOptions{}); !errors.Is(err, ErrNoProxy) {
			t.Errorf("got %v", err)
		}
	})
}
