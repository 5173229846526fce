package oracle_test

import "testing"

// upstreams compares what single targets come to: names, addresses, health.
func (w *world) upstreams(t *testing.T) {
	w.play(t, "upstream", append(nameScenes(), addressScenes()...))
}

func nameScenes() []scene {
	subsets := func(service string) written {
		return written{"service-resolver", service, object{
			"DefaultSubset": "v1", "ConnectTimeout": "7s",
			"Subsets": object{
				"v1": object{"Filter": "Service.Meta.version == v1"},
				"up": object{"Filter": "Service.Meta.version == v2", "OnlyPassing": true},
			},
		}}
	}
	v1 := func(i instance) instance { return i.with(object{"Meta": object{"version": "v1"}}) }
	return []scene{{
		name: "in the same datacenter, remote", upstream: to("na-api"), mode: "remote",
		here: one("na-api", "31"), there: one("na-api", "32"), want: "na-api.dc1 direct",
	}, {
		name: "in the same datacenter, by its name, local", upstream: toDatacenter("nb-api", "dc1"), mode: "local",
		here: one("nb-api", "33"), want: "nb-api.dc1 direct",
	}, {
		name: "a default subset and its timeout, none", upstream: toDatacenter("nc-api", "dc2"), mode: "none",
		entries: []written{subsets("nc-api")}, there: []instance{v1(plain("nc-api", "34")), plain("nc-api", "35")},
		here: []instance{v1(plain("nc-api", "46")), plain("nc-api", "47")}, // For the gateways' names.
		want: "v1.nc-api.dc2 direct",
	}, {
		name: "a default subset, remote", upstream: toDatacenter("nd-api", "dc2"), mode: "remote",
		entries: []written{subsets("nd-api")}, there: []instance{v1(plain("nd-api", "36")), plain("nd-api", "37")},
		want: "v1.nd-api.dc2 remote-gateway",
	}, {
		name: "a subset without an instance, local", upstream: toDatacenter("ne-api", "dc2"), mode: "local",
		entries: []written{subsets("ne-api")}, there: one("ne-api", "38"), want: "v1.ne-api.dc2 local-gateway",
	}, {
		name: "a subset of passing instances", upstream: to("nf-web"), mode: "none", entries: []written{
			subsets("nf-api"),
			{"service-resolver", "nf-web", object{"Redirect": object{"Service": "nf-api", "ServiceSubset": "up", "Datacenter": "dc2"}}},
		},
		there: []instance{
			plain("nf-api", "39").with(object{"Meta": object{"version": "v2"}}).check("warning"),
			plain("nf-api", "40").with(object{"Meta": object{"version": "v2"}}).check("passing"),
		},
		want: "up.nf-api.dc2 direct",
	}, {
		name: "an external name, remote", upstream: toDatacenter("ng-api", "dc2"), mode: "remote",
		entries: []written{{"service-defaults", "ng-api", object{"ExternalSNI": "api.example.com"}}},
		there:   one("ng-api", "41"), want: "api.example.com direct",
	}, {
		name: "an external name with a mode of its own", upstream: toDatacenter("nh-api", "dc2"),
		entries: []written{{"service-defaults", "nh-api", object{"ExternalSNI": "h.example.com", "MeshGateway": mode("local")}}},
		there:   one("nh-api", "42"), want: "h.example.com direct",
	}, {
		name: "a timeout of the upstream, and a protocol", mode: "local", there: one("ni-api", "43"),
		upstream: object{"DestinationName": "ni-api", "Datacenter": "dc2", "Config": object{"connect_timeout_ms": 1234, "protocol": "grpc"}},
		want:     "ni-api.dc2 local-gateway",
	}, {
		name: "modes in opaque config, which mean nothing", there: one("nj-api", "44"), want: "nj-api.dc2 direct",
		upstream: object{"DestinationName": "nj-api", "Datacenter": "dc2", "Config": object{"mesh_gateway": mode("remote")}},
	}, {
		name: "an unknown datacenter", upstream: toDatacenter("nk-api", "dc9"), mode: "remote", want: "nk-api.dc9 nowhere",
		differs: unknownDatacenter, apply: func(their view) view {
			if t := &their[0][0]; t.Unassigned {
				t.Unassigned, t.Problems = false, []string{"UNKNOWN_DATACENTER"}
			}
			return their
		},
	}, {
		name: "a name with capitals", upstream: toDatacenter("Nl-Api", "dc2"), mode: "remote",
		there: one("Nl-Api", "45"), want: "Nl-Api.dc2 remote-gateway",
	}}
}

func addressScenes() []scene {
	plainAt := func(service, number string, tagged object, address string) instance {
		return plain(service, number).with(object{"TaggedAddresses": tagged, "Address": address})
	}
	return []scene{{
		name: "addresses in another datacenter", upstream: toDatacenter("aa-api", "dc2"), mode: "none",
		there: []instance{
			plain("aa-api", "51"),
			plainAt("aa-api", "52", object{"wan": object{"Address": "192.0.2.52"}}, "10.9.0.52"),
			plainAt("aa-api", "53", object{"lan": object{"Address": "10.9.1.53", "Port": 1}}, "10.9.0.53"),
			plainAt("aa-api", "54", object{}, ""),
		},
		want: "aa-api.dc2 direct",
	}, {
		name: "addresses in the same datacenter", upstream: to("ab-api"), mode: "none",
		here: []instance{
			plain("ab-api", "55"),
			plainAt("ab-api", "56", object{"lan": object{"Address": "10.9.1.56", "Port": 1}}, "10.9.0.56"),
			plainAt("ab-api", "57", object{}, ""),
		},
		want: "ab-api.dc1 direct",
	}, {
		name: "health and weights", upstream: toDatacenter("ac-api", "dc2"), mode: "none",
		there: []instance{
			plain("ac-api", "58").check("passing").with(object{"Weights": object{"Passing": 3, "Warning": 2}}),
			plain("ac-api", "59").check("warning").with(object{"Weights": object{"Passing": 3, "Warning": 2}}),
			plain("ac-api", "60").check("critical").with(object{"Weights": object{"Passing": 3, "Warning": 2}}),
			plain("ac-api", "61").with(object{"Weights": object{"Passing": 1000, "Warning": 1}}),
			plain("ac-api", "62").check("warning").with(object{"Weights": object{"Passing": 3, "Warning": 0}}),
		},
		want: "ac-api.dc2 direct",
	}, {
		name: "all backends critical, remote", upstream: toDatacenter("ad-api", "dc2"), mode: "remote",
		there: []instance{plain("ad-api", "63").check("critical")}, want: "ad-api.dc2 remote-gateway",
	}, {
		name: "one of two backends critical, local", upstream: toDatacenter("ae-api", "dc2"), mode: "local",
		there: []instance{plain("ae-api", "64").check("critical"), plain("ae-api", "65").check("warning")},
		want:  "ae-api.dc2 local-gateway",
	}, {
		name: "no backend, remote", upstream: toDatacenter("af-api", "dc2"), mode: "remote", want: "af-api.dc2 remote-gateway",
	}, {
		name: "no backend, none", upstream: toDatacenter("ag-api", "dc2"), mode: "none", want: "ag-api.dc2 nowhere",
	}, {
		name: "an instance that speaks for itself", upstream: toDatacenter("ah-api", "dc2"), mode: "none",
		there: []instance{{id: "ah-api", fields: object{
			"Name": "ah-api", "Address": "10.9.0.66", "Port": 80, "Connect": object{"Native": true},
		}}},
		want: "ah-api.dc2 direct",
	}}
}
