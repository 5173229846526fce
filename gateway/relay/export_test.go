package relay

import (
	"context"
	"net/netip"
	"time"

	"github.com/isthmus-mesh/isthmus/gateway/engine"
)

// Config is an engine's configuration with what only tests replace.
type Config struct {
	engine.Config
	Now  func() time.Time
	Dial func(ctx context.Context, address netip.AddrPort) (Conn, error)
}

// NewForTest is New with a network and a clock of the test's.
func NewForTest(cfg Config) (*Engine, error) {
	e, err := New(cfg.Config)
	if err != nil {
		return nil, err
	}
	if cfg.Dial != nil {
		e.dial = cfg.Dial
	}
	if cfg.Now != nil {
		e.now = cfg.Now
	}
	return e, nil
}

// LongHellos is how many bytes of long hellos are held beyond what is free.
func (e *Engine) LongHellos() int64 { return e.memory.Used() }
