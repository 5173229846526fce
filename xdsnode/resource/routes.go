package resource

import (
	"slices"
	"strings"
	"time"

	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	previouspriorities "github.com/envoyproxy/go-control-plane/envoy/extensions/retry/priority/previous_priorities/v3"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	isthmusv1 "github.com/isthmus-mesh/isthmus/proto/isthmus/v1"
)

// routeConfiguration leads the requests for an upstream by its chain (Consul
// agent/xds/routes.go, makeUpstreamRouteForDiscoveryChain). clusterOf is the cluster of
// a resolver of the chain; a request that leads to none is refused with 503.
func routeConfiguration(name string, route *isthmusv1.Route, clusterOf func(resolverNode string) string) *routev3.RouteConfiguration {
	c := chainRoutes{nodes: map[string]*isthmusv1.ChainNode{}, clusterOf: clusterOf}
	for _, n := range route.GetChain().GetNodes() {
		c.nodes[n.GetName()] = n
	}
	return &routev3.RouteConfiguration{Name: name, VirtualHosts: []*routev3.VirtualHost{{
		Name: name, Domains: []string{"*"}, Routes: c.from(route.GetChain().GetStart()),
	}}}
}

type chainRoutes struct {
	nodes     map[string]*isthmusv1.ChainNode
	clusterOf func(resolverNode string) string
}

// from are the routes from the first node on. A resolver's timeout counts only where a
// chain begins with it: routes and splits have one timeout for all that they lead to.
func (c *chainRoutes) from(start string) []*routev3.Route {
	if router := c.nodes[start].GetRouter(); router != nil {
		var out []*routev3.Route
		for _, r := range router.GetRoutes() {
			if m, ok := routeMatch(r.GetMatch()); ok {
				out = append(out, c.route(m, r))
			}
		}
		return out
	}
	action := c.action(start)
	if action != nil {
		setTimeout(&action.Timeout, c.nodes[start].GetResolver().GetRequestTimeout())
	}
	return []*routev3.Route{leading(&routev3.Route{Match: anyRequest()}, action)}
}

// leading gives a route its action: without one there is nowhere to lead to.
func leading(r *routev3.Route, action *routev3.RouteAction) *routev3.Route {
	if action == nil {
		r.Action = &routev3.Route_DirectResponse{DirectResponse: &routev3.DirectResponseAction{Status: statusUnavailable}}
		return r
	}
	r.Action = &routev3.Route_Route{Route: action}
	return r
}

const statusUnavailable = 503

func (c *chainRoutes) route(match *routev3.RouteMatch, r *isthmusv1.ChainRoute) *routev3.Route {
	action, to := c.action(r.GetNext()), r.GetDestination()
	out := leading(&routev3.Route{Match: match}, action)
	out.RequestHeadersToAdd, out.RequestHeadersToRemove = modifiers(to.GetRequestHeaders())
	out.ResponseHeadersToAdd, out.ResponseHeadersToRemove = modifiers(to.GetResponseHeaders())
	if action == nil || to == nil {
		return out
	}
	rewrite(action, match, to.GetPrefixRewrite())
	setTimeout(&action.Timeout, to.GetRequestTimeout())
	setTimeout(&action.IdleTimeout, to.GetIdleTimeout())
	action.RetryPolicy = retries(to, c.splitsFailOver(r.GetNext()))
	return out
}

// action leads to the cluster of a resolver, or to those of a splitter by their weights.
// It is nil when there is none.
func (c *chainRoutes) action(node string) *routev3.RouteAction {
	splitter := c.nodes[node].GetSplitter()
	if splitter == nil {
		cluster := c.clusterOf(node)
		if cluster == "" {
			return nil
		}
		return &routev3.RouteAction{
			ClusterSpecifier: &routev3.RouteAction_Cluster{Cluster: cluster},
			HashPolicy:       hashPolicies(c.nodes[node].GetResolver().GetLoadBalancerJson()),
		}
	}
	weighted, total := &routev3.WeightedCluster{}, uint32(0)
	out := &routev3.RouteAction{ClusterSpecifier: &routev3.RouteAction_WeightedClusters{WeightedClusters: weighted}}
	for _, s := range splitter.GetSplits() {
		cluster := c.clusterOf(s.GetNext())
		if cluster == "" {
			continue
		}
		w := &routev3.WeightedCluster_ClusterWeight{Name: cluster, Weight: wrapperspb.UInt32(s.GetWeight())}
		w.RequestHeadersToAdd, w.RequestHeadersToRemove = modifiers(s.GetRequestHeaders())
		w.ResponseHeadersToAdd, w.ResponseHeadersToRemove = modifiers(s.GetResponseHeaders())
		weighted.Clusters = append(weighted.Clusters, w)
		total += s.GetWeight()
		if len(out.GetHashPolicy()) == 0 {
			// One route hashes in one way: the first that there is (Consul
			// agent/consul/discoverychain/compile.go).
			out.HashPolicy = hashPolicies(c.nodes[s.GetNext()].GetResolver().GetLoadBalancerJson())
		}
	}
	if total == 0 {
		return nil
	}
	return out
}

// splitsFailOver reports whether a splitter leads to a target that others take over for.
func (c *chainRoutes) splitsFailOver(node string) bool {
	return slices.ContainsFunc(c.nodes[node].GetSplitter().GetSplits(), func(s *isthmusv1.ChainSplit) bool {
		return len(c.nodes[s.GetNext()].GetResolver().GetFailover()) > 0
	})
}

// longestTimeout is as good as none, and an Envoy takes it.
const longestTimeout = 365 * 24 * time.Hour

// setTimeout sets one that is given; one below zero is none at all.
func setTimeout(into **durationpb.Duration, timeout *durationpb.Duration) {
	if t := timeout.AsDuration(); t != 0 {
		*into = durationpb.New(min(max(t, 0), longestTimeout))
	}
}

// rewrite replaces what was matched of the path. Where nothing is to stay of a prefix,
// the slash after it goes too: /admin/x becomes /x, and not //x. (Consul 1.22.5 does this
// where no rewrite is asked for, too, and cuts off the prefix: differences.md, "A route
// without a rewrite".)
func rewrite(action *routev3.RouteAction, match *routev3.RouteMatch, prefix string) {
	if !plainText(prefix) {
		return
	}
	if prefix != "/" || match.GetPrefix() == "" {
		action.PrefixRewrite = prefix
		return
	}
	pattern := "^" + quoted(match.GetPrefix()) + "(/?)(.*)"
	if match.GetCaseSensitive() != nil && !match.GetCaseSensitive().GetValue() {
		pattern = "(?i)" + pattern
	}
	action.RegexRewrite = substitution(pattern, `/\2`)
}

// retries are those that a route asks for; nil: none.
func retries(to *isthmusv1.ServiceRouteDestination, failover bool) *routev3.RetryPolicy {
	on := slices.Clone(to.GetRetryOn())
	if to.GetRetryOnConnectFailure() && !slices.Contains(on, "connect-failure") {
		on = append(on, "connect-failure")
	}
	if len(to.GetRetryOnStatusCodes()) > 0 {
		on = append(on, "retriable-status-codes")
	}
	if len(on) == 0 && to.GetNumRetries() == 0 {
		return nil
	}
	out := &routev3.RetryPolicy{RetryOn: strings.Join(on, ","), RetriableStatusCodes: to.GetRetryOnStatusCodes(), NumRetries: positive(to.GetNumRetries())}
	if failover {
		out.RetryPriority = &routev3.RetryPolicy_RetryPriority{
			Name: "envoy.retry_priorities.previous_priorities",
			ConfigType: &routev3.RetryPolicy_RetryPriority_TypedConfig{
				TypedConfig: packed(&previouspriorities.PreviousPrioritiesConfig{UpdateFrequency: 1}),
			},
		}
	}
	return out
}
