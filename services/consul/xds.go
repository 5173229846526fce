package consul

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/hashicorp/consul/api"
)

// XDS is where an agent serves Consul's own xDS, and what it wants to see.
type XDS struct {
	// Address is host:port.
	Address string
	// TLS secures the connection; nil: it is in plain text.
	TLS *tls.Config
	// Token is that of this moment; empty: none.
	Token string
}

// ErrNoXDS indicates an agent that serves no xDS, as one whose gRPC ports are closed.
var ErrNoXDS = errors.New("the agent serves no xDS")

// XDS says how to ask the agent for what it serves to its own Envoys: at an address,
// host:port in plain text or with https:// before it by TLS; without one at the host of
// its API, by the ports that it names. Possible error: [ErrNoXDS].
func (c *Client) XDS(self Self, address string) (XDS, error) {
	token, err := c.token.get()
	if err != nil {
		return XDS{}, err
	}
	out := XDS{Token: token}
	at, secure := strings.CutPrefix(address, "https://")
	if out.Address = strings.TrimPrefix(at, "http://"); out.Address == "" {
		host := "127.0.0.1"
		if u, err := url.Parse(c.url); err == nil && u.Scheme != "unix" {
			host = u.Hostname()
		}
		port := self.GRPCPort
		if secure = port <= 0; secure {
			port = self.GRPCTLSPort
		}
		if port <= 0 {
			return XDS{}, fmt.Errorf("agent at %s: %w", c.url, ErrNoXDS)
		}
		out.Address = net.JoinHostPort(host, strconv.Itoa(port))
	}
	if _, _, err := net.SplitHostPort(out.Address); err != nil {
		return XDS{}, fmt.Errorf("address of Consul's xDS: %w", err)
	}
	if secure {
		if out.TLS = c.http.TLSClientConfig.Clone(); out.TLS == nil {
			out.TLS = &tls.Config{MinVersion: tls.VersionTLS12}
		}
	}
	return out, nil
}

// LocalProxies lists the sidecars and mesh gateways of the agent that the token may see,
// by ID.
func (c *Client) LocalProxies(ctx context.Context) ([]string, error) {
	options, cancel, err := c.options(ctx, Query{})
	if err != nil {
		return nil, err
	}
	defer cancel()
	services, err := c.api.Agent().ServicesWithFilterOpts("", options)
	if err != nil {
		return nil, failed(ctx, "services of the agent", err)
	}
	var ids []string
	for id, s := range services {
		if s.Kind == api.ServiceKindConnectProxy || s.Kind == api.ServiceKindMeshGateway {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	return ids, nil
}
