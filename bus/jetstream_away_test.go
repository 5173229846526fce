package bus_test

import (
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/isthmus-mesh/isthmus/bus"
	"github.com/isthmus-mesh/isthmus/bus/embed"
)

// logChannel is where a test waits for what is logged.
type logChannel chan string

func (l logChannel) Write(b []byte) (int, error) {
	l <- string(b)
	return len(b), nil
}

// A server that is away is named once, by the connection; those that wait for it
// add nothing, and what is closed on purpose is no trouble.
func TestJetStreamSaysOnceThatNATSIsAway(t *testing.T) {
	said := make(logChannel, 1000)
	logger := slog.New(slog.NewTextHandler(said, &slog.HandlerOptions{Level: slog.LevelWarn}))
	free := freePort(t)
	log, err := bus.Connect(fmt.Sprintf("nats://user:secret@%s:%d", testHost(), free), bus.Options{Logger: logger})
	if err != nil {
		t.Fatal(err)
	}
	first := receive(t, said)
	if !strings.Contains(first, "NATS cannot be reached") || !strings.Contains(first, fmt.Sprintf("servers=nats://%s:%d", testHost(), free)) || strings.Contains(first, "secret") {
		t.Errorf("said %s", first)
	}
	w, err := bus.NewWriter(withDefaults(bus.WriterConfig{Log: log, Logger: logger}))
	if err != nil {
		t.Fatal(err)
	}
	changed := w.Notify()
	writer := start(t, w.Run)
	for range 3 {
		_, err := log.State(t.Context(), catalog)
		if !errors.Is(err, bus.ErrUnanswered) || !errors.Is(err, bus.ErrDisconnected) || strings.Contains(err.Error(), "buffer") {
			t.Errorf("no server: %v", err)
		}
	}
	server(t, embed.Options{Port: free})
	for !w.Active() {
		receive(t, changed)
	}
	writer.kill()
	log.Close()
	close(said)
	for line := range said {
		if strings.Contains(line, "NATS") {
			t.Errorf("also said %s", line)
		}
	}
}
