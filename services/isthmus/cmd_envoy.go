package main

import (
	"cmp"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/isthmus-mesh/isthmus/services/envoy"
	"github.com/isthmus-mesh/isthmus/xdsnode/bootstrap"
)

// envoyFlags are those of an Envoy that is run.
type envoyFlags struct {
	proxy     proxyFlags
	leaf      leafFlags
	bootstrap bootstrapFlags
	gateway   registerFlags
	binary    string
	drain     time.Duration
	stop      time.Duration
}

func newEnvoyCommand(a *app) *cobra.Command {
	var f envoyFlags
	f.leaf.consul = &f.gateway.consul
	cmd := &cobra.Command{
		Use:   "envoy [flags] [-- ENVOY'S FLAGS...]",
		Short: "Run an Envoy as a sidecar or a mesh gateway",
		Long: `Runs an Envoy as its child: serves it its certificate and the roots over a socket of
its own, as "isthmus sds" does, and gives it a bootstrap, as "isthmus bootstrap" does.
What follows -- is passed on to Envoy, as are signals; Envoy's exit code is ours.

The flags are those of "consul connect envoy", but for --gateway, which is the ID of
the gateway's registration. Which proxy it is, whose certificate it gets and what the
registration's proxy.config says of the bootstrap is asked of the local Consul agent
(--consul, CONSUL_HTTP_ADDR); without Consul, the certificate comes from --ca-dir, and
--service and --datacenter say whose it is.

Envoy is started once there is a certificate: the xds nodes are known by the service
isthmus-xds in its trust domain and datacenter. What is waited for is logged.

Told to stop (SIGTERM or SIGINT) it has Envoy ask its callers to leave, and stops it once
they have, or when --drain-time is over; told twice it does not wait. Meanwhile Envoy
still takes connections, those of its own application too.

With --register, a mesh gateway is registered with the agent as "consul connect envoy
-gateway=mesh -register" does, again when the agent has lost it, and no longer when it
is told to stop.`,
		Example: `  isthmus envoy --sidecar-for web --xds xds.internal:9510 --consul http://127.0.0.1:8500 -- --log-level warning
  isthmus envoy --gateway mesh-gateway --xds xds.internal:9510 --consul http://127.0.0.1:8500
  isthmus envoy --register --service mesh-gateway --address 10.0.0.1:8443 --wan-address 198.51.100.1:8443 \
      --bind-address default=10.0.0.1:8443 --xds xds.internal:9510 --consul http://127.0.0.1:8500`,
		GroupID: "role",
		Args: func(cmd *cobra.Command, args []string) error {
			if before := cmd.ArgsLenAtDash(); before > 0 || before < 0 && len(args) > 0 {
				return usageError{fmt.Errorf("%q is no flag; what is meant for Envoy stands behind --", args[0])}
			}
			return nil
		},
	}
	f.proxy.register(cmd)
	f.bootstrap.register(cmd)
	f.leaf.register(cmd)
	f.gateway.add(cmd)
	flags := cmd.Flags()
	flags.Lookup("service").Usage = "name of the service: with --register that of the gateway, else whose certificate it is"
	flags.StringVar(&f.binary, "envoy-binary", "", "path of Envoy; else that of ISTHMUS_ENVOY, or envoy on the PATH")
	flags.DurationVar(&f.drain, "drain-time", 10*time.Second, "how long callers may take to leave before Envoy is told to stop; 0: it is told at once")
	flags.DurationVar(&f.stop, "stop-deadline", 30*time.Second, "how long Envoy may take to stop before it is killed")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		run, err := f.settle(cmd, a)
		if err != nil {
			return err
		}
		run.args = args
		return run.run(cmd.Context())
	}
	return cmd
}

// settle checks the flags, and completes them.
func (f *envoyFlags) settle(cmd *cobra.Command, a *app) (*envoyRun, error) {
	var registered gatewaySettings
	if f.gateway.register {
		if f.proxy.sidecarFor != "" {
			return nil, usageError{errors.New("--register is for mesh gateways: a sidecar is registered with its service")}
		}
		registered.proxy = cmp.Or(f.proxy.id, f.proxy.gateway)
		if f.proxy.node != "" {
			registered.proxy = f.proxy.node + "/" + registered.proxy
		}
		f.gateway.consul.fromEnvironment(a)
	}
	if err := f.gateway.settle(a, &registered); err != nil {
		return nil, err
	}
	run := &envoyRun{a: a, envoyFlags: f, registrar: registered.registrar}
	if run.registrar != nil {
		f.proxy.id, f.leaf.service = run.registrar.registration.ID, f.gateway.service
		f.proxy.gateway = ""
		run.registrar.registration.Starting = true
	} else if cmd.Flags().Changed("service") {
		f.leaf.service = f.gateway.service
	}
	if err := errors.Join(f.proxy.check(), required("xds", f.bootstrap.xds)); err != nil {
		return nil, err
	}
	if err := f.leaf.check(a); err != nil {
		return nil, err
	}
	if err := f.try(a); err != nil {
		return nil, err
	}
	var err error
	run.binary, err = envoy.Find(f.binary, a.environment)
	return run, err
}

// try makes a bootstrap of what the flags name, so that what is wrong with it is said
// before anything is waited for.
func (f *envoyFlags) try(a *app) error {
	c, err := f.bootstrap.read(a, f.proxy.byName())
	if err != nil {
		return err
	}
	c.SDS, c.TrustDomain, c.Datacenter = "/socket", "trust-domain", "datacenter"
	_, err = bootstrap.Render(c)
	return err
}
