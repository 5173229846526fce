package history_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/rogpeppe/go-internal/txtar"

	"github.com/isthmus-mesh/isthmus/bus"
	"github.com/isthmus-mesh/isthmus/services/history"
	"github.com/isthmus-mesh/isthmus/services/resolver"
)

// explain answers a question at a moment.
func explain(t testing.TB, moment *history.Moment, proxy, upstream string) []history.Answer {
	t.Helper()
	explanations, err := moment.Machine.Explain(resolver.Question{Proxy: proxy, Upstream: upstream})
	if err != nil {
		t.Fatal(err)
	}
	var answers []history.Answer
	for _, e := range explanations {
		answers = append(answers, history.NewAnswer(e))
	}
	return answers
}

// Each archive in testdata/explain has the files of two datacenters, the
// question, and what is answered as text and as JSON.
func TestAnswers(t *testing.T) {
	archives, err := filepath.Glob("testdata/explain/*.txtar")
	if err != nil || len(archives) == 0 {
		t.Fatalf("no archives: %v", err)
	}
	for _, name := range archives {
		t.Run(strings.TrimSuffix(filepath.Base(name), ".txtar"), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { answerArchive(t, name) })
		})
	}
}

func answerArchive(t *testing.T, name string) {
	archive, err := txtar.ParseFile(name)
	if err != nil {
		t.Fatal(err)
	}
	files := map[string]map[string]string{"dc1": {}, "dc2": {}}
	answered := map[string]string{}
	for _, f := range archive.Files {
		dc, file, ok := strings.Cut(f.Name, "/")
		if ok {
			files[dc][file] = string(f.Data)
		} else {
			answered[f.Name] = string(f.Data)
		}
	}
	w := newWorld(t, 0)
	defer w.stop()
	w.write("dc1", files["dc1"])
	w.write("dc2", files["dc2"])
	moment, err := history.Head(t.Context(), w.log, "dc1", "dc2")
	if err != nil {
		t.Fatal(err)
	}
	proxy, upstream, _ := strings.Cut(strings.TrimSpace(answered["question"]), " ")
	var text, structured bytes.Buffer
	answers := explain(t, moment, proxy, upstream)
	for _, answer := range answers {
		history.WriteAnswer(&text, answer)
	}
	encoder := json.NewEncoder(&structured)
	encoder.SetIndent("", "  ")
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(answers); err != nil {
		t.Fatal(err)
	}
	got := map[string]string{"text": text.String(), "json": structured.String()}
	if *update {
		for i, f := range archive.Files {
			if g, ok := got[f.Name]; ok {
				archive.Files[i].Data = []byte(g)
			}
		}
		if err := os.WriteFile(name, txtar.Format(archive), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	for part, want := range answered {
		if g, ok := got[part]; ok && g != want {
			t.Errorf("%s of %s differs; look, then run with -update:\n%s", part, name, g)
		}
	}
}

// The JSON has exactly the fields that others test from outside, empty lists are
// lists, and an absent source is null.
func TestAnswerShape(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 0)
		defer w.stop()
		w.write("dc1", with(dc1Files, "proxy-defaults.hcl", ""))
		w.write("dc2", dc2Files)
		moment, err := history.Head(t.Context(), w.log, "dc1", "dc2")
		if err != nil {
			t.Fatal(err)
		}
		data, err := json.Marshal(explain(t, moment, "web-proxy", "api"))
		if err != nil {
			t.Fatal(err)
		}
		var answers []map[string]any
		if err := json.Unmarshal(data, &answers); err != nil {
			t.Fatal(err)
		}
		answer := answers[0]
		wantKeys(t, "answer", answer, "proxy service upstream datacenter route protocol targets authorization problems basis")
		target := answer["targets"].([]any)[0].(map[string]any)
		wantKeys(t, "target", target, "service subset datacenter weight failover_index mode decision path sni spiffe_ids endpoints problems")
		wantKeys(t, "decision", target["decision"].(map[string]any), "level source hidden")
		wantKeys(t, "endpoint", target["endpoints"].([]any)[0].(map[string]any), "address port health weight datacenter")
		wantKeys(t, "authorization", answer["authorization"].(map[string]any), "allowed intention source reason")
		wantKeys(t, "position", answer["basis"].(map[string]any)["CATALOG_dc1"].(map[string]any), "incarnation sequence")
		if d := target["decision"].(map[string]any); d["level"] != "default" || d["source"] != nil || len(d["hidden"].([]any)) != 0 {
			t.Errorf("decision %v", d)
		}
		if target["path"] != "direct" || target["mode"] != "none" || target["weight"] != 100.0 {
			t.Errorf("target %v", target)
		}
	})
}

func wantKeys(t *testing.T, what string, object map[string]any, keys string) {
	t.Helper()
	want := strings.Fields(keys)
	for _, key := range want {
		if _, ok := object[key]; !ok {
			t.Errorf("%s has no %q", what, key)
		}
	}
	if len(object) != len(want) {
		t.Errorf("%s has %v, want %v", what, object, want)
	}
}

func TestSourceText(t *testing.T) {
	for want, source := range map[string]*history.AnswerSource{
		"": nil, "dc1/web.hcl:3": {File: "dc1/web.hcl", Line: 3}, "CATALOG_dc1@7": {Stream: "CATALOG_dc1", Sequence: 7},
	} {
		if got := source.String(); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

// At gives, for every sequence at which the routes were resolved, the answer
// that was given then.
func TestAtAnswersAsItWasThen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 0)
		defer w.stop()
		w.write("dc2", dc2Files)
		type answered struct {
			sequence uint64
			json     string
		}
		var then []answered
		for i, mode := range []string{"local", "remote", "none", "local", "remote"} {
			p := w.write("dc1", with(dc1Files, "proxy-defaults.hcl", proxyDefaults(mode)))
			if i%2 == 1 {
				w.write("dc2", with(dc2Files, "agent.hcl", `node_name = "dc2-1"`+"\n"+`advertise_addr = "10.2.0.`+string(rune('2'+i))+`"`))
			}
			w.resolve()
			moment, err := history.Head(t.Context(), w.log, "dc1", "dc2")
			if err != nil {
				t.Fatal(err)
			}
			then = append(then, answered{p.GetSequence(), marshal(t, explain(t, moment, "web", ""))})
		}
		for _, a := range then {
			moment, err := history.At(t.Context(), w.log, "dc1", a.sequence)
			if err != nil {
				t.Fatal(err)
			}
			if got := marshal(t, explain(t, moment, "web", "")); got != a.json {
				t.Errorf("at %d:\n%s\nwas then\n%s", a.sequence, got, a.json)
			}
			if !strings.Contains(moment.Found, "recorded by ROUTES_dc1") {
				t.Errorf("found %q", moment.Found)
			}
		}
	})
}

func marshal(t testing.TB, value any) string {
	t.Helper()
	data, err := json.MarshalIndent(value, "", " ")
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func TestAtSaysHowItFoundTheBasis(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 0)
		defer w.stop()
		p := w.write("dc1", dc1Files)
		w.write("dc2", dc2Files)
		moment, err := history.At(t.Context(), w.log, "dc1", p.GetSequence())
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(moment.Found, "no basis is recorded") {
			t.Errorf("found %q", moment.Found)
		}
		if moment.Basis.At("CATALOG_dc2").GetSequence() == 0 {
			t.Errorf("basis %s", moment.Basis.Text())
		}
	})
}

func TestAtRefusesWhatItCannotKnow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 300)
		defer w.stop()
		w.write("dc2", dc2Files)
		for i := range 700 {
			w.write("dc1", with(dc1Files, "proxy-defaults.hcl", proxyDefaults([]string{"local", "remote"}[i%2])))
		}
		for _, tt := range []struct {
			dc       string
			sequence uint64
			want     error
		}{
			{"dc1", 5, bus.ErrNotRetained}, {"dc1", 1 << 40, bus.ErrNotYet}, {"dc9", 1, bus.ErrNoStream},
		} {
			if _, err := history.At(t.Context(), w.log, tt.dc, tt.sequence); !errors.Is(err, tt.want) {
				t.Errorf("%s at %d: %v, want %v", tt.dc, tt.sequence, err, tt.want)
			}
		}
		if _, err := history.Head(t.Context(), w.log, "dc9"); !errors.Is(err, bus.ErrNoStream) {
			t.Errorf("head of dc9: %v", err)
		}
	})
}
