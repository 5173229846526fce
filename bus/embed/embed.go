// Package embed runs nats-servers inside this process, with JetStream, on real
// sockets of loopback: for `isthmus dev` and `demo`, for `isthmus bus`, and for
// tests.
//
// A server that was started is ready: its streams can be made. What it stores is
// in the directory that it was given, and a server started there again goes on
// with it. Nothing is reachable from outside unless asked for.
package embed

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"strconv"
	"time"

	"github.com/nats-io/nats-server/v2/server"
)

// ErrNotReady says that the server did not come up in time.
var ErrNotReady = errors.New("the embedded server is not ready")

// loopback is where servers listen that were not told where.
const loopback = "127.0.0.1"

// readyTimeout bounds a start; elections of a cluster may need seconds.
const readyTimeout = time.Minute

// readyLook is how long a start is waited for before a look at what it said.
const readyLook = 100 * time.Millisecond

// Options of one server. StoreDir is required.
type Options struct {
	// StoreDir is where streams are kept.
	StoreDir string
	// Host to listen on. Empty: 127.0.0.1.
	Host string
	// Port to listen on. 0: a free one.
	Port int
	// Name of the server. Empty: isthmus.
	Name string
	// Domain is the JetStream domain; needed to link servers by leafnodes.
	Domain string
	// LeafPort lets leafnodes connect. 0: none may.
	LeafPort int
	// LeafRemotes are the leafnode URLs of servers to link to.
	LeafRemotes []string
	// SyncAlways makes every write durable before it is answered.
	SyncAlways bool
	// Logger gets the server's own log. Nil: nothing is logged.
	Logger *slog.Logger
}

// Server is one running server.
type Server struct {
	server  *server.Server
	leafURL string
}

// Start starts a server and waits until it is ready. Possible error:
// [ErrNotReady], and whatever the server finds wrong with its options.
func Start(options Options) (*Server, error) {
	o, err := serverOptions(options)
	if err != nil {
		return nil, err
	}
	return start(o, options)
}

func start(o *server.Options, options Options) (*Server, error) {
	s, err := server.NewServer(o)
	if err != nil {
		return nil, fmt.Errorf("embedded server: %w", err)
	}
	logger := options.Logger
	if logger == nil {
		logger = slog.New(slog.DiscardHandler)
	}
	fatal := new(fatalErrors)
	s.SetLoggerV2(serverLog{logger.With("component", "nats-server"), fatal}, false, false, false)
	s.Start()
	if !ready(s, fatal) {
		s.Shutdown()
		s.WaitForShutdown()
		return nil, fmt.Errorf("embedded server on %s: %w", net.JoinHostPort(o.Host, strconv.Itoa(max(o.Port, 0))), errors.Join(ErrNotReady, fatal.err()))
	}
	running := &Server{server: s}
	if options.LeafPort != 0 {
		running.leafURL = "nats-leaf://" + net.JoinHostPort(o.Host, strconv.Itoa(options.LeafPort))
	}
	return running, nil
}

// ready waits until the server listens, or has said why it cannot.
func ready(s *server.Server, fatal *fatalErrors) bool {
	for deadline := time.Now().Add(readyTimeout); fatal.err() == nil && time.Now().Before(deadline); {
		if s.ReadyForConnections(readyLook) {
			return s.JetStreamEnabled()
		}
	}
	return false
}

func serverOptions(options Options) (*server.Options, error) {
	o := &server.Options{
		ServerName:      options.Name,
		Host:            options.Host,
		Port:            options.Port,
		JetStream:       true,
		JetStreamDomain: options.Domain,
		StoreDir:        options.StoreDir,
		SyncAlways:      options.SyncAlways,
		NoSigs:          true,
		NoLog:           options.Logger == nil,
		MaxPending:      64 << 20,
	}
	if o.ServerName == "" {
		o.ServerName = "isthmus"
	}
	if o.Host == "" {
		o.Host = loopback
	}
	if o.Port == 0 {
		o.Port = server.RANDOM_PORT
	}
	if options.LeafPort != 0 {
		// Gossiped addresses would lead leafnodes around what stands between.
		o.LeafNode = server.LeafNodeOpts{Host: o.Host, Port: options.LeafPort, NoAdvertise: true}
	}
	for _, remote := range options.LeafRemotes {
		address, err := url.Parse(remote)
		if err != nil {
			return nil, fmt.Errorf("embedded server: leafnode URL: %w", err)
		}
		o.LeafNode.Remotes = append(o.LeafNode.Remotes,
			&server.RemoteLeafOpts{URLs: []*url.URL{address}, IgnoreDiscoveredServers: true})
	}
	if len(options.LeafRemotes) > 0 {
		o.LeafNode.ReconnectInterval = 100 * time.Millisecond
	}
	return o, nil
}

// URL is where clients connect.
func (s *Server) URL() string { return s.server.ClientURL() }

// LeafURL is where leafnodes connect; empty when they may not.
func (s *Server) LeafURL() string { return s.leafURL }

// Leafnodes is how many links to other servers there are now.
func (s *Server) Leafnodes() int { return s.server.NumLeafNodes() }

// Stop shuts the server down and waits for it.
func (s *Server) Stop() {
	s.server.Shutdown()
	s.server.WaitForShutdown()
}
