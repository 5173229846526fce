package role

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// The ways in which a table of components is wrong. All are mistakes of the
// program, not of its user.
var (
	// ErrNoName says that a component has no name or no Run.
	ErrNoName = errors.New("a component has no name or nothing to run")
	// ErrSameName says that two components of one table share a name.
	ErrSameName = errors.New("two components have the same name")
	// ErrUnknownName says that After names a component that is not in the table.
	ErrUnknownName = errors.New("a component waits for one that is not in the table")
	// ErrCycle says that components wait for each other in a ring.
	ErrCycle = errors.New("components wait for each other")
)

// Order returns the components in the order in which they start: each after all
// that it names in After, and otherwise as they stand in the table.
//
// Errors: [ErrNoName], [ErrSameName], [ErrUnknownName], [ErrCycle].
func Order(table []Component) ([]Component, error) {
	if err := checkNames(table); err != nil {
		return nil, err
	}
	placed := make(map[string]bool, len(table))
	order := make([]Component, 0, len(table))
	for len(order) < len(table) {
		next := slices.IndexFunc(table, func(c Component) bool {
			return !placed[c.Name] && !slices.ContainsFunc(c.After, func(name string) bool { return !placed[name] })
		})
		if next < 0 {
			return nil, fmt.Errorf("%w: %s", ErrCycle, strings.Join(unplaced(table, placed), ", "))
		}
		placed[table[next].Name] = true
		order = append(order, table[next])
	}
	return order, nil
}

func checkNames(table []Component) error {
	known := make(map[string]bool, len(table))
	for i, c := range table {
		if c.Name == "" || c.Run == nil {
			return fmt.Errorf("%w: row %d %q", ErrNoName, i+1, c.Name)
		}
		if known[c.Name] {
			return fmt.Errorf("%w: %s", ErrSameName, c.Name)
		}
		known[c.Name] = true
	}
	for _, c := range table {
		for _, name := range c.After {
			if !known[name] {
				return fmt.Errorf("%w: %s waits for %s", ErrUnknownName, c.Name, name)
			}
		}
	}
	return nil
}

func unplaced(table []Component, placed map[string]bool) []string {
	var names []string
	for _, c := range table {
		if !placed[c.Name] {
			names = append(names, c.Name)
		}
	}
	return names
}
