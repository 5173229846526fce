package sds_test

import (
	"slices"
	"strings"
	"testing"

	discovery "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	rpcstatus "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	isthmusv1 "github.com/isthmus-mesh/isthmus/proto/isthmus/v1"
)

const (
	leaf  = isthmusv1.SecretLeaf
	roots = isthmusv1.SecretRoots
)

// Before there is an identity a request waits; then it has both, the roots first.
func TestARequestWaitsForTheIdentity(t *testing.T) {
	r, ca := serve(t, newSocket(t)), newAuthority(t)
	if got := r.server.Waiting(); got != "the certificate" {
		t.Errorf("it waits for %q", got)
	}
	c := r.delta(t)
	c.ask(subscribe(leaf, roots, "other"))
	// That there is no such secret can be said at once, and says that it was heard.
	response, versions := c.next()
	if len(versions) > 0 || !slices.Equal(response.GetRemovedResources(), []string{"other"}) {
		t.Errorf("first %v", response)
	}
	web := ca.issue("web")
	r.live.Take(web, nil)
	response, _ = c.next()
	if len(response.GetResources()) != 2 || response.GetResources()[0].GetName() != roots || len(response.GetRemovedResources()) > 0 {
		t.Fatalf("then %v", response)
	}
	for _, one := range response.GetResources() {
		holds(t, one.GetResource(), web)
	}
	if got := r.server.Waiting(); got != "" {
		t.Errorf("it waits for %q", got)
	}
	if !strings.Contains(r.log.String(), `msg="an Envoy waits for its secrets" for="the certificate"`) {
		t.Errorf("it logs %s", r.log)
	}
}

// A renewed leaf is sent alone; a new root brings the roots, and the leaf that it signs.
func TestRotationPushesWhatIsNew(t *testing.T) {
	r, ca := serve(t, newSocket(t)), newAuthority(t)
	r.live.Take(ca.issue("web"), nil)
	c := r.delta(t)
	c.ask(subscribe(leaf, roots))
	_, first := c.next()

	renewed := ca.issue("web")
	r.live.Take(renewed, nil)
	response, second := c.next()
	if len(second) != 1 || second[leaf] == "" || second[leaf] == first[leaf] {
		t.Fatalf("after a renewal: %v", second)
	}
	holds(t, response.GetResources()[0].GetResource(), renewed)

	ca.rotate()
	r.live.Take(ca.issue("web"), nil)
	if _, third := c.next(); len(third) != 2 || third[roots] == first[roots] || third[leaf] == second[leaf] {
		t.Errorf("after a new root: %v", third)
	}
}

// Who comes back with what it has, also to another server, is sent only what is new.
func TestWhoComesBackIsSentWhatIsNew(t *testing.T) {
	ca := newAuthority(t)
	web := ca.issue("web")
	before := serve(t, newSocket(t))
	before.live.Take(web, nil)
	c := before.delta(t)
	c.ask(subscribe(leaf, roots))
	_, has := c.next()

	r := serve(t, newSocket(t))
	r.live.Take(web, nil)
	c = r.delta(t)
	c.ask(&discovery.DeltaDiscoveryRequest{ResourceNamesSubscribe: []string{leaf, roots}, InitialResourceVersions: has})
	r.live.Take(ca.issue("web"), nil)
	if _, got := c.next(); len(got) != 1 || got[leaf] == has[leaf] {
		t.Errorf("it is sent %v, and had %v", got, has)
	}
}

// What is given up is sent no more, until it is asked for again.
func TestUnsubscribeAndSubscribeAgain(t *testing.T) {
	r, ca := serve(t, newSocket(t)), newAuthority(t)
	r.live.Take(ca.issue("web"), nil)
	c := r.delta(t)
	c.ask(subscribe(leaf, roots))
	_, first := c.next()
	c.ask(&discovery.DeltaDiscoveryRequest{ResourceNamesUnsubscribe: []string{leaf}})
	c.ask(subscribe("other")) // Its answer shows that the one before was read.
	c.next()
	ca.rotate()
	r.live.Take(ca.issue("web"), nil)
	if _, got := c.next(); len(got) != 1 || got[roots] == first[roots] {
		t.Errorf("after it was given up: %v", got)
	}
	c.ask(subscribe(leaf))
	if _, got := c.next(); len(got) != 1 || got[leaf] == "" {
		t.Errorf("asked for again: %v", got)
	}
}

// A version that was refused is not sent again, and the next one is. What an Envoy says
// of it is logged, unless that holds a key; an unknown name is logged once.
func TestARefusedVersionIsNotSentAgain(t *testing.T) {
	r, ca := serve(t, newSocket(t)), newAuthority(t)
	r.live.Take(ca.issue("web"), nil)
	c := r.delta(t)
	c.ask(subscribe(leaf))
	response, refused := c.next()
	for _, why := range []string{"too short for me", "-----BEGIN PRIVATE KEY-----abc"} {
		c.ask(&discovery.DeltaDiscoveryRequest{ResponseNonce: response.GetNonce(), ErrorDetail: &rpcstatus.Status{Message: why}})
	}
	for range 2 {
		c.ask(subscribe("other"))
		if got, versions := c.next(); len(versions) > 0 || len(got.GetRemovedResources()) != 1 {
			t.Errorf("after the refusal: %v", got)
		}
	}
	r.live.Take(ca.issue("web"), nil)
	if _, got := c.next(); got[leaf] == "" || got[leaf] == refused[leaf] {
		t.Errorf("the next one: %v", got)
	}
	text := r.log.String()
	if !strings.Contains(text, "too short for me") || strings.Contains(text, "PRIVATE KEY") || strings.Count(text, "secret=other") != 1 {
		t.Errorf("it logs %s", text)
	}
}

// Nothing but secrets is served, and these by streams only.
func TestWhatIsNotServed(t *testing.T) {
	r := serve(t, newSocket(t))
	c := r.delta(t)
	if err := c.Send(&discovery.DeltaDiscoveryRequest{TypeUrl: "type.googleapis.com/envoy.config.cluster.v3.Cluster"}); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Recv(); status.Code(err) != codes.InvalidArgument {
		t.Errorf("another type: %v", err)
	}
	if _, err := r.connect(t).FetchSecrets(t.Context(), &discovery.DiscoveryRequest{}); status.Code(err) != codes.Unimplemented || !strings.Contains(err.Error(), "DELTA_GRPC") {
		t.Errorf("fetch: %v", err)
	}
}
