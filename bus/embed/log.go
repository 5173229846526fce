package embed

import (
	"context"
	"fmt"
	"log/slog"
)

// serverLog hands the server's lines on.
type serverLog struct{ logger *slog.Logger }

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
func (l serverLog) Fatalf(format string, v ...any) { l.line(slog.LevelError, format, v) }

// line hands on a line whose text only the server knows.
func (l serverLog) line(level slog.Level, format string, v []any) {
	l.logger.Log(context.Background(), level, "nats-server", "line", fmt.Sprintf(format, v...))
}
