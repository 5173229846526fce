package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/isthmus-mesh/isthmus/gateway/tally"
	isthmusv1 "github.com/isthmus-mesh/isthmus/proto/isthmus/v1"
	"github.com/isthmus-mesh/isthmus/services/top"
)

const (
	// tallyTimeout bounds one question, tallyAgain is how long an admin server that
	// did not answer is left alone, and tallyBytes bounds an answer.
	tallyTimeout = 2 * time.Second
	tallyAgain   = 5 * time.Second
	tallyBytes   = 64 << 20
	// askedAtOnce is how many admin servers are asked at a time.
	askedAtOnce = 64
	// silentAfter is how old the report of a gateway is that has missed several.
	silentAfter = 150 * time.Second
	// reportedRoutes is how many routes a report has at the most.
	reportedRoutes = 50
)

// Why an admin server does not say what its gateway counted.
var (
	errNoAdminServer = errors.New("it has no admin server (--admin-bind)")
	errAdminWhere    = errors.New("its report does not say on which host its admin server is")
	errOtherGateway  = errors.New("another gateway's admin server answers at that address")
	errNoTally       = errors.New("its admin server has no counters; it is of an older version")
)

// tallyReader asks gateways for what they counted.
type tallyReader struct {
	client *http.Client

	mu sync.Mutex
	// failed are the admin servers that did not answer.
	failed map[string]failedAsk
}

type failedAsk struct {
	at  time.Time
	why error
}

func newTallyReader() *tallyReader {
	return &tallyReader{
		failed: make(map[string]failedAsk),
		client: &http.Client{
			// No proxy: an admin address is of the own network.
			Transport:     &http.Transport{MaxIdleConnsPerHost: 1, ResponseHeaderTimeout: tallyTimeout},
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
			Timeout:       tallyTimeout,
		},
	}
}

func (t *tallyReader) close() { t.client.CloseIdleConnections() }

// read reads all gateways at a time, each from its admin server, else from its
// report.
func (t *tallyReader) read(ctx context.Context, reports []*isthmusv1.Report, now time.Time) []top.Reading {
	readings := make([]top.Reading, len(reports))
	var asked errgroup.Group
	asked.SetLimit(askedAtOnce)
	for i, report := range reports {
		asked.Go(func() error {
			gateway, err := t.ask(ctx, report, now)
			if err != nil {
				readings[i] = reportReading(report, now, err)
				return nil
			}
			readings[i] = top.Reading{Gateway: gateway, From: top.FromAdmin, Clock: gateway.Uptime}
			return nil
		})
	}
	_ = asked.Wait()
	return readings
}

// ask asks the admin server of a gateway, unless it has just failed to answer.
func (t *tallyReader) ask(ctx context.Context, report *isthmusv1.Report, now time.Time) (tally.Gateway, error) {
	address, err := adminOf(report.GetGateway())
	if err != nil {
		return tally.Gateway{}, err
	}
	key := report.GetDatacenter() + "/" + report.GetName() + " " + address
	t.mu.Lock()
	failed, again := t.failed[key]
	t.mu.Unlock()
	if again && now.Sub(failed.at) < tallyAgain {
		return tally.Gateway{}, failed.why
	}
	gateway, err := t.get(ctx, address, report)
	t.mu.Lock()
	defer t.mu.Unlock()
	if err != nil {
		err = fmt.Errorf("%s: %w", address, err)
		t.failed[key] = failedAsk{now, err}
		return tally.Gateway{}, err
	}
	delete(t.failed, key)
	return gateway, nil
}

func (t *tallyReader) get(ctx context.Context, address string, report *isthmusv1.Report) (tally.Gateway, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+address+countersPath, nil)
	if err != nil {
		return tally.Gateway{}, err
	}
	response, err := t.client.Do(request)
	if err != nil {
		if wrapped, ok := errors.AsType[*url.Error](err); ok {
			err = wrapped.Err // The address is said already.
		}
		return tally.Gateway{}, err
	}
	defer response.Body.Close()
	switch response.StatusCode {
	case http.StatusOK:
	case http.StatusNotFound:
		return tally.Gateway{}, errNoTally
	default:
		return tally.Gateway{}, fmt.Errorf("its admin server answers %s", response.Status)
	}
	var answer tally.Answer
	if err := json.NewDecoder(io.LimitReader(response.Body, tallyBytes)).Decode(&answer); err != nil {
		return tally.Gateway{}, fmt.Errorf("its admin server's answer: %w", err)
	}
	gateway, ok := answer.Find(report.GetDatacenter(), report.GetName())
	if !ok {
		return tally.Gateway{}, errOtherGateway
	}
	return gateway, nil
}

// adminOf is where a gateway's admin server can be asked. One that is bound to all
// addresses is found where the gateway listens.
func adminOf(status *isthmusv1.GatewayStatus) (string, error) {
	if status.GetAdminAddress() == "" {
		return "", errNoAdminServer
	}
	host, port, err := net.SplitHostPort(status.GetAdminAddress())
	if err != nil {
		return "", err
	}
	if !unspecified(host) {
		return status.GetAdminAddress(), nil
	}
	for _, listen := range status.GetListenAddresses() {
		if host, _, err := net.SplitHostPort(listen); err == nil && !unspecified(host) {
			return net.JoinHostPort(host, port), nil
		}
	}
	return "", errAdminWhere
}

func unspecified(host string) bool {
	ip, err := netip.ParseAddr(host)
	return host == "" || err == nil && ip.IsUnspecified()
}

// reportReading is what a report says of a gateway, and why nothing better is
// there.
func reportReading(report *isthmusv1.Report, now time.Time, why error) top.Reading {
	s := report.GetGateway()
	at := report.GetTime().AsTime()
	r := top.Reading{
		Gateway: tally.Gateway{
			Datacenter: report.GetDatacenter(), Name: report.GetName(), Proxy: s.GetProxy(), State: s.GetState(), Sequence: s.GetRoutes().GetSequence(),
			Accepted: s.GetConnectionsTotal(), Open: int64(s.GetConnectionsOpen()), BytesIn: s.GetBytesIn(), BytesOut: s.GetBytesOut(),
		},
		From: top.FromReport, Clock: time.Duration(at.UnixNano()), Age: max(now.Sub(at), 0), Refusals: s.GetConnectionsRefused(),
	}
	for _, c := range s.GetRoutesCounters() {
		r.Routes = append(r.Routes, tally.Route{Name: c.GetRoute(), Connections: c.GetConnections(), BytesIn: c.GetBytesIn(), BytesOut: c.GetBytesOut()})
	}
	if r.Age > silentAfter {
		r.From, r.Routes = top.FromNowhere, nil
		r.Trouble = fmt.Sprintf("no report for %s; %v", r.Age.Truncate(time.Second), why)
		return r
	}
	r.Trouble = fmt.Sprintf("%v; its report has up to %d routes, without what is open, refused or ejected", why, reportedRoutes)
	return r
}
