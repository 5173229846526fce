package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	isthmusv1 "github.com/isthmus-mesh/isthmus/proto/isthmus/v1"
	"github.com/isthmus-mesh/isthmus/services/history"
	"github.com/isthmus-mesh/isthmus/services/resolver"
)

// demoSettles is how many connections of each upstream must be seen after a
// change before it is judged.
const demoSettles = 20

// demoWait bounds the wait for one thing to be seen.
const demoWait = 40 * time.Second

// flip rewrites the global mode while requests run: the upstream without a mode
// of its own follows, the others stay.
func (d *demoRun) flip(ctx context.Context) []fact {
	f := fact{Name: "the global mode flips"}
	targets, err := d.targets()
	if err != nil {
		f.Saw = err.Error()
		return []fact{f}
	}
	d.load = startLoad(ctx, targets)
	mark := d.world.records.mark()
	waiting, cancel := context.WithTimeout(ctx, d.wait())
	defer cancel()
	for _, t := range targets {
		d.world.records.await(waiting, mark, demoSettles, outbound(t.upstream))
	}
	mark = d.world.records.mark()
	written := time.Now()
	err = d.setGlobalMode(ctx, "remote")
	moved := d.world.records.await(waiting, mark, demoSettles, overPath("search", isthmusv1.Path_PATH_REMOTE_GATEWAY))
	after := d.world.records.mark()
	stayed := true
	var seenPaths []string
	for _, u := range demoUpstreams {
		if u.name == "search" {
			continue
		}
		d.world.records.await(waiting, after, demoSettles, outbound(u.name))
		stays := d.world.records.since(mark, overPath(u.name, wayOf[u.mode].path))
		all := d.world.records.since(mark, outbound(u.name))
		stayed = stayed && len(stays) == len(all) && len(all) >= demoSettles
		seenPaths = append(seenPaths, fmt.Sprintf("%s %d of %d", u.name, len(stays), len(all)))
	}
	late := d.world.records.since(after, func(s seen) bool {
		return len(moved) > 0 && outbound("search")(s) && s.carried.Path != isthmusv1.Path_PATH_REMOTE_GATEWAY &&
			s.carried.Start.After(moved[0].carried.Start)
	})
	d.load.end()
	var elapsed time.Duration
	if len(moved) > 0 {
		elapsed = moved[0].carried.Start.Sub(written)
	}
	failed, kept := d.load.failed.Load(), d.load.onKept.Load()
	f.Holds = err == nil && len(moved) >= demoSettles && stayed && len(late) == 0 && failed == 0 && d.load.keptLost.Load() == 0
	f.Sentence = fmt.Sprintf("flip     proxy-defaults local → remote in %s: first connection over the new path after %s", d.place(), elapsed.Round(100*time.Microsecond))
	f.Drawing = []string{
		"search: web ══▶ own gateway ══▶ gateway of dc2 ══▶ search   became   web ══▶ gateway of dc2 ══▶ search",
		fmt.Sprintf("api, db and logging stayed; %d requests meanwhile, 0 failed; %d of them over %d kept connections that lived on",
			d.load.succeeded.Load(), kept, len(targets)),
	}
	f.Saw = fmt.Sprintf("%d connections over the new path, %d later ones over the old; stayed: %s; %d requests failed, the first with: %v; %d kept connections lost; written: %v",
		len(moved), len(late), strings.Join(seenPaths, ", "), failed, d.load.firstFailure(), d.load.keptLost.Load(), err)
	f.Values = []measured{
		{"microseconds", elapsed.Microseconds()}, {"requests", d.load.succeeded.Load()}, {"failed", failed},
		{"requests_on_kept_connections", kept}, {"kept_connections_lost", d.load.keptLost.Load()},
	}
	return []fact{f}
}

// overPath matches what was carried to an upstream over a path.
func overPath(upstream string, path isthmusv1.Path) func(seen) bool {
	of := outbound(upstream)
	return func(s seen) bool { return of(s) && s.carried.Path == path && !s.carried.Reason.Refused() }
}

// writeGlobalMode rewrites dc1's proxy-defaults as an editor would: whole. What else
// they say follows the mode.
func writeGlobalMode(catalog, mode, rest string) error {
	path := filepath.Join(catalog, "dc1", "proxy-defaults.hcl")
	text := fmt.Sprintf("# Rewritten by the demo.\nKind = \"proxy-defaults\"\nName = \"global\"\n\nMeshGateway {\n  Mode = %q\n}\n", mode) + rest
	if err := os.WriteFile(path+".new~", []byte(text), 0o600); err != nil {
		return err
	}
	return os.Rename(path+".new~", path)
}

// explain asks the log why the fourth upstream goes where it goes.
func (d *demoRun) explain(ctx context.Context) []fact {
	f := fact{Name: "the route explains itself"}
	asking, cancel := context.WithTimeout(ctx, d.wait())
	defer cancel()
	answer, err := d.answer(asking)
	if err != nil {
		f.Sentence, f.Saw = "explain  web → search", err.Error()
		return []fact{f}
	}
	var text strings.Builder
	history.WriteAnswer(&text, answer)
	target := answer.Targets[0]
	f.Holds = target.Mode == "remote" && target.Decision.Level == "proxy-defaults" && target.Decision.Source != nil &&
		d.flipped(target.Decision.Source) && answer.Authorization.Allowed
	f.Sentence = fmt.Sprintf("explain  web → search is %s because of %s (%s)", target.Mode, target.Decision.Level, target.Decision.Source)
	f.Drawing = strings.Split(strings.TrimRight(text.String(), "\n"), "\n")
	f.Saw = fmt.Sprintf("mode %s from %s (%s), allowed %v", target.Mode, target.Decision.Level, target.Decision.Source, answer.Authorization.Allowed)
	f.Values = []measured{{"answer", answer}}
	return []fact{f}
}

// flipped reports whether a decision's source is what the demo has rewritten.
func (d *demoRun) flipped(source *history.AnswerSource) bool {
	if d.world.agents != nil { // An event, as there is no file.
		return source.Stream == isthmusv1.StreamName(isthmusv1.ClassCatalog, "dc1") && source.Sequence > 0
	}
	return source.File == "dc1/proxy-defaults.hcl"
}

func (d *demoRun) answer(ctx context.Context) (history.Answer, error) {
	moment, err := history.Head(ctx, d.world.logs[0], "dc1", d.world.datacenters...)
	if err != nil {
		return history.Answer{}, err
	}
	found, err := moment.Machine.Explain(resolver.Question{Proxy: demoClient, Upstream: "search"})
	if err != nil {
		return history.Answer{}, err
	}
	if len(found) != 1 || len(found[0].Targets) != 1 {
		return history.Answer{}, fmt.Errorf("%d answers, want one with one target", len(found))
	}
	return history.NewAnswer(found[0]), nil
}

// replay drives a new resolver through the recorded bases of every datacenter.
func (d *demoRun) replay(ctx context.Context) []fact {
	f := fact{Name: "the log replays", Holds: true}
	bases, keys, events := 0, 0, 0
	for _, dc := range d.world.datacenters {
		result, err := history.Replay(ctx, history.ReplayOptions{Log: d.world.logs[0], Datacenter: dc})
		switch {
		case err != nil:
			f.Holds, f.Saw = false, err.Error()
		case result.Difference != nil:
			f.Holds = false
			f.Saw = fmt.Sprintf("%s at %d: %s differs: %s", result.Stream, result.Difference.Sequence, result.Difference.Key, strings.Join(result.Difference.Details, "; "))
		case result.Bases == 0 || result.Skipped > 0:
			f.Holds, f.Saw = false, fmt.Sprintf("%s: %d bases compared, %d skipped: %s", result.Stream, result.Bases, result.Skipped, result.Why)
		}
		if result != nil {
			bases, keys, events = bases+result.Bases, keys+result.Keys, events+result.Events
		}
	}
	f.Sentence = fmt.Sprintf("replay   %d recorded bases, %d events: a new resolver made the same %d values, byte for byte", bases, events, keys)
	f.Values = []measured{{"bases", bases}, {"events", events}, {"keys", keys}}
	return []fact{f}
}
