package main

import (
	"fmt"
	"log/slog"
	"net/netip"
	"strings"
	"testing"

	"github.com/spf13/cobra"
)

// TestRegisterFlags: what is registered and where it listens. 10.0.0.1 and
// 10.0.0.2 are addresses of the machine.
func TestRegisterFlags(t *testing.T) {
	cases := []struct {
		flags  string
		listen []string
		// want is "ID/NAME lan=… wan=… binds=… tagged=… listen=… proxy=…"; a line
		// without = is an error.
		want string
	}{
		{"--register --address 10.0.0.1:443", nil, "mesh-gateway/mesh-gateway lan=10.0.0.1:443 wan= binds=map[] tagged=false listen=[10.0.0.1:443] proxy=mesh-gateway"},
		{"--register --address 10.0.0.1", nil, "mesh-gateway/mesh-gateway lan=10.0.0.1:8443 wan= binds=map[] tagged=false listen=[10.0.0.1:8443] proxy=mesh-gateway"},
		{"--register --address 10.0.0.1 --wan-address 10.0.0.2:9", nil, "mesh-gateway/mesh-gateway lan=10.0.0.1:8443 wan=10.0.0.2:9 binds=map[] tagged=true listen=[10.0.0.1:8443 10.0.0.2:9] proxy=mesh-gateway"},
		{"--register --address 10.0.0.1 --wan-address 10.0.0.1", nil, "mesh-gateway/mesh-gateway lan=10.0.0.1:8443 wan=10.0.0.1:8443 binds=map[] tagged=true listen=[10.0.0.1:8443] proxy=mesh-gateway"},
		{"--register --address 10.0.0.1 --wan-address gw.example.com:443", nil, "mesh-gateway/mesh-gateway lan=10.0.0.1:8443 wan=gw.example.com:443 binds=map[] tagged=false listen=[10.0.0.1:8443] proxy=mesh-gateway"},
		{"--register --address [::1]:443", nil, "mesh-gateway/mesh-gateway lan=[::1]:443 wan= binds=map[] tagged=false listen=[[::1]:443] proxy=mesh-gateway"},
		{"--register --service edge --address 198.51.100.1 --bind-address a=10.0.0.1:1 --bind-address b=10.0.0.2", nil, "edge/edge lan=198.51.100.1:8443 wan= binds=map[a:10.0.0.1:1 b:10.0.0.2:8443] tagged=false listen=[10.0.0.1:1 10.0.0.2:8443] proxy=edge"},
		{"--register --service edge --address 198.51.100.1", []string{":8443"}, "edge/edge lan=198.51.100.1:8443 wan= binds=map[] tagged=false listen=[:8443] proxy=edge"},
		{"--register --address 10.0.0.1 --bind-address a=10.0.0.2:2", []string{":8443"}, "mesh-gateway/mesh-gateway lan=10.0.0.1:8443 wan= binds=map[a:10.0.0.2:2] tagged=false listen=[:8443] proxy=mesh-gateway"},
		{"--register --address 10.0.0.1 --proxy-id n1/mg", nil, "mg/mesh-gateway lan=10.0.0.1:8443 wan= binds=map[] tagged=false listen=[10.0.0.1:8443] proxy=n1/mg"},
		{"--register --address 10.0.0.1 --proxy-id mg", nil, "mg/mesh-gateway lan=10.0.0.1:8443 wan= binds=map[] tagged=false listen=[10.0.0.1:8443] proxy=mg"},
		{"--proxy-id mg", nil, ""},

		{"--register", nil, "--address is missing"},
		{"--address 10.0.0.1", nil, "give --register too"},
		{"--register --address 198.51.100.1", nil, "--address 198.51.100.1 is not one of this machine's"},
		{"--register --address gw.example.com", nil, "is not one of this machine's"},
		{"--register --address {{GetPrivateIP}}", nil, "templates are not evaluated"},
		{"--register --address 10.0.0.1:0", nil, `"0" is no port`},
		{"--register --address 10.0.0.1:http", nil, `"http" is no port`},
		{"--register --address :443", nil, "names no host"},
		{"--register --address 10.0.0.1 --bind-address 10.0.0.1:1", nil, "is not name=ip:port"},
		{"--register --address 10.0.0.1 --bind-address a=gw:1", nil, "gw is not an IP address"},
		{"--register --address 10.0.0.1 --bind-address a=10.0.0.1:1 --bind-address a=10.0.0.2:1", nil, "a stands twice"},
		{"--register --address 10.0.0.1 --service=", nil, "--service is empty"},
	}
	for _, c := range cases {
		t.Run(c.flags, func(t *testing.T) {
			f := registerFlags{local: func(ip netip.Addr) bool { return strings.HasPrefix(ip.String(), "10.0.0.") || ip.IsLoopback() }}
			s := gatewaySettings{listen: c.listen}
			cmd := &cobra.Command{}
			cmd.Flags().StringVar(&s.proxy, "proxy-id", "", "")
			f.add(cmd)
			if err := cmd.ParseFlags(strings.Fields(c.flags)); err != nil {
				t.Fatal(err)
			}
			a := newApp(nil, nil, func(string) string { return "" })
			a.logger = slog.New(slog.DiscardHandler)
			err := f.settle(a, &s)
			got := ""
			switch {
			case err != nil:
				got = err.Error()
			case s.registrar != nil:
				r := s.registrar.registration
				got = fmt.Sprintf("%s/%s lan=%s wan=%s binds=%v tagged=%v listen=%v proxy=%s", r.ID, r.Name, r.LAN, r.WAN, r.Binds, r.BindTagged, s.listen, s.proxy)
			}
			if err != nil && (c.want == "" || !strings.Contains(got, c.want)) || err == nil && got != c.want {
				t.Errorf("got  %s\nwant %s", got, c.want)
			}
		})
	}
}
