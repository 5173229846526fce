package main

import (
	"context"
	"crypto/tls"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/isthmus-mesh/isthmus/bus"
	isthmusv1 "github.com/isthmus-mesh/isthmus/proto/isthmus/v1"
)

// edits replaces a text that stands once in a file of a catalog, as an editor
// would: whole.
func edits(file, from, to string) func(*testing.T, string) {
	return func(t *testing.T, catalog string) {
		t.Helper()
		path := filepath.Join(catalog, filepath.FromSlash(file))
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if n := strings.Count(string(text), from); n != 1 {
			t.Fatalf("%s has %q %d times, want once", file, from, n)
		}
		replace(t, path, strings.Replace(string(text), from, to, 1))
	}
}

func replace(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path+".new~", []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+".new~", path); err != nil {
		t.Fatal(err)
	}
}

// deny lets nobody connect to a service of dc2.
func deny(t *testing.T, catalog, service string) {
	t.Helper()
	replace(t, filepath.Join(catalog, "dc2", "deny.yaml"),
		fmt.Sprintf("Kind: service-intentions\nName: %s\nSources:\n- Name: \"*\"\n  Action: deny\n- Name: web\n  Action: deny\n", service))
}

// strangerAtGateway connects to web through a gateway of dc1, again and again.
func strangerAtGateway(t *testing.T, d *demoRun) {
	gateways, _ := d.gatewaysIn("dc1")
	joined := func() uint64 {
		all, err := d.joined(t.Context())
		if err != nil {
			t.Error(err)
		}
		return all["dc1"]
	}
	before := joined()
	hello := &tls.Config{
		InsecureSkipVerify: true, // Nobody is to be trusted: the handshake is not to succeed.
		ServerName:         isthmusv1.SNI(&isthmusv1.ServiceRef{Name: "web"}, "", "dc1", d.world.ca.TrustDomain()),
	}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan struct{})
	t.Cleanup(func() { stop(); <-ended })
	go func() {
		defer close(ended)
		dialer := &tls.Dialer{Config: hello}
		for ctx.Err() == nil {
			if conn, err := dialer.DialContext(ctx, "tcp", gateways.listen[0]); err == nil {
				_, _ = conn.Read(make([]byte, 1))
				conn.Close()
			}
		}
	}()
	until(t, "no connection of the stranger is counted", func() bool { return joined() > before })
}

// ownModeOfSearch gives search a mode of its own, and waits until the log says
// so.
func ownModeOfSearch(t *testing.T, d *demoRun) {
	edits("dc1/dc1-web-1/web.hcl", "local_bind_port    = 10003\n", "local_bind_port    = 10003\n mesh_gateway { mode = \"remote\" }\n")(t, d.world.catalog)
	until(t, "the log does not say what the file says", func() bool {
		answer, err := d.answer(t.Context())
		return err == nil && answer.Targets[0].Decision.Level != "proxy-defaults"
	})
}

// until waits for something that nobody tells.
func until(t *testing.T, otherwise string, holds func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	ticker := time.NewTicker(5 * time.Millisecond)
	defer ticker.Stop()
	for !holds() {
		select {
		case <-ticker.C:
		case <-ctx.Done():
			t.Error(otherwise)
			return
		}
	}
}

// foreignRoute appends a wildcard that no resolver made, as a transaction of its
// own at the last recorded basis.
func foreignRoute(t *testing.T, d *demoRun) {
	log := d.world.logs[0]
	var last bus.Message
	var value []byte
	end := new(isthmusv1.Record)
	for m, err := range log.History(t.Context(), "ROUTES_dc1", 0, 0) {
		if err != nil {
			t.Error(err)
			return
		}
		record := new(isthmusv1.Record)
		if err := proto.Unmarshal(m.Record, record); err != nil {
			t.Error(err)
			return
		}
		if m.Key == isthmusv1.WildcardKey("dc2") {
			value = record.GetValue()
		}
		if last = m; record.GetEnvelope().GetEnd() != nil {
			end = record
		}
	}
	foreign := &isthmusv1.Record{Envelope: proto.CloneOf(end.GetEnvelope()), Value: value}
	foreign.Envelope.Position, foreign.Envelope.Transaction, foreign.Envelope.Origin = 1, "foreign", nil
	record, err := proto.Marshal(foreign)
	if err != nil {
		t.Error(err)
		return
	}
	if _, err := log.Append(t.Context(), "ROUTES_dc1", last.Sequence, []bus.Message{{Key: isthmusv1.WildcardKey("dc9"), Record: record}}); err != nil {
		t.Error(err)
	}
}
