package role

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// EnvironmentPrefix stands before the name of every setting in the environment.
const EnvironmentPrefix = "ISTHMUS_"

// Errors of [Resolve] and [ParseSettings], wrapped with the place.
var (
	// ErrUnknownSetting says that a file sets something that the command does not
	// have.
	ErrUnknownSetting = errors.New("no such setting")
	// ErrSettingTwice says that a file sets something twice that has one value.
	ErrSettingTwice = errors.New("the setting is there already")
	// ErrSettingLine says that a line of a file is not `name = value`.
	ErrSettingLine = errors.New("the line is not of the form: name = value")
	// ErrSettingValue says that a value cannot be what the setting is.
	ErrSettingValue = errors.New("the value does not fit the setting")
)

// Setting is one setting of a command: a flag.
type Setting struct {
	// Name is the flag's, like admin-bind.
	Name string
	// Given says that the command line sets it.
	Given bool
	// Many says that it takes several values: Set is called for each of them.
	Many bool
	// Set takes a value as the flag would.
	Set func(value string) error
}

// EnvironmentName is the variable that sets a setting: ISTHMUS_ADMIN_BIND for
// admin-bind.
func EnvironmentName(setting string) string {
	return EnvironmentPrefix + strings.ToUpper(strings.ReplaceAll(setting, "-", "_"))
}

// Resolve gives each setting its value from the first place that has one: the
// command line (which has set it already), the environment, the file. The
// default is what the setting holds when nothing sets it. An empty variable
// sets nothing. In a variable, several values of one setting are separated by
// commas.
//
// All that is wrong is reported at once. Errors: [ErrUnknownSetting] (with the
// name that may be meant), [ErrSettingTwice], [ErrSettingValue].
func Resolve(settings []Setting, environment func(name string) string, file []FileSetting) error {
	errs := checkFile(settings, file)
	for _, s := range settings {
		if s.Given {
			continue
		}
		variable := EnvironmentName(s.Name)
		if value := environment(variable); value != "" {
			errs = append(errs, s.setVariable(variable, value))
			continue
		}
		for _, f := range file {
			if f.Name == s.Name {
				errs = append(errs, s.set(f.place()+": "+s.Name, f.Value))
			}
		}
	}
	return errors.Join(errs...)
}

func (s Setting) setVariable(variable, value string) error {
	values := []string{value}
	if s.Many {
		values = strings.Split(value, ",")
	}
	for _, v := range values {
		if err := s.set(variable, strings.TrimSpace(v)); err != nil {
			return err
		}
	}
	return nil
}

func (s Setting) set(place, value string) error {
	if err := s.Set(value); err != nil {
		return fmt.Errorf("%s: %w: %q: %w", place, ErrSettingValue, value, err)
	}
	return nil
}

// checkFile finds what a file sets that cannot be set.
func checkFile(settings []Setting, file []FileSetting) []error {
	var errs []error
	lines := make(map[string]int)
	for _, f := range file {
		i := slices.IndexFunc(settings, func(s Setting) bool { return s.Name == f.Name })
		switch {
		case i < 0:
			errs = append(errs, fmt.Errorf("%s: %s: %w%s", f.place(), f.Name, ErrUnknownSetting, didYouMean(f.Name, settings)))
		case lines[f.Name] > 0 && !settings[i].Many:
			errs = append(errs, fmt.Errorf("%s: %s: %w, in line %d", f.place(), f.Name, ErrSettingTwice, lines[f.Name]))
		}
		lines[f.Name] = cmp.Or(lines[f.Name], f.Line)
	}
	return errs
}

func didYouMean(name string, settings []Setting) string {
	names := make([]string, len(settings))
	for i, s := range settings {
		names[i] = s.Name
	}
	if nearest := Nearest(name, names); nearest != "" {
		return fmt.Sprintf(" (did you mean %s?)", nearest)
	}
	return ""
}
