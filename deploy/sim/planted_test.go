package sim_test

import (
	"iter"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/isthmus-mesh/isthmus/deploy/sim"
	isthmusv1 "github.com/isthmus-mesh/isthmus/proto/isthmus/v1"
	"github.com/isthmus-mesh/isthmus/services/resolver"
)

// forgetful is a resolver that does not hear of what is gone.
type forgetful struct{ *resolver.Machine }

func (f forgetful) Apply(t *isthmusv1.Transaction) {
	deaf := *t
	deaf.Changes = nil
	for _, c := range t.Changes {
		if !c.Tombstone {
			deaf.Changes = append(deaf.Changes, c)
		}
	}
	f.Machine.Apply(&deaf)
}

// blind is a resolver whose whole output lacks the endpoints.
type blind struct{ *resolver.Machine }

func (b blind) All() iter.Seq2[isthmusv1.Key, proto.Message] {
	return func(yield func(isthmusv1.Key, proto.Message) bool) {
		for key, value := range b.Machine.All() {
			if key.Kind != isthmusv1.KindEndpoint && !yield(key, value) {
				return
			}
		}
	}
}

// A resolver that is wrong is found, and the script that shows it is made short.
func TestAWrongResolverIsFound(t *testing.T) {
	for name, machine := range map[string]func() sim.Machine{
		"it does not hear of what is gone": func() sim.Machine { return forgetful{resolver.New("dc1")} },
		"a new turn leaves out endpoints":  func() sim.Machine { return blind{resolver.New("dc1")} },
	} {
		t.Run(name, func(t *testing.T) {
			simulate := func(s sim.Script) error {
				_, err := run(t, s, sim.Options{Machine: machine})
				return err
			}
			for seed := uint64(1); seed <= 20; seed++ {
				script := sim.Generate(seed)
				err := simulate(script)
				if err == nil {
					continue
				}
				if !strings.Contains(err.Error(), "routes") {
					t.Errorf("seed %d: the routes are wrong, it says %v", seed, err)
				}
				short, shortErr := sim.Shrink(script, err, simulate)
				if shortErr == nil || len(short.Steps) >= len(script.Steps) {
					t.Errorf("%d of %d steps are left: %v\n%s", len(short.Steps), len(script.Steps), shortErr, short)
				}
				return
			}
			t.Error("20 seeds did not find it")
		})
	}
}
