package xdsnode

import (
	"slices"
	"strings"
)

// Candidates are all proxies that a node and an ID may mean, as [Machine.Find] reads
// them, of whatever kind, sorted by name.
func (m *Machine) Candidates(node, id string) []*Proxy {
	var found []*Proxy
	for _, p := range m.byID[strings.ToLower(id)] {
		if node == "" || strings.EqualFold(p.Routes.GetNode(), node) {
			found = append(found, p)
		}
	}
	slices.SortFunc(found, func(a, b *Proxy) int { return a.key.Compare(b.key) })
	return found
}
