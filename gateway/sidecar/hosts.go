package sidecar

import (
	"context"
	"net/netip"
	"slices"
	"sync"
	"time"
)

// hostTable knows the addresses of the host names among endpoints. A name that
// cannot be looked up keeps the addresses that it had.
type hostTable struct {
	lookup func(ctx context.Context, host string) ([]netip.Addr, error)
	asked  chan struct{}

	mu     sync.Mutex
	wanted []string
	known  map[string][]netip.Addr
}

const (
	// lookupEvery is Consul's refresh rate of host names (reference 3).
	lookupEvery   = 10 * time.Second
	lookupTimeout = 5 * time.Second
)

func newHostTable(lookup func(context.Context, string) ([]netip.Addr, error)) *hostTable {
	return &hostTable{lookup: lookup, asked: make(chan struct{}, 1), known: make(map[string][]netip.Addr)}
}

// addresses is a [table.Hosts].
func (h *hostTable) addresses(name string) []netip.Addr {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.known[name]
}

// want says which names are needed from now on.
func (h *hostTable) want(names []string) {
	h.mu.Lock()
	fresh := !slices.Equal(h.wanted, names)
	h.wanted = names
	h.mu.Unlock()
	if !fresh {
		return
	}
	select {
	case h.asked <- struct{}{}:
	default:
	}
}

// run looks the names up, when they are asked for and then again and again, and
// tells when an answer changed.
func (h *hostTable) run(ctx context.Context, changed func()) {
	for {
		h.mu.Lock()
		wanted := h.wanted
		h.mu.Unlock()
		var again <-chan time.Time
		if len(wanted) > 0 {
			if h.lookUp(ctx, wanted) {
				changed()
			}
			again = time.After(lookupEvery)
		}
		select {
		case <-ctx.Done():
			return
		case <-h.asked:
		case <-again:
		}
	}
}

// lookUp asks for all names at once, and reports whether any answer is new.
func (h *hostTable) lookUp(ctx context.Context, names []string) (changed bool) {
	ctx, cancel := context.WithTimeout(ctx, lookupTimeout)
	defer cancel()
	answers := make([][]netip.Addr, len(names))
	var group sync.WaitGroup
	for i, name := range names {
		group.Go(func() {
			if found, err := h.lookup(ctx, name); err == nil {
				slices.SortFunc(found, netip.Addr.Compare)
				answers[i] = slices.Compact(found)
			}
		})
	}
	group.Wait()
	h.mu.Lock()
	defer h.mu.Unlock()
	for i, name := range names {
		if len(answers[i]) > 0 && !slices.Equal(answers[i], h.known[name]) {
			h.known[name] = answers[i]
			changed = true
		}
	}
	return changed
}
