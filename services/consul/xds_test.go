package consul_test

import (
	"errors"
	"testing"

	"github.com/isthmus-mesh/isthmus/services/consul"
)

// TestXDS: Consul's xDS is found at the agent's host by the ports that it names, in plain
// text before TLS, or where somebody says that it is.
func TestXDS(t *testing.T) {
	for name, test := range map[string]struct {
		api, asked string
		self       consul.Self
		address    string
		secure     bool
	}{
		"plain text":        {"http://10.0.0.1:8500", "", consul.Self{GRPCPort: 8502, GRPCTLSPort: 8503}, "10.0.0.1:8502", false},
		"TLS alone":         {"https://10.0.0.1:8501", "", consul.Self{GRPCPort: -1, GRPCTLSPort: 8503}, "10.0.0.1:8503", true},
		"IPv6":              {"http://[::1]:8500", "", consul.Self{GRPCPort: 8502}, "[::1]:8502", false},
		"by a socket":       {"unix:///run/consul.sock", "", consul.Self{GRPCPort: 8502}, "127.0.0.1:8502", false},
		"an address":        {"http://10.0.0.1:8500", "10.0.0.2:1", consul.Self{GRPCPort: 8502}, "10.0.0.2:1", false},
		"an address by TLS": {"http://10.0.0.1:8500", "https://10.0.0.2:1", consul.Self{GRPCPort: 8502}, "10.0.0.2:1", true},
		"closed":            {"http://10.0.0.1:8500", "", consul.Self{GRPCPort: -1, GRPCTLSPort: -1}, "", false},
	} {
		t.Run(name, func(t *testing.T) {
			client, err := consul.Open(consul.Options{Address: test.api, Token: "t", Environment: func(string) string { return "" }})
			if err != nil {
				t.Fatal(err)
			}
			got, err := client.XDS(test.self, test.asked)
			if test.address == "" {
				if !errors.Is(err, consul.ErrNoXDS) {
					t.Errorf("error %v", err)
				}
				return
			}
			if err != nil || got.Address != test.address || (got.TLS != nil) != test.secure || got.Token != "t" {
				t.Errorf("%s, TLS %v, error %v", got.Address, got.TLS != nil, err)
			}
		})
	}
}
