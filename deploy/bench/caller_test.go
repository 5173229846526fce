package main

import (
	"context"
	"errors"
	"io"
	"net"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// The load counts what it did: connections and requests with their answer, bytes
// that the backend has seen. Here nothing is between the two.
func TestLoadWithoutProxy(t *testing.T) {
	b := testBackend(t)
	e := &entrant{name: direct, address: b.address().String()}
	for _, measure := range []func(*entrant, context.Context, *backend, time.Duration) error{(*entrant).saturate, (*entrant).moderate, (*entrant).converse, (*entrant).squeeze, (*entrant).pour} {
		if err := measure(e, t.Context(), b, 50*time.Millisecond); err != nil {
			t.Fatal(err)
		}
	}
	if b.bytes.Load() < bulkStreams*bulkWrite {
		t.Errorf("bulk: %d bytes", b.bytes.Load())
	}
	for _, f := range []figure{perSecond, load, busy, bulk, openP50, newP50, besideP50, fullP50} {
		if values := e.rounds[f]; len(values) != 1 || values[0] <= 0 {
			t.Errorf("%s: %v", f, values)
		}
	}
	if e.failed != 0 || e.answered == 0 || len(e.rounds[cpu])+len(e.rounds[cpuAtRate])+len(e.rounds[cpuBulk]) != 0 {
		t.Errorf("a proxy's processor time, or failures: %+v", e)
	}
}

func testBackend(t *testing.T) *backend {
	t.Helper()
	b, err := startBackend()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.stop)
	return b
}

// The backend waits for the whole ClientHello, answers requests with themselves and
// only counts the rest.
func TestBackend(t *testing.T) {
	b := testBackend(t)
	for _, c := range []struct{ said, want string }{
		{string(request), "ok" + string(request)},
		{string(request) + string(request), "ok" + string(request) + string(request)},
	} {
		conn, err := net.Dial("tcp", b.address().String())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		_ = conn.SetDeadline(time.Now().Add(patience))
		for _, part := range []string{string(hello[:1]), string(hello[1:]), c.said} {
			if _, err := io.WriteString(conn, part); err != nil {
				t.Fatal(err)
			}
		}
		got := make([]byte, len(c.want))
		if _, err := io.ReadFull(conn, got); err != nil || string(got) != c.want {
			t.Errorf("answered %q, %v; want %q", got, err, c.want)
		}
	}
	if n := b.bytes.Load(); n != 0 {
		t.Errorf("%d bytes of requests were counted as bulk", n)
	}
}

// A call is timed from when it should have begun: a proxy that keeps callers waiting
// does not get fewer calls, and so a better time, for it.
func TestLateCallsAreTimedFromWhenTheyWereDue(t *testing.T) {
	b := testBackend(t)
	for name, s := range map[string]shape{"connections": {connections: 1, rate: 10}, "requests": {connections: 1, rate: 10, requests: true}} {
		t.Run(name, func(t *testing.T) {
			c, err := newCaller(b.address().String(), s)
			if err != nil {
				t.Fatal(err)
			}
			defer c.close()
			if err := c.prepare(t.Context()); err != nil {
				t.Fatal(err)
			}
			late := time.Now().Add(-time.Hour)
			c.begin, c.end, c.due = late, late, []time.Time{late, late.Add(time.Minute)}
			if err := c.until(t.Context(), func() bool { return len(c.took) == 2 }); err != nil {
				t.Fatal(err)
			}
			if c.took[0] < time.Hour || c.took[1] < 59*time.Minute || c.took[1] >= c.took[0] {
				t.Errorf("took %s", c.took)
			}
		})
	}
}

// As many calls are due as the rate says, each at its time, however late the tick.
func TestTicks(t *testing.T) {
	timer, err := metronome(1_000_000)
	if err != nil {
		t.Fatal(err)
	}
	begin := time.Now()
	c := &caller{shape: shape{rate: 1_000_000}, timer: timer, begin: begin, end: begin.Add(5 * time.Microsecond)}
	defer func() { _ = unix.Close(timer) }()
	for c.ticks < 10 {
		if err := c.tick(); err != nil && !errors.Is(err, unix.EAGAIN) {
			t.Fatal(err)
		}
	}
	if len(c.due) != 4 {
		t.Fatalf("%d calls are due in five microseconds; want 4: none at the end", len(c.due))
	}
	for i, at := range c.due {
		if want := begin.Add(time.Duration(i+1) * time.Microsecond); !at.Equal(want) {
			t.Errorf("call %d is due %s after the begin", i, at.Sub(begin))
		}
	}
}

// The threads share the connections, and none is lost. What comes at a rate has one
// thread.
func TestShares(t *testing.T) {
	for _, c := range []struct {
		shape   shape
		threads int
		want    []int
	}{
		{shape{connections: 32}, 2, []int{16, 16}},
		{shape{connections: 32}, 3, []int{10, 11, 11}},
		{shape{connections: 2}, 64, []int{1, 1}},
		{shape{connections: 64, rate: 500}, 2, []int{64}},
		{shape{connections: 4, rate: 500, requests: true}, 2, []int{4}},
	} {
		var got []int
		for _, share := range c.shape.shares(c.threads) {
			got = append(got, share.connections)
			if share.rate != c.shape.rate || share.requests != c.shape.requests {
				t.Errorf("%+v is no share of %+v", share, c.shape)
			}
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%+v for %d threads: %v; want %v", c.shape, c.threads, got, c.want)
		}
	}
}

// What several threads found is one result: its quantiles are those of all calls.
func TestTogether(t *testing.T) {
	quick := &caller{took: []time.Duration{3, 1, 2}}
	slow := &caller{took: []time.Duration{200, 100}, failed: 7, failure: errUnanswered}
	got, err := together([]*caller{quick, slow, {}}, 2*time.Second)
	want := callResult{perSecond: 2.5, p50: 3, p99: 200, count: 5, failed: 7, failure: errUnanswered}
	if err != nil || got != want {
		t.Errorf("got %+v, %v; want %+v", got, err, want)
	}
	if _, err := together([]*caller{{failed: 7, failure: errUnanswered}}, time.Second); !errors.Is(err, errUnanswered) {
		t.Errorf("error %v when nobody was answered", err)
	}
}

// Who waits for ever takes no processor time meanwhile: nothing comes back before
// something has happened.
func TestPollerWaits(t *testing.T) {
	p, err := newPoller()
	if err != nil {
		t.Fatal(err)
	}
	defer p.close()
	if events, err := p.wait(0); err != nil || len(events) != 0 {
		t.Errorf("%d events at once, %v", len(events), err)
	}
	timer, err := metronome(100)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = unix.Close(timer) }()
	if err := p.add(timer, unix.EPOLLIN, 7); err != nil {
		t.Fatal(err)
	}
	if events, err := p.wait(forever); err != nil || len(events) != 1 || events[0].Fd != 7 {
		t.Errorf("%v after a wait, %v", events, err)
	}
}

// A proxy that is not there ends the measurement, and is not a slow proxy.
func TestLoadWithoutBackend(t *testing.T) {
	address, err := freePort()
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range []shape{saturation, moderation, conversation} {
		if _, err := measureCalls(t.Context(), address.String(), s, time.Hour); !errors.Is(err, unix.ECONNREFUSED) {
			t.Errorf("error %v of calls to nobody", err)
		}
	}
}

// Failed connections are counted beside those that got their answer, and are an
// error at the end.
func TestFailuresAreCounted(t *testing.T) {
	address := serve(t, refuseEverySecond)
	result, err := measureCalls(t.Context(), address, saturation, time.Hour)
	if err != nil || result.failed < mostFailures || result.failed >= runtime.NumCPU()*mostFailures+saturation.connections || result.count == 0 || result.failure == nil {
		t.Errorf("%d answered, %d failed (%v): %v", result.count, result.failed, result.failure, err)
	}
	e := &entrant{name: "half", failed: result.failed, failure: result.failure}
	if err := failures([]*entrant{{name: "whole"}, e}); err == nil || !strings.Contains(err.Error(), "half: ") || strings.Contains(err.Error(), "whole") {
		t.Errorf("error %v", err)
	}
}

// So are requests on connections that break; they are opened anew.
func TestBrokenConversationsAreCounted(t *testing.T) {
	address := serve(t, func(conn net.Conn, _ int) {
		_, _ = io.ReadFull(conn, make([]byte, helloLength))
		_, _ = conn.Write(answer)
		_, _ = io.CopyN(conn, conn, requestLength)
		_, _ = io.ReadFull(conn, make([]byte, requestLength))
	})
	s := shape{connections: 1, rate: 10_000, requests: true}
	result, err := measureCalls(t.Context(), address, s, time.Hour)
	if err != nil || result.count == 0 || result.failed < mostFailures {
		t.Errorf("%d answered, %d failed (%v): %v", result.count, result.failed, result.failure, err)
	}
}

// A call that a silent proxy never answers fails in the end, and its connection is
// closed.
func TestPatienceEnds(t *testing.T) {
	left := make(chan error, 1)
	address := serve(t, func(conn net.Conn, _ int) {
		_, err := io.Copy(io.Discard, conn)
		left <- err
	})
	c, err := newCaller(address, shape{connections: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer c.close()
	c.open(c.take(), time.Now())
	if c.losePatience(); c.failed != 0 || c.busy != 1 {
		t.Fatalf("patience was lost at once: %v", c.failure)
	}
	c.calls[0].opened, c.looked = time.Now().Add(-2*patience), time.Time{}
	if c.losePatience(); c.failed != 1 || !errors.Is(c.failure, errUnanswered) || c.busy != 0 || len(c.free) != 1 {
		t.Errorf("%d failed, %v; %d busy", c.failed, c.failure, c.busy)
	}
	if err := <-left; !errors.Is(err, unix.ECONNRESET) {
		t.Errorf("the proxy's side ended so: %v", err)
	}
}

// serve runs a proxy that serves one connection after the other, and closes each.
func serve(t *testing.T, one func(conn net.Conn, i int)) (address string) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan struct{})
	go func() {
		defer close(served)
		for i := 0; ; i++ {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			_ = conn.SetDeadline(time.Now().Add(patience))
			one(conn, i)
			_ = conn.Close()
		}
	}()
	t.Cleanup(func() {
		listener.Close()
		<-served
	})
	return listener.Addr().String()
}

// refuseEverySecond is a proxy that closes every second connection unanswered.
func refuseEverySecond(conn net.Conn, i int) {
	if i%2 == 0 {
		_, _ = io.ReadFull(conn, make([]byte, helloLength))
		_, _ = conn.Write(answer)
	}
}

// Nothing of a run that was called off is reported as measured.
func TestCalledOff(t *testing.T) {
	b := testBackend(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for _, s := range []shape{saturation, moderation, conversation} {
		if _, err := measureCalls(ctx, b.address().String(), s, time.Hour); !errors.Is(err, context.Canceled) {
			t.Errorf("error %v", err)
		}
	}
}
