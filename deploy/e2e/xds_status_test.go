package e2e_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os/exec"
	"strings"
)

// wantReported wants the Envoy shown as connected to the node, with all of the routes and
// nothing refused.
func (g *envoyGateway) wantReported() {
	g.t.Helper()
	await(g.t, g.id+" is not reported as up to date", func(ctx context.Context) error {
		out, err := exec.CommandContext(ctx, binary, "proxies", "--nats", g.nats, "--datacenter", "dc2", "-o", "json").Output()
		if err != nil {
			return err
		}
		var rows []struct {
			Proxy, Kind, Version string
			XDSNode              string `json:"xds_node"`
			Connected            bool
			Basis                map[string]any
			Behind               *struct{ Events, MS int }
			LastNack             any `json:"last_nack"`
		}
		if err := json.Unmarshal(out, &rows); err != nil {
			return err
		}
		for _, r := range rows {
			if !strings.HasSuffix(r.Proxy, "/"+g.id) {
				continue
			}
			if !r.Connected || r.Kind != "mesh-gateway" || !strings.HasSuffix(r.XDSNode, "/"+g.listen) || r.Version == "" ||
				r.Basis["CATALOG_dc2"] == nil || r.Behind == nil || r.Behind.Events != 0 || r.LastNack != nil {
				return fmt.Errorf("it is %+v", r)
			}
			return nil
		}
		return errors.New("it is not among the proxies")
	})
}

// wantServed wants a name in what `isthmus proxy config` shows for the Envoy.
func (g *envoyGateway) wantServed(name string) {
	g.t.Helper()
	out, err := exec.CommandContext(g.t.Context(), binary, "proxy", "config", g.id, "--nats", g.nats, "--datacenter", "dc2", "-o", "json").Output()
	if err != nil || !strings.Contains(string(out), `"name": "`+name+`"`) {
		g.t.Errorf("%s is not in what %s is served, %v: %s", name, g.id, err, out)
	}
}
