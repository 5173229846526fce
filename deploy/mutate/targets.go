package main

// targets are the files whose rules are worth breaking: those of precedence, of
// the ClientHello and of intentions. Each is owned by the tests of its own
// package. Paths are relative to the top of the repository.
var targets = []string{
	// Which level decides a mode, and what the decided mode leads to.
	"proto/isthmus/v1/mode.go",
	"services/resolver/mode.go",
	"services/resolver/merged.go",
	"services/resolver/sticky.go",
	"services/resolver/opaque.go",
	"services/resolver/source.go",
	"services/resolver/target.go",

	"gateway/hello/hello.go",
	"gateway/hello/message.go",
	"gateway/hello/parser.go",

	// Who a caller is, which intention speaks of it, and what follows.
	"proto/isthmus/v1/names.go",
	"proto/isthmus/v1/intention.go",
	"services/resolver/inbound.go",
	"gateway/sidecar/authorize.go",
	"xdsnode/resource/intentions.go",
	"xdsnode/resource/permissions.go",
}
