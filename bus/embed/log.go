package embed

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
)

// serverLog hands the server's lines on, and keeps why it could not start.
type serverLog struct {
	logger *slog.Logger
	fatal  *fatalErrors
}

// fatalErrors are what the server would have exited for.
type fatalErrors struct {
	mu   sync.Mutex
	errs []error
}

func (f *fatalErrors) add(line string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.errs = append(f.errs, errors.New(line))
}

func (f *fatalErrors) err() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return errors.Join(f.errs...)
}

// Noticef implements [server.Logger].
func (l serverLog) Noticef(format string, v ...any) { l.line(slog.LevelDebug, format, v) }

// Debugf implements [server.Logger].
func (l serverLog) Debugf(format string, v ...any) { l.line(slog.LevelDebug, format, v) }

// Tracef implements [server.Logger].
func (l serverLog) Tracef(format string, v ...any) { l.line(slog.LevelDebug, format, v) }

// Warnf implements [server.Logger].
func (l serverLog) Warnf(format string, v ...any) { l.line(slog.LevelWarn, format, v) }

// Errorf implements [server.Logger].
func (l serverLog) Errorf(format string, v ...any) { l.line(slog.LevelError, format, v) }

// Fatalf implements [server.Logger]; the server does not exit by itself here.
func (l serverLog) Fatalf(format string, v ...any) {
	l.fatal.add(fmt.Sprintf(format, v...))
	l.line(slog.LevelError, format, v)
}

// line hands on a line whose text only the server knows.
func (l serverLog) line(level slog.Level, format string, v []any) {
	l.logger.Log(context.Background(), level, "nats-server", "line", fmt.Sprintf(format, v...))
}
