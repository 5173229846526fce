package consul

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/hashicorp/consul/api"
)

// Options say which agent to talk to, and how. The zero value is what Consul's
// own commands use: the agent at 127.0.0.1:8500, or what the environment says.
type Options struct {
	// Address is a URL (http, https, unix) or host:port. Empty: CONSUL_HTTP_ADDR.
	Address string
	// Token is sent with every request. Empty: CONSUL_HTTP_TOKEN, unless a file is
	// named here or by CONSUL_HTTP_TOKEN_FILE.
	Token string
	// TokenFile holds the token; it is read again when it changes.
	TokenFile string
	// CAFile and CAPath hold the certificates that the agent's is checked by.
	// Empty: CONSUL_CACERT and CONSUL_CAPATH, else the system's.
	CAFile, CAPath string
	// CertFile and KeyFile are shown to an agent that asks for them. Empty:
	// CONSUL_CLIENT_CERT and CONSUL_CLIENT_KEY.
	CertFile, KeyFile string
	// ServerName is expected in the agent's certificate instead of the address's
	// host. Empty: CONSUL_TLS_SERVER_NAME.
	ServerName string
	// Environment looks up a variable. Nil: os.Getenv.
	Environment func(string) string
}

// AddressVariable is the environment variable that has the agent's address, for
// Consul's own tools as here.
const AddressVariable = api.HTTPAddrEnvName

// Client asks one agent. It may be used by any number of goroutines.
type Client struct {
	api  *api.Client
	http *http.Transport
	// bare and base are for what api has no way to ask.
	bare   *http.Client
	base   string
	auth   *api.HttpBasicAuth // nil: none
	token  tokenSource
	url    string
	secure bool
}

// Open makes a client; nothing is sent yet. Its errors name the option that is
// wrong.
func Open(o Options) (*Client, error) {
	environment := o.Environment
	if environment == nil {
		environment = os.Getenv
	}
	o = o.from(environment)
	address, scheme, err := splitAddress(o.Address, truth(environment(api.HTTPSSLEnvName)))
	if err != nil {
		return nil, err
	}
	verify := environment(api.HTTPSSLVerifyEnvName)
	tlsConfig, err := api.SetupTLSConfig(&api.TLSConfig{
		Address: o.ServerName, CAFile: o.CAFile, CAPath: o.CAPath, CertFile: o.CertFile, KeyFile: o.KeyFile,
		InsecureSkipVerify: verify != "" && !truth(verify),
	})
	if err != nil {
		return nil, fmt.Errorf("TLS options for Consul (CA %q, certificate %q): %w", cmp.Or(o.CAFile, o.CAPath), o.CertFile, err)
	}
	dialer := &net.Dialer{
		Timeout: 10 * time.Second,
		// A blocking query is silent for minutes; without these a peer that has
		// gone without a word would be noticed by nobody.
		KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: 10 * time.Second, Interval: 5 * time.Second, Count: 3},
	}
	transport := &http.Transport{
		Proxy: http.ProxyFromEnvironment, DialContext: dialer.DialContext, TLSClientConfig: tlsConfig,
		ForceAttemptHTTP2: true, TLSHandshakeTimeout: 10 * time.Second,
		MaxIdleConnsPerHost: 64, IdleConnTimeout: 90 * time.Second,
		// The agent is near: compression would cost both sides more than it saves.
		DisableCompression: true,
		HTTP2:              &http.HTTP2Config{SendPingTimeout: 10 * time.Second, PingTimeout: 15 * time.Second},
	}
	config := &api.Config{
		Address: address, Scheme: scheme, Transport: transport,
		Token: o.Token, TokenFile: o.TokenFile, HttpAuth: basicAuth(environment(api.HTTPAuthEnvName)),
	}
	direct, base := &http.Client{Transport: dated{transport}}, scheme+"://"+address
	// A proxy before the agent may have it under a path.
	if host, path, ok := strings.Cut(address, "/"); ok && scheme != "unix" {
		config.Address, config.PathPrefix = host, "/"+path
	}
	if scheme != "unix" {
		config.HttpClient = direct
	} else {
		config.Address, config.Scheme, base = "unix://"+address, "http", "http://unix"
		transport.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
			return dialer.DialContext(ctx, "unix", address)
		}
	}
	client, err := api.NewClient(config)
	if err != nil {
		return nil, fmt.Errorf("agent at %s: %w", o.Address, err)
	}
	c := &Client{
		api: client, http: transport, bare: direct, base: base, auth: config.HttpAuth, url: scheme + "://" + address, secure: scheme == "https",
		token: tokenSource{value: o.Token, file: o.TokenFile},
	}
	if _, err := c.token.get(); err != nil {
		return nil, err
	}
	return c, nil
}

// Close lets go of connections that nothing waits on. The client stays usable.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// URL is the agent's address, without any secret.
func (c *Client) URL() string { return c.url }

// Multiplexed reports whether many queries may wait over few connections, which
// HTTP/2 allows and plain HTTP does not.
func (c *Client) Multiplexed() bool { return c.secure }

// from fills what is not given from Consul's environment variables.
func (o Options) from(environment func(string) string) Options {
	o.Address = cmp.Or(o.Address, environment(api.HTTPAddrEnvName), "127.0.0.1:8500")
	if o.Token == "" && o.TokenFile == "" {
		o.TokenFile = environment(api.HTTPTokenFileEnvName)
		if o.TokenFile == "" {
			o.Token = environment(api.HTTPTokenEnvName)
		}
	}
	o.CAFile = cmp.Or(o.CAFile, environment(api.HTTPCAFile))
	o.CAPath = cmp.Or(o.CAPath, environment(api.HTTPCAPath))
	o.CertFile = cmp.Or(o.CertFile, environment(api.HTTPClientCert))
	o.KeyFile = cmp.Or(o.KeyFile, environment(api.HTTPClientKey))
	o.ServerName = cmp.Or(o.ServerName, environment(api.HTTPTLSServerName))
	return o
}

// splitAddress takes a URL or host:port apart.
func splitAddress(address string, tls bool) (host, scheme string, err error) {
	scheme = "http"
	if tls {
		scheme = "https"
	}
	if !strings.Contains(address, "://") {
		address = scheme + "://" + address
	}
	if path, ok := strings.CutPrefix(address, "unix://"); ok {
		return path, "unix", nil
	}
	u, err := url.Parse(address)
	switch {
	case err != nil:
		return "", "", fmt.Errorf("address of Consul: %w", err)
	case u.Scheme != "http" && u.Scheme != "https":
		return "", "", fmt.Errorf("address of Consul %q: the scheme is http, https or unix", address)
	case u.Host == "":
		return "", "", fmt.Errorf("address of Consul %q names no host", address)
	case u.User != nil:
		return "", "", errors.New("address of Consul: leave out user and password, and give a token instead")
	}
	// CONSUL_HTTP_SSL never goes back from what the URL says.
	if u.Scheme == "https" {
		scheme = "https"
	}
	return u.Host + strings.TrimRight(u.Path, "/"), scheme, nil
}

// basicAuth reads what a proxy before the agent wants: user:password, or only a user.
func basicAuth(text string) *api.HttpBasicAuth {
	if text == "" {
		return nil
	}
	user, password, _ := strings.Cut(text, ":")
	return &api.HttpBasicAuth{Username: user, Password: password}
}

// truth reads a flag of Consul's environment; what is not true is false.
func truth(text string) bool {
	switch strings.ToLower(text) {
	case "1", "t", "true", "yes", "on":
		return true
	}
	return false
}
