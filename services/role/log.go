package role

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
)

// ErrLogFormat says that a log format is neither text nor json.
var ErrLogFormat = errors.New("the log format is text or json")

// ErrLogLevel says that a log level is not one of slog's.
var ErrLogLevel = errors.New("the log level is debug, info, warn or error")

// NewLogHandler makes the handler of a role's logger: format text or json, level
// debug, info, warn or error. Errors: [ErrLogFormat], [ErrLogLevel].
func NewLogHandler(w io.Writer, format, level string) (slog.Handler, error) {
	var minimum slog.Level
	if err := minimum.UnmarshalText([]byte(level)); err != nil {
		return nil, fmt.Errorf("%w, not %q", ErrLogLevel, level)
	}
	options := &slog.HandlerOptions{Level: minimum}
	switch format {
	case "text":
		return slog.NewTextHandler(w, options), nil
	case "json":
		return slog.NewJSONHandler(w, options), nil
	default:
		return nil, fmt.Errorf("%w, not %q", ErrLogFormat, format)
	}
}
