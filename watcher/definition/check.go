package definition

import (
	"cmp"
	"fmt"
	"slices"

	isthmusv1 "github.com/isthmus-mesh/isthmus/proto/isthmus/v1"
)

// checkTypes are the keys that make a check one of a type.
var checkTypes = []struct{ key, name string }{
	{"args", "script"}, {"script_args", "script"}, {"http", "http"}, {"tcp", "tcp"}, {"udp", "udp"},
	{"ttl", "ttl"}, {"grpc", "grpc"}, {"h2ping", "h2ping"}, {"docker_container_id", "docker"},
	{"alias_service", "alias"}, {"alias_node", "alias"}, {"os_service", "os_service"},
}

// checkSettings say how an agent would run a check. Nothing is run from a file:
// its status is its state.
var checkSettings = []string{
	"interval", "timeout", "method", "header", "body", "shell", "notes", "grpc_use_tls", "h2ping_use_tls",
	"tcp_use_tls", "tls_server_name", "tls_skip_verify", "deregister_critical_service_after", "output_max_size",
	"success_before_passing", "failures_before_warning", "failures_before_critical", "disable_redirects",
	"token", "namespace", "partition", "output",
}

// checks decodes one check, or a list of them, each with the service_id that it
// names. IDs are the agent's: service:<id>, with a number when there are
// several, which finishChecks gives.
func (d *decoder) checks(c cursor, each func(check *isthmusv1.Check, at spot, service said)) {
	for _, item := range c.sequence() {
		check, at := &isthmusv1.Check{}, spot{d.file, item.line, item.key}
		service := said{at: at}
		fields := schema{
			"service_id": d.say(&service),
			"id":         d.text(&check.CheckId), "check_id": d.text(&check.CheckId),
			"name": d.text(&check.Name), "status": d.checkStatus(&check.Status),
		}
		for _, t := range checkTypes {
			fields[t.key] = func(cursor) { check.Type = t.name }
		}
		for _, key := range checkSettings {
			fields[key] = accepted
		}
		d.object(item, fields)
		check.Status = cmp.Or(check.Status, isthmusv1.CheckPassing)
		each(check, at, service)
	}
}

// checkStatus refuses a state here, where its line is known: checks are sorted
// and named later.
func (d *decoder) checkStatus(dst *string) func(cursor) {
	legal := []string{isthmusv1.CheckPassing, isthmusv1.CheckWarning, isthmusv1.CheckCritical}
	return func(c cursor) {
		if d.text(dst)(c); *dst != "" && !slices.Contains(legal, *dst) {
			d.refuse(c, fmt.Sprintf("Invalid check status: %q", shorten(*dst)), `use one of "passing", "warning" or "critical"`)
			*dst = ""
		}
	}
}

// finishChecks names the checks of a definition and sorts them.
func (d *draft) finishChecks() {
	s := d.instance
	for i, c := range s.Checks {
		id := "service:" + s.Id
		if len(s.Checks) > 1 {
			id = fmt.Sprintf("%s:%d", id, i+1)
		}
		c.CheckId = cmp.Or(c.CheckId, id)
		c.Name = cmp.Or(c.Name, fmt.Sprintf("Service '%s' check", s.Name))
	}
	sortChecks(s.Checks)
	for _, c := range s.Checks {
		if at, written := d.checks[c]; written {
			d.places[checkPath(c)] = at
		}
	}
}

// checkPath is where the rules look for a check. Of several with one ID the last
// has the place: it is the one too many.
func checkPath(c *isthmusv1.Check) string { return "checks." + c.GetCheckId() + ".id" }

func sortChecks(checks []*isthmusv1.Check) {
	slices.SortStableFunc(checks, func(a, b *isthmusv1.Check) int { return cmp.Compare(a.GetCheckId(), b.GetCheckId()) })
}

// worst is the state of an alias of these checks.
func worst(checks []*isthmusv1.Check) string {
	order := []string{isthmusv1.CheckPassing, isthmusv1.CheckWarning, isthmusv1.CheckCritical}
	state := 0
	for _, c := range checks {
		state = max(state, slices.Index(order, c.GetStatus()))
	}
	return order[state]
}
