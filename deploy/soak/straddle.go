package main

import (
	"context"
	"errors"
	"fmt"
	"io"
)

// straddlers are connections that were begun before a hand-over, and what ends
// each of them after it.
type straddlers []straddler

type straddler struct {
	what string
	conn *client
	end  func() error
}

// straddle begins what a hand-over must not cut: at every address, but for the half
// answer, of which one is work enough. No hand-over is on its way, and no swap.
func (c *chaos) straddle(ctx context.Context) (straddlers, error) {
	var out straddlers
	for i, address := range c.world.addresses() {
		steady := helloFor(sni(steadyName(i % steadyNames)))
		begins := []func(context.Context, string, []byte) (straddler, error){halfHello, halfRequest}
		if i == 0 {
			begins = append(begins, halfAnswer)
		}
		for _, begin := range begins {
			s, err := begin(ctx, address, steady)
			if err != nil {
				return nil, err
			}
			out = append(out, s)
		}
		s, err := silent(ctx, address, helloFor(sni(swapName(int(c.swapped.Load())))))
		if err != nil {
			return nil, err
		}
		out = append(out, s)
	}
	return out, nil
}

// finish ends them all: each is answered as if there had been no hand-over.
func (s straddlers) finish(c *chaos) {
	for _, one := range s {
		if err := one.end(); err != nil {
			_ = one.conn.Close()
			c.failed(one.what+" before a hand-over", one.conn.own(err))
			continue
		}
		c.kept.Add(1)
	}
}

// halfHello has sent half of its hello.
func halfHello(ctx context.Context, address string, hello []byte) (straddler, error) {
	conn, err := dial(ctx, address)
	if err != nil {
		return straddler{}, err
	}
	text := asking(hello, conn.first)
	return halfSaid("half a hello", conn, conn.first, text)
}

// halfRequest has sent half of a further request.
func halfRequest(ctx context.Context, address string, hello []byte) (straddler, error) {
	conn, err := open(ctx, address, hello)
	if err != nil {
		return straddler{}, err
	}
	request, text := nextRequest()
	return halfSaid("half a request", conn, request, text)
}

func halfSaid(what string, conn *client, request uint64, text []byte) (straddler, error) {
	half := len(text) / 2
	end := func() error { return errors.Join(conn.say(text[half:]), conn.answered(request), conn.leave()) }
	return straddler{what, conn, end}, conn.say(text[:half])
}

// halfAnswer has asked for more than fits on the way, has closed for writing, and
// has read some of the answer.
func halfAnswer(ctx context.Context, address string, hello []byte) (straddler, error) {
	conn, err := open(ctx, address, hello)
	if err != nil {
		return straddler{}, err
	}
	request, text := nextBulk()
	const some = bulkBlocks / 16
	err = errors.Join(conn.SetReadBuffer(blockLength), conn.say(text), conn.CloseWrite())
	if err == nil {
		err = readBlocks(conn, request, 0, some)
	}
	end := func() error {
		conn.patiently()
		if err := readBlocks(conn, request, some, bulkBlocks); err != nil {
			return err
		}
		if n, err := conn.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
			return fmt.Errorf("after the answer: %d bytes and %w", n, err)
		}
		return conn.Close()
	}
	return straddler{"half an answer", conn, end}, err
}

// silent says nothing meanwhile; then no table has its name any more.
func silent(ctx context.Context, address string, hello []byte) (straddler, error) {
	conn, err := open(ctx, address, hello)
	if err != nil {
		return straddler{}, err
	}
	return straddler{"a silence", conn, func() error { return errors.Join(conn.ask(), conn.leave()) }}, nil
}
