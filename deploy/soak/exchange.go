package main

import (
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"sync/atomic"
	"time"
)

const (
	// recordHeader is the length of the header of a TLS record, randomAt where the
	// random of a ClientHello begins in its record.
	recordHeader = 5
	randomAt     = recordHeader + 4 + 2
	// requestLength is that of a request, and of its answer.
	requestLength = 8
	// patience bounds every wait for something that must come.
	patience = time.Minute
)

// lastRequest numbers the requests of this process.
var lastRequest atomic.Uint64

// helloFor is the ClientHello of a Go client for a server name, in one record.
func helloFor(name string) []byte {
	c := new(flightConn)
	_ = tls.Client(c, &tls.Config{ServerName: name, CurvePreferences: []tls.CurveID{tls.X25519}}).Handshake()
	return c.flight
}

// flightConn keeps what is written and answers nothing.
type flightConn struct {
	net.Conn
	flight []byte
}

func (c *flightConn) Write(b []byte) (int, error) {
	c.flight = append(c.flight, b...)
	return len(b), nil
}

func (*flightConn) Read([]byte) (int, error) { return 0, io.EOF }

// asking is a hello that asks for its first request.
func asking(hello []byte, request uint64) []byte {
	out := append([]byte(nil), hello...)
	binary.BigEndian.PutUint64(out[randomAt:], request)
	return out
}

// client is a client's connection.
type client struct {
	*net.TCPConn
	// first is the request of its hello.
	first uint64
}

// listenTCP listens as a service does that leaves it to the gateway to find dead
// connections. Clients do so too: on one machine, the probes of tens of thousands
// of connections that were opened in one go come in bursts that overflow loopback's
// queue, until one that was lost nine times ends a connection that is well.
func listenTCP(address string) (*net.TCPListener, error) {
	config := net.ListenConfig{KeepAlive: -1}
	// A socket of multipath TCP takes no filter.
	config.SetMultipathTCP(false)
	l, err := config.Listen(context.Background(), "tcp", address)
	if err != nil {
		return nil, err
	}
	return l.(*net.TCPListener), nil
}

// dial connects; nothing is said yet.
func dial(ctx context.Context, address string) (*client, error) {
	conn, err := (&net.Dialer{Timeout: patience, KeepAlive: -1}).DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	return &client{TCPConn: conn.(*net.TCPConn), first: lastRequest.Add(1)}, nil
}

// greet sends the hello, and waits for the answer to the request in it.
func (c *client) greet(hello []byte) error {
	if err := c.say(asking(hello, c.first)); err != nil {
		return err
	}
	return c.answered(c.first)
}

// open is dial and greet.
func open(ctx context.Context, address string, hello []byte) (*client, error) {
	c, err := dial(ctx, address)
	if err != nil {
		return nil, err
	}
	if err := c.greet(hello); err != nil {
		_ = c.Close()
		return nil, c.own(err)
	}
	return c, nil
}

// own makes an error say which connection it is of.
func (c *client) own(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("from %s: %w", c.LocalAddr(), err)
}

// ask makes a further request.
func (c *client) ask() error {
	request, text := nextRequest()
	if err := c.say(text); err != nil {
		return err
	}
	return c.answered(request)
}

// nextRequest is a request and its text.
func nextRequest() (request uint64, text []byte) {
	request = lastRequest.Add(1)
	return request, binary.BigEndian.AppendUint64(nil, request)
}

// patiently gives what is to follow its time.
func (c *client) patiently() { _ = c.SetDeadline(time.Now().Add(patience)) }

// say sends bytes, and gives what is to follow its time.
func (c *client) say(b []byte) error {
	c.patiently()
	_, err := c.Write(b)
	return err
}

// answered waits for the answer to a request.
func (c *client) answered(request uint64) error {
	var answer [requestLength]byte
	if _, err := io.ReadFull(c, answer[:]); err != nil {
		return fmt.Errorf("no answer: %w", err)
	}
	if got := binary.BigEndian.Uint64(answer[:]); got != request {
		return fmt.Errorf("request %x was answered by %x", request, got)
	}
	return nil
}

// leave closes in order, and wants the other side to do so.
func (c *client) leave() error {
	defer func() { _ = c.Close() }()
	c.patiently()
	if err := c.CloseWrite(); err != nil {
		return err
	}
	rest, err := io.ReadAll(c)
	if err == nil && len(rest) > 0 {
		err = fmt.Errorf("%d bytes that nobody asked for", len(rest))
	}
	if err != nil {
		return fmt.Errorf("the orderly end: %w", err)
	}
	return nil
}

// reset closes by a reset.
func (c *client) reset() error {
	return errors.Join(c.SetLinger(0), c.Close())
}

// end closes in one of the two ways.
func (c *client) end(orderly bool) error {
	if orderly {
		return c.leave()
	}
	return c.reset()
}

// serve answers the requests of a connection, until its end. named is told of the
// first one before it is answered.
func serve(conn *net.TCPConn, named func(request uint64)) error {
	request, err := readHello(conn)
	if err != nil {
		return err
	}
	named(request)
	for b := make([]byte, requestLength); ; {
		if err := answer(conn, request); err != nil {
			return err
		}
		if _, err := io.ReadFull(conn, b); err != nil {
			if errors.Is(err, io.EOF) {
				return nil
			}
			return err
		}
		request = binary.BigEndian.Uint64(b)
	}
}

// readHello reads a hello, and returns the request in it.
func readHello(conn *net.TCPConn) (uint64, error) {
	var b [512]byte
	n, err := io.ReadAtLeast(conn, b[:], recordHeader)
	if err != nil {
		return 0, err
	}
	length := recordHeader + int(binary.BigEndian.Uint16(b[3:]))
	if b[0] != 22 || length > len(b) || length < randomAt+requestLength || n > length {
		return 0, fmt.Errorf("%d bytes that are no hello of ours, of %d bytes", n, length)
	}
	if _, err := io.ReadFull(conn, b[n:length]); err != nil {
		return 0, err
	}
	return binary.BigEndian.Uint64(b[randomAt:]), nil
}
