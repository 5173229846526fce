package main

import (
	"encoding/json"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/isthmus-mesh/isthmus/bus"
	"github.com/isthmus-mesh/isthmus/bus/memlog"
	"github.com/isthmus-mesh/isthmus/gateway/tally"
	isthmusv1 "github.com/isthmus-mesh/isthmus/proto/isthmus/v1"
	"github.com/isthmus-mesh/isthmus/services/top"
)

// adminServer answers for a gateway of dc1, and counts what it is asked.
func adminServer(t *testing.T, gateway string) (address string, asked *atomic.Int64) {
	t.Helper()
	asked = new(atomic.Int64)
	mux := http.NewServeMux()
	mux.HandleFunc("GET "+countersPath, func(w http.ResponseWriter, _ *http.Request) {
		asked.Add(1)
		_ = json.NewEncoder(w).Encode(tally.Answer{Gateways: []tally.Gateway{
			{Datacenter: "dc2", Name: gateway}, {Datacenter: "dc1", Name: gateway, Uptime: time.Minute, Accepted: 7},
		}})
	})
	return serving(t, mux), asked
}

func serving(t *testing.T, handler http.Handler) (address string) {
	t.Helper()
	server := httptest.NewServer(handler)
	t.Cleanup(server.Close)
	return server.Listener.Addr().String()
}

// reportAt is gw1's report of some time ago.
func reportAt(now time.Time, ago time.Duration, admin string, listen ...string) *isthmusv1.Report {
	return &isthmusv1.Report{Name: "gw1", Datacenter: "dc1", Time: timestamppb.New(now.Add(-ago)), Gateway: &isthmusv1.GatewayStatus{
		AdminAddress: admin, ListenAddresses: listen, ConnectionsTotal: 5, ConnectionsOpen: 2, ConnectionsRefused: 3, State: "serving",
		RoutesCounters: []*isthmusv1.RouteCounters{{Route: "api", Connections: 4, BytesIn: 1, BytesOut: 2}},
	}}
}

func TestAGatewayIsAskedWhereItsReportSays(t *testing.T) {
	now := time.Now()
	address, _ := adminServer(t, "gw1")
	other, _ := adminServer(t, "gw2")
	_, port, err := net.SplitHostPort(address)
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name   string
		report *isthmusv1.Report
		from   top.From
		says   string
	}{
		{"its admin server", reportAt(now, time.Second, address), top.FromAdmin, ""},
		{"one at all addresses", reportAt(now, time.Second, "[::]:"+port, "0.0.0.0:8443", "127.0.0.1:8443"), top.FromAdmin, ""},
		{"one at all addresses, as it may be given", reportAt(now, time.Second, ":"+port, "127.0.0.1:8443"), top.FromAdmin, ""},
		{"its admin server, though nothing was reported for long", reportAt(now, time.Hour, address), top.FromAdmin, ""},
		{"no admin server", reportAt(now, time.Second, ""), top.FromReport, errNoAdminServer.Error()},
		{"nobody says where", reportAt(now, time.Second, ":9500", "0.0.0.0:8443"), top.FromReport, errAdminWhere.Error()},
		{"not an address", reportAt(now, time.Second, "here"), top.FromReport, "here"},
		{"another gateway", reportAt(now, time.Second, other), top.FromReport, errOtherGateway.Error()},
		{"an older version", reportAt(now, time.Second, serving(t, http.NotFoundHandler())), top.FromReport, errNoTally.Error()},
		{"a redirect", reportAt(now, time.Second, serving(t, http.RedirectHandler("http://"+address+countersPath, http.StatusFound))), top.FromReport, "302"},
		{"another server", reportAt(now, time.Second, serving(t, http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))), top.FromReport, "its admin server's answer"},
		{"nobody there, and nothing reported for long", reportAt(now, time.Hour, ""), top.FromNowhere, "no report for 1h0m0s"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			reader := newTallyReader()
			defer reader.close()
			got := reader.read(t.Context(), []*isthmusv1.Report{tt.report}, now)[0]
			if got.From != tt.from || got.Name != "gw1" || got.Datacenter != "dc1" || !strings.Contains(got.Trouble, tt.says) {
				t.Errorf("read %+v", got)
			}
			switch got.From {
			case top.FromAdmin:
				if got.Accepted != 7 || got.Clock != time.Minute || got.Trouble != "" {
					t.Errorf("counted %+v", got)
				}
			case top.FromReport:
				if got.Accepted != 5 || got.Open != 2 || got.Refusals != 3 || got.Age != time.Second || len(got.Routes) != 1 || got.Routes[0].Connections != 4 {
					t.Errorf("reported %+v", got)
				}
			}
		})
	}
}

// An admin server that does not answer costs its gateway's row one question in a
// while, and the others nothing.
func TestAnAdminServerThatFailsIsLeftAloneForAWhile(t *testing.T) {
	now := time.Now()
	address, asked := adminServer(t, "gw2") // It fails gw1, whose report has this address.
	reader := newTallyReader()
	defer reader.close()
	for _, step := range []struct {
		after time.Duration
		asked int64
	}{{0, 1}, {time.Second, 1}, {tallyAgain - 1, 1}, {tallyAgain, 2}, {tallyAgain + time.Second, 2}} {
		at := now.Add(step.after)
		got := reader.read(t.Context(), []*isthmusv1.Report{reportAt(at, time.Second, address)}, at)[0]
		if got.From != top.FromReport || !strings.Contains(got.Trouble, errOtherGateway.Error()) || asked.Load() != step.asked {
			t.Errorf("after %s: asked %d times; %+v", step.after, asked.Load(), got)
		}
	}
	// Moved to where it does answer, it is asked at once.
	moved, _ := adminServer(t, "gw1")
	if got := reader.read(t.Context(), []*isthmusv1.Report{reportAt(now, 0, moved)}, now)[0]; got.From != top.FromAdmin {
		t.Errorf("moved: %+v", got)
	}
}

// What gateways report is followed as it is written.
func TestTopFollowsReports(t *testing.T) {
	log := memlog.New(memlog.Options{})
	client := log.Connect("top")
	s := &source{log: client, datacenters: []string{"dc1"}}
	if _, err := openTop(t.Context(), t.Context(), s, nil); !errors.Is(err, errNoGateway) {
		t.Fatalf("without a report: %v", err)
	}
	for _, dc := range []string{"dc1", "dc2"} {
		reporter, err := bus.NewReporter(bus.ReporterConfig{Log: log.Connect(dc), Datacenter: dc, Role: "gateway", Name: "gw1", Interval: time.Millisecond})
		if err != nil {
			t.Fatal(err)
		}
		ctx, stop := t.Context(), make(chan struct{})
		go func() { _ = reporter.Run(ctx); close(stop) }()
		t.Cleanup(func() { <-stop })
		reporter.Gateway(&isthmusv1.GatewayStatus{State: "serving", ConnectionsTotal: 9})
		awaitReport(t, log, dc)
	}
	watch, err := openTop(t.Context(), t.Context(), s, []string{"gw1"})
	if err != nil {
		t.Fatal(err)
	}
	defer watch.close()
	readings, trouble := watch.read(t.Context(), time.Now())
	if len(readings) != 1 || readings[0].Datacenter != "dc1" || readings[0].Accepted != 9 || readings[0].From != top.FromReport || trouble != "" {
		t.Errorf("read %+v, %s", readings, trouble)
	}
	if _, err := openTop(t.Context(), t.Context(), s, []string{"gw2"}); err == nil || !strings.Contains(err.Error(), `"gw2"`) {
		t.Errorf("a gateway that is not there: %v", err)
	}
}

// awaitReport waits until a status stream has a report.
func awaitReport(t *testing.T, log bus.Log, datacenter string) {
	t.Helper()
	errHere := errors.New("it is here")
	stream := isthmusv1.StreamName(isthmusv1.ClassStatus, datacenter)
	if _, err := log.Create(t.Context(), bus.StreamConfig{Name: stream}); err != nil {
		t.Fatal(err)
	}
	err := log.Follow(t.Context(), stream, func(d bus.Delivery) error {
		if d.Start != nil {
			return nil
		}
		return errHere
	})
	if !errors.Is(err, errHere) {
		t.Fatal(err)
	}
}
