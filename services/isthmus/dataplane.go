package main

import (
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/isthmus-mesh/isthmus/services/envoy"
)

// Data planes: what the sidecars and gateways of a world are.
const (
	dataplaneGo    = "go"
	dataplaneEnvoy = "envoy"
	// dataplaneMixed is Envoy sidecars and one Envoy gateway, beside Go gateways.
	dataplaneMixed = "mixed"
)

// dataplaneFlags ask for a data plane.
type dataplaneFlags struct {
	// kind is one of the data planes; empty: mixed if there is an Envoy, else Go.
	kind string
	// binary is the path of Envoy; empty: it is looked for.
	binary string
}

// register adds the flags; kind is the default, which usage says.
func (f *dataplaneFlags) register(cmd *cobra.Command, kind, usage string) {
	cmd.Flags().StringVar(&f.kind, "dataplane", kind, usage)
	cmd.Flags().StringVar(&f.binary, "envoy-binary", "", "path of Envoy; else that of ISTHMUS_ENVOY, or envoy on the PATH")
	// The flag takes a fixed list.
	_ = cmd.RegisterFlagCompletionFunc("dataplane", cobra.FixedCompletions([]string{dataplaneGo, dataplaneEnvoy, dataplaneMixed}, cobra.ShellCompDirectiveNoFileComp))
}

// dataplane is the data plane of a world.
type dataplane struct {
	kind string
	// envoy is the path of the binary, where any part is an Envoy.
	envoy string
	// missing: an Envoy would have been used, and there is none.
	missing bool
}

// settle finds out which data plane there is to be. An Envoy that was asked for, by kind
// or by name, and is not there is an error.
func (f dataplaneFlags) settle(environment func(string) string) (dataplane, error) {
	switch f.kind {
	case "", dataplaneEnvoy, dataplaneMixed:
	case dataplaneGo:
		if f.binary != "" {
			return dataplane{}, usageError{errors.New("--envoy-binary is of no use with --dataplane go")}
		}
		return dataplane{kind: dataplaneGo}, nil
	default:
		return dataplane{}, usageError{fmt.Errorf("--dataplane is go, envoy or mixed, not %q", f.kind)}
	}
	binary, err := envoy.Find(f.binary, environment)
	switch {
	case err == nil && f.kind == "":
		return dataplane{kind: dataplaneMixed, envoy: binary}, nil
	case err == nil:
		return dataplane{kind: f.kind, envoy: binary}, nil
	case f.kind == "" && f.binary == "" && environment(envoy.Variable) == "":
		return dataplane{kind: dataplaneGo, missing: true}, nil
	}
	return dataplane{}, hint{err, "name one by --envoy-binary or ISTHMUS_ENVOY, or take --dataplane go, which needs none"}
}

// sidecars reports whether the sidecars are Envoys.
func (p dataplane) sidecars() bool { return p.kind == dataplaneEnvoy || p.kind == dataplaneMixed }

// choose picks the parts of a world that are Envoys. Of a mixed world's gateways that is
// the last one of the last datacenter: in the demo it stands beside a Go gateway, and
// carries on when that stops.
func (w *world) choose(p dataplane) {
	w.dataplane = p
	for i, g := range w.gateways {
		if p.kind == dataplaneEnvoy || p.kind == dataplaneMixed && i == len(w.gateways)-1 {
			g.envoy = w.newEnvoy(g.datacenter, g.node, g.instance)
		}
	}
	for i := range w.sidecars {
		if s := &w.sidecars[i]; p.sidecars() {
			s.envoy = w.newEnvoy(s.datacenter, s.node, s.instance)
		}
	}
}

// envoys are the parts that are Envoys, the gateways first.
func (w *world) envoys() []*worldEnvoy {
	var out []*worldEnvoy
	for _, g := range w.gateways {
		if g.envoy != nil {
			out = append(out, g.envoy)
		}
	}
	for _, s := range w.sidecars {
		if s.envoy != nil {
			out = append(out, s.envoy)
		}
	}
	return out
}

// dataplaneText says what the data plane is, for people.
func (w *world) dataplaneText() string {
	p := w.dataplane
	switch {
	case p.kind == dataplaneEnvoy:
		return "Envoy sidecars and gateways (" + p.envoy + ")"
	case p.kind == dataplaneMixed:
		var ours, envoys []string
		for _, g := range w.gateways {
			if g.envoy != nil {
				envoys = append(envoys, g.name)
			} else {
				ours = append(ours, g.name)
			}
		}
		return fmt.Sprintf("Envoy sidecars; gateways: %s an Envoy, %s in Go (%s)", strings.Join(envoys, ", "), strings.Join(ours, ", "), p.envoy)
	case p.missing:
		return "Go sidecars and gateways, as no Envoy was found: name one by ISTHMUS_ENVOY or put it on the PATH"
	}
	return "Go sidecars and gateways"
}
