package main

import (
	"github.com/spf13/cobra"

	"github.com/isthmus-mesh/isthmus/services/consul"
)

// consulFlags say which Consul agent to talk to. What is not given is taken from
// Consul's own environment variables.
type consulFlags struct {
	url     string
	options consul.Options
}

func (f *consulFlags) register(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.url, "consul", "", "URL of the local Consul agent; HTTPS is cheaper for both. Consul's own variables (CONSUL_HTTP_ADDR, CONSUL_HTTP_TOKEN, CONSUL_CACERT, …) count")
	f.registerOptions(cmd)
}

// registerOptions adds all but the agent's URL.
func (f *consulFlags) registerOptions(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringVar(&f.options.TokenFile, "consul-token-file", "", "file with the token, read again when it changes; else CONSUL_HTTP_TOKEN_FILE or CONSUL_HTTP_TOKEN")
	flags.StringVar(&f.options.CAFile, "consul-ca-file", "", "CA certificates that the agent's is checked by; else CONSUL_CACERT")
	flags.StringVar(&f.options.CAPath, "consul-ca-path", "", "directory of such certificates; else CONSUL_CAPATH")
	flags.StringVar(&f.options.CertFile, "consul-client-cert", "", "certificate to show to the agent; else CONSUL_CLIENT_CERT")
	flags.StringVar(&f.options.KeyFile, "consul-client-key", "", "its key; else CONSUL_CLIENT_KEY")
	flags.StringVar(&f.options.ServerName, "consul-tls-server-name", "", "name expected in the agent's certificate; else CONSUL_TLS_SERVER_NAME")
}

// fromEnvironment takes the agent that Consul's own variable names, where no flag
// names one.
func (f *consulFlags) fromEnvironment(a *app) {
	if f.url == "" {
		f.url = a.environment(consul.AddressVariable)
	}
}

// open makes the client. A flag that is wrong is a mistake of usage.
func (f *consulFlags) open(a *app) (*consul.Client, error) {
	return f.at(a, f.url)
}

// at makes a client of another agent, with the same options.
func (f *consulFlags) at(a *app, url string) (*consul.Client, error) {
	o := f.options
	o.Address, o.Environment = url, a.environment
	client, err := consul.Open(o)
	if err != nil {
		return nil, usageError{err}
	}
	return client, nil
}
