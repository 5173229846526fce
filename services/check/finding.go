package check

import (
	"cmp"
	"slices"
	"strings"
)

// Status is how a check came out.
type Status string

// The statuses. Only Fail makes a run a failure.
const (
	Pass Status = "pass"
	Warn Status = "warn"
	Fail Status = "fail"
)

// Finding is what one check found of one thing.
type Finding struct {
	Code       Code   `json:"code"`
	Datacenter string `json:"datacenter"`
	Status     Status `json:"status"`
	// Subject is what was looked at: an agent, a gateway, a service, a right.
	Subject string `json:"subject"`
	// From is the machine that judged.
	From  string `json:"from"`
	Found string `json:"found"`
	// Fix is what to do; empty after a pass.
	Fix string `json:"fix"`
}

// Count is how many findings have the status.
func Count(findings []Finding, status Status) int {
	n := 0
	for _, f := range findings {
		if f.Status == status {
			n++
		}
	}
	return n
}

// In keeps the findings of the datacenters; without any named, all. A datacenter that
// none is of fails: nobody who was asked knows it.
func In(findings []Finding, from string, datacenters []string) []Finding {
	if len(datacenters) == 0 {
		return findings
	}
	var out []Finding
	for _, f := range findings {
		if slices.ContainsFunc(datacenters, f.of) {
			out = append(out, f)
		}
	}
	for _, dc := range datacenters {
		if !slices.ContainsFunc(out, func(f Finding) bool { return f.of(dc) }) {
			out = append(out, Finding{
				Code: Agent, Datacenter: strings.ToLower(dc), Status: Fail, Subject: "datacenter", From: from,
				Found: "no agent of it was asked, and nobody who was asked knows it", Fix: Agent.fix(),
			})
		}
	}
	sortFindings(out)
	return out
}

// of reports whether a finding is of a datacenter.
func (f Finding) of(dc string) bool { return strings.EqualFold(dc, f.Datacenter) }

// sortFindings brings findings into the order of the codes, then of datacenters
// and subjects.
func sortFindings(findings []Finding) {
	slices.SortStableFunc(findings, func(a, b Finding) int {
		return cmp.Or(cmp.Compare(a.Code.order(), b.Code.order()), cmp.Compare(a.Code, b.Code),
			cmp.Compare(a.Datacenter, b.Datacenter), cmp.Compare(a.Subject, b.Subject), cmp.Compare(a.Found, b.Found))
	})
}
