package client

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"sync"

	discovery "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
)

// ErrEnded says that the stream has ended, so that nothing will change.
var ErrEnded = errors.New("the xDS stream has ended")

// maxAnswer bounds one answer, in bytes.
const maxAnswer = 64 << 20

// Config says whose configuration to read, and where.
type Config struct {
	// Address of the control plane, host:port.
	Address string
	// TLS secures the connection. Nil: it is in plain text.
	TLS *tls.Config
	// ID is the proxy's, and Node that of the machine it is registered on; empty:
	// the control plane's own.
	ID, Node string
	// Namespace and Partition are default if empty.
	Namespace, Partition string
	// Token is sent as x-consul-token, if there is one.
	Token string
	// Logger may be nil.
	Logger *slog.Logger
}

// Client reads one proxy's configuration. It is used once.
type Client struct {
	config Config
	log    *slog.Logger

	mu sync.Mutex
	// snapshot is replaced, never written to; changed is closed when it is.
	snapshot *Snapshot
	changed  chan struct{}
	// ended is why the stream has ended; nil: it has not.
	ended error
}

// New returns a client that asks nothing until [Client.Run].
func New(config Config) *Client {
	return &Client{
		config:   config,
		log:      cmp.Or(config.Logger, slog.New(slog.DiscardHandler)).With("proxy", config.ID),
		snapshot: &Snapshot{},
		changed:  make(chan struct{}),
	}
}

// Run connects, asks and follows until the context ends, and returns its cause,
// or why the stream has ended before. All its goroutines have ended when it
// returns.
func (c *Client) Run(ctx context.Context) error {
	err := c.run(ctx)
	if ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	c.change(func() { c.ended = fmt.Errorf("%w: %w", ErrEnded, err) })
	return err
}

func (c *Client) run(ctx context.Context) error {
	secure := insecure.NewCredentials()
	if c.config.TLS != nil {
		secure = credentials.NewTLS(c.config.TLS)
	}
	connection, err := grpc.NewClient("passthrough:///"+c.config.Address,
		grpc.WithTransportCredentials(secure), grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxAnswer)))
	if err != nil {
		return fmt.Errorf("control plane at %s: %w", c.config.Address, err)
	}
	defer func() { _ = connection.Close() }() // Fails only when it is closed twice.
	// The stream's goroutines end with its context.
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	if c.config.Token != "" {
		ctx = metadata.AppendToOutgoingContext(ctx, "x-consul-token", c.config.Token)
	}
	stream, err := discovery.NewAggregatedDiscoveryServiceClient(connection).DeltaAggregatedResources(ctx)
	if err != nil {
		return fmt.Errorf("control plane at %s: %w", c.config.Address, err)
	}
	return fmt.Errorf("control plane at %s: %w", c.config.Address, c.follow(&conversation{stream: stream, node: c.node()}))
}

// Snapshot is what is known now.
func (c *Client) Snapshot() *Snapshot {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.snapshot
}

// Await waits until a snapshot meets a condition, and returns it. The snapshot
// that it returns with an error is the last one, for the message. Possible
// errors: [ErrEnded], and the context's cause.
func (c *Client) Await(ctx context.Context, met func(*Snapshot) bool) (*Snapshot, error) {
	for {
		c.mu.Lock()
		snapshot, changed, ended := c.snapshot, c.changed, c.ended
		c.mu.Unlock()
		if met(snapshot) {
			return snapshot, nil
		}
		if ended != nil {
			return snapshot, ended
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return snapshot, context.Cause(ctx)
		}
	}
}

// Changed returns what is known now, and a channel that is closed when that is
// no longer so; a stream that has ended closes it too.
func (c *Client) Changed() (*Snapshot, <-chan struct{}) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.snapshot, c.changed
}

// Ended is why the stream has ended, and wraps [ErrEnded]; nil: it has not.
func (c *Client) Ended() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.ended
}

// change makes a change and wakes who waits for one.
func (c *Client) change(edit func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	edit()
	close(c.changed)
	c.changed = make(chan struct{})
}
