package main

import (
	"bytes"
	"embed"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"text/template"
)

// The names that the measured connections ask for.
const (
	trustDomain = "11111111-2222-3333-4444-555555555555.consul"
	serverName  = "api.default.dc2.internal." + trustDomain
)

// duty is what every proxy is to do: listen, and route one name to the backend.
type duty struct {
	Listen, Backend netip.AddrPort
	ServerName      string
	// Folder is the proxy's own.
	Folder string
	// AccessLog is the file for a line of each connection; empty: there is none.
	AccessLog string
	// Threads is how many cores there are: ours takes all by default, and so do
	// the peers.
	Threads int
	// Module is nginx's stream module, where it is a file of its own.
	Module string
}

// contender is a proxy that can be started for a duty.
type contender struct {
	name string
	// peer is that ours is compared with it; optional that it takes part only when it
	// is named.
	peer, optional bool
	// find returns the program, or why it cannot be run.
	find func() (string, error)
	// files are the templates that it is configured with, by the name that they
	// get in the folder.
	files map[string]string
	// arguments start the program in the foreground.
	arguments func(d duty) []string
	// logsToOutput is that its access log is what it prints.
	logsToOutput bool
}

//go:embed configs
var configs embed.FS

// errMissing says that a program is not installed.
var errMissing = errors.New("not installed; run: task tools")

// contenders are ours and its peers, each with one thread for each core, and with the
// limits and deadlines that it would have in production.
var contenders = []contender{
	isthmus("isthmus"),
	isthmus("isthmus-relay", "--engine", "relay"),
	isthmus("isthmus-system", "--congestion-control", "system"),
	{
		name:  "Envoy",
		peer:  true,
		find:  findEnvoy,
		files: map[string]string{"envoy.yaml": "envoy.yaml"},
		arguments: func(d duty) []string {
			return []string{
				"--config-path", filepath.Join(d.Folder, "envoy.yaml"), "--concurrency", strconv.Itoa(d.Threads),
				"--disable-hot-restart", "--log-level", "error",
			}
		},
	},
	{
		name:  "HAProxy",
		peer:  true,
		find:  onPath("haproxy"),
		files: map[string]string{"haproxy.cfg": "haproxy.cfg"},
		arguments: func(d duty) []string {
			return []string{"-db", "-f", filepath.Join(d.Folder, "haproxy.cfg")}
		},
		logsToOutput: true,
	},
	{
		name:  "nginx",
		peer:  true,
		find:  onPath("nginx"),
		files: map[string]string{"nginx.conf": "nginx.conf"},
		arguments: func(d duty) []string {
			return []string{"-p", d.Folder, "-e", "stderr", "-c", filepath.Join(d.Folder, "nginx.conf")}
		},
	},
}

// isthmus is our gateway with its defaults, or with more flags an optional one.
func isthmus(name string, flags ...string) contender {
	return contender{
		name:     name,
		optional: len(flags) > 0,
		find:     buildIsthmus,
		files:    map[string]string{"catalog/dc2/agent.hcl": "isthmus-agent.hcl", "catalog/dc2/api.hcl": "isthmus-api.hcl"},
		arguments: func(d duty) []string {
			arguments := []string{
				"gateway", "--catalog", filepath.Join(d.Folder, "catalog"), "--datacenter", "dc2",
				"--listen", d.Listen.String(), "--trust-domain", trustDomain,
			}
			if d.AccessLog != "" {
				arguments = append(arguments, "--access-log", d.AccessLog)
			}
			return append(arguments, flags...)
		},
	}
}

// contenderNames are the names of all contenders, or of those that take part when
// none is named.
func contenderNames(optional bool) []string {
	var names []string
	for _, c := range contenders {
		if optional || !c.optional {
			names = append(names, c.name)
		}
	}
	return names
}

// launch starts the program for a duty in a folder of its own.
func (c contender) launch(program, scratch string, logged bool, backend netip.AddrPort) (*process, duty, error) {
	listen, err := freePort()
	if err != nil {
		return nil, duty{}, err
	}
	d := duty{Listen: listen, Backend: backend, ServerName: serverName, Threads: runtime.NumCPU(), Folder: filepath.Join(scratch, strings.ToLower(c.name))}
	if module := "/usr/lib/nginx/modules/ngx_stream_module.so"; exists(module) {
		d.Module = module
	}
	if logged {
		d.AccessLog = filepath.Join(d.Folder, "access.log")
	}
	for name, source := range c.files {
		content, err := c.configure(source, d)
		if err == nil {
			err = os.MkdirAll(filepath.Dir(filepath.Join(d.Folder, name)), 0o755)
		}
		if err == nil {
			err = os.WriteFile(filepath.Join(d.Folder, name), content, 0o600)
		}
		if err != nil {
			return nil, duty{}, fmt.Errorf("configure %s: %w", c.name, err)
		}
	}
	p, err := start(scratch, program, c.arguments(d)...)
	if err == nil && logged && c.logsToOutput {
		d.AccessLog = p.log
	}
	return p, d, err
}

// configure fills in one template.
func (c contender) configure(source string, d duty) ([]byte, error) {
	t, err := template.New(source).Option("missingkey=error").ParseFS(configs, "configs/"+source)
	if err != nil {
		return nil, err
	}
	var out bytes.Buffer
	err = t.Execute(&out, d)
	return out.Bytes(), err
}

// onPath finds a program, also where Debian keeps daemons.
func onPath(name string) func() (string, error) {
	return func() (string, error) {
		if path, err := exec.LookPath(name); err == nil {
			return path, nil
		}
		if path := "/usr/sbin/" + name; exists(path) {
			return path, nil
		}
		return "", errMissing
	}
}

// findEnvoy looks where tests look too: ISTHMUS_ENVOY, the tools' folder, PATH.
func findEnvoy() (string, error) {
	if path := os.Getenv("ISTHMUS_ENVOY"); path != "" {
		return path, nil
	}
	if path := "deploy/.tools/envoy/envoy/_bin/envoy"; exists(path) {
		return path, nil
	}
	return onPath("envoy")()
}

// buildIsthmus builds our own program as a release is built.
func buildIsthmus() (string, error) {
	const path = "deploy/.tools/bench/isthmus"
	output, err := exec.Command("go", "build", "-trimpath", "-o", path, "./services/isthmus").CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("build: %w\n%s", err, output)
	}
	return filepath.Abs(path)
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// lowestPort is where the search for a free port begins; it ends below the ports
// that the system gives to clients, whose connections in TIME_WAIT would take
// part in a listener's address.
const lowestPort, highestPort = 20_000, 32_000

// lastPort is the last port that freePort gave.
var lastPort = lowestPort + uint16(os.Getpid()%1000)*10

// freePort finds a port of loopback that nobody listens on.
func freePort() (netip.AddrPort, error) {
	for range highestPort - lowestPort {
		if lastPort++; lastPort >= highestPort {
			lastPort = lowestPort
		}
		address := netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), lastPort)
		if l, err := net.Listen("tcp", address.String()); err == nil {
			return address, l.Close()
		}
	}
	return netip.AddrPort{}, errors.New("no free port below 32000")
}
