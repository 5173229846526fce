package consul_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/isthmus-mesh/isthmus/deploy/freeport"
	"github.com/isthmus-mesh/isthmus/services/consul"
	"github.com/isthmus-mesh/isthmus/services/consul/devagent"
	"github.com/isthmus-mesh/isthmus/services/consul/devagent/agenttest"
)

// An address that is wrong says what is wrong with it, as a real agent lets it be
// known.
func TestWrongAddressSaysWhatToDo(t *testing.T) {
	t.Parallel()
	ca, err := devagent.NewCA()
	if err != nil {
		t.Fatal(err)
	}
	a := agenttest.Start(t, devagent.Config{CA: ca})
	for name, test := range map[string]struct {
		options consul.Options
		want    string
	}{
		"http to https":   {consul.Options{Address: "http" + strings.TrimPrefix(a.HTTPS, "https")}, "write https://"},
		"https to http":   {consul.Options{Address: "https" + strings.TrimPrefix(a.HTTP, "http"), CAFile: a.CAFile}, "write http://"},
		"unknown CA":      {consul.Options{Address: a.HTTPS}, "CONSUL_CACERT"},
		"gRPC":            {consul.Options{Address: "http://" + a.GRPC}, "not gRPC's"},
		"another name":    {consul.Options{Address: a.HTTPS, CAFile: a.CAFile, ServerName: "consul.example"}, "CONSUL_TLS_SERVER_NAME"},
		"nobody is there": {consul.Options{Address: "http://" + freeport.Hold(t).String()}, "connection refused"},
	} {
		t.Run(name, func(t *testing.T) {
			test.options.Environment = func(string) string { return "" }
			client, err := consul.Open(test.options)
			if err != nil {
				t.Fatal(err)
			}
			defer client.Close()
			// One that speaks first may also have hung up before that was read.
			for range 20 {
				_, err = client.Self(t.Context())
				if err == nil || strings.Contains(err.Error(), test.want) {
					break
				}
			}
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("error %v, want %q in it", err, test.want)
			}
			if strings.Contains(name, "CA") && !errors.Is(err, consul.ErrUnavailable) {
				t.Errorf("error %v", err)
			}
		})
	}
}
