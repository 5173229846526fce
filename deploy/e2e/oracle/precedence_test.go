package oracle_test

import (
	"fmt"
	"strings"
	"sync"
	"testing"

	isthmusv1 "github.com/isthmus-mesh/isthmus/proto/isthmus/v1"
)

// Levels that a mode can be set at, highest first: reference 1.1.
const (
	atUpstream = iota
	atOverride
	atInstance
	atUpstreamDefaults
	atServiceDefaults
	atProxyDefaults
	atTarget
	levelCount
)

var levelNames = [levelCount]string{
	"upstream", "override", "instance", "upstream-defaults", "service-defaults", "proxy-defaults", "target-service-defaults",
}

// modes are those that are written at each level; empty: none is.
type modes [levelCount]string

// String is the modes as a case is called: the higher one over the lower one.
func (m modes) String() string {
	var parts []string
	for i, mode := range m {
		if mode != "" {
			parts = append(parts, levelNames[i]+" "+mode)
		}
	}
	if len(parts) == 0 {
		return "nothing"
	}
	return strings.Join(parts, " over ")
}

// winner is the highest level that is set, and its mode.
func (m modes) winner() (level, mode string) {
	for i, mode := range m {
		if mode != "" {
			return levelNames[i], mode
		}
	}
	return "default", ""
}

// allModes are the cases: each of the 21 pairs of levels with each two different
// modes, each level alone, none at all, and a mode that is invalid at each level
// over the next one.
func allModes() []modes {
	valid := []string{"none", "local", "remote"}
	out := []modes{{}}
	for high := range levelCount {
		for _, mode := range valid {
			alone := modes{}
			alone[high] = mode
			out = append(out, alone)
		}
		for low := high + 1; low < levelCount; low++ {
			for _, above := range valid {
				for _, below := range valid {
					if above != below {
						pair := modes{}
						pair[high], pair[low] = above, below
						out = append(out, pair)
					}
				}
			}
		}
		invalid := modes{}
		invalid[high] = []string{"bogus", "Local"}[high%2]
		if high+1 < levelCount {
			invalid[high+1] = "remote"
		}
		out = append(out, invalid)
	}
	return out
}

// precedence compares what each pair of levels comes to, for a proxy whose modes
// an agent merges and for one that is registered with the catalog as it is. The
// only level that all have in common is proxy-defaults, so the cases go by that.
func (w *world) precedence(t *testing.T) {
	byDefault := map[string][]modes{}
	for _, m := range allModes() {
		byDefault[m[atProxyDefaults]] = append(byDefault[m[atProxyDefaults]], m)
	}
	number := 0
	for _, global := range []string{"", "none", "local", "remote", "bogus", "Local"} {
		cases := byDefault[global]
		t.Run("proxy-defaults "+global, func(t *testing.T) {
			w.entry(t, "proxy-defaults", "global", object{"MeshGateway": mode(global)})
			numbers := make([]int, len(cases))
			for i, m := range cases {
				numbers[i] = number
				number++
				w.writeModes(t, numbers[i], m)
			}
			w.include(t)
			w.compareModes(t, cases, numbers)
			for _, n := range numbers {
				for _, proxy := range w.webs(n, modes{}) {
					proxy.deregister(t)
				}
			}
		})
	}
	w.entry(t, "proxy-defaults", "global", nil)
}

// compareModes compares all cases, several at a time.
func (w *world) compareModes(t *testing.T, cases []modes, numbers []int) {
	slots := make(chan struct{}, 8)
	var group sync.WaitGroup
	defer group.Wait()
	for i, m := range cases {
		for _, proxy := range w.webs(numbers[i], m) {
			name := "agent/" + m.String()
			if proxy.node != "" {
				name = "catalog/" + m.String()
			}
			slots <- struct{}{}
			group.Go(func() {
				defer func() { <-slots }()
				t.Run(name, func(t *testing.T) { w.compareMode(t, proxy, m, numbers[i]) })
			})
		}
	}
}

// compareMode compares one proxy.
func (w *world) compareMode(t *testing.T, proxy instance, m modes, n int) {
	level, written := m.winner()
	mode := string(isthmusv1.Mode(written).Effective())
	how := map[string]string{"none": direct, "local": localGateway, "remote": remoteGateway}[mode]
	c := comparison{proxy: proxy, gateways: w.gateways(), mode: mode, want: fmt.Sprintf("api-%d.dc2 %s", n, how)}
	if !isthmusv1.Mode(written).Valid() {
		c.differs, c.apply = invalidMode, func(their view) view {
			their[0][0].Problems = []string{"INVALID_MODE"}
			return their
		}
	}
	if proxy.node != "" { // An agent's proxy shows a merged mode, and not where it comes from.
		c.more = func(s *state) string { return s.decidedAt(proxy, level) }
	}
	w.compare(t, c)
}

// decidedAt says what is wrong if another level has decided a proxy's only target.
func (s *state) decidedAt(proxy instance, level string) string {
	p, _ := s.values[isthmusv1.ProxyKey("", proxy.node, "", proxy.id)].(*isthmusv1.ProxyRoutes)
	set, _ := s.values[isthmusv1.RouteSetKey(p.GetService(), p.GetRoutesetHash())].(*isthmusv1.RouteSet)
	if len(set.GetRoutes()) != 1 || len(set.GetRoutes()[0].GetTargets()) != 1 {
		return fmt.Sprintf("there is not one target: %v", set)
	}
	if got := set.GetRoutes()[0].GetTargets()[0].GetDecision().GetWinner().GetLevel().Name(); got != level {
		return fmt.Sprintf("level %s decides, and not %s", got, level)
	}
	return ""
}

// writeModes writes one case: the service web-N with a sidecar on the agent and
// one in the catalog, and api-N in dc2.
func (w *world) writeModes(t *testing.T, n int, m modes) {
	web, api := fmt.Sprintf("web-%d", n), fmt.Sprintf("api-%d", n)
	source := object{}
	if m[atServiceDefaults] != "" {
		source["MeshGateway"] = mode(m[atServiceDefaults])
	}
	config := object{}
	if m[atUpstreamDefaults] != "" {
		config["Defaults"] = object{"MeshGateway": mode(m[atUpstreamDefaults])}
	}
	if m[atOverride] != "" {
		config["Overrides"] = []object{{"Name": api, "MeshGateway": mode(m[atOverride])}}
	}
	if len(config) > 0 {
		source["UpstreamConfig"] = config
	}
	if len(source) > 0 {
		w.entry(t, "service-defaults", web, source)
	}
	if m[atTarget] != "" {
		w.entry(t, "service-defaults", api, object{"MeshGateway": mode(m[atTarget])})
	}
	sidecar(w.dc2, "dc2-node", api, fmt.Sprintf("10.2.%d.%d", 1+n/200, 1+n%200), fmt.Sprintf("192.0.2.%d", 1+n%200), 21000).register(t)
	for _, proxy := range w.webs(n, m) {
		proxy.register(t)
	}
}

// webs are the two sidecars of web-N.
func (w *world) webs(n int, m modes) []instance {
	var out []instance
	for i, node := range []string{"", "dc1-node"} {
		upstream := object{"DestinationName": fmt.Sprintf("api-%d", n), "Datacenter": "dc2", "LocalBindPort": 10000}
		proxy := object{"DestinationServiceName": fmt.Sprintf("web-%d", n), "LocalServicePort": 8080}
		if m[atUpstream] != "" {
			upstream["MeshGateway"] = mode(m[atUpstream])
		}
		if m[atInstance] != "" {
			proxy["MeshGateway"] = mode(m[atInstance])
		}
		proxy["Upstreams"] = []object{upstream}
		out = append(out, instance{agent: w.dc1, node: node, id: fmt.Sprintf("web-%d-proxy-%d", n, i), fields: object{
			"Name": fmt.Sprintf("web-%d-proxy", n), "Kind": "connect-proxy", "Address": "10.1.0.9", "Port": 20000, "Proxy": proxy,
		}})
	}
	return out
}
