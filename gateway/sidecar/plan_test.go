package sidecar

import (
	"crypto/tls"
	"fmt"
	"os"
	"slices"
	"testing"

	"pgregory.net/rapid"

	isthmusv1 "github.com/isthmus-mesh/isthmus/proto/isthmus/v1"
)

func TestListenerSpecs(t *testing.T) {
	proxy := &isthmusv1.ProxyRoutes{
		Address: "10.0.0.1", Port: 21000,
		Binds: []*isthmusv1.Bind{
			{Route: "db", Address: "127.0.0.1", Port: 9001},
			{Route: "api", Port: 9000},
			{Route: "logs", SocketPath: "/run/logs.sock", SocketMode: "0640"},
			{Route: "plain", SocketPath: "/run/plain.sock"},
			{Route: "v6", Address: "::1", Port: 9002},
		},
	}
	specs, problems := listenerSpecs(proxy)
	if len(problems) != 0 {
		t.Errorf("problems: %v", problems)
	}
	var got []string
	for _, s := range specs {
		got = append(got, fmt.Sprintf("%s %s %s %04o public=%v", s.network, s.address, s.route, s.mode, s.public()))
	}
	want := []string{
		"tcp 10.0.0.1:21000  0000 public=true",
		"tcp 127.0.0.1:9000 api 0000 public=false",
		"tcp 127.0.0.1:9001 db 0000 public=false",
		"tcp [::1]:9002 v6 0000 public=false",
		"unix /run/logs.sock logs 0640 public=false",
		"unix /run/plain.sock plain 0000 public=false",
	}
	if !slices.Equal(got, want) {
		t.Errorf("got\n%q\nwant\n%q", got, want)
	}
}

func TestListenerSpecsStateWhatCannotBe(t *testing.T) {
	proxy := &isthmusv1.ProxyRoutes{
		Address: "127.0.0.1", Port: 0,
		Binds: []*isthmusv1.Bind{
			{Route: "a", Port: 9000},
			{Route: "b", Port: 9000},
			{Route: "c", Port: 65536},
			{Route: "d"},
			{Route: "e", SocketPath: "/run/e", SocketMode: "rw"},
			{Route: "f", SocketPath: "/run/f", SocketMode: "1777"},
			{Route: "g", SocketPath: "/run/g", SocketMode: "0668"},
		},
	}
	specs, problems := listenerSpecs(proxy)
	if len(specs) != 1 || specs[0].route != "a" {
		t.Errorf("specs: %v", specs)
	}
	if len(problems) != 7 {
		t.Errorf("%d problems: %v", len(problems), problems)
	}
	for _, p := range problems {
		if p.GetCode() != CodeBadListener || p.GetFix() == "" {
			t.Errorf("problem %v", p)
		}
	}
}

// TestNoAddressIsNotEveryAddress: a proxy without an address listens nowhere.
func TestNoAddressIsNotEveryAddress(t *testing.T) {
	specs, problems := listenerSpecs(&isthmusv1.ProxyRoutes{Port: 21000})
	if len(specs) != 0 || len(problems) != 1 || problems[0].GetCode() != CodeBadListener || problems[0].GetFix() == "" {
		t.Errorf("specs %v, problems %v", specs, problems)
	}
}

func TestSocketMode(t *testing.T) {
	for text, want := range map[string]os.FileMode{"": 0, "0600": 0o600, "666": 0o666, "0777": 0o777} {
		if got, err := socketMode(text); err != nil || got != want {
			t.Errorf("%q: %04o, %v", text, got, err)
		}
	}
}

// TestPlanListeners: whatever is open and whatever is asked for, the plan leads
// from the one to the other, and what stays is not touched.
func TestPlanListeners(t *testing.T) {
	key := rapid.Custom(func(t *rapid.T) listenerKey {
		return listenerKey{"tcp", fmt.Sprintf("127.0.0.1:%d", rapid.IntRange(1, 9).Draw(t, "port"))}
	})
	rapid.Check(t, func(t *rapid.T) {
		has := rapid.SliceOfDistinct(key, func(k listenerKey) listenerKey { return k }).Draw(t, "has")
		var want []listenerSpec
		for _, k := range rapid.SliceOfDistinct(key, func(k listenerKey) listenerKey { return k }).Draw(t, "want") {
			want = append(want, listenerSpec{listenerKey: k, route: "r"})
		}
		plan := planListeners(has, want)
		after := map[listenerKey]bool{}
		for _, k := range has {
			after[k] = true
		}
		for _, k := range plan.close {
			if !after[k] {
				t.Fatalf("%s is closed and was not open", k)
			}
			delete(after, k)
		}
		for _, s := range plan.keep {
			if !slices.Contains(has, s.listenerKey) || !after[s.listenerKey] {
				t.Fatalf("%s is kept and was not open", s)
			}
		}
		for _, s := range plan.open {
			if after[s.listenerKey] {
				t.Fatalf("%s is opened twice", s)
			}
			after[s.listenerKey] = true
		}
		if len(after) != len(want) || len(plan.keep)+len(plan.open) != len(want) {
			t.Fatalf("the plan leads to %v; want %v", after, want)
		}
		for _, s := range want {
			if !after[s.listenerKey] {
				t.Fatalf("%s is not open", s)
			}
		}
	})
}

func TestTLSParameters(t *testing.T) {
	tests := []struct {
		name     string
		bounds   *isthmusv1.MeshTLS
		min, max uint16
		suites   []uint16
		bad      bool
	}{
		{name: "none"},
		{name: "automatic", bounds: &isthmusv1.MeshTLS{TlsMinVersion: "TLS_AUTO", TlsMaxVersion: "TLS_AUTO"}},
		{name: "1.3 only", bounds: &isthmusv1.MeshTLS{TlsMinVersion: "TLSv1_3"}, min: tls.VersionTLS13},
		{name: "1.2 only", bounds: &isthmusv1.MeshTLS{TlsMaxVersion: "TLSv1_2"}, max: tls.VersionTLS12},
		{name: "an old least is 1.2", bounds: &isthmusv1.MeshTLS{TlsMinVersion: "TLSv1_0"}, min: tls.VersionTLS12},
		{
			name: "suites", suites: []uint16{tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384},
			bounds: &isthmusv1.MeshTLS{CipherSuites: []string{"TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384"}},
		},
		{name: "an old most cannot be", bounds: &isthmusv1.MeshTLS{TlsMaxVersion: "TLSv1_1"}, bad: true},
		{name: "nothing in between", bounds: &isthmusv1.MeshTLS{TlsMinVersion: "TLSv1_3", TlsMaxVersion: "TLSv1_2"}, bad: true},
		{name: "no version", bounds: &isthmusv1.MeshTLS{TlsMinVersion: "SSLv3"}, bad: true},
		{name: "no version at most", bounds: &isthmusv1.MeshTLS{TlsMaxVersion: "1.3"}, bad: true},
		{name: "an unsafe suite", bounds: &isthmusv1.MeshTLS{CipherSuites: []string{"TLS_RSA_WITH_RC4_128_SHA"}}, bad: true},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			p, problem := tlsParameters("Incoming", test.bounds)
			if test.bad != (problem != nil) {
				t.Fatalf("problem: %v", problem)
			}
			if p.MinVersion != test.min || p.MaxVersion != test.max || !slices.Equal(p.CipherSuites, test.suites) {
				t.Errorf("got %+v", p)
			}
		})
	}
}
