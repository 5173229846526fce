package ads_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"math/big"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	grpcstatus "google.golang.org/grpc/status"

	isthmusv1 "github.com/isthmus-mesh/isthmus/proto/isthmus/v1"
	"github.com/isthmus-mesh/isthmus/services/identity"
	"github.com/isthmus-mesh/isthmus/xdsnode"
	"github.com/isthmus-mesh/isthmus/xdsnode/ads"
)

// selfSigned is a certificate with the right name, that nobody vouches for.
func selfSigned(t *testing.T, uri string) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	name, err := url.Parse(uri)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), URIs: []*url.URL{name}, NotBefore: time.Now().Add(-time.Minute), NotAfter: time.Now().Add(time.Hour),
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// ago is a clock that is slow.
type ago time.Duration

func (a ago) Now() time.Time                         { return time.Now().Add(-time.Duration(a)) }
func (a ago) After(d time.Duration) <-chan time.Time { return time.After(d) }

// TestIdentityMatrix: who may have what, over real connections.
func TestIdentityMatrix(t *testing.T) {
	ca := newCA(t, identity.DevCAConfig{TrustDomain: testDomain})
	foreign := newCA(t, identity.DevCAConfig{TrustDomain: "foreign.consul"})
	late := newCA(t, identity.DevCAConfig{TrustDomain: testDomain, Clock: ago(2 * time.Hour)})
	stranger := newCA(t, identity.DevCAConfig{TrustDomain: testDomain})
	own := issue(t, ca, isthmusv1.ServiceXDS, "dc1")
	// The node trusts three roots; only one is of its own trust domain and alive.
	live := holding(trusting(t, own, isthmusv1.ServiceXDS, own, issue(t, foreign, "any", "dc1"), issue(t, late, "any", "dc1")))
	n := newNodeOf(t, ads.Config{Identity: known(live)}, showing(holding(issue(t, ca, "web", "dc1")), "dc1"))
	const sidecar, gateway = isthmusv1.InstanceKindProxy, isthmusv1.InstanceKindMeshGateway
	n.change(all(
		proxyOf("n1", "web-1", sidecar, "web"), proxyOf("n2", "web-2", sidecar, "web"), proxyOf("n1", "api", sidecar, "api"),
		proxyOf("n1", "mg", gateway, "mesh-gateway"), proxyOf("n1", "upper", sidecar, "Web"),
		proxyOf("n1", "twin", sidecar, "web"), proxyOf("n2", "twin", sidecar, "web"),
		proxyOf("n1", "mixed", sidecar, "web"), proxyOf("n2", "mixed", sidecar, "api"),
		values{isthmusv1.ProxyKey("", "n1", "", "nameless"): &isthmusv1.ProxyRoutes{Node: "n1", Id: "nameless", Kind: sidecar}},
	))
	show := func(from *identity.DevCA, service, datacenter string) credentials.TransportCredentials {
		leaf := issue(t, from, service, datacenter)
		return showing(holding(trusting(t, leaf, service, leaf, own)), "dc1")
	}
	elsewhere := issue(t, ca, "web", "dc2")
	clients := map[string]credentials.TransportCredentials{
		"web": show(ca, "web", "dc1"), "api": show(ca, "api", "dc1"), "gateway": show(ca, "mesh-gateway", "dc1"),
		"web of dc2": showing(holding(elsewhere), "dc1"), "web of another trust domain": show(foreign, "web", "dc1"),
		"web of a stranger": show(stranger, "web", "dc1"),
		"nobody":            credentials.NewTLS(&tls.Config{InsecureSkipVerify: true}), //nolint:gosec // What is tried is the node.
		"plain text":        insecure.NewCredentials(),
		"web expired":       credentials.NewTLS(presenting(t, issue(t, late, "web", "dc1"))),
		"web self-signed": credentials.NewTLS(&tls.Config{InsecureSkipVerify: true, Certificates: []tls.Certificate{ //nolint:gosec // As above.
			selfSigned(t, isthmusv1.SPIFFEID(&isthmusv1.ServiceRef{Name: "web"}, "dc1", testDomain)),
		}}),
	}
	const yes, no, never, which = codes.OK, codes.PermissionDenied, codes.Unavailable, codes.FailedPrecondition
	for _, test := range []struct {
		client, node, id string
		want             codes.Code
	}{
		{"web", "n1", "web-1", yes}, {"web", "", "web-1", yes}, {"web", "N1", "WEB-1", yes},
		{"web", "n2", "web-2", yes}, // The same service on another node: the leaf says no node.
		{"web", "n1", "api", no}, {"web", "n1", "mg", no}, {"web", "n1", "upper", no}, {"web", "n1", "nameless", no},
		{"web", "n1", "nobody", no}, {"web", "n9", "web-1", no},
		{"web", "", "twin", which}, {"web", "n2", "twin", yes},
		{"web", "", "mixed", which}, {"web", "n1", "mixed", yes}, {"web", "n2", "mixed", no},
		{"api", "n1", "api", yes}, {"api", "n1", "web-1", no}, {"api", "", "twin", no},
		{"gateway", "n1", "mg", yes}, {"gateway", "n1", "web-1", no},
		{"web of dc2", "n1", "web-1", no}, {"web of another trust domain", "n1", "web-1", no},
		{"web of a stranger", "n1", "web-1", never}, {"nobody", "n1", "web-1", never}, {"plain text", "n1", "web-1", never},
		{"web expired", "n1", "web-1", never}, {"web self-signed", "n1", "web-1", never},
	} {
		t.Run(test.client+" asks for "+test.node+"/"+test.id, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			client := n.as(n.address, grpc.WithTransportCredentials(clients[test.client]))
			err := ask(ctx, client, introduced(test.id, test.node))
			if got := grpcstatus.Code(err); got != test.want {
				t.Fatalf("%v, want %s", err, test.want)
			}
			if test.want == no && (!strings.Contains(err.Error(), "spiffe://") || !strings.Contains(err.Error(), test.node+"/"+test.id) && test.node != "") {
				t.Errorf("%v names not both", err)
			}
		})
	}
}

// A client learns nothing of what it may not have: not whether it is there, nor what else
// has its ID.
func TestRefusalsTellNothing(t *testing.T) {
	ca := newCA(t, identity.DevCAConfig{TrustDomain: testDomain})
	n := newNodeOf(t, ads.Config{Identity: known(holding(issue(t, ca, isthmusv1.ServiceXDS, "dc1")))}, showing(holding(issue(t, ca, "web", "dc1")), "dc1"))
	const sidecar = isthmusv1.InstanceKindProxy
	n.change(all(proxyOf("n1", "mixed", sidecar, "web"), proxyOf("n2", "mixed", sidecar, "secret"), proxyOf("n1", "other", sidecar, "secret")))
	there, missing := ask(t.Context(), n.client, introduced("other", "n1")), ask(t.Context(), n.client, introduced("nobody", "n1"))
	if there == nil || missing == nil || strings.ReplaceAll(there.Error(), "other", "X") != strings.ReplaceAll(missing.Error(), "nobody", "X") {
		t.Errorf("a proxy that is another's: %v\none that is not there: %v", there, missing)
	}
	err := ask(t.Context(), n.client, introduced("mixed", ""))
	if grpcstatus.Code(err) != codes.FailedPrecondition || !strings.Contains(err.Error(), "n1/mixed") || strings.Contains(err.Error(), "n2") {
		t.Errorf("%v; want the own candidate named, and no other", err)
	}
}

// A proxy that is registered as another service's is its old client's no more.
func TestRegisteredAnew(t *testing.T) {
	ca := newCA(t, identity.DevCAConfig{TrustDomain: testDomain})
	n := newNodeOf(t, ads.Config{Identity: known(holding(issue(t, ca, isthmusv1.ServiceXDS, "dc1")))}, showing(holding(issue(t, ca, "web", "dc1")), "dc1"))
	n.change(proxyOf("n1", "mg", isthmusv1.InstanceKindMeshGateway, "web"))
	e := n.connect("mg", "")
	e.subscribe(xdsnode.Cluster, "*")
	e.want(xdsnode.Cluster, nil, nil)
	n.change(proxyOf("n1", "mg", isthmusv1.InstanceKindMeshGateway, "api"))
	e.wantEnd(codes.PermissionDenied, "registered anew")
}

// A refusal ends the connection of who is refused, unless it carries what he may have.
func TestRefusalEndsTheConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ca := newCA(t, identity.DevCAConfig{TrustDomain: testDomain})
		own := holding(issue(t, ca, "other", "dc1"))
		n := bubble(t, ads.Config{Identity: known(holding(issue(t, ca, isthmusv1.ServiceXDS, "dc1")))}, showing(own, "dc1"))
		n.change(all(proxyOf("n1", "mg", isthmusv1.InstanceKindMeshGateway, "web"), proxyOf("n1", "far", isthmusv1.InstanceKindMeshGateway, "api")))
		if err := ask(t.Context(), n.client, introduced("mg", "n1")); grpcstatus.Code(err) != codes.PermissionDenied {
			t.Fatal(err)
		}
		own.Take(issue(t, ca, "web", "dc1"), nil)
		time.Sleep(closingTime)
		e := n.patient("mg")
		e.subscribe(xdsnode.Cluster, "*")
		e.want(xdsnode.Cluster, nil, nil) // By a new connection, with the leaf of now.

		if err := ask(t.Context(), n.client, introduced("far", "n1")); grpcstatus.Code(err) != codes.PermissionDenied {
			t.Fatal(err)
		}
		time.Sleep(closingTime)
		e.subscribe(xdsnode.Listener, "*")
		e.want(xdsnode.Listener, []string{"default:10.0.0.1:8443"}, nil)
	})
}

// An identity that expires loses its stream at that moment, and so does one whose root is
// taken away; with a new leaf it gets a new connection.
func TestIdentityEnds(t *testing.T) {
	for name, end := range map[string]func(*testing.T, *node, *identity.Live, *identity.DevCA){
		"expired": func(*testing.T, *node, *identity.Live, *identity.DevCA) {
			time.Sleep(time.Hour - time.Minute)
			synctest.Wait()
		},
		"root removed": func(t *testing.T, n *node, live *identity.Live, next *identity.DevCA) {
			live.Take(issue(t, next, isthmusv1.ServiceXDS, "dc1"), nil)
			n.server.Recheck()
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ca := newCA(t, identity.DevCAConfig{TrustDomain: testDomain, LeafTTL: time.Hour})
				next := newCA(t, identity.DevCAConfig{TrustDomain: testDomain, LeafTTL: 2 * time.Hour})
				first, second := issue(t, ca, isthmusv1.ServiceXDS, "dc1"), issue(t, next, isthmusv1.ServiceXDS, "dc1")
				live := holding(trusting(t, second, isthmusv1.ServiceXDS, first, second))
				web := issue(t, ca, "web", "dc1")
				own := holding(trusting(t, web, "web", first, second))
				n := bubble(t, ads.Config{Identity: known(live)}, showing(own, "dc1"))
				n.change(proxyOf("n1", "mg", isthmusv1.InstanceKindMeshGateway, "web"))
				e := n.patient("mg")
				e.subscribe(xdsnode.Cluster, "*")
				e.want(xdsnode.Cluster, nil, nil)
				time.Sleep(30 * time.Second)
				e.subscribe(xdsnode.Listener, "*")
				e.want(xdsnode.Listener, []string{"default:10.0.0.1:8443"}, nil)

				end(t, n, live, next)
				due := time.Now()
				if name == "expired" {
					due = web.NotAfter()
				}
				e.wantEnd(codes.Unauthenticated, "believed no more")
				if off := time.Since(due); off < 0 || off > time.Second {
					t.Errorf("it ended %s after it should have", off)
				}
				own.Take(issue(t, next, "web", "dc1"), nil)
				time.Sleep(2 * closingTime)
				again := n.patient("mg")
				again.subscribe(xdsnode.Cluster, "*")
				again.want(xdsnode.Cluster, nil, nil)
			})
		})
	}
}

// Without a certificate of its own a node accepts nobody, and does so at once.
func TestNoCertificateYet(t *testing.T) {
	ca := newCA(t, identity.DevCAConfig{TrustDomain: testDomain})
	n := newNodeOf(t, ads.Config{Identity: known(identity.NewLive(nil))}, showing(holding(issue(t, ca, "web", "dc1")), "dc1"))
	n.change(proxyOf("n1", "mg", isthmusv1.InstanceKindMeshGateway, "web"))
	if err := ask(t.Context(), n.client, introduced("mg", "")); grpcstatus.Code(err) != codes.Unavailable {
		t.Errorf("%v, want no connection", err)
	}
}
