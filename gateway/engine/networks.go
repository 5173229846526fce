package engine

import (
	"fmt"
	"net/netip"
	"sync"

	"github.com/isthmus-mesh/isthmus/gateway/hello"
	"github.com/isthmus-mesh/isthmus/gateway/table"
)

// Networks counts the connections of each source network: a /24 of IPv4, a /64 of
// IPv6. The zero Networks is ready. It is safe for concurrent use.
type Networks struct {
	mu   sync.Mutex
	open map[netip.Prefix]int
}

const (
	networkBits4 = 24
	networkBits6 = 64
)

// networkOf is the network that an address is counted with.
func networkOf(a netip.Addr) netip.Prefix {
	bits := networkBits6
	if a.Is4() {
		bits = networkBits4
	}
	p, _ := a.WithZone("").Prefix(bits) // It has that many bits.
	return p
}

// Enter counts a connection from an address; [Networks.Leave] gives its place
// back, unless it was refused because its network has as many as it may.
func (n *Networks) Enter(a netip.Addr, most int) *Refusal {
	network := networkOf(a)
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.open == nil {
		n.open = make(map[netip.Prefix]int)
	}
	if n.open[network] >= most {
		return &Refusal{
			Reason: table.ReasonNetworkLimit,
			Detail: fmt.Sprintf("%s may have %d connections", network, most), Alert: hello.InternalError,
		}
	}
	n.open[network]++
	return nil
}

// Leave gives back the place of a connection from an address.
func (n *Networks) Leave(a netip.Addr) {
	network := networkOf(a)
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.open[network]--; n.open[network] <= 0 {
		delete(n.open, network)
	}
}
