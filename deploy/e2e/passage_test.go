package e2e_test

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"testing"
	"time"

	isthmusv1 "github.com/isthmus-mesh/isthmus/proto/isthmus/v1"
	"github.com/isthmus-mesh/isthmus/services/identity"
)

// issue makes an identity of a service of dc1.
func (w *world) issue(t *testing.T, service string) *identity.Identity {
	t.Helper()
	i, err := w.ca.Issue(identity.Name{Service: &isthmusv1.ServiceRef{Name: service}, Datacenter: "dc1"})
	if err != nil {
		t.Fatal(err)
	}
	return i
}

// clientAs is how a service of dc1 connects to one of dc2.
func (w *world) clientAs(t *testing.T, caller, service string) *tls.Config {
	t.Helper()
	live := identity.NewLive(nil)
	live.Take(w.issue(t, caller), nil)
	peer := identity.Name{Service: &isthmusv1.ServiceRef{Name: service}, Datacenter: "dc2"}
	return live.ClientConfig(w.sni(service), []string{peer.In(w.ca.TrustDomain())}, identity.Parameters{})
}

// request asks over a TLS connection of its own, and returns the peer's leaf's
// serial number.
func request(ctx context.Context, address string, config *tls.Config, service string) (serial string, err error) {
	conn, err := (&tls.Dialer{Config: config}).DialContext(ctx, "tcp", address)
	if err != nil {
		return "", err
	}
	defer conn.Close()
	if deadline, ok := ctx.Deadline(); ok {
		if err := conn.SetDeadline(deadline); err != nil {
			return "", err
		}
	}
	if _, err := io.WriteString(conn, "GET / HTTP/1.0\r\n\r\n"); err != nil {
		return "", err
	}
	answer, err := io.ReadAll(conn)
	if err != nil {
		return "", err
	}
	if len(answer) < len(service) || string(answer[len(answer)-len(service):]) != service {
		return "", fmt.Errorf("answered %q", answer)
	}
	return conn.(*tls.Conn).ConnectionState().PeerCertificates[0].SerialNumber.String(), nil
}

// awaitPassage waits for the first request through a gateway.
func (w *world) awaitPassage(t *testing.T, service, gateway string) time.Duration {
	t.Helper()
	began := time.Now()
	config := w.clientAs(t, "web", service)
	await(t, "nothing passes "+gateway, func(ctx context.Context) error {
		_, err := request(ctx, gateway, config, service)
		return err
	})
	return time.Since(began)
}

// awaitIdle waits until the process has so many descriptors, or, for 0, until
// the number stands still for a while, and returns it.
func (p *process) awaitIdle(t *testing.T, want int) int {
	t.Helper()
	last, stood := 0, 0
	await(t, p.name+" keeps descriptors", func(context.Context) error {
		n := p.descriptors(t)
		if n == last {
			stood++
		} else {
			last, stood = n, 0
		}
		if want > 0 && n != want || stood < 20 {
			return fmt.Errorf("%d open, want %d", n, want)
		}
		return nil
	})
	return last
}
