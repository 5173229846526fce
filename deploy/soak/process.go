package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// build builds the program as a release is built.
func build(ctx context.Context, dir, source string) (string, error) {
	path := filepath.Join(dir, "isthmus")
	if output, err := exec.CommandContext(ctx, "go", "build", "-trimpath", "-o", path, source).CombinedOutput(); err != nil {
		return "", fmt.Errorf("build: %w\n%s", err, output)
	}
	return path, nil
}

// process is a running gateway.
type process struct {
	command *exec.Cmd
	admin   string
	log     string
	done    chan struct{}
	err     error
}

// start runs a command until it ends; what it prints goes to a file.
func start(command *exec.Cmd, log, admin string) (*process, error) {
	file, err := os.Create(log)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	command.Stdout, command.Stderr = file, file
	// A soak that is killed takes its gateways along.
	command.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := command.Start(); err != nil {
		return nil, err
	}
	p := &process{command: command, admin: admin, log: log, done: make(chan struct{})}
	go func() {
		p.err = p.command.Wait()
		close(p.done)
	}()
	return p, nil
}

// stop asks the process to end, and returns how it did.
func (p *process) stop(ctx context.Context) error {
	_ = p.command.Process.Signal(syscall.SIGTERM)
	return p.ended(ctx)
}

// ended waits until the process has ended by itself, and returns how.
func (p *process) ended(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 2*patience)
	defer cancel()
	select {
	case <-p.done:
		if p.err != nil {
			return fmt.Errorf("a gateway ended with %w:\n%s", p.err, p.tail())
		}
		return nil
	case <-ctx.Done():
		return fmt.Errorf("a gateway does not end:\n%s", p.tail())
	}
}

// kill ends the process, if it has not ended.
func (p *process) kill() {
	_ = p.command.Process.Kill()
	<-p.done
}

// ready waits until the process says that it is.
func (p *process) ready(ctx context.Context) error {
	return await(ctx, "the gateway is not ready", func(ctx context.Context) error {
		select {
		case <-p.done:
			return errors.Join(errGivenUp, fmt.Errorf("it ended (%w):\n%s", p.err, p.tail()))
		default:
		}
		_, err := p.get(ctx, "/readyz")
		return err
	})
}

// tail is the end of what the process printed.
func (p *process) tail() string {
	content, _ := os.ReadFile(p.log)
	return string(content[max(0, len(content)-3000):])
}

// said reports whether the process has printed a text.
func (p *process) said(text string) bool {
	content, _ := os.ReadFile(p.log)
	return strings.Contains(string(content), text)
}

// admins asks admin servers, which keep no connection for it.
var admins = &http.Client{Timeout: patience, Transport: &http.Transport{DisableKeepAlives: true}}

func (p *process) get(ctx context.Context, path string) (string, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+p.admin+path, http.NoBody)
	if err != nil {
		return "", err
	}
	answer, err := admins.Do(request)
	if err != nil {
		return "", err
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	if err == nil && answer.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s", answer.Status, body)
	}
	return string(body), err
}

// metrics are a gateway's, by name and labels as they are written.
type metrics map[string]float64

func (p *process) metrics(ctx context.Context) (metrics, error) {
	text, err := p.get(ctx, "/metrics")
	if err != nil {
		return nil, err
	}
	return parseMetrics(text)
}

func parseMetrics(text string) (metrics, error) {
	m := make(metrics)
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if !strings.HasPrefix(line, "isthmus_gateway_") {
			continue
		}
		at := strings.LastIndexByte(line, ' ')
		value, err := strconv.ParseFloat(line[at+1:], 64)
		if err != nil {
			return nil, fmt.Errorf("a metric is %q: %w", line, err)
		}
		m[line[:max(at, 0)]] = value
	}
	return m, nil
}

// sum is that of a gateway's metric over its labels, or of those series of it
// that have a label.
func (m metrics) sum(name, label string) (total float64) {
	for series, value := range m {
		family, labels, _ := strings.Cut(series, "{")
		if family == "isthmus_gateway_"+name && strings.Contains(labels, label) {
			total += value
		}
	}
	return total
}

// descriptors counts the open ones.
func (p *process) descriptors() (int, error) {
	dir, err := os.Open(fmt.Sprintf("/proc/%d/fd", p.command.Process.Pid))
	if err != nil {
		return 0, err
	}
	defer dir.Close()
	names, err := dir.Readdirnames(-1)
	return len(names), err
}

// memory is what the process holds, in bytes: its resident set, and its
// proportional one, in which shared pages are counted once for all.
type memory struct{ rss, pss int64 }

func (p *process) memory() (memory, error) {
	content, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", p.command.Process.Pid))
	if err != nil {
		return memory{}, err
	}
	return parseMemory(string(content))
}

func parseMemory(content string) (m memory, err error) {
	found := 0
	for lines := bufio.NewScanner(strings.NewReader(content)); lines.Scan(); {
		fields := strings.Fields(lines.Text())
		if len(fields) != 3 || fields[0] != "Rss:" && fields[0] != "Pss:" {
			continue
		}
		kilobytes, err := strconv.ParseInt(fields[1], 10, 64)
		if err != nil {
			return m, fmt.Errorf("smaps_rollup: %w", err)
		}
		found++
		if fields[0] == "Rss:" {
			m.rss = kilobytes << 10
		} else {
			m.pss = kilobytes << 10
		}
	}
	if found != 2 {
		return m, errors.New("smaps_rollup has no lines Rss and Pss")
	}
	return m, nil
}

// atRest waits until the gateway has no connection, and returns its descriptors:
// when they are at most so many, or else, for a want of 0 or when they stay more,
// when they stand still.
func (p *process) atRest(ctx context.Context, want int) (int, error) {
	err := await(ctx, "the gateway keeps connections", func(ctx context.Context) error {
		m, err := p.metrics(ctx)
		if n := m.sum("connections_open", ""); err == nil && n != 0 {
			err = fmt.Errorf("%v are open", n)
		}
		return err
	})
	if err != nil {
		return 0, err
	}
	// Nobody asks its admin server now, which has a descriptor for each who does.
	last, stood := 0, 0
	err = await(ctx, "the gateway's descriptors do not stand still", func(context.Context) error {
		n, err := p.descriptors()
		if err != nil {
			return err
		}
		if stood++; n != last {
			last, stood = n, 0
		}
		if want > 0 && n <= want || stood >= standing {
			return nil
		}
		return fmt.Errorf("there are %d", n)
	})
	return last, err
}

// standing is how many looks in a row find the same where something stands still.
const standing = 100

// errGivenUp ends an await before its time.
var errGivenUp = errors.New("given up")

// lookEvery is how often something is looked at that does not call.
const lookEvery = 2 * time.Millisecond

// await looks until look returns nil, and returns its last error when that takes
// too long, or when it has given up.
func await(ctx context.Context, what string, look func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	ticker := time.NewTicker(lookEvery)
	defer ticker.Stop()
	for {
		err := look(ctx)
		if err == nil {
			return nil
		}
		if errors.Is(err, errGivenUp) {
			return fmt.Errorf("%s: %w", what, err)
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return fmt.Errorf("%s: %w", what, err)
		}
	}
}
