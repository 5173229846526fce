package e2e_test

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	isthmusv1 "github.com/isthmus-mesh/isthmus/proto/isthmus/v1"
	"github.com/isthmus-mesh/isthmus/services/identity"
)

// shortLife of leaves, so that they rotate while the test runs.
const shortLife = 6 * time.Second

// TestSidecarsRefuseAndRotate: who is let in, and what a rotation costs.
func TestSidecarsRefuseAndRotate(t *testing.T) {
	w := newWorld(t, shortLife)
	w.startBus()
	w.startControl()
	w.startData()
	gateway := w.dc2 + "20:8444"

	t.Run("callers", func(t *testing.T) {
		nobody := w.clientAs(t, "web", "db")
		nobody.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return new(tls.Certificate), nil }
		cases := []struct {
			name   string
			config *tls.Config
			// refused is part of the error; empty: the request is answered. Who has
			// no certificate gets an alert, who has one and may not come in is told
			// nothing, and no byte of theirs reaches the application.
			refused string
		}{
			{"web is let in", w.clientAs(t, "web", "db"), ""},
			{"no certificate", nobody, "certificate required"},
			{"an intention denies it", w.clientAs(t, "intruder", "db"), `answered ""`},
		}
		for _, c := range cases {
			t.Run(c.name, func(t *testing.T) {
				ctx, cancel := context.WithTimeout(t.Context(), patience)
				defer cancel()
				_, err := request(ctx, gateway, c.config, "db")
				if (err == nil) != (c.refused == "") || err != nil && !strings.Contains(err.Error(), c.refused) {
					t.Errorf("got %v, want %q", err, c.refused)
				}
				if err != nil {
					t.Logf("refused: %v", err)
				}
			})
		}
	})
	t.Run("rotation", func(t *testing.T) { w.testRotation(t, gateway) })
	t.Run("a peer with another name", w.testImpostor)
}

// testRotation: leaves are renewed and the root is replaced while requests run.
func (w *world) testRotation(t *testing.T, gateway string) {
	l := w.startLoad(t, true)
	l.more(t, settled)
	if err := w.ca.Rotate(); err != nil {
		t.Fatal(err)
	}
	serials := make(map[string]bool)
	config := w.clientAs(t, "web", "api")
	renewAt := time.Now().Add(shortLife / 2)
	await(t, "the leaf of api is not renewed", func(ctx context.Context) error {
		if time.Now().After(renewAt) {
			config, renewAt = w.clientAs(t, "web", "api"), time.Now().Add(shortLife/2)
		}
		serial, err := request(ctx, gateway, config, "api")
		if err != nil {
			t.Fatalf("refused while certificates rotate: %v", err)
		}
		serials[serial] = true
		if len(serials) < 4 {
			return fmt.Errorf("%d leaves seen", len(serials))
		}
		return nil
	})
	l.more(t, settled)
	l.verdict(t, "%d leaves and 2 roots later", len(serials))
}

// testImpostor puts a server with a leaf of another service at the address of
// logging: web's sidecar speaks to nobody but logging.
func (w *world) testImpostor(t *testing.T) {
	w.roles["logging"].stop(t)
	live := identity.NewLive(nil)
	leaf, err := w.ca.Issue(identity.Name{Service: &isthmusv1.ServiceRef{Name: "api"}, Datacenter: "dc2"})
	if err != nil {
		t.Fatal(err)
	}
	live.Take(leaf, nil)
	listener, err := net.Listen("tcp", w.dc2+"12:21000")
	if err != nil {
		t.Fatal(err)
	}
	met := make(chan error, 1)
	go func() {
		conn, err := listener.Accept()
		if err == nil {
			err = tls.Server(conn, live.ServerConfig(identity.Parameters{})).HandshakeContext(t.Context())
			conn.Close()
		}
		met <- err
	}()
	t.Cleanup(func() { listener.Close() })
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	err = (&target{"logging", w.upstream(10002)}).asker(newClient(false, nil))(ctx)
	if err == nil {
		t.Error("web's sidecar spoke to a peer with the wrong SPIFFE ID")
	}
	t.Logf("web saw: %v; the impostor saw: %v", err, <-met)
}
