// Package grafana holds the dashboard of the gateways, gateways.json, to be
// imported into Grafana with a Prometheus that scrapes the gateways' admin
// servers.
//
// It promises that the dashboard is importable as it is, and that every metric,
// label and value that its queries name is one that a gateway exposes.
//
// There is nothing here but tests.
package grafana
