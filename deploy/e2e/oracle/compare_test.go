package oracle_test

import (
	"context"
	"fmt"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/isthmus-mesh/isthmus/services/consul/devagent"
	"github.com/isthmus-mesh/isthmus/xdsnode/client"
)

// open follows what Consul serves to a proxy until the test ends.
func open(t *testing.T, agent *devagent.Agent, node, id string) *client.Client {
	t.Helper()
	return opened(t, client.Config{Address: agent.GRPC, ID: id, Node: node, Token: agent.Token})
}

// opened runs a client until the test ends.
func opened(t *testing.T, config client.Config) *client.Client {
	t.Helper()
	c := client.New(config)
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = c.Run(ctx) // Whoever looks at it is told.
	}()
	t.Cleanup(func() {
		stop()
		<-done
	})
	return c
}

// comparison is one proxy of dc1, seen from both sides.
type comparison struct {
	proxy instance
	// want is what both are to come to, as [view.String] says it.
	want string
	// mode that we are to decide for the first target; empty: whichever.
	mode string
	gateways
	// differs names the intended difference, if there is one, and apply makes ours
	// out of what Consul says, with the problems that we state.
	differs string
	apply   func(their view) view
	// more is what our side has to meet besides; nil: nothing.
	more func(s *state) string
}

// compare waits until both sides say the same, and what is wanted.
func (w *world) compare(t *testing.T, c comparison) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	node := c.proxy.node
	if node == "" {
		node = c.proxy.agent.Node
	}
	consul := open(t, c.proxy.agent, c.proxy.node, c.proxy.id)
	if c.differs != "" && !slices.Contains(differences, c.differs) {
		t.Fatalf("%q is not listed as an intended difference", c.differs)
	}
	for {
		snapshot, theirsChanged := consul.Changed()
		their := c.their(snapshot)
		var our view
		var wrong string
		ourChanged := w.routes.look(func() {
			our, _ = w.routes.our(node, c.proxy.id)
			if c.more != nil {
				wrong = c.more(w.routes)
			}
		})
		if snapshot.Answered() && len(snapshot.Clusters) > 0 && (c.apply != nil || snapshot.Complete()) && wrong == "" {
			wrong = c.judge(our, their)
		} else if wrong == "" {
			wrong = fmt.Sprintf("Consul has not sent all: %+v", snapshot)
		}
		if wrong == "" {
			w.met.Store(c.differs, true)
			return
		}
		select {
		case <-theirsChanged:
		case <-ourChanged:
		case <-ctx.Done():
			_, err := consul.Await(t.Context(), func(s *client.Snapshot) bool { return s == snapshot })
			t.Fatalf("both sides do not come to one: %s\nConsul: %v %v\nours:   %v", wrong, their, err, our)
		}
	}
}

// judge says what is wrong; empty: nothing is.
func (c comparison) judge(our, their view) string {
	for i, place := range their {
		for j := range place {
			// Consul says the mode only of some.
			if i < len(our) && j < len(our[i]) && place[j].Mode == "" {
				place[j].Mode = our[i][j].Mode
			}
		}
	}
	if c.mode != "" && (len(our) == 0 || our[0][0].Mode != c.mode) {
		return fmt.Sprintf("we decide another mode than %s", c.mode)
	}
	if got := our.String(); got != c.want {
		return fmt.Sprintf("we come to %q, and not to %q", got, c.want)
	}
	if c.apply == nil {
		return cmp.Diff(their, our, cmpopts.EquateEmpty(), cmpopts.IgnoreFields(target{}, "Problems"))
	}
	if cmp.Equal(their, our, cmpopts.EquateEmpty()) {
		return "both sides say the same, though they are to differ"
	}
	return cmp.Diff(c.apply(their).sort(), our, cmpopts.EquateEmpty())
}
