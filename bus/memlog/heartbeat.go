package memlog

import (
	"context"

	"github.com/isthmus-mesh/isthmus/bus"
)

// listener is one subscription to heartbeats.
type listener struct {
	client *Client
	beats  chan bus.Heartbeat
}

// beatBuffer is how many heartbeats wait for a slow listener; more are lost.
const beatBuffer = 16

// Beat implements [bus.Log].
func (c *Client) Beat(ctx context.Context, name string, beat bus.Heartbeat) error {
	if err := c.enter(ctx, name); err != nil {
		return err
	}
	defer c.domain.world.mu.Unlock()
	for l := range c.domain.listeners[name] {
		if l.client.cut || l.client.chance(c.domain.world.faults.LostHeartbeat, "heartbeat", name) {
			continue
		}
		select {
		case l.beats <- beat:
		default:
		}
	}
	return nil
}

// Heartbeats implements [bus.Log].
func (c *Client) Heartbeats(ctx context.Context, name string, handle func(bus.Heartbeat)) error {
	l := &listener{client: c, beats: make(chan bus.Heartbeat, beatBuffer)}
	d := c.domain
	d.world.mu.Lock()
	if d.listeners[name] == nil {
		d.listeners[name] = make(map[*listener]bool)
	}
	d.listeners[name][l] = true
	d.world.mu.Unlock()
	defer func() {
		d.world.mu.Lock()
		delete(d.listeners[name], l)
		d.world.mu.Unlock()
	}()
	for {
		select {
		case beat := <-l.beats:
			handle(beat)
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}
