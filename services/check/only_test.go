package check_test

import (
	"slices"
	"testing"

	"github.com/isthmus-mesh/isthmus/services/check"
)

// What was asked for and not judged is no success: what kept it from being judged is
// said in its place, in each datacenter.
func TestOnly(t *testing.T) {
	findings := []check.Finding{
		{Code: check.Agent, Datacenter: "dc1", Status: check.Pass},
		{Code: check.Agent, Datacenter: "dc2", Status: check.Fail, Found: "does not answer", Fix: "start it"},
		{Code: check.ACLToken, Datacenter: "dc1", Status: check.Fail, Found: "unknown"},
		{Code: check.ModeInvalid, Datacenter: "dc1", Status: check.Pass},
	}
	for name, test := range map[string]struct {
		codes []check.Code
		want  []string
	}{
		"judged in one datacenter": {[]check.Code{check.ModeInvalid}, []string{"MODE_INVALID dc1 pass ", "MODE_INVALID dc2 fail not judged, because of AGENT: does not answer"}},
		"itself":                   {[]check.Code{check.Agent}, []string{"AGENT dc1 pass ", "AGENT dc2 fail does not answer"}},
		"by the token": {[]check.Code{check.ACLServiceWrite}, []string{
			"ACL_SERVICE_WRITE dc1 fail not judged, because of ACL_TOKEN: unknown", "ACL_SERVICE_WRITE dc2 fail not judged, because of AGENT: does not answer",
		}},
		"without the log": {[]check.Code{check.Watcher}, []string{"WATCHER  fail not judged: the log was not asked"}},
	} {
		var got []string
		for _, f := range check.Only(findings, "m", test.codes) {
			got = append(got, string(f.Code)+" "+f.Datacenter+" "+string(f.Status)+" "+f.Found)
		}
		if !slices.Equal(got, test.want) {
			t.Errorf("%s: %q, want %q", name, got, test.want)
		}
	}
	well := findings[:1]
	if got := check.Only(well, "m", []check.Code{check.ACLServiceWrite}); len(got) != 1 || got[0].Status != check.Fail || got[0].Fix != "give --service NAME" {
		t.Errorf("without a service: %+v", got)
	}
	if got := check.Only(well, "m", []check.Code{check.ModeHidden}); len(got) != 1 || got[0].Status != check.Pass {
		t.Errorf("nothing to judge: %+v", got)
	}
}
