package relay_test

import (
	"errors"
	"testing"

	"github.com/isthmus-mesh/isthmus/gateway/engine"
	"github.com/isthmus-mesh/isthmus/gateway/relay"
	"github.com/isthmus-mesh/isthmus/gateway/table"
)

func TestNoConnectionsAreOpenedAhead(t *testing.T) {
	_, err := relay.New(engine.Config{Table: func() *table.Table { return new(table.Table) }, OpenAhead: 1})
	if !errors.Is(err, engine.ErrNoOpenAhead) {
		t.Errorf("New: %v; want %v", err, engine.ErrNoOpenAhead)
	}
}
