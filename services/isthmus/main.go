// Isthmus carries service-mesh traffic between datacenters: one binary with a
// role per command.
//
// This package is wiring only: it reads settings, makes parts and starts them.
// Exit codes are 0 for success, 1 for a failure or a finding, and 2 for a
// command line that cannot be understood.
package main

import (
	"context"
	"os"
)

func main() {
	os.Exit(newApp(os.Stdout, os.Stderr, os.Getenv).main(context.Background(), os.Args[1:]))
}
