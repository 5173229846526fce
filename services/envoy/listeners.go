package envoy

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"strings"
)

// listener is what a config dump says of one.
type listener struct {
	Direction string `json:"traffic_direction"`
	Prefix    string `json:"stat_prefix"`
	Address   struct {
		Socket struct {
			Address string `json:"address"`
			Port    int    `json:"port_value"`
		} `json:"socket_address"`
		Pipe struct {
			Path string `json:"path"`
		} `json:"pipe"`
	} `json:"address"`
}

// stat is what the names of its statistics have after "listener.", where Envoy has no
// colons.
func (l *listener) stat() string {
	switch at := l.Address.Socket; {
	case l.Prefix != "":
		return strings.ReplaceAll(l.Prefix, ":", "_")
	case at.Address == "":
		return l.Address.Pipe.Path
	case strings.Contains(at.Address, ":"):
		return fmt.Sprintf("[%s]_%d", strings.ReplaceAll(at.Address, ":", "_"), at.Port)
	default:
		return fmt.Sprintf("%s_%d", at.Address, at.Port)
	}
}

// listeners are those that callers of the Envoy connect to, by the names of their
// statistics: what came by xDS, but for the listeners at which the application reaches
// others, and of the bootstrap's own those that say of themselves that they are inbound:
// whoever collects statistics is no caller.
func (d *drain) listeners(ctx context.Context) (map[string]bool, error) {
	out := make(map[string]bool)
	for _, resource := range []string{"dynamic_listeners", "static_listeners"} {
		text, err := d.ask(ctx, http.MethodGet, "/config_dump?resource="+resource)
		if err != nil {
			return nil, err
		}
		if err := readListeners(text, out); err != nil {
			return nil, fmt.Errorf("config dump of Envoy: %w", err)
		}
	}
	return out, nil
}

// readListeners adds the callers' listeners of a config dump.
func readListeners(text []byte, out map[string]bool) error {
	type state struct {
		Listener *listener `json:"listener"`
	}
	var dump struct {
		Configs []struct {
			state          // Of a static one.
			Active   state `json:"active_state"`
			Draining state `json:"draining_state"`
		} `json:"configs"`
	}
	if err := json.Unmarshal(text, &dump); err != nil {
		return err
	}
	for _, c := range dump.Configs {
		if l := c.Listener; l != nil && l.Direction == "INBOUND" {
			out[l.stat()] = true
		}
		for _, s := range []state{c.Active, c.Draining} {
			if l := s.Listener; l != nil && l.Direction != "OUTBOUND" {
				out[l.stat()] = true
			}
		}
	}
	return nil
}

// countCallers counts connections out of statistics, of these listeners as wholes: each
// worker has numbers of its own beside.
func countCallers(stats string, listeners map[string]bool) (out callers, err error) {
	for line := range strings.Lines(stats) {
		name, value, ok := strings.Cut(strings.TrimSpace(line), ": ")
		if !ok {
			continue
		}
		name = strings.TrimPrefix(name, "listener.")
		to := &out.open
		of, found := strings.CutSuffix(name, ".downstream_cx_active")
		if !found {
			to = &out.ever
			of, found = strings.CutSuffix(name, ".downstream_cx_total")
		}
		if !found || !listeners[of] {
			continue
		}
		n, err := strconv.Atoi(value)
		if err != nil {
			return out, fmt.Errorf("statistics of Envoy: %q is no number", line)
		}
		*to += n
	}
	return out, nil
}
