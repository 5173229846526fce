package main

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/isthmus-mesh/isthmus/services/consul"
)

// registerFlags are those of a gateway that registers itself. They follow
// "consul connect envoy -gateway=mesh".
type registerFlags struct {
	register          bool
	service, lan, wan string
	binds             []string
	consul            consulFlags
	// local reports whether an address is one of this machine; nil: ask it.
	local func(netip.Addr) bool
}

// gatewayPort is what an address without a port has, as with Consul's command.
const gatewayPort = 8443

func (f *registerFlags) add(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.BoolVar(&f.register, "register", false, "register the gateway with the local Consul agent while it serves")
	flags.StringVar(&f.service, "service", "mesh-gateway", "with --register: name of the service, and its ID without --proxy-id")
	flags.StringVar(&f.lan, "address", "", "with --register: LAN address to register, host:port (port 8443 if left out)")
	flags.StringVar(&f.wan, "wan-address", "", "with --register: WAN address to register, host:port; a host may be a name")
	flags.StringArrayVar(&f.binds, "bind-address", nil, "with --register: listen at name=ip:port, and register that; may be repeated")
	f.consul.register(cmd)
}

// settle completes the settings of a gateway that registers itself: what is
// registered, and where it listens.
func (f *registerFlags) settle(a *app, s *gatewaySettings) error {
	if !f.register {
		if f.lan != "" || f.wan != "" || len(f.binds) > 0 {
			return usageError{errors.New("--address, --wan-address and --bind-address say what to register; give --register too, or --listen instead")}
		}
		return nil
	}
	node, id, slash := strings.Cut(s.proxy, "/")
	if !slash {
		node, id = "", s.proxy
	}
	if id == "" {
		id = f.service
	}
	if f.service == "" {
		return usageError{errors.New("--service is empty: the name to register")}
	}
	r := consul.GatewayRegistration{ID: id, Name: f.service}
	if err := f.addresses(&r, s); err != nil {
		return usageError{err}
	}
	client, err := f.consul.open(a)
	if err != nil {
		return err
	}
	s.proxy = strings.TrimPrefix(node+"/"+id, "/")
	s.registrar = &registrar{agent: client, node: node, registration: r, logger: a.logger}
	return nil
}

// addresses reads the addresses, and sets where to listen where --listen does
// not.
func (f *registerFlags) addresses(r *consul.GatewayRegistration, s *gatewaySettings) (err error) {
	if f.lan == "" {
		return errors.New("--address is missing: the LAN address to register, like 10.0.0.1:8443")
	}
	if r.LAN, err = hostPortFlag("--address", f.lan); err != nil {
		return err
	}
	if f.wan != "" {
		if r.WAN, err = hostPortFlag("--wan-address", f.wan); err != nil {
			return err
		}
	}
	if err := f.readBinds(r); err != nil {
		return err
	}
	var listen []string
	switch {
	case len(r.Binds) > 0:
		for _, at := range r.Binds {
			listen = append(listen, at.String())
		}
	case len(s.listen) > 0: // It says where; the registration says LAN.
	case !f.bindable(r.LAN):
		return fmt.Errorf("--address %s is not one of this machine's: say where to listen by --bind-address name=ip:port, or by --listen", f.lan)
	default:
		listen = append(listen, r.LAN.String())
		if r.WAN.Host != "" && f.bindable(r.WAN) {
			r.BindTagged = true
			listen = append(listen, r.WAN.String())
		}
	}
	if len(s.listen) == 0 {
		slices.Sort(listen)
		s.listen = slices.Compact(listen)
	}
	return nil
}

func (f *registerFlags) readBinds(r *consul.GatewayRegistration) error {
	for _, text := range f.binds {
		name, at, ok := strings.Cut(text, "=")
		if !ok || name == "" {
			return fmt.Errorf("--bind-address %q is not name=ip:port", text)
		}
		given, err := hostPortFlag("--bind-address", at)
		if err != nil {
			return err
		}
		ip, err := netip.ParseAddr(given.Host)
		if err != nil {
			return fmt.Errorf("--bind-address %q: %s is not an IP address", text, given.Host)
		}
		if r.Binds == nil {
			r.Binds = make(map[string]netip.AddrPort)
		}
		if _, twice := r.Binds[name]; twice {
			return fmt.Errorf("--bind-address: %s stands twice", name)
		}
		r.Binds[name] = netip.AddrPortFrom(ip, uint16(given.Port))
	}
	return nil
}

// hostPortFlag reads host, host:port or [host]:port.
func hostPortFlag(flag, text string) (consul.HostPort, error) {
	if strings.Contains(text, "{{") {
		return consul.HostPort{}, fmt.Errorf("%s %q: templates are not evaluated; give the address itself", flag, text)
	}
	if _, err := netip.ParseAddr(text); err == nil || !strings.Contains(text, ":") {
		return consul.HostPort{Host: text, Port: gatewayPort}, nil
	}
	host, port, err := net.SplitHostPort(text)
	if err != nil {
		return consul.HostPort{}, fmt.Errorf("%s: %w", flag, err)
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil || n == 0 {
		return consul.HostPort{}, fmt.Errorf("%s %q: %q is no port", flag, text, port)
	}
	if host == "" {
		return consul.HostPort{}, fmt.Errorf("%s %q names no host", flag, text)
	}
	return consul.HostPort{Host: host, Port: int(n)}, nil
}

// bindable reports whether an address is one of this machine's. All of
// 127.0.0.0/8 is, which Consul's command does not know.
func (f *registerFlags) bindable(at consul.HostPort) bool {
	ip, err := netip.ParseAddr(at.Host)
	if err != nil {
		return false
	}
	if f.local != nil {
		return f.local(ip)
	}
	if ip.IsLoopback() {
		return true
	}
	addresses, err := net.InterfaceAddrs()
	if err != nil {
		return false
	}
	return slices.ContainsFunc(addresses, func(a net.Addr) bool {
		n, ok := a.(*net.IPNet)
		if !ok {
			return false
		}
		own, ok := netip.AddrFromSlice(n.IP)
		return ok && own.Unmap() == ip.Unmap()
	})
}
