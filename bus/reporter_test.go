package bus_test

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/isthmus-mesh/isthmus/bus"
	"github.com/isthmus-mesh/isthmus/bus/memlog"
	isthmusv1 "github.com/isthmus-mesh/isthmus/proto/isthmus/v1"
)

const status = "STATUS_dc1"

func startReporter(t *testing.T, log bus.Log) *bus.Reporter {
	t.Helper()
	r, err := bus.NewReporter(bus.ReporterConfig{Log: log, Datacenter: "dc1", Role: "xds", Name: "n1"})
	if err != nil {
		t.Fatal(err)
	}
	start(t, r.Run)
	synctest.Wait()
	return r
}

// reports shows what was reported: proxies with their versions.
func reports(t *testing.T, log bus.Log) []string {
	t.Helper()
	var out []string
	for _, m := range history(t, log, status) {
		report := new(isthmusv1.Report)
		if err := proto.Unmarshal(m.GetValue(), report); err != nil {
			t.Fatal(err)
		}
		line := m.Key.String()
		if report.GetFull() {
			line += " full"
		}
		for _, p := range report.GetProxies() {
			line += fmt.Sprintf(" %s@%s", p.GetProxy(), p.GetVersion())
			if p.GetLastNack() != nil {
				line += " refused"
			}
			if !p.GetConnected() {
				line += " gone"
			}
			if p.GetCurrent() {
				line += " current"
			}
			if p.GetRoutes() != nil {
				line += fmt.Sprintf(" at %d", p.GetRoutes().GetSequence())
			}
		}
		if g := report.GetGateway(); g != nil {
			line += fmt.Sprintf(" gateway:%d", g.GetConnectionsTotal())
		}
		if report.GetRoutes() != nil {
			line += fmt.Sprintf(" node at %d", report.GetRoutes().GetSequence())
		}
		out = append(out, line)
	}
	return out
}

func proxy(name, version string) *isthmusv1.ProxyStatus {
	return &isthmusv1.ProxyStatus{Proxy: name, Version: version, Connected: true}
}

func TestReporterHoldsTheNewestOfEachProxy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := memlog.New(memlog.Options{})
		r := startReporter(t, log)
		time.Sleep(time.Second)
		for i := range 20 { // 20 changes each of two proxies in 200 ms
			r.Proxy(proxy("n/b", fmt.Sprint(i)))
			r.Proxy(proxy("n/a", fmt.Sprint(i)))
			synctest.Wait()
			time.Sleep(10 * time.Millisecond)
		}
		r.Proxy(proxy("n/a", "19")) // no change
		time.Sleep(time.Second)
		got := reports(t, log)
		if len(got) < 4 || len(got) > 5 {
			t.Errorf("%d reports: %q", len(got), got)
		}
		if got[0] != "report/xds/n1 full" || got[len(got)-1] != "report/xds/n1 n/a@19 n/b@19" {
			t.Errorf("%q", got)
		}
	})
}

func TestReporterTellsARefusalAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := memlog.New(memlog.Options{})
		r := startReporter(t, log)
		time.Sleep(time.Second)
		r.Proxy(proxy("n/a", "1"))
		synctest.Wait()
		r.Proxy(proxy("n/b", "1"))
		refused := proxy("n/a", "1")
		refused.LastNack = &isthmusv1.Nack{Time: timestamppb.Now(), Detail: "no"}
		r.Proxy(refused)
		synctest.Wait() // No time has passed since the last report.
		equal(t, "reports", reports(t, log)[1:], []string{"report/xds/n1 n/a@1", "report/xds/n1 n/a@1 refused n/b@1"})
		again := proxy("n/a", "2")
		again.LastNack = refused.LastNack
		r.Proxy(again)
		synctest.Wait()
		if n := len(reports(t, log)); n != 3 {
			t.Errorf("%d reports: an old refusal is no hurry", n)
		}
	})
}

func TestReporterTellsEverythingEachMinute(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := memlog.New(memlog.Options{})
		r := startReporter(t, log)
		r.Proxy(proxy("n/a", "1"))
		r.Gateway(&isthmusv1.GatewayStatus{ConnectionsTotal: 7})
		time.Sleep(time.Second)
		r.Forget("n/a")
		r.Proxy(proxy("n/b", "1"))
		time.Sleep(3*time.Minute - 30*time.Second)
		equal(t, "reports", reports(t, log), []string{
			"report/xds/n1 full",
			"report/xds/n1 n/a@1 gateway:7",
			"report/xds/n1 n/a@1 gone n/b@1",
			"report/xds/n1 full n/b@1 gateway:7",
			"report/xds/n1 full n/b@1 gateway:7",
		})
	})
}

func TestReporterKeepsTheNewestWhileTheLogIsAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := memlog.New(memlog.Options{})
		connection := log.Connect("n1")
		r := startReporter(t, connection)
		connection.Cut(true)
		for i := range 100 {
			r.Proxy(proxy("n/a", fmt.Sprint(i)))
			time.Sleep(50 * time.Millisecond)
		}
		connection.Cut(false)
		time.Sleep(2 * time.Second)
		equal(t, "reports", reports(t, log), []string{"report/xds/n1 full", "report/xds/n1 n/a@99"})
	})
}

// A log that is away is said once, and once a minute; not at each try.
func TestReporterSaysOnceThatTheLogIsAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		connection := memlog.New(memlog.Options{}).Connect("n1")
		var said strings.Builder
		r, err := bus.NewReporter(bus.ReporterConfig{
			Log: connection, Datacenter: "dc1", Role: "xds", Name: "n1",
			Logger: slog.New(slog.NewTextHandler(&said, nil)),
		})
		if err != nil {
			t.Fatal(err)
		}
		connection.Cut(true)
		ended := make(chan struct{})
		ctx, stop := context.WithCancel(t.Context())
		go func() {
			defer close(ended)
			_ = r.Run(ctx)
		}()
		time.Sleep(150 * time.Second)
		connection.Cut(false)
		time.Sleep(time.Second)
		connection.Cut(true)
		r.Proxy(proxy("n/a", "1"))
		stop()
		<-ended
		if n := strings.Count(said.String(), "is not reported"); n != 3 {
			t.Errorf("said %d times in 150 s; want 3", n)
		}
		if n := strings.Count(said.String(), "is reported again"); n != 1 {
			t.Errorf("said %d times that it is back:\n%s", n, said.String())
		}
	})
}

func TestReporterSplitsWhatIsLong(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := memlog.New(memlog.Options{})
		r := startReporter(t, log)
		for i := range 1200 {
			r.Proxy(proxy(fmt.Sprintf("n/%04d", i), "1"))
		}
		time.Sleep(time.Second)
		told := 0
		for _, m := range history(t, log, status)[1:] {
			report := new(isthmusv1.Report)
			if err := proto.Unmarshal(m.GetValue(), report); err != nil {
				t.Fatal(err)
			}
			if n := len(report.GetProxies()); n > 500 || report.GetFull() {
				t.Errorf("%d proxies, full %v", n, report.GetFull())
			}
			told += len(report.GetProxies())
		}
		if told != 1200 {
			t.Errorf("%d proxies were told of", told)
		}
	})
}

func TestStatusIsFollowedMessageByMessage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := memlog.New(memlog.Options{})
		r := startReporter(t, log)
		d := newDriver(log, status).run(t)
		synctest.Wait()
		r.Proxy(proxy("n/a", "1"))
		time.Sleep(time.Second)
		synctest.Wait()
		equal(t, "bases", d.emitted(), []string{"STATUS_dc1@1", "STATUS_dc1@2"})
	})
}

func TestNewReporterRefusesWhatCannotWork(t *testing.T) {
	log := memlog.New(memlog.Options{})
	for name, cfg := range map[string]bus.ReporterConfig{
		"no log":        {Datacenter: "dc1", Role: "xds", Name: "n"},
		"no datacenter": {Log: log, Role: "xds", Name: "n"},
		"no name":       {Log: log, Datacenter: "dc1", Role: "xds"},
	} {
		if _, err := bus.NewReporter(cfg); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}
