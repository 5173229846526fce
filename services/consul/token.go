package consul

import (
	"fmt"
	"os"
	"strings"
	"sync"
	"time"
)

// tokenSource is a token, or the file that holds it: whoever renews the file need
// not restart anything.
type tokenSource struct {
	value, file string

	mu       sync.Mutex
	modified time.Time
}

// get returns the token of this moment; empty: none, so that requests are
// anonymous, or have the agent's own default token.
func (t *tokenSource) get() (string, error) {
	if t.file == "" {
		return t.value, nil
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	info, err := os.Stat(t.file)
	if err != nil {
		if !t.modified.IsZero() {
			return t.value, nil // Between two versions: the last good one stays.
		}
		return "", fmt.Errorf("file of the Consul token: %w", err)
	}
	if info.ModTime().Equal(t.modified) {
		return t.value, nil
	}
	data, err := os.ReadFile(t.file)
	if err != nil {
		return "", fmt.Errorf("file of the Consul token: %w", err)
	}
	if value := strings.TrimSpace(string(data)); value != "" {
		t.value, t.modified = value, info.ModTime()
	}
	if t.value == "" {
		return "", fmt.Errorf("file of the Consul token %s is empty", t.file)
	}
	return t.value, nil
}
