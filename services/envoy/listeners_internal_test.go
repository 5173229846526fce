package envoy

import (
	"maps"
	"slices"
	"testing"
)

// Callers' listeners are those that came by xDS and are not outbound, also while they
// drain, and of the bootstrap's own those that say they are inbound.
func TestWhichListenersAreCallers(t *testing.T) {
	got := make(map[string]bool)
	for _, dump := range []string{`{}`, `{"configs": [
		{"active_state": {"listener": {"traffic_direction": "INBOUND", "address": {"socket_address": {"address": "10.0.0.1", "port_value": 20000}}}}},
		{"active_state": {"listener": {"address": {"socket_address": {"address": "2001:db8::1", "port_value": 8443}}}},
		 "draining_state": {"listener": {"stat_prefix": "of:old"}}},
		{"active_state": {"listener": {"traffic_direction": "OUTBOUND", "address": {"socket_address": {"address": "127.0.0.1", "port_value": 9191}}}}},
		{"warming_state": {"listener": {"stat_prefix": "of_new"}}},
		{"name": "none", "error_state": {}}]}`, `{"configs": [
		{"listener": {"traffic_direction": "INBOUND", "address": {"pipe": {"path": "/run/in.sock"}}}},
		{"listener": {"address": {"socket_address": {"address": "0.0.0.0", "port_value": 9102}}}}]}`} {
		if err := readListeners([]byte(dump), got); err != nil {
			t.Fatal(err)
		}
	}
	want := []string{"/run/in.sock", "10.0.0.1_20000", "[2001_db8__1]_8443", "of_old"}
	if names := slices.Sorted(maps.Keys(got)); !slices.Equal(names, want) {
		t.Errorf("they are %q, and should be %q", names, want)
	}
	if err := readListeners([]byte("no JSON"), got); err == nil {
		t.Error("what is no config dump is read")
	}
}

// Connections are those of whole listeners, not of their workers, nor of other listeners.
func TestCountingCallers(t *testing.T) {
	got, err := countCallers(`listener.10.0.0.1_20000.downstream_cx_active: 2
listener.10.0.0.1_20000.downstream_cx_total: 17
listener.10.0.0.1_20000.worker_0.downstream_cx_active: 2
listener.10.0.0.1_20000.worker_0.downstream_cx_total: 17
listener.[__1]_8443.downstream_cx_active: 1
listener.[__1]_8443.downstream_cx_total: 1
listener.admin.downstream_cx_active: 1
listener.127.0.0.1_9191.downstream_cx_active: 40
`, map[string]bool{"10.0.0.1_20000": true, "[__1]_8443": true})
	if want := (callers{open: 3, ever: 18}); got != want || err != nil {
		t.Errorf("they are %+v, %v, and should be %+v", got, err, want)
	}
	if _, err := countCallers("listener.a.downstream_cx_active: many", map[string]bool{"a": true}); err == nil {
		t.Error("what is no number counts")
	}
}
