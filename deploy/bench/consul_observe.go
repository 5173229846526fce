package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"sync"
	"time"

	isthmusv1 "github.com/isthmus-mesh/isthmus/proto/isthmus/v1"
)

// markPattern is a change's tag: markOf makes it.
var markPattern = regexp.MustCompile(`mark-(\d+)\.`)

func markOf(number int) string { return fmt.Sprintf("mark-%d.", number) }

// marks says when each change was sent, answered by a bare query, and in the log.
type marks struct {
	mu   sync.Mutex
	all  map[int]*mark
	open int
	more chan struct{} // closed and replaced when none is open any more
	// failed is why a bare query ended; nil: none did.
	failed error
}

// mark is one change.
type mark struct {
	sent, event, bare time.Time
	// twice: it is on a node that bare queries follow too.
	twice bool
}

func newMarks() *marks { return &marks{all: make(map[int]*mark), more: make(chan struct{})} }

// sent says that a change is sent now.
func (m *marks) sent(number int, twice bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.all[number] = &mark{sent: time.Now(), twice: twice}
	m.open++
	if twice {
		m.open++
	}
}

// came notes a change at one of its two ends.
func (m *marks) came(number int, at time.Time, where func(*mark) *time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if of := m.all[number]; of != nil && where(of).IsZero() {
		*where(of) = at
		if m.open--; m.open == 0 {
			close(m.more)
			m.more = make(chan struct{})
		}
	}
}

func atEvent(m *mark) *time.Time { return &m.event }
func atBare(m *mark) *time.Time  { return &m.bare }

// settle waits until no change is on its way. A change may be hidden by the next
// one of the same service, so it does not wait for ever.
func (m *marks) settle(ctx context.Context) error {
	timeout := time.NewTimer(5 * time.Second)
	defer timeout.Stop()
	for {
		m.mu.Lock()
		open, more := m.open, m.more
		m.mu.Unlock()
		if open == 0 {
			return nil
		}
		select {
		case <-more:
		case <-timeout.C:
			return m.check()
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// errLost says that changes did not come where they should.
var errLost = errors.New("changes are missing")

// check allows for a hundredth of the changes to be hidden by others.
func (m *marks) check() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.open*100 <= len(m.all) {
		return nil
	}
	event, bare := 0, 0
	for _, of := range m.all {
		if of.event.IsZero() {
			event++
		}
		if of.twice && of.bare.IsZero() {
			bare++
		}
	}
	return fmt.Errorf("%w: of %d, %d in the log and %d in the answers of the bare queries (ended: %s)", errLost, len(m.all), event, bare, fmt.Sprint(m.failed))
}

// fail notes why a bare query ended.
func (m *marks) fail(err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.failed = err
}

// results are how long the changes took, sorted: those of nodes that are followed
// twice to both ends, and all of them to the log.
func (m *marks) results() (event, bare, all []time.Duration) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, of := range m.all {
		if of.event.IsZero() {
			continue
		}
		all = append(all, of.event.Sub(of.sent))
		if of.twice && !of.bare.IsZero() {
			event, bare = append(event, of.event.Sub(of.sent)), append(bare, of.bare.Sub(of.sent))
		}
	}
	slices.Sort(event)
	slices.Sort(bare)
	slices.Sort(all)
	return event, bare, all
}

// observer reads the log of the catalog and that of the routes.
type observer struct {
	mu    sync.Mutex
	more  chan struct{} // closed and replaced at each transaction
	marks *marks        // nil: nobody asks

	// instances are the sidecars that were seen, grown when the last one came.
	known     map[isthmusv1.Key]bool
	instances int
	grown     time.Time
	// global is the mode of proxy-defaults, routes and merged how many route sets
	// and agent-registered proxies have which mode; each with the time of the last
	// change.
	global         string
	globalAt       time.Time
	routes, merged modes
}

func newObserver() *observer {
	return &observer{more: make(chan struct{}), known: make(map[isthmusv1.Key]bool), routes: newModes(), merged: newModes()}
}

// modes counts values by their mode.
type modes struct {
	of    map[isthmusv1.Key]string
	count map[string]int
	at    time.Time
}

func newModes() modes { return modes{of: make(map[isthmusv1.Key]string), count: make(map[string]int)} }

func (m *modes) set(key isthmusv1.Key, mode string, at time.Time) {
	if was, known := m.of[key]; known {
		if was == mode {
			return
		}
		m.count[was]--
	}
	m.of[key] = mode
	m.count[mode]++
	m.at = at
}

// follow makes the observer say when it sees which mark.
func (o *observer) follow(m *marks) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.marks = m
}

// apply takes a transaction of either log.
func (o *observer) apply(t *isthmusv1.Transaction) {
	now := time.Now()
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, c := range t.Changes {
		switch value := c.Value.(type) {
		case *isthmusv1.ServiceInstance:
			o.instance(c.Key, value, now)
		case *isthmusv1.ConfigEntry:
			if value.GetKind() == isthmusv1.EntryProxyDefaults {
				o.global, o.globalAt = value.GetProxyDefaults().GetMeshGateway().GetMode(), now
			}
		case *isthmusv1.RouteSet:
			if routes := value.GetRoutes(); len(routes) > 0 && len(routes[0].GetTargets()) > 0 {
				o.routes.set(c.Key, routes[0].GetTargets()[0].GetDecision().GetMode(), now)
			}
		}
	}
	close(o.more)
	o.more = make(chan struct{})
}

func (o *observer) instance(key isthmusv1.Key, i *isthmusv1.ServiceInstance, now time.Time) {
	if i.GetKind() != isthmusv1.InstanceKindProxy {
		return
	}
	if !o.known[key] {
		o.known[key] = true
		o.instances++
		o.grown = now
	}
	if i.GetMergedCentralConfig() {
		o.merged.set(key, i.GetProxy().GetMeshGateway().GetMode(), now)
	}
	for _, tag := range i.GetTags() {
		if number, ok := readMark(tag); ok && o.marks != nil {
			o.marks.came(number, now, atEvent)
		}
	}
}

func readMark(tag string) (int, bool) {
	found := markPattern.FindStringSubmatch(tag)
	if found == nil {
		return 0, false
	}
	number, err := strconv.Atoi(found[1])
	return number, err == nil
}

// look asks for what was seen, and returns what is closed when there is more.
func (o *observer) look(ask func(*observer) (time.Time, bool)) (at time.Time, seen bool, more <-chan struct{}) {
	o.mu.Lock()
	defer o.mu.Unlock()
	at, seen = ask(o)
	return at, seen, o.more
}

// askBare follows the first nodes with bare blocking queries: no more than a
// request, its answer, and the next one beyond its index. They have begun when it
// returns.
func (w *consulWorld) askBare(ctx context.Context, nodes int, m *marks) (stop func(), err error) {
	ctx, cancel := context.WithCancel(ctx)
	var group sync.WaitGroup
	end := func() {
		cancel()
		group.Wait()
	}
	for i := range min(nodes, w.nodes()) {
		path := "/v1/internal/ui/node/" + w.nodeOf(i*w.perNode)
		_, index, err := w.ask(ctx, path, 0)
		if err != nil {
			end()
			return nil, err
		}
		group.Go(func() {
			for ctx.Err() == nil {
				body, next, err := w.ask(ctx, path, index)
				if err != nil {
					if ctx.Err() == nil {
						m.fail(err)
					}
					return
				}
				now := time.Now()
				index = next
				for _, found := range markPattern.FindAllSubmatch(body, -1) {
					if number, err := strconv.Atoi(string(found[1])); err == nil {
						m.came(number, now, atBare)
					}
				}
			}
		})
	}
	return end, nil
}

// ask sends one query, blocking beyond an index unless it is 0.
func (w *consulWorld) ask(ctx context.Context, path string, index uint64) ([]byte, uint64, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, w.agent.HTTPS+path+"?wait=60s&index="+strconv.FormatUint(index, 10), http.NoBody)
	if err != nil {
		return nil, 0, err
	}
	response, err := w.http.Do(request)
	if err != nil {
		return nil, 0, err
	}
	defer response.Body.Close()
	var body bytes.Buffer
	if _, err := io.Copy(&body, response.Body); err != nil {
		return nil, 0, err
	}
	if response.StatusCode != http.StatusOK {
		return nil, 0, fmt.Errorf("%s: %s: %s", path, response.Status, body.Bytes())
	}
	index, err = strconv.ParseUint(response.Header.Get("X-Consul-Index"), 10, 64)
	return body.Bytes(), index, err
}
