//go:build linux

package loop

import (
	"net"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/gateway/engine"
	"github.com/isthmus-mesh/isthmus/gateway/table"
)

// Of all loops that watch a socket the kernel wakes one for a connection, and it
// wakes no other when that one stops to watch: it must take the connection along. A
// client of a hand-over would wait for the next one to come otherwise.
func TestWhoeverWasWokenTakesTheConnection(t *testing.T) {
	tcp, err := net.ListenTCP("tcp", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	listener, err := engine.Adopt(tcp)
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	cfg, err := engine.Config{Table: func() *table.Table { return new(table.Table) }}.WithDefaults()
	if err != nil {
		t.Fatal(err)
	}
	kernel, err := newSystem("")
	if err != nil {
		t.Fatal(err)
	}
	defer kernel.free()
	l := newLoop(&cfg, &shared{}, kernel)
	if err := listener.Descriptor(func(fd int) error {
		l.do(mail{what: listen, fd: fd})
		client, err := net.Dial("tcp", listener.Addr().String())
		if err != nil {
			return err
		}
		defer client.Close()
		l.do(mail{what: unlisten, fd: fd})
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if n := l.counts.Accepted.Load(); n != 1 {
		t.Errorf("%d connections were taken; want the one that waits", n)
	}
	l.time, l.now = time.Now(), time.Now().UnixNano()
	l.cut()
}
