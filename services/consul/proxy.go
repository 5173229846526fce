package consul

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/hashicorp/consul/api"
)

// ErrSeveralProxies indicates a service of which the agent has several sidecars.
var ErrSeveralProxies = errors.New("the service has several sidecars")

// SidecarFor is the ID of the one sidecar, registered with the agent, of the service of
// an ID (Consul command/connect/proxy/proxy.go looks for it so). Possible errors:
// [ErrNotFound], [ErrSeveralProxies] with the candidates, [ErrDenied].
func (c *Client) SidecarFor(ctx context.Context, id string) (string, error) {
	options, cancel, err := c.options(ctx, Query{})
	if err != nil {
		return "", err
	}
	defer cancel()
	// An ID is no part of the filter, which has no way to write a quote.
	all, err := c.api.Agent().ServicesWithFilterOpts(`Kind == "`+string(api.ServiceKindConnectProxy)+`"`, options)
	if err != nil {
		return "", failed(ctx, "sidecars of "+id, err)
	}
	var found []string
	for _, s := range all {
		if s.Proxy != nil && s.Proxy.DestinationServiceID == id {
			found = append(found, s.ID)
		}
	}
	slices.Sort(found)
	switch len(found) {
	case 0:
		return "", fmt.Errorf("sidecar of %s: %w", id, ErrNotFound)
	case 1:
		return found[0], nil
	}
	return "", fmt.Errorf("sidecar of %s: %w: %s", id, ErrSeveralProxies, strings.Join(found, ", "))
}
