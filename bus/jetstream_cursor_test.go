package bus

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/isthmus-mesh/isthmus/bus/embed"
	isthmusv1 "github.com/isthmus-mesh/isthmus/proto/isthmus/v1"
)

const cursorStream = "CATALOG_dc1"

// cursorLog is a stream of a few messages on a real server: k0, k1, … k<n-1>.
func cursorLog(t *testing.T, n int, config StreamConfig) (*JetStream, StreamState) {
	t.Helper()
	s, err := embed.Start(embed.Options{StoreDir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Stop)
	j, err := Connect(s.URL(), Options{Timeout: 15 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(j.Close)
	config.Name = cursorStream
	if _, err := j.Create(t.Context(), config); err != nil {
		t.Fatal(err)
	}
	fill(t, j, 0, n)
	state, err := j.State(t.Context(), cursorStream)
	if err != nil {
		t.Fatal(err)
	}
	return j, state
}

// fill appends n messages after the sequence.
func fill(t *testing.T, j *JetStream, after, n int) {
	t.Helper()
	for i := range n {
		m := Message{Key: isthmusv1.NodeKey("", fmt.Sprint("k", after+i)), Record: []byte("x")}
		if _, err := j.Append(t.Context(), cursorStream, uint64(after+i), []Message{m}); err != nil {
			t.Fatal(err)
		}
	}
}

// loseConsumers takes all consumers from their readers.
func loseConsumers(t *testing.T, j *JetStream) {
	t.Helper()
	s, err := j.js.Stream(t.Context(), cursorStream)
	if err != nil {
		t.Fatal(err)
	}
	names := s.ConsumerNames(t.Context())
	for name := range names.Name() {
		if err := s.DeleteConsumer(t.Context(), name); err != nil {
			t.Fatal(err)
		}
	}
	if names.Err() != nil {
		t.Fatal(names.Err())
	}
}

// A lost consumer is replaced without a new start: each message comes once.
func TestAFollowingOutlivesItsConsumer(t *testing.T) {
	j, _ := cursorLog(t, 3, StreamConfig{})
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	came, ended := make(chan uint64), make(chan error, 1)
	starts := 0
	go func() {
		ended <- j.Follow(ctx, cursorStream, func(d Delivery) error {
			if d.Start != nil {
				starts++
				return nil
			}
			select {
			case came <- d.Message.Sequence:
			case <-ctx.Done():
			}
			return nil
		})
	}()
	for want := uint64(1); want <= 12; want++ {
		select {
		case got := <-came:
			if got != want {
				t.Fatalf("%d came, want %d", got, want)
			}
		case err := <-ended:
			t.Fatalf("it ended before %d: %v", want, err)
		}
		if want%3 == 0 && want < 12 {
			loseConsumers(t, j)
			fill(t, j, int(want), 3)
		}
	}
	stop()
	if err := <-ended; !errors.Is(err, context.Canceled) || starts != 1 {
		t.Errorf("%d starts, %v", starts, err)
	}
}

// What a new consumer may not go on with is said.
func TestALostConsumerIsNotReplacedWhere(t *testing.T) {
	for _, test := range []struct {
		name string
		next uint64
		make func(*testing.T, *JetStream)
		want error
	}{
		{"nothing was received yet", 0, func(*testing.T, *JetStream) {}, ErrReset},
		{"what would follow has left", 3, func(t *testing.T, j *JetStream) { fill(t, j, 5, 20) }, ErrGap},
		{"the stream ends before what was read", 9, func(*testing.T, *JetStream) {}, ErrReplaced},
		{"the stream is gone", 3, func(t *testing.T, j *JetStream) {
			if err := j.Delete(t.Context(), cursorStream); err != nil {
				t.Fatal(err)
			}
		}, ErrNoStream},
		{"the stream is another one", 3, func(t *testing.T, j *JetStream) {
			if err := j.Delete(t.Context(), cursorStream); err != nil {
				t.Fatal(err)
			}
			if _, err := j.Create(t.Context(), StreamConfig{Name: cursorStream}); err != nil {
				t.Fatal(err)
			}
			fill(t, j, 0, 5)
		}, ErrReplaced},
	} {
		t.Run(test.name, func(t *testing.T) {
			j, start := cursorLog(t, 5, StreamConfig{MaxMessages: 10})
			test.make(t, j)
			c := &cursor{j: j, stream: cursorStream, next: test.next}
			defer func() { c.close(t.Context()) }()
			if err := c.replace(t.Context(), start); !errors.Is(err, test.want) {
				t.Errorf("got %v, want %v", err, test.want)
			}
		})
	}
}

// A bootstrap is the last message of each key, of the whole stream, and its end
// is asked of the leader when the consumer is there: asked before, the message
// that it names could be superseded and never come.
func TestABootstrapAsksForItsEndAfterItsConsumer(t *testing.T) {
	j, _ := cursorLog(t, 3, StreamConfig{})
	asked := make(chan *nats.Msg, 64)
	spy, err := j.nc.ChanSubscribe("$JS.API.>", asked)
	if err != nil {
		t.Fatal(err)
	}
	enough := errors.New("enough")
	if err := j.Follow(t.Context(), cursorStream, func(d Delivery) error {
		if d.Start != nil {
			return nil
		}
		return enough
	}); !errors.Is(err, enough) {
		t.Fatal(err)
	}
	// All that was asked has been copied to the spy when this is answered.
	if err := errors.Join(j.nc.Flush(), spy.Unsubscribe()); err != nil {
		t.Fatal(err)
	}
	create, info := -1, -1
	for i := range len(asked) {
		m := <-asked
		switch {
		case strings.HasPrefix(m.Subject, "$JS.API.CONSUMER.CREATE."+cursorStream+"."):
			var request struct {
				Config jetstream.ConsumerConfig `json:"config"`
			}
			if err := json.Unmarshal(m.Data, &request); err != nil {
				t.Fatal(err)
			}
			if p := request.Config.DeliverPolicy; p != jetstream.DeliverLastPerSubjectPolicy {
				t.Errorf("policy %s", p)
			}
			if f := request.Config.FilterSubject; f != "isthmus.catalog.dc1.>" || len(request.Config.FilterSubjects) > 0 {
				t.Errorf("filter %q", f)
			}
			create = i
		case m.Subject == "$JS.API.STREAM.INFO."+cursorStream:
			info = i
		}
	}
	if create < 0 || info < create {
		t.Errorf("the consumer was request %d, the end %d", create, info)
	}
}

// Nothing but the number of messages empties a stream of truth, nobody may take
// a message out, and batches are whole.
func TestAStreamOfTruthIsKept(t *testing.T) {
	j, _ := cursorLog(t, 1, StreamConfig{MaxMessages: 5000})
	info, err := j.info(t.Context(), cursorStream)
	if err != nil {
		t.Fatal(err)
	}
	c := info.Config
	if c.MaxAge != 0 || c.MaxBytes > 0 || c.MaxMsgsPerSubject > 0 || c.MaxMsgs != 5000 ||
		c.Retention != jetstream.LimitsPolicy || c.Discard != jetstream.DiscardOld {
		t.Errorf("limits: %+v", c)
	}
	if !c.DenyDelete || !c.DenyPurge || c.AllowRollup || c.AllowMsgTTL || !c.AllowAtomicPublish {
		t.Errorf("permissions: %+v", c)
	}
}
