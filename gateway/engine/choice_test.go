package engine

import (
	"net"
	"os"
	"syscall"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/gateway/table"
	isthmusv1 "github.com/isthmus-mesh/isthmus/proto/isthmus/v1"
)

// That this machine has no descriptor or port left says nothing of an endpoint: it
// is not ejected for it.
func TestWhatThisMachineLacksEjectsNoEndpoint(t *testing.T) {
	for _, test := range []struct {
		err     syscall.Errno
		ejected bool
	}{
		{syscall.EMFILE, false}, {syscall.ENFILE, false}, {syscall.EADDRNOTAVAIL, false}, {syscall.ENOBUFS, false}, {syscall.ENOMEM, false},
		{syscall.ECONNREFUSED, true}, {syscall.EHOSTUNREACH, true},
	} {
		set := table.NewSet(table.Ejection{Failures: 1})
		healthy := isthmusv1.Health_HEALTH_HEALTHY
		set.Replace([]*isthmusv1.Endpoint{{Address: "10.0.0.1", Port: 1, Health: healthy}, {Address: "10.0.0.2", Port: 1, Health: healthy}}, nil)
		cfg, err := Config{Table: func() *table.Table { return nil }}.WithDefaults()
		if err != nil {
			t.Fatal(err)
		}
		now := time.Unix(1000, 0)
		var counts Counts
		choice := cfg.Choose(&table.Route{Endpoints: set, Counters: new(table.Counters)}, table.Settings{}, now)
		e := choice.Next(now)
		choice.Failed(e, now, &net.OpError{Op: "dial", Net: "tcp", Err: os.NewSyscallError("connect", test.err)}, &counts)
		if e.Ejected(now) != test.ejected || counts.ConnectFailures.Load() != 1 {
			t.Errorf("%v: ejected is %v", test.err, e.Ejected(now))
		}
	}
}
