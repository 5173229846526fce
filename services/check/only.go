package check

import (
	"fmt"
	"slices"
	"strings"
)

// Only keeps the findings of some codes. What was not judged of them fails where
// something kept it from being: what that was is said in its place.
func Only(findings []Finding, from string, codes []Code) []Finding {
	var out []Finding
	for _, code := range codes {
		some := len(out)
		blocked := map[string]bool{}
		for _, f := range findings {
			if f.Code == code {
				out = append(out, f)
			} else if f.Status == Fail && code.needs(f.Code) && !blocked[f.Datacenter] && !judgedIn(findings, code, f.Datacenter) {
				blocked[f.Datacenter] = true
				out = append(out, Finding{
					Code: code, Datacenter: f.Datacenter, Status: Fail, Subject: f.Subject, From: from,
					Found: fmt.Sprintf("not judged, because of %s: %s", f.Code, f.Found), Fix: f.Fix,
				})
			}
		}
		if len(out) == some {
			out = append(out, unjudged(findings, from, code))
		}
	}
	sortFindings(out)
	return out
}

// judgedIn reports whether a code was judged in a datacenter.
func judgedIn(findings []Finding, code Code, dc string) bool {
	return slices.ContainsFunc(findings, func(f Finding) bool { return f.Code == code && f.Datacenter == dc })
}

// ofLog are the codes that are judged by the log alone.
var ofLog = []Code{Bus, Watcher, WatcherLag, Resolver, ResolverLag, Mirror, GatewayReport, ProxyReport}

// needs reports whether a code is not judged where another one fails.
func (c Code) needs(other Code) bool {
	switch {
	case slices.Contains(ofLog, c):
		return other == Bus
	case other == Agent, other == ACLToken, other == Catalog:
		return c.order() > other.order()
	}
	return false
}

// unjudged says why there is no finding of a code.
func unjudged(findings []Finding, from string, code Code) Finding {
	out := Finding{Code: code, Status: Fail, Subject: strings.ToLower(string(code)), From: from}
	logAsked := slices.ContainsFunc(findings, func(f Finding) bool { return f.Code == Bus })
	switch {
	case slices.Contains(ofLog, code) && !logAsked:
		out.Found, out.Fix = "not judged: the log was not asked", "give --nats"
	case code == ACLServiceWrite:
		out.Found, out.Fix = "not judged: no service was named", "give --service NAME"
	default:
		out.Status, out.Found = Pass, "there is nothing that it judges"
	}
	return out
}
