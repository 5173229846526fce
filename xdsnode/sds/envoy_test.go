package sds_test

import (
	"crypto/tls"
	"net"
	"net/netip"
	"strings"
	"testing"

	"github.com/isthmus-mesh/isthmus/services/identity"
)

// An Envoy starts before anybody serves its secrets. Once they are there it connects to
// the xds node as itself, and not before; a new leaf and a new root are used at once, by
// clusters and listeners, by either protocol.
func TestEnvoyGetsItsSecretsBeforeItConnects(t *testing.T) {
	ca, socket := newAuthority(t), newSocket(t)
	n := serveNode(t, ca.issue("isthmus-xds"))
	e := startEnvoy(t, socket, ca.TrustDomain(), n.address)
	e.await("an attempt at the socket", func() bool {
		return strings.Contains(e.get("/stats?filter=isthmus_sds.upstream_cx_connect_fail"), "upstream_cx_connect_fail: ") &&
			!strings.Contains(e.get("/stats?filter=isthmus_sds.upstream_cx_connect_fail"), "upstream_cx_connect_fail: 0")
	})
	r := serve(t, socket)
	e.await("a request for secrets", func() bool { return strings.Contains(r.log.String(), "an Envoy waits for its secrets") })
	select {
	case who := <-n.peers:
		t.Fatalf("%s connected without a certificate", who)
	default:
	}
	first := ca.issue("web")
	r.live.Take(first, nil)
	if who := <-n.peers; who != first.URI().String() {
		t.Errorf("it connected as %s", who)
	}
	e.uses(first, 2)
	handshake(t, e, ca, first)

	second := ca.issue("web")
	r.live.Take(second, nil)
	e.uses(second, 2)
	ca.rotate()
	third := ca.issue("web")
	r.live.Take(third, nil)
	e.uses(third, 2)
	handshake(t, e, ca, third)

	// Whoever serves the socket next has nothing to send, and is found by itself.
	_ = r.stop()
	again := serve(t, socket)
	again.live.Take(third, nil)
	fourth := ca.issue("web")
	again.live.Take(fourth, nil)
	e.uses(fourth, 2)
	if text := e.log.String(); strings.Contains(text, "rejected") {
		t.Error("it refused something")
	}
}

// handshake makes a connection to Envoy's own listener, which shows the leaf.
func handshake(t *testing.T, e *envoy, ca authority, want *identity.Identity) {
	t.Helper()
	var at netip.AddrPort
	e.await("the listener", func() bool {
		_, text, _ := strings.Cut(e.get("/listeners"), "own::")
		var err error
		at, err = netip.ParseAddrPort(strings.TrimSpace(text))
		return err == nil
	})
	live := identity.NewLive(nil)
	live.Take(ca.issue("caller"), nil)
	client := live.ClientConfig("web", []string{want.URI().String()}, identity.Parameters{})
	e.await("a handshake", func() bool {
		raw, err := net.Dial("tcp", at.String())
		if err != nil {
			return false
		}
		defer raw.Close()
		conn := tls.Client(raw, client)
		if err := conn.HandshakeContext(t.Context()); err != nil {
			return false
		}
		return conn.ConnectionState().PeerCertificates[0].SerialNumber.Cmp(want.Leaf().SerialNumber) == 0
	})
}

// Whoever shows another leaf than that of the xds nodes, be it of the same roots, is not
// asked for anything.
func TestEnvoyChecksWhoTheNodeIs(t *testing.T) {
	ca, socket := newAuthority(t), newSocket(t)
	impostor := serveNode(t, ca.issue("api"))
	r := serve(t, socket)
	r.live.Take(ca.issue("web"), nil)
	e := startEnvoy(t, socket, ca.TrustDomain(), impostor.address)
	e.await("a refusal", func() bool {
		_, count, _ := strings.Cut(e.get("/stats?filter=isthmus_xds.ssl.fail_verify_san"), "fail_verify_san: ")
		return strings.TrimSpace(count) != "" && strings.TrimSpace(count) != "0"
	})
	select {
	case who := <-impostor.peers:
		t.Errorf("%s spoke to it", who)
	default:
	}
}
