package memlog_test

import (
	"testing"

	"github.com/isthmus-mesh/isthmus/bus/bustest"
	"github.com/isthmus-mesh/isthmus/bus/memlog"
)

func TestConformance(t *testing.T) {
	bustest.Run(t, memlog.New(memlog.Options{}).Connect("conformance"))
}
