package main

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/isthmus-mesh/isthmus/gateway/sidecar"
	isthmusv1 "github.com/isthmus-mesh/isthmus/proto/isthmus/v1"
)

// demoLogFormat is a line of the access log that the demo's Envoy sidecars write, for a
// connection that has ended: its mark, when it began, where it was accepted, where it was
// led, and how it ended.
const demoLogFormat = demoLogMark + ` %START_TIME(%s.%9f)% %DOWNSTREAM_LOCAL_ADDRESS% %UPSTREAM_HOST% %RESPONSE_FLAGS%`

const demoLogMark = "isthmus-demo"

// demoAccessLogs is what the demo adds to proxy-defaults, so that Envoys tell which way
// connections went.
func demoAccessLogs() *isthmusv1.AccessLogs {
	return &isthmusv1.AccessLogs{Enabled: true, DisableListenerLogs: true, Type: "stdout", TextFormat: demoLogFormat}
}

// accessLogsText is the same in a file; empty where no Envoy sidecar runs.
func (d *demoRun) accessLogsText() string {
	if !d.world.dataplane.sidecars() {
		return ""
	}
	logs := demoAccessLogs()
	return fmt.Sprintf("\nAccessLogs {\n  Enabled             = true\n  DisableListenerLogs = true\n  Type                = %q\n  TextFormat          = %q\n}\n",
		logs.GetType(), logs.GetTextFormat())
}

// addAccessLogs has the sidecars of a catalog write the demo's access log.
func (d *demoRun) addAccessLogs() error {
	text := d.accessLogsText()
	if text == "" {
		return nil
	}
	for _, dc := range d.world.datacenters {
		path := filepath.Join(d.world.catalog, dc, "proxy-defaults.hcl")
		before, err := os.ReadFile(path)
		if errors.Is(err, fs.ErrNotExist) {
			before, err = []byte("Kind = \"proxy-defaults\"\nName = \"global\"\n"), nil
		}
		if err != nil {
			return err
		}
		if err := os.WriteFile(path, append(before, text...), 0o600); err != nil {
			return err
		}
	}
	if _, err := loadCatalog(d.world.catalog, d.world.ca); err != nil {
		return fmt.Errorf("with access logs in the proxy-defaults of each datacenter: %w", err)
	}
	d.world.accessLogs = true
	return nil
}

// recordLines takes the access log of an Envoy sidecar; nil: it has none.
func (w *world) recordLines(s worldSidecar) func(string) {
	if !w.accessLogs {
		return nil
	}
	return func(line string) {
		if r := w.readLine(s, line); r != nil {
			w.records.add(seen{datacenter: s.datacenter, proxy: s.proxy(), carried: r})
		}
	}
}

// readLine makes a line of the access log the record that a Go sidecar would have
// written; nil: it is another line.
func (w *world) readLine(s worldSidecar, line string) *sidecar.Record {
	fields := strings.Fields(line)
	if len(fields) != 5 || fields[0] != demoLogMark {
		return nil
	}
	start, err := sinceEpoch(fields[1])
	if err != nil {
		return nil
	}
	r := &sidecar.Record{
		Start: start, Listener: fields[2], Endpoint: strings.TrimPrefix(fields[3], "-"), Direction: sidecar.Inbound,
		Route: s.instance.GetProxy().GetDestinationServiceName(), Reason: sidecar.ReasonDone,
	}
	for _, u := range s.instance.GetProxy().GetUpstreams() {
		if r.Listener == hostPort(cmp.Or(u.GetLocalBindAddress(), "127.0.0.1"), u.GetLocalBindPort()) {
			r.Direction, r.Path = sidecar.Outbound, w.pathTo(s.datacenter, r.Endpoint)
			r.Route = u.GetDestinationName() + "@" + cmp.Or(u.GetDatacenter(), s.datacenter)
		}
	}
	if r.Endpoint == "" || slices.ContainsFunc(strings.Split(fields[4], ","), neverJoined) {
		r.Reason = sidecar.ReasonConnectFailed
	}
	return r
}

// neverJoined reports whether Envoy's flag says that there was no connection to an
// endpoint: it failed, there was no healthy one, no route, no cluster, or too many.
func neverJoined(flag string) bool {
	return slices.Contains([]string{"UF", "UH", "NR", "NC", "UO", "URX"}, flag)
}

// pathTo is the path that leads to an endpoint, by who is registered there.
func (w *world) pathTo(datacenter, endpoint string) isthmusv1.Path {
	for _, g := range w.gateways {
		switch {
		case !slices.Contains(g.listen, endpoint):
		case g.datacenter == datacenter:
			return isthmusv1.Path_PATH_LOCAL_GATEWAY
		default:
			return isthmusv1.Path_PATH_REMOTE_GATEWAY
		}
	}
	if slices.ContainsFunc(w.sidecars, func(s worldSidecar) bool { return s.public == endpoint }) {
		return isthmusv1.Path_PATH_DIRECT
	}
	return isthmusv1.Path_PATH_UNSPECIFIED
}

// sinceEpoch reads SECONDS.NANOSECONDS.
func sinceEpoch(text string) (time.Time, error) {
	whole, part, _ := strings.Cut(text, ".")
	seconds, err := strconv.ParseInt(whole, 10, 64)
	if err != nil {
		return time.Time{}, err
	}
	nanoseconds, err := strconv.ParseInt(part, 10, 64)
	return time.Unix(seconds, nanoseconds), err
}
