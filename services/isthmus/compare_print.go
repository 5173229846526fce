package main

import (
	"errors"
	"fmt"
)

// widest is how much of a value a table shows.
const widest = 60

func (a *app) printCompared(asJSON bool, found []compared) error {
	var failed error
	for _, c := range found {
		if c.Error != "" || c.unintended() > 0 {
			failed = finding{exitFailure}
		}
	}
	if asJSON {
		return errors.Join(printJSON(a.stdout, found), failed)
	}
	var rows [][]string
	equal, intended, unintended := 0, 0, 0
	for _, c := range found {
		for _, d := range c.Differences {
			rows = append(rows, []string{c.Proxy, d.Type, d.Name, d.Field, shortened(d.Ours), shortened(d.Theirs), d.Intended})
		}
		if len(c.Differences) == 0 && c.Error == "" {
			equal++
		}
		unintended += c.unintended()
		intended += len(c.Differences) - c.unintended()
	}
	if len(rows) > 0 {
		a.printTable([]string{"PROXY", "TYPE", "RESOURCE", "FIELD", "OURS", "CONSUL", "INTENDED"}, rows)
	}
	for _, c := range found {
		if c.Error != "" {
			fmt.Fprintf(a.stderr, "%s cannot be compared: %s\n", c.Proxy, c.Error)
		}
	}
	proxies := fmt.Sprintf("%d proxies", len(found))
	if len(found) == 1 {
		proxies = "1 proxy"
	}
	fmt.Fprintf(a.stdout, "%s: %d without a difference; %s intended, %d not\n", proxies, equal, count(intended, "difference"), unintended)
	return failed
}

// shortened is as much of a value as a table shows.
func shortened(text string) string {
	if r := []rune(text); len(r) > widest {
		return string(r[:widest-1]) + "…"
	}
	return text
}
