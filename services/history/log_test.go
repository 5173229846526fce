package history_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/isthmus-mesh/isthmus/bus"
	isthmusv1 "github.com/isthmus-mesh/isthmus/proto/isthmus/v1"
	"github.com/isthmus-mesh/isthmus/services/history"
)

// lines tells a log to its end.
func lines(t testing.TB, options history.LogOptions) []string {
	t.Helper()
	var out []string
	if err := history.Log(t.Context(), options, func(e history.Event) error {
		out = append(out, e.String())
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	return out
}

func TestLogTellsEventsAsSentences(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 0)
		defer w.stop()
		w.write("dc1", dc1Files)
		time.Sleep(time.Minute)
		w.write("dc2", dc2Files)
		time.Sleep(time.Minute)
		w.write("dc1", with(dc1Files, "proxy-defaults.hcl", proxyDefaults("remote")))
		time.Sleep(time.Minute)
		w.write("dc2", with(dc2Files, "agent.hcl", `node_name = "dc2-1"`+"\n"+`advertise_addr = "10.2.0.9"`, "api.hcl", ""))
		time.Sleep(time.Minute)
		w.write("dc1", with(dc1Files, "proxy-defaults.hcl", "", "web-defaults.hcl",
			"Kind = \"service-defaults\"\nName = \"web\"\nUpstreamConfig { Overrides = [{ Name = \"api\" MeshGateway { Mode = \"none\" } }] }"))
		golden(t, "testdata/log.golden", strings.Join(lines(t, history.LogOptions{Log: w.log}), "\n")+"\n")
	})
}

func TestLogKeepsEachStreamsOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 0)
		defer w.stop()
		for i := range 5 {
			w.write("dc1", with(dc1Files, "proxy-defaults.hcl", proxyDefaults([]string{"local", "remote"}[i%2])))
			w.write("dc2", with(dc2Files, "proxy-defaults.hcl", proxyDefaults([]string{"local", "none"}[i%2])))
			time.Sleep(time.Second)
		}
		last := map[string]uint64{}
		var before time.Time
		err := history.Log(t.Context(), history.LogOptions{Log: w.log, Repeats: true}, func(e history.Event) error {
			if e.Sequence != last[e.Stream]+1 {
				t.Errorf("%s: #%d after #%d", e.Stream, e.Sequence, last[e.Stream])
			}
			if e.Time.Before(before) {
				t.Errorf("%s #%d is told after what came later", e.Stream, e.Sequence)
			}
			last[e.Stream], before = e.Sequence, e.Time
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		for _, stream := range []string{"CATALOG_dc1", "CATALOG_dc2"} {
			if state, _ := w.log.State(t.Context(), stream); last[stream] != state.Last {
				t.Errorf("%s was told to %d of %d", stream, last[stream], state.Last)
			}
		}
	})
}

func TestLogFromKnowsWhatWasBefore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 0)
		defer w.stop()
		w.write("dc1", dc1Files)
		position := w.write("dc1", with(dc1Files, "proxy-defaults.hcl", proxyDefaults("none")))
		got := lines(t, history.LogOptions{Log: w.log, Streams: []string{"CATALOG_dc1"}, From: position.GetSequence()})
		if len(got) != 1 || !strings.Contains(got[0], "mesh gateway mode local → none (proxy-defaults.hcl:1)") {
			t.Errorf("got %q", got)
		}
	})
}

func TestLogAfterEvictionDoesNotClaimToKnow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 300)
		defer w.stop()
		for i := range 400 {
			w.write("dc1", with(dc1Files, "proxy-defaults.hcl", proxyDefaults([]string{"local", "remote"}[i%2])))
		}
		var repeated, seen int
		err := history.Log(t.Context(), history.LogOptions{Log: w.log, Streams: []string{"CATALOG_dc1"}, Repeats: true}, func(e history.Event) error {
			switch e.Change {
			case history.ChangeRepeated:
				if e.Origin >= e.Sequence || !strings.Contains(e.Text, fmt.Sprintf("as it was said in #%d", e.Origin)) {
					t.Errorf("%+v", e)
				}
				repeated++
			case history.ChangeSeen:
				seen++
			case history.ChangeAdded:
				t.Errorf("%s: whether it was there before has left the log", e)
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		if repeated == 0 || seen == 0 {
			t.Errorf("%d keyframes, %d first sights: the test sees no eviction", repeated, seen)
		}
		for _, line := range lines(t, history.LogOptions{Log: w.log, Streams: []string{"CATALOG_dc1"}}) {
			if strings.Contains(line, "repeated") {
				t.Errorf("a keyframe is told without being asked for: %s", line)
			}
		}
	})
}

// following is a log that is told while it grows.
type following struct {
	events chan history.Event
	stop   context.CancelFunc
	ended  chan error
}

func follow(t *testing.T, options history.LogOptions) *following {
	ctx, stop := context.WithCancel(t.Context())
	f := &following{events: make(chan history.Event, 1000), stop: stop, ended: make(chan error, 1)}
	options.Follow = true
	go func() {
		f.ended <- history.Log(ctx, options, func(e history.Event) error {
			f.events <- e
			return nil
		})
	}()
	return f
}

// drain returns what has been told.
func (f *following) drain() (texts []string) {
	synctest.Wait()
	for {
		select {
		case e := <-f.events:
			texts = append(texts, fmt.Sprintf("#%d %s", e.Sequence, e.Text))
		default:
			return texts
		}
	}
}

func (f *following) end(t *testing.T) {
	t.Helper()
	f.stop()
	if err := <-f.ended; !errors.Is(err, context.Canceled) {
		t.Errorf("ended with %v", err)
	}
}

func TestLogFollows(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 0)
		defer w.stop()
		w.write("dc1", dc1Files)
		f := follow(t, history.LogOptions{Log: w.log, Streams: []string{"CATALOG_dc1"}})
		state, _ := w.log.State(t.Context(), "CATALOG_dc1")
		if got := f.drain(); uint64(len(got)) != state.Last {
			t.Errorf("%d events of history, want %d", len(got), state.Last)
		}
		p := w.write("dc1", with(dc1Files, "proxy-defaults.hcl", proxyDefaults("remote")))
		want := fmt.Sprintf("#%d proxy-defaults/global changed: mesh gateway mode local → remote (proxy-defaults.hcl:1)", p.GetSequence())
		if got := f.drain(); len(got) != 1 || got[0] != want {
			t.Errorf("got %q, want %q", got, want)
		}

		t.Log("a lost consumer loses no event, not even one that is superseded already")
		w.log.ResetConsumers("CATALOG_dc1")
		w.write("dc1", with(dc1Files, "proxy-defaults.hcl", proxyDefaults("none")))
		w.write("dc1", with(dc1Files, "proxy-defaults.hcl", proxyDefaults("local")))
		time.Sleep(10 * time.Second)
		got := strings.Join(f.drain(), "\n")
		for _, part := range []string{"remote → none", "none → local"} {
			if strings.Count(got, part) != 1 {
				t.Errorf("%q is not told once:\n%s", part, got)
			}
		}
		f.end(t)
	})
}

func TestLogEndsWithItsStream(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 0)
		w.write("dc1", dc1Files)
		w.stop() // A writer would make the stream again.
		f := follow(t, history.LogOptions{Log: w.log, Streams: []string{"CATALOG_dc1"}})
		f.drain()
		w.log.Delete("CATALOG_dc1")
		time.Sleep(time.Minute)
		synctest.Wait()
		select {
		case err := <-f.ended:
			if !errors.Is(err, bus.ErrNoStream) {
				t.Errorf("ended with %v", err)
			}
		default:
			t.Error("it goes on without a stream")
			f.end(t)
		}
		f.stop()
	})
}

func TestLogTellsAStreamThatIsMadeAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 0)
		defer w.stop()
		w.write("dc1", dc1Files)
		old, _ := w.log.State(t.Context(), "CATALOG_dc1")
		f := follow(t, history.LogOptions{Log: w.log, Streams: []string{"CATALOG_dc1"}})
		f.drain()
		w.log.Delete("CATALOG_dc1")
		synctest.Wait() // The follower sees that it is gone.
		if _, err := w.log.Create(t.Context(), bus.StreamConfig{Name: "CATALOG_dc1"}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute) // Its writer takes the new stream over.
		got := f.drain()
		state, _ := w.log.State(t.Context(), "CATALOG_dc1")
		if state.Incarnation == old.Incarnation || state.Last == 0 {
			t.Fatalf("the stream was not made again: %+v", state)
		}
		if len(got) == 0 || !strings.HasPrefix(got[0], "#1 ") {
			t.Errorf("told %q, want the new stream from its first message", got)
		}
		f.end(t)
	})
}

func TestLogEndsWithItsTeller(t *testing.T) {
	errEnough := errors.New("enough")
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 0)
		defer w.stop()
		w.write("dc1", dc1Files)
		for _, follow := range []bool{false, true} {
			told := 0
			err := history.Log(t.Context(), history.LogOptions{Log: w.log, Streams: []string{"CATALOG_dc1"}, Follow: follow}, func(history.Event) error {
				if told++; told == 3 {
					return errEnough
				}
				return nil
			})
			if !errors.Is(err, errEnough) || told != 3 {
				t.Errorf("follow %v: %v after %d", follow, err, told)
			}
		}
	})
}

func TestLogWithoutAStream(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 0)
		defer w.stop()
		err := history.Log(t.Context(), history.LogOptions{Log: w.log, Streams: []string{"CATALOG_dc9"}}, func(history.Event) error { return nil })
		if !errors.Is(err, bus.ErrNoStream) {
			t.Errorf("error %v", err)
		}
		if _, err := history.Streams(t.Context(), w.log, isthmusv1.ClassStatus); !errors.Is(err, bus.ErrNoStream) {
			t.Errorf("error %v", err)
		}
		streams, err := history.Streams(t.Context(), w.log, isthmusv1.ClassCatalog)
		if err != nil || !slices.Equal(streams, []string{"CATALOG_dc1", "CATALOG_dc2"}) {
			t.Errorf("%v, %v", streams, err)
		}
	})
}

func TestEventSaysWhereAChangeWasSeen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 0)
		defer w.stop()
		put := bus.Put{
			Key: isthmusv1.NodeKey("", "n1"), Value: &isthmusv1.Node{Name: "n1", Address: "10.0.0.1"},
			Source: &isthmusv1.Source{Query: "nodes", IndexAfter: 40, IndexAt: 42},
		}
		if _, err := w.writers["CATALOG_dc1"].Write(t.Context(), bus.Difference{
			Puts: []bus.Put{put}, SourceHeads: []*isthmusv1.SourceHead{{Query: "nodes", Index: 42}}, Complete: true,
		}); err != nil {
			t.Fatal(err)
		}
		var last history.Event
		if err := history.Log(t.Context(), history.LogOptions{Log: w.log, Streams: []string{"CATALOG_dc1"}}, func(e history.Event) error {
			last = e
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		if last.ConsulIndex != 42 || last.ConsulIndexAfter != 40 || last.Kind != "node" || last.Key != "n1" || last.Datacenter != "dc1" || !last.Last {
			t.Errorf("%+v", last)
		}
		if last.Text != "node n1 added: 10.0.0.1 (Consul index 42)" {
			t.Errorf("text %q", last.Text)
		}
	})
}
