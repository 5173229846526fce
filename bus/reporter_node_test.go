package bus_test

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/isthmus-mesh/isthmus/bus"
	"github.com/isthmus-mesh/isthmus/bus/memlog"
	isthmusv1 "github.com/isthmus-mesh/isthmus/proto/isthmus/v1"
)

func routesAt(sequence uint64) *isthmusv1.Position {
	return &isthmusv1.Position{Stream: "ROUTES_dc1", Incarnation: "i", Sequence: sequence}
}

func current(name string) *isthmusv1.ProxyStatus {
	status := proxy(name, "1")
	status.Current = true
	return status
}

// A change of the routes that concerns no proxy costs one report that names none,
// however many there are. Who leaves stays where he was, not where the node gets to.
func TestReporterOfANode(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := memlog.New(memlog.Options{})
		r := startReporter(t, log)
		time.Sleep(time.Second)
		r.Proxy(current("n/a"))
		r.Proxy(current("n/b"))
		r.Node(routesAt(7), &isthmusv1.Basis{})
		time.Sleep(time.Second)
		for i := range uint64(10) { // Ten changes in 100 ms.
			r.Node(routesAt(10+i), &isthmusv1.Basis{})
			synctest.Wait()
			time.Sleep(10 * time.Millisecond)
		}
		r.Node(routesAt(19), &isthmusv1.Basis{}) // no change
		time.Sleep(time.Second)
		r.Forget("n/a")
		r.Node(routesAt(30), &isthmusv1.Basis{})
		time.Sleep(time.Second)
		equal(t, "reports", reports(t, log), []string{
			"report/xds/n1 full",
			"report/xds/n1 n/a@1 current n/b@1 current node at 7",
			"report/xds/n1 node at 10",
			"report/xds/n1 node at 19",
			"report/xds/n1 n/a@1 gone at 19 node at 30",
		})
	})
}

// Of several reports of one moment the last one says how far the node is: the others
// have said by then who is not so far.
func TestReporterSaysLastHowFarTheNodeIs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := memlog.New(memlog.Options{})
		r := startReporter(t, log)
		time.Sleep(time.Second)
		for i := range 600 {
			r.Proxy(current(fmt.Sprintf("n/%04d", i)))
		}
		r.Node(routesAt(7), &isthmusv1.Basis{})
		time.Sleep(time.Second)
		var at []string
		for _, m := range history(t, log, status) {
			report := new(isthmusv1.Report)
			if err := proto.Unmarshal(m.GetValue(), report); err != nil {
				t.Fatal(err)
			}
			at = append(at, fmt.Sprint(report.GetRoutes().GetSequence()))
		}
		equal(t, "node at", at, []string{"0", "0", "7"})
	})
}

// What an earlier life has said is taken back, also when there is more to say at once
// than fits a report.
func TestReporterBeginsAnew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := memlog.New(memlog.Options{})
		r, err := bus.NewReporter(bus.ReporterConfig{Log: log, Datacenter: "dc1", Role: "xds", Name: "n1"})
		if err != nil {
			t.Fatal(err)
		}
		for i := range 600 {
			r.Proxy(current(fmt.Sprintf("n/%04d", i)))
		}
		start(t, r.Run)
		time.Sleep(90 * time.Second)
		var full []string
		for _, m := range history(t, log, status) {
			report := new(isthmusv1.Report)
			if err := proto.Unmarshal(m.GetValue(), report); err != nil {
				t.Fatal(err)
			}
			full = append(full, fmt.Sprint(report.GetFull(), " ", len(report.GetProxies())))
		}
		equal(t, "reports", full, []string{"true 0", "false 500", "false 100", "false 500", "false 100"})
	})
}

// A node that stops says so of each of its proxies.
func TestReporterEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := memlog.New(memlog.Options{})
		r, err := bus.NewReporter(bus.ReporterConfig{Log: log, Datacenter: "dc1", Role: "xds", Name: "n1"})
		if err != nil {
			t.Fatal(err)
		}
		ctx, stop := context.WithCancel(t.Context())
		ended := make(chan error)
		go func() { ended <- r.Run(ctx) }()
		r.Proxy(current("n/a"))
		r.Node(routesAt(7), &isthmusv1.Basis{})
		time.Sleep(time.Second)
		r.Node(routesAt(8), &isthmusv1.Basis{})
		stop()
		<-ended
		if err := r.End(t.Context()); err != nil {
			t.Fatal(err)
		}
		got := reports(t, log)
		if last := got[len(got)-1]; last != "report/xds/n1 n/a@1 gone at 8 node at 8" {
			t.Errorf("last: %s", last)
		}
	})
}
