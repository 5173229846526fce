package enginetest

import (
	"errors"
	"fmt"
	"syscall"
	"testing"
)

// much is more than sockets and an engine hold between them, little less than that
// by far.
const much = 96 << 20

// isReset reports whether an error is what one end sees of a reset. After an end
// that was read, writing says it with EPIPE.
func isReset(err error) bool {
	return errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE)
}

// open makes a connection to Plain, and returns both ends after the hello.
func (c *clients) open(t *testing.T) (client, endpoint *end) {
	t.Helper()
	hello := HelloFor(Plain)
	client = connect(t, c.address)
	client.write(hello)
	return client, c.world.plain.greeted(t, hello)
}

// sides are the two orders in which something happens.
var sides = []string{"client", "endpoint"}

// openFor is open with the ends in an order: first the one that is named.
func (c *clients) openFor(t *testing.T, side string) (one, other *end) {
	t.Helper()
	client, endpoint := c.open(t)
	if side == "client" {
		return client, endpoint
	}
	return endpoint, client
}

const (
	seenReset = "reset"
	seenSo    = "as said"
)

// closings are the ways in which a connection ends, in each state of its other
// direction.
func (c *clients) closings() []testCase {
	var out []testCase
	each := func(name, want string, see func(t *testing.T, one, other *end) string) {
		for _, side := range sides {
			out = append(out, testCase{"the " + side + " " + name, want, func(t *testing.T) string {
				one, other := c.openFor(t, side)
				return see(t, one, other)
			}})
		}
	}
	each("ends while much is on its way to it", seenBytes, func(_ *testing.T, one, other *end) string {
		sent := other.fill(newPattern(1), much)
		one.finish()
		other.hearEnd()
		other.finish()
		return newPattern(1).rest(one, sent)
	})
	each("ends behind much that is on its way", seenBytes, func(_ *testing.T, one, other *end) string {
		sent := one.fill(newPattern(1), much)
		one.finish()
		got := newPattern(1).rest(other, sent)
		other.say("still here")
		one.hear("still here")
		other.finish()
		one.hearEnd()
		return got
	})
	each("ends first, and hears on", seenBytes, func(_ *testing.T, one, other *end) string {
		one.finish()
		other.hearEnd()
		const sent = 3 << 20
		done := make(chan error, 1)
		go func() {
			err := newPattern(2).sendTo(other, sent)
			done <- errors.Join(err, other.CloseWrite())
		}()
		got := newPattern(2).rest(one, sent)
		if err := <-done; err != nil {
			return err.Error()
		}
		return got
	})
	return append(out, c.resets()...)
}

// resets are the states in which one side breaks off.
func (c *clients) resets() []testCase {
	var out []testCase
	each := func(name string, see func(t *testing.T, one, other *end) string) {
		for _, side := range sides {
			out = append(out, testCase{"the " + side + " breaks off " + name, seenReset, func(t *testing.T) string {
				one, other := c.openFor(t, side)
				return see(t, one, other)
			}})
		}
	}
	each("at rest", func(_ *testing.T, one, other *end) string {
		one.say("x")
		other.hear("x")
		one.breakOff()
		return ending(other, nil)
	})
	each("while its bytes wait to be taken", func(_ *testing.T, one, other *end) string {
		one.fill(newPattern(1), much)
		one.breakOff()
		return newPattern(1).rest(other, 0)
	})
	each("while bytes wait for it", func(_ *testing.T, one, other *end) string {
		other.fill(newPattern(1), much)
		one.breakOff()
		return writesUntil(other)
	})
	each("after it has ended", func(_ *testing.T, one, other *end) string {
		one.finish()
		other.hearEnd()
		one.breakOff()
		return writesUntil(other)
	})
	each("after the other has ended", func(_ *testing.T, one, other *end) string {
		other.finish()
		one.hearEnd()
		one.breakOff()
		return ending(other, nil)
	})
	each("while bytes wait for it and the other has ended", func(_ *testing.T, one, other *end) string {
		other.fill(newPattern(1), much)
		other.finish()
		one.breakOff()
		return ending(other, nil)
	})
	return out
}

// writesUntil writes until that fails, and says how.
func writesUntil(e *end) string {
	for {
		if _, err := e.Write(make([]byte, chunk)); isReset(err) {
			return seenReset
		} else if err != nil {
			return err.Error()
		}
	}
}

// openings are endpoints that do something at once.
func (c *clients) openings() []testCase {
	hello := HelloFor(Plain)
	accepted := func(t *testing.T) (client, endpoint *end) {
		client = connect(t, c.address)
		client.write(hello)
		return client, c.world.plain.accept(t)
	}
	return []testCase{
		{"an endpoint that speaks first", seenSo, func(t *testing.T) string {
			client, endpoint := accepted(t)
			endpoint.say("welcome")
			client.hear("welcome")
			endpoint.read(hello)
			client.finish()
			endpoint.hearEnd()
			endpoint.finish()
			client.hearEnd()
			return seenSo
		}},
		{"an endpoint that speaks first and ends", "all bytes, closed", func(t *testing.T) string {
			client, endpoint := accepted(t)
			endpoint.say("welcome")
			endpoint.finish()
			got := ending(client, []byte("welcome"))
			// The other direction goes on.
			client.say("thanks")
			endpoint.read(append(hello[:len(hello):len(hello)], "thanks"...))
			return got
		}},
		{"an endpoint that closes at once", seenEnd, func(t *testing.T) string {
			client, endpoint := accepted(t)
			endpoint.read(hello)
			_ = endpoint.Close()
			return ending(client, nil)
		}},
		{"an endpoint that closes on bytes that it did not read", seenReset, func(t *testing.T) string {
			client, endpoint := accepted(t)
			endpoint.read(hello[:1])
			_ = endpoint.Close()
			return ending(client, nil)
		}},
	}
}

// flows are what many bytes and many small ones do.
func (c *clients) flows() []testCase {
	out := []testCase{
		{"1,000 bytes there and back one by one", seenSo, func(t *testing.T) string {
			client, endpoint := c.open(t)
			for i := range 1000 {
				client.write([]byte{byte(i)})
				endpoint.read([]byte{byte(i)})
				endpoint.write([]byte{byte(i + 1)})
				client.read([]byte{byte(i + 1)})
			}
			return seenSo
		}},
		{"64 MiB both ways at once", seenSo, func(t *testing.T) string {
			client, endpoint := c.open(t)
			return bothWays(client, endpoint, 64<<20)
		}},
	}
	for _, side := range sides {
		out = append(out, testCase{"the " + side + " sends more than the other takes", seenBytes, func(t *testing.T) string {
			one, other := c.openFor(t, side)
			taken := one.fill(newPattern(3), much)
			if taken > much {
				return fmt.Sprintf("%d bytes were taken that nobody read", taken)
			}
			one.finish()
			return newPattern(3).rest(other, taken)
		}})
	}
	return out
}

// bothWays sends n bytes each way at once, and says whether all came.
func bothWays(a, b *end, n int) string {
	wrote := make(chan error, 2)
	read := make(chan string, 2)
	for seed, e := range []*end{a, b} {
		go func() {
			err := newPattern(uint64(seed)).sendTo(e, n)
			wrote <- errors.Join(err, e.CloseWrite())
		}()
		go func() { read <- newPattern(uint64(1-seed)).rest(e, n) }()
	}
	for range 2 {
		if got := <-read; got != seenBytes {
			return got
		}
		if err := <-wrote; err != nil {
			return err.Error()
		}
	}
	return seenSo
}
