package check

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/isthmus-mesh/isthmus/bus"
	isthmusv1 "github.com/isthmus-mesh/isthmus/proto/isthmus/v1"
	"github.com/isthmus-mesh/isthmus/services/consul"
)

const (
	// listen is how long a heartbeat is waited for: several times its interval, and
	// longer than a follower takes to take over.
	listen = bus.DefaultTakeoverAfter + 4*bus.DefaultHeartbeatInterval
	// lookAgain is the pause between two looks at something that should settle.
	lookAgain = 250 * time.Millisecond
	// answerWithin bounds each question to the log.
	answerWithin = 10 * time.Second
)

// askBus asks the log about every datacenter that it has, or that an agent is of.
func askBus(ctx context.Context, f *Facts, o Options) *BusFacts {
	ctx, cancel := context.WithTimeout(ctx, 3*answerWithin)
	defer cancel()
	out := &BusFacts{}
	streams, err := within(ctx, func(ctx context.Context) ([]string, error) { return o.Log.Streams(ctx) })
	if err != nil {
		out.Err = err
		return out
	}
	have := map[string]bool{}
	names := map[string]bool{}
	for _, stream := range streams {
		have[stream] = true
		if class, dc, _ := isthmusv1.ParseStreamName(stream); class == isthmusv1.ClassCatalog {
			names[dc] = true
		}
	}
	for i := range f.Agents {
		// One that did not say of which datacenter it is, is named by its address.
		if a := &f.Agents[i]; a.named() {
			names[a.datacenter()] = true
		}
	}
	out.Datacenters = make([]BusDatacenter, len(names))
	var group sync.WaitGroup
	for i, dc := range slices.Sorted(maps.Keys(names)) {
		group.Go(func() {
			d := askDatacenter(ctx, o, dc, have)
			if client, controlled := f.clientOf(dc, o.Targets); client != nil && d.Catalog != nil {
				d.Compared = true
				d.Differing, d.CompareErr = compare(ctx, o, dc, client, controlled)
			}
			out.Datacenters[i] = d
		})
	}
	group.Wait()
	return out
}

// clientOf is an agent of the datacenter, and whether access control is on.
func (f *Facts) clientOf(dc string, targets []Target) (client *consul.Client, controlled bool) {
	for i := range f.Agents {
		if a := &f.Agents[i]; a.Err == nil && a.datacenter() == dc {
			return targets[i].Client, a.Controlled
		}
	}
	return nil, false
}

// askDatacenter asks about one datacenter.
func askDatacenter(ctx context.Context, o Options, dc string, have map[string]bool) BusDatacenter {
	d := BusDatacenter{Datacenter: dc}
	catalog, routes := isthmusv1.StreamName(isthmusv1.ClassCatalog, dc), isthmusv1.StreamName(isthmusv1.ClassRoutes, dc)
	var group sync.WaitGroup
	if have[catalog] {
		group.Go(func() { d.Catalog = askStream(ctx, o.Log, catalog) })
	}
	if have[routes] {
		group.Go(func() { d.Routes = askStream(ctx, o.Log, routes) })
		group.Go(func() { d.Behind = behind(ctx, o, routes, have) })
	}
	group.Wait()
	switch {
	case o.Reports == nil || d.Catalog == nil || d.elsewhere():
	case !d.Catalog.Filled:
		d.ReportsErr = errUnfilled
	default:
		d.Gateways, d.Proxies, d.ReportsErr = o.Reports(ctx, dc)
	}
	return d
}

// askStream asks for a stream's state, and listens for its writer.
func askStream(ctx context.Context, log bus.Log, stream string) *StreamFacts {
	s := &StreamFacts{}
	state, err := within(ctx, func(ctx context.Context) (bus.StreamState, error) { return log.State(ctx, stream) })
	if err == nil && state.Mirror != nil {
		s.Mirrored, s.Active = true, state.Mirror.Active
	}
	if content, err := readStream(ctx, log, stream); err == nil {
		s.Sequence, s.Filled = content.sequence, true
	}
	if s.Mirrored {
		return s
	}
	beat, _ := bus.Hear(ctx, log, stream, listen)
	s.Owner, s.SourceLost = beat.Owner, beat.SourceLost
	return s
}

// content is what a stream holds.
type content struct {
	sequence uint64
	values   map[isthmusv1.Key][]byte
	basis    *isthmusv1.Basis
}

// errUnfilled says why nothing can be said of who reports.
var errUnfilled = errors.New("the first fill of its catalog is not whole")

// errSettled ends a drive that has read all.
var errSettled = errors.New("all is read")

// readStream reads what a stream holds at its end. One whose first fill is not
// whole does not end in time.
func readStream(ctx context.Context, log bus.Log, stream string) (*content, error) {
	ctx, cancel := context.WithTimeout(ctx, answerWithin)
	defer cancel()
	c := &content{values: map[isthmusv1.Key][]byte{}}
	drive := bus.Drive{
		Log: log, Streams: []string{stream},
		Machine: bus.MachineFunc(func(t *isthmusv1.Transaction) {
			if t.Reset {
				clear(c.values)
			}
			for _, change := range t.Changes {
				if change.Tombstone {
					delete(c.values, change.Key)
				} else {
					c.values[change.Key] = bytesOf(change.Value)
				}
			}
			c.sequence = t.Sequence
			if t.End.GetBasis() != nil {
				c.basis = t.End.GetBasis()
			}
		}),
		Emit: func(context.Context, *isthmusv1.Basis) error { return errSettled },
	}
	if err := drive.Run(ctx); !errors.Is(err, errSettled) {
		return nil, errors.Join(err, drive.Ready())
	}
	return c, nil
}

// bytesOf is a value as bytes: of an instance without what the watcher derives, of
// service-defaults without the mode that Consul's servers write into what they hold,
// with no index that would tell a watcher of it (the sticky defaults).
func bytesOf(value proto.Message) []byte {
	switch v := value.(type) {
	case nil:
		return nil
	case *isthmusv1.ServiceInstance:
		plain := proto.CloneOf(v)
		plain.MergedCentralConfig = false
		value = plain
	case *isthmusv1.ConfigEntry:
		if v.GetServiceDefaults().GetUpstreamDefaults().GetMeshGateway() != nil {
			plain := proto.CloneOf(v)
			plain.GetServiceDefaults().GetUpstreamDefaults().MeshGateway = nil
			value = plain
		}
	}
	text, err := isthmusv1.Marshal(value)
	if err != nil {
		return nil // What came out of a message goes into one.
	}
	return text
}

// behind is of which catalogs the routes are not the newest, having had time to
// become so.
func behind(ctx context.Context, o Options, routes string, have map[string]bool) []string {
	var late []string
	settle(ctx, o.Settle, func() bool {
		late = nil
		r, err := readStream(ctx, o.Log, routes)
		if err != nil {
			late = []string{fmt.Sprintf("%s cannot be read: %v", routes, err)}
			return false
		}
		for _, stream := range slices.Sorted(maps.Keys(have)) {
			if class, _, _ := isthmusv1.ParseStreamName(stream); class != isthmusv1.ClassCatalog {
				continue
			}
			c, err := readStream(ctx, o.Log, stream)
			if err != nil {
				continue // Its own findings say so.
			}
			switch at := r.basis.At(stream); {
			case at == nil:
				late = append(late, fmt.Sprintf("%s is at #%d, the routes know nothing of it", stream, c.sequence))
			case at.GetSequence() < c.sequence:
				late = append(late, fmt.Sprintf("%s is at #%d, the routes are those of #%d", stream, c.sequence, at.GetSequence()))
			}
		}
		return len(late) == 0
	})
	return late
}

// compare is which values of the log stay different from what Consul says.
func compare(ctx context.Context, o Options, dc string, client *consul.Client, controlled bool) ([]string, error) {
	stream := isthmusv1.StreamName(isthmusv1.ClassCatalog, dc)
	var (
		problem error
		stayed  map[isthmusv1.Key][]byte
	)
	settle(ctx, o.Settle, func() bool {
		var fresh map[isthmusv1.Key][]byte
		if fresh, problem = readFresh(ctx, client, controlled); problem != nil {
			return true
		}
		log, err := readStream(ctx, o.Log, stream)
		if err != nil {
			problem = err
			return true
		}
		differing := map[isthmusv1.Key][]byte{}
		for key, value := range fresh {
			if held, ok := log.values[key]; !ok || !bytes.Equal(held, value) {
				differing[key] = value
			}
		}
		for key := range log.values {
			if _, ok := fresh[key]; !ok && compared(key.Kind) {
				differing[key] = nil
			}
		}
		// What changes at each look is on its way.
		maps.DeleteFunc(differing, func(key isthmusv1.Key, value []byte) bool {
			before, ok := stayed[key]
			return stayed != nil && (!ok || !bytes.Equal(before, value))
		})
		stayed = differing
		return len(stayed) == 0
	})
	if problem != nil {
		return nil, problem
	}
	var keys []isthmusv1.Key
	for key := range stayed {
		keys = append(keys, key)
	}
	isthmusv1.SortKeys(keys)
	var out []string
	for _, key := range keys {
		out = append(out, key.String())
	}
	return out, nil
}

// compared reports whether values of a kind are compared with Consul: those that
// an index says the age of.
func compared(kind isthmusv1.Kind) bool {
	switch kind {
	case isthmusv1.KindNode, isthmusv1.KindInstance, isthmusv1.KindConfig, isthmusv1.KindRoots:
		return true
	}
	return false
}

// errHidden says that a comparison would take what is hidden for gone.
var errHidden = errors.New("a part of the catalog may be hidden from this token")

// readFresh reads what Consul says now.
func readFresh(ctx context.Context, client *consul.Client, controlled bool) (map[isthmusv1.Key][]byte, error) {
	c := readCatalog(ctx, client, "", controlled)
	switch {
	case c.Err != nil:
		return nil, c.Err
	case c.Partial != "":
		return nil, errHidden
	}
	out := map[isthmusv1.Key][]byte{}
	for _, n := range c.Nodes {
		out[isthmusv1.NodeKey(n.Node.GetPartition(), n.Node.GetName())] = bytesOf(n.Node)
		for _, i := range n.Instances {
			out[isthmusv1.InstanceKey(i.GetPartition(), i.GetNode(), i.GetNamespace(), i.GetId())] = bytesOf(i)
		}
	}
	for _, e := range c.Entries {
		out[isthmusv1.ConfigKey(e.GetKind(), e.GetPartition(), e.GetNamespace(), e.GetName())] = bytesOf(e)
	}
	if roots, _, err := client.Roots(ctx, consul.Query{}); err == nil {
		out[isthmusv1.RootsKey()] = bytesOf(roots)
	}
	return out, nil
}

// settle looks until look is content, or the time is over.
func settle(ctx context.Context, limit time.Duration, look func() bool) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	for !look() {
		timer := time.NewTimer(lookAgain)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return
		}
	}
}

// within bounds one question.
func within[T any](ctx context.Context, ask func(context.Context) (T, error)) (T, error) {
	ctx, cancel := context.WithTimeout(ctx, answerWithin)
	defer cancel()
	return ask(ctx)
}
