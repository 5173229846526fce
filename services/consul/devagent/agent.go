package devagent

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"
)

// stopWithin is how long an agent may take to end when it is asked to.
const stopWithin = 10 * time.Second

// Files of an agent in its directory.
const (
	fileConfig      = "agent.json"
	fileExtraHCL    = "extra.hcl"
	fileExtraJSON   = "extra.json"
	fileLog         = "agent.log"
	dirData         = "data"
	fileCA          = "ca.pem"
	fileCertificate = "server.pem"
	fileKey         = "server-key.pem"
)

// Agent is one Consul agent: a process, and where it is found. The fields stay
// the same through restarts; they may not be changed. All methods may be called
// from several goroutines, but those that start or end the process do so one
// after another.
type Agent struct {
	// Datacenter and Node are its names.
	Datacenter, Node string
	// HTTP is the URL of its API, without a slash at the end.
	HTTP string
	// HTTPS is the URL of its API by TLS, and CAFile the PEM file with the
	// certificate to trust; both are empty without a CA.
	HTTPS, CAFile string
	// GRPC and GRPCTLS are its xDS addresses, host and port.
	GRPC, GRPCTLS string
	// LAN, WAN and Server are its addresses for agents of its datacenter, for
	// servers of other datacenters, and for RPC.
	LAN, WAN, Server string
	// Token is the management token; empty without ACLs.
	Token string
	// Dir has its configuration, log and state.
	Dir string
	// Log is the file that it logs to.
	Log string

	config Config
	place  *place
	nodeID string

	mu      sync.Mutex
	process *process // The last one.
	paused  bool
	closed  bool
}

// Start runs one agent, and returns when it is ready. The context bounds the
// start alone: the agent runs until it is ended or its parent ends. Errors quote
// the end of its log; possible error: [ErrMissing].
func Start(ctx context.Context, config Config) (*Agent, error) {
	a, err := prepare(ctx, config)
	if err != nil {
		return nil, err
	}
	if err := a.run(ctx); err != nil {
		return nil, errors.Join(err, a.Close())
	}
	return a, nil
}

// prepare takes a place and writes the files, but runs nothing.
func prepare(ctx context.Context, config Config) (*Agent, error) {
	config, err := config.complete()
	if err != nil {
		return nil, fmt.Errorf("consul agent %s: %w", config.Node, err)
	}
	at, err := takePlace(ctx, config.Address)
	if err != nil {
		return nil, fmt.Errorf("consul agent %s: %w", config.Node, err)
	}
	return newAgent(config, at)
}

// newAgent writes the files of an agent at its place.
func newAgent(config Config, at *place) (*Agent, error) {
	a := &Agent{
		Datacenter: config.Datacenter, Node: config.Node,
		HTTP: "http://" + at.at(portHTTP), GRPC: at.at(portGRPC), GRPCTLS: at.at(portGRPCTLS),
		LAN: at.at(portLAN), WAN: at.at(portWAN), Server: at.at(portServer),
		config: config, place: at, nodeID: newUUID(),
	}
	if config.ACL != nil {
		a.Token = config.ACL.Management
	}
	if err := a.makeDir(); err != nil {
		return nil, errors.Join(fmt.Errorf("consul agent %s: %w", a.Node, err), a.Close())
	}
	return a, nil
}

// makeDir makes the directory and what does not depend on other agents.
func (a *Agent) makeDir() error {
	dir, err := filepath.Abs(a.config.Dir)
	if a.config.Dir == "" {
		dir, err = os.MkdirTemp("", "isthmus-consul-")
	}
	if err != nil {
		return err
	}
	a.Dir, a.Log = dir, filepath.Join(dir, fileLog)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	if ca := a.config.CA; ca != nil {
		certificate, key, err := ca.issue(a.place.address, a.Node, "server."+a.Datacenter+".consul", "localhost")
		if err != nil {
			return err
		}
		a.HTTPS, a.CAFile = "https://"+a.place.at(portHTTPS), a.path(fileCA)
		for file, text := range map[string][]byte{fileCA: ca.PEM(), fileCertificate: certificate, fileKey: key} {
			if err := os.WriteFile(a.path(file), text, 0o600); err != nil {
				return err
			}
		}
	}
	return nil
}

// path is a file's in the agent's directory.
func (a *Agent) path(file string) string { return filepath.Join(a.Dir, file) }

// run starts the process and waits until the agent is ready.
func (a *Agent) run(ctx context.Context) error {
	if err := a.launch(); err != nil {
		return err
	}
	return a.awaitReady(ctx)
}

// launch writes the configuration and runs the process.
func (a *Agent) launch() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.closed {
		return fmt.Errorf("consul agent %s: %w", a.Node, os.ErrClosed)
	}
	settings, err := json.MarshalIndent(a.settings(), "", "  ")
	if err != nil {
		return fmt.Errorf("consul agent %s: %w", a.Node, err)
	}
	args := []string{"agent", "-config-file", a.path(fileConfig)}
	switch {
	case a.config.Durable:
	case a.config.Client: // It wants a directory for its state even with -dev.
		if err := os.RemoveAll(a.path(dirData)); err != nil {
			return fmt.Errorf("consul agent %s: %w", a.Node, err)
		}
	default:
		args = append(args, "-dev")
	}
	files := map[string][]byte{fileConfig: settings}
	if extra := strings.TrimSpace(a.config.Extra); extra != "" {
		file := fileExtraHCL
		if extra[0] == '{' {
			file = fileExtraJSON
		}
		files[file] = []byte(extra)
		args = append(args, "-config-file", a.path(file))
	}
	for file, text := range files {
		if err := os.WriteFile(a.path(file), text, 0o600); err != nil {
			return fmt.Errorf("consul agent %s: %w", a.Node, err)
		}
	}
	if a.process, err = startProcess(a.config.Binary, args, a.Dir, a.Log); err != nil {
		return fmt.Errorf("consul agent %s: %w", a.Node, err)
	}
	a.paused = false
	a.config.Logger.Info("a consul agent starts", "node", a.Node, "dc", a.Datacenter, "http", a.HTTP, "pid", a.process.command.Process.Pid)
	return nil
}

// PID is the process id of the last process.
func (a *Agent) PID() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.process.command.Process.Pid
}

// Stop asks the agent to end (SIGTERM), and waits. One that does not end within
// 10 seconds is killed, which is an error. An agent that does not run is left
// alone.
func (a *Agent) Stop() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.stop()
}

// stop is Stop under the lock.
func (a *Agent) stop() error {
	p := a.process
	if p == nil || p.over() != nil {
		return nil
	}
	if err := p.command.Process.Signal(syscall.SIGTERM); err != nil { // It has just ended, or the system has no such signal.
		p.kill()
		return nil
	}
	if a.paused {
		_ = p.proceed()
		a.paused = false
	}
	timer := time.NewTimer(stopWithin)
	defer timer.Stop()
	select {
	case <-p.ended: // Not well, says Consul's exit status, unless it has left.
		a.config.Logger.Info("a consul agent has stopped", "node", a.Node, "dc", a.Datacenter)
		return nil
	case <-timer.C:
		p.kill()
		return fmt.Errorf("consul agent %s: it did not end within %v and was killed%s", a.Node, stopWithin, a.tail())
	}
}

// Kill ends the agent without a last word (SIGKILL), and waits.
func (a *Agent) Kill() {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.process == nil || a.process.over() != nil {
		return
	}
	a.process.kill()
	a.config.Logger.Info("a consul agent was killed", "node", a.Node, "dc", a.Datacenter)
}

// Restart stops the agent if it runs, starts it with the same configuration at
// the same addresses, and returns when it is ready. Its state is as before if it
// is durable, else empty.
func (a *Agent) Restart(ctx context.Context) error {
	if err := a.Stop(); err != nil {
		return err
	}
	return a.run(ctx)
}

// Pause stops the agent where it stands (SIGSTOP): its connections stay open,
// and nothing answers.
func (a *Agent) Pause() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if err := a.process.halt(); err != nil {
		return fmt.Errorf("consul agent %s: pause: %w", a.Node, err)
	}
	a.paused = true
	return nil
}

// Resume lets an agent go on that was paused (SIGCONT).
func (a *Agent) Resume() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if err := a.process.proceed(); err != nil {
		return fmt.Errorf("consul agent %s: resume: %w", a.Node, err)
	}
	a.paused = false
	return nil
}

// Running reports whether the agent's process runs and is not paused.
func (a *Agent) Running() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.process != nil && a.process.over() == nil && !a.paused
}

// Close stops the agent, gives its address up, and removes its directory if that
// was temporary. It may be called again.
func (a *Agent) Close() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.closed {
		return nil
	}
	a.closed = true
	err := errors.Join(a.stop(), a.place.release())
	if a.config.Dir == "" && a.Dir != "" {
		err = errors.Join(err, os.RemoveAll(a.Dir))
	}
	return err
}

// Tail is the end of the agent's log, whole lines.
func (a *Agent) Tail() string {
	const most = 4000
	text, err := os.ReadFile(a.Log)
	if err != nil {
		return ""
	}
	if len(text) > most {
		text = text[len(text)-most:]
		_, text, _ = bytes.Cut(text, []byte("\n"))
	}
	return string(bytes.TrimSpace(text))
}

// tail is the end of the log as errors quote it.
func (a *Agent) tail() string {
	text := a.Tail()
	if text == "" {
		return ""
	}
	return "; it logged:\n\t" + strings.ReplaceAll(text, "\n", "\n\t")
}
