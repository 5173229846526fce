package memlog

import (
	"fmt"
	"hash/fnv"
	"math"
	"math/rand/v2"
)

// Faults are the chances, from 0 to 1, of what a network and its servers may
// do.
type Faults struct {
	// ResetConsumer: a consumer is lost before a delivery and replaced.
	ResetConsumer float64
	// Duplicate: a message is delivered a second time.
	Duplicate float64
	// HalfTransaction: a bootstrap ends within the stream's last transaction.
	HalfTransaction float64
	// LostAnswer: an append is stored and its answer lost.
	LostAnswer float64
	// LostRequest: an append is lost.
	LostRequest float64
	// LostHeartbeat: a heartbeat does not arrive.
	LostHeartbeat float64
	// StaleRead: Latest is answered by a replica that has not got the last
	// message that it should know.
	StaleRead float64
}

// mix hashes a seed and what it is to decide.
func mix(seed uint64, what ...any) uint64 {
	h := fnv.New64a()
	fmt.Fprintln(h, append(what, seed)...)
	return rand.NewPCG(seed, h.Sum64()).Uint64()
}

// chance decides whether a fault happens, and counts the decision.
func (c *Client) chance(p float64, kind, stream string) bool {
	if p <= 0 {
		return false
	}
	n := c.count(kind, stream)
	return float64(mix(c.domain.world.seed, kind, c.domain.name, c.name, stream, n)) < p*math.MaxUint64
}

// pick chooses a number from 0 to n-1.
func (c *Client) pick(n uint64, kind, stream string) uint64 {
	return mix(c.domain.world.seed, "pick", kind, c.domain.name, c.name, stream, c.count(kind, stream)) % n
}

func (c *Client) count(kind, stream string) uint64 {
	c.decisions[kind+" "+stream]++
	return c.decisions[kind+" "+stream]
}
