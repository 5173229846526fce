package main

import (
	"context"
	"fmt"
	"os"
	"strings"
	"sync"
	"time"
)

const (
	// loadEach is how many clients there are of each of the four kinds, and
	// loadPause how long each waits from one request to the next.
	loadEach  = 4
	loadPause = 10 * time.Millisecond
	// renewAfter is how many requests a client makes on a kept connection before it
	// leaves in order for a new one; more of them where the endpoint may die first.
	renewAfter, renewDyingAfter = 25, 75
)

// startLoad starts the clients, which end with the context: on new connections and
// on kept ones, of the steady names and of the flapping one.
func (c *chaos) startLoad(ctx context.Context, load *sync.WaitGroup) {
	dying := helloFor(sni(flapping))
	for i := range loadEach {
		steady := helloFor(sni(steadyName(i % steadyNames)))
		load.Go(func() {
			c.each(ctx, i, func(ctx context.Context, number int) {
				if err := c.request(ctx, number, steady); err != nil {
					c.failed("a new connection", err)
				}
			})
		})
		load.Go(func() {
			c.each(ctx, i, func(ctx context.Context, number int) { c.requestDying(ctx, number, dying) })
		})
		for _, k := range []*keeper{{chaos: c, hello: steady, renew: renewAfter}, {chaos: c, hello: dying, renew: renewDyingAfter}} {
			load.Go(func() {
				c.each(ctx, i, k.request)
				k.leave()
			})
		}
	}
}

// each makes one numbered request after another until the context ends. A request
// that has begun is not ended by that.
func (*chaos) each(ctx context.Context, number int, request func(context.Context, int)) {
	tick := time.NewTicker(loadPause)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			request(context.WithoutCancel(ctx), number)
			number++
		case <-ctx.Done():
			return
		}
	}
}

// requestDying asks the service whose one endpoint dies, twice on one connection.
func (c *chaos) requestDying(ctx context.Context, number int, hello []byte) {
	addresses := c.world.addresses()
	conn, err := dial(ctx, addresses[number%len(addresses)])
	if err != nil {
		c.failed("connecting", err)
		return
	}
	defer func() { _ = conn.Close() }()
	err = conn.greet(hello)
	if err == nil {
		err = conn.ask()
	}
	if err == nil {
		err = conn.end(number%2 == 0)
	}
	if err != nil {
		c.failedOn(conn, "a new connection with one live endpoint", conn.own(err))
		return
	}
	c.fresh.Add(1)
}

// keeper is a client that keeps its connection for some requests.
type keeper struct {
	chaos *chaos
	hello []byte
	renew int
	conn  *client
	asked int
}

// request asks once more, on a new connection when there is none.
func (k *keeper) request(ctx context.Context, number int) {
	if k.conn == nil {
		addresses := k.chaos.world.addresses()
		conn, err := open(ctx, addresses[number%len(addresses)], k.hello)
		if err != nil {
			k.chaos.failed("the begin of a kept connection", err)
			return
		}
		k.conn, k.asked = conn, 1
		k.chaos.fresh.Add(1)
		return
	}
	if err := k.conn.ask(); err != nil {
		k.chaos.failedOn(k.conn, fmt.Sprintf("request %d on a kept connection", k.asked+1), k.conn.own(err))
		_ = k.conn.Close()
		k.conn = nil
		return
	}
	k.chaos.kept.Add(1)
	if k.asked++; k.asked >= k.renew {
		k.leave()
	}
}

// leave ends the connection in order.
func (k *keeper) leave() {
	if k.conn == nil {
		return
	}
	if err := k.conn.leave(); err != nil {
		k.chaos.failedOn(k.conn, "leaving a kept connection", k.conn.own(err))
	}
	k.conn = nil
}

// failedOn counts a failure on a connection, unless the dying endpoint has taken
// that along.
func (c *chaos) failedOn(conn *client, what string, err error) {
	if c.mortal.took(conn.first) {
		c.excused.Add(1)
		return
	}
	c.failed(what, err)
}

// failed counts a failure, and says what the first one was.
func (c *chaos) failed(what string, err error) {
	err = fmt.Errorf("%s: %w", what, err)
	if c.fails.add(err) {
		fmt.Fprintf(c.out, "chaos: at swap %d, hand-over %d, death %d: FAILED: %v\n", c.swapped.Load(), c.handed.Load(), c.died.Load(), err)
	}
}

// explain is what the gateways' access log has of the client that an error names: a
// port may have been used for several of their addresses, which it does not tell.
func (c *chaos) explain(err error) string {
	if err == nil {
		return ""
	}
	_, rest, found := strings.Cut(err.Error(), "from ")
	if !found {
		return ""
	}
	from, _, _ := strings.Cut(rest, ": ")
	log, _ := os.ReadFile(c.world.path("access.log"))
	var out strings.Builder
	for line := range strings.Lines(string(log)) {
		if strings.Contains(line, `"client":"`+from+`"`) {
			out.WriteString(line)
		}
	}
	if out.Len() == 0 {
		return "no gateway has a line of a connection from " + from + "\n"
	}
	return out.String()
}
