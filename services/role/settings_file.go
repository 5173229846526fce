package role

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// FileSetting is one line of a settings file.
type FileSetting struct {
	// Name is that of a flag, with dashes.
	Name  string
	Value string
	// File and Line are where it stands; lines count from 1.
	File string
	Line int
}

func (f FileSetting) place() string { return fmt.Sprintf("%s:%d", f.File, f.Line) }

// ParseSettings reads a settings file. A line is `name = value`, named as the
// flag is, with - or _; a value may stand in double quotes, as in Go or HCL; a
// setting with several values stands in several lines; # begins a comment, at
// the start of a line or after a blank.
//
// Settings are flat, so a flat file says all there is to say, each with its
// line, and no library stands between the text and the message about it.
//
// All lines that are wrong are reported at once. Errors: [ErrSettingLine].
func ParseSettings(file string, data []byte) ([]FileSetting, error) {
	var (
		settings []FileSetting
		errs     []error
		number   int
	)
	for line := range strings.Lines(string(data)) {
		number++
		setting := FileSetting{File: file, Line: number}
		text := strings.TrimSpace(line)
		if text == "" || text[0] == '#' {
			continue
		}
		name, value, ok := strings.Cut(text, "=")
		setting.Name = strings.ReplaceAll(strings.TrimSpace(name), "_", "-")
		if ok && setting.Name != "" {
			setting.Value, ok = settingValue(strings.TrimSpace(value))
		}
		if !ok || setting.Name == "" || strings.ContainsAny(setting.Name, " \t\"") {
			errs = append(errs, fmt.Errorf("%s: %w: %q", setting.place(), ErrSettingLine, text))
			continue
		}
		settings = append(settings, setting)
	}
	return settings, errors.Join(errs...)
}

// settingValue is the value of a line, without quotes and comment.
func settingValue(text string) (value string, ok bool) {
	if strings.HasPrefix(text, `"`) {
		quoted, err := strconv.QuotedPrefix(text)
		if err != nil {
			return "", false
		}
		if rest := strings.TrimSpace(text[len(quoted):]); rest != "" && rest[0] != '#' {
			return "", false
		}
		value, err = strconv.Unquote(quoted)
		return value, err == nil
	}
	for _, comment := range []string{" #", "\t#"} {
		text, _, _ = strings.Cut(text, comment)
	}
	return strings.TrimSpace(text), !strings.HasPrefix(text, "#")
}
