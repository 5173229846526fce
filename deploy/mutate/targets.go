package main

// target is a file whose rules are worth breaking, and the packages whose tests
// own them. Paths are relative to the top of the repository.
type target struct {
	file  string
	tests []string
}

// targets are the rules of precedence, of the ClientHello and of intentions.
var targets = []target{
	{"proto/isthmus/v1/mode.go", []string{"./proto/isthmus/v1"}},
	{"proto/isthmus/v1/intention.go", []string{"./proto/isthmus/v1"}},
	{"services/resolver/mode.go", []string{"./services/resolver"}},
	{"services/resolver/inbound.go", []string{"./services/resolver"}},
	{"gateway/hello/hello.go", []string{"./gateway/hello"}},
	{"gateway/hello/message.go", []string{"./gateway/hello"}},
	{"gateway/hello/parser.go", []string{"./gateway/hello"}},
	{"gateway/sidecar/authorize.go", []string{"./gateway/sidecar"}},
}
