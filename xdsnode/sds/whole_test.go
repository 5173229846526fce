package sds_test

import (
	"context"
	"testing"
	"time"

	discovery "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	rpcstatus "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/anypb"
)

// wholeClient is a raw client of one stream.
type wholeClient struct {
	grpc.BidiStreamingClient[discovery.DiscoveryRequest, discovery.DiscoveryResponse]
	t *testing.T
}

func (r *running) whole(t *testing.T) wholeClient {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	t.Cleanup(cancel)
	stream, err := r.connect(t).StreamSecrets(ctx)
	if err != nil {
		t.Fatal(err)
	}
	return wholeClient{stream, t}
}

// ask asks for names, as one who has a version, and answers a nonce.
func (c wholeClient) ask(version, nonce string, names ...string) {
	c.t.Helper()
	c.send(&discovery.DiscoveryRequest{VersionInfo: version, ResponseNonce: nonce, ResourceNames: names})
}

func (c wholeClient) send(r *discovery.DiscoveryRequest) {
	c.t.Helper()
	r.TypeUrl = secretType
	if err := c.Send(r); err != nil {
		c.t.Fatal(err)
	}
}

func (c wholeClient) next() *discovery.DiscoveryResponse {
	c.t.Helper()
	response, err := c.Recv()
	if err != nil {
		c.t.Fatal(err)
	}
	return response
}

func bodies(r *discovery.DiscoveryResponse) []*anypb.Any { return r.GetResources() }

// All that is asked for comes together, again when one of it is new, and when a name is
// added; not to who has it.
func TestStateOfTheWorld(t *testing.T) {
	r, ca := serve(t, newSocket(t)), newAuthority(t)
	c := r.whole(t)
	c.ask("", "", leaf)
	web := ca.issue("web")
	r.live.Take(web, nil)
	first := c.next()
	if len(bodies(first)) != 1 {
		t.Fatalf("first %v", first)
	}
	holds(t, bodies(first)[0], web)

	c.ask(first.GetVersionInfo(), first.GetNonce(), leaf) // An acknowledgement is not answered.
	c.ask(first.GetVersionInfo(), first.GetNonce(), leaf, roots, "other")
	both := c.next()
	if len(bodies(both)) != 2 || both.GetVersionInfo() == first.GetVersionInfo() {
		t.Fatalf("with a name more %v", both)
	}
	c.ask(both.GetVersionInfo(), both.GetNonce(), leaf, roots, "other")

	c.ask("", first.GetNonce(), leaf) // It answers an older response.
	renewed := ca.issue("web")
	r.live.Take(renewed, nil)
	third := c.next()
	if len(bodies(third)) != 2 || third.GetVersionInfo() == both.GetVersionInfo() {
		t.Fatalf("after a renewal %v", third)
	}
	for _, body := range bodies(third) {
		holds(t, body, renewed)
	}

	again := r.whole(t)
	again.ask(third.GetVersionInfo(), "", leaf, roots)
	newest := ca.issue("web")
	r.live.Take(newest, nil)
	got := again.next()
	holds(t, bodies(got)[len(bodies(got))-1], newest) // Nothing came between.
}

// A version that was refused is not sent again; the next one is.
func TestStateOfTheWorldRefused(t *testing.T) {
	r, ca := serve(t, newSocket(t)), newAuthority(t)
	r.live.Take(ca.issue("web"), nil)
	c := r.whole(t)
	c.ask("", "", leaf)
	first := c.next()
	c.send(&discovery.DiscoveryRequest{ResponseNonce: first.GetNonce(), ResourceNames: []string{leaf}, ErrorDetail: &rpcstatus.Status{Message: "no"}})
	next := ca.issue("web")
	r.live.Take(next, nil)
	holds(t, bodies(c.next())[0], next)
}
