package isthmusv1

import (
	"fmt"
	"regexp"
	"strings"

	"google.golang.org/protobuf/types/known/durationpb"
)

// subsetName is what may stand as a label of a server name.
var subsetName = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$`)

func (v *Violations) notNegative(path string, d *durationpb.Duration) {
	if d.AsDuration() < 0 {
		v.add(path, fmt.Sprintf("%s is negative", d.AsDuration()), "give a duration of zero or more")
	}
}

// subsetOf reports whether a reference to a subset can be judged by this entry
// alone and is wrong: it names a subset of the entry's own service that is not
// there.
func (v *Violations) subsetOf(path string, e *ConfigEntry, r *ServiceResolver, service, subset string) {
	if subset == "" || (service != "" && !strings.EqualFold(service, e.GetName())) {
		return
	}
	for _, s := range r.GetSubsets() {
		if s.GetName() == subset {
			return
		}
	}
	v.add(path, fmt.Sprintf("%q is not a subset of %s", subset, e.GetName()), "define it under subsets or name one that is there")
}

func (v *Violations) resolver(e *ConfigEntry, r *ServiceResolver) {
	for _, s := range r.GetSubsets() {
		if !subsetName.MatchString(s.GetName()) {
			v.add("subsets."+s.GetName(), fmt.Sprintf("%q cannot name a subset: it stands in server names", s.GetName()),
				"use lower-case letters, digits and dashes, at most 63")
		}
	}
	v.subsetOf("default_subset", e, r, "", r.GetDefaultSubset())
	v.notNegative("connect_timeout", r.GetConnectTimeout())
	v.notNegative("request_timeout", r.GetRequestTimeout())
	v.oneOf("prioritize_by_locality.mode", "locality mode", r.GetPrioritizeByLocality(), "none", "failover")
	if r.GetRedirect() != nil {
		v.redirect(e, r)
	}
	for _, f := range r.GetFailover() {
		v.failover(e, r, f)
	}
}

func (v *Violations) redirect(e *ConfigEntry, r *ServiceResolver) {
	d := r.GetRedirect()
	if len(r.GetFailover()) > 0 {
		v.add("redirect", "a resolver redirects or fails over", "give redirect or failover, not both")
	}
	if d.GetService()+d.GetServiceSubset()+d.GetNamespace()+d.GetPartition()+d.GetDatacenter()+d.GetPeer()+d.GetSamenessGroup() == "" {
		v.add("redirect", "the redirect leads nowhere", "give service, service_subset or datacenter")
		return
	}
	if d.GetService() == "" {
		for _, p := range []struct{ key, text string }{
			{"service_subset", d.GetServiceSubset()}, {"namespace", d.GetNamespace()},
			{"partition", d.GetPartition()}, {"peer", d.GetPeer()},
		} {
			if p.text != "" {
				v.add("redirect."+p.key, fmt.Sprintf("redirect.%s needs redirect.service", p.key), "give redirect.service")
			}
		}
	} else {
		v.exactName("redirect.service", d.GetService())
	}
	v.subsetOf("redirect.service_subset", e, r, d.GetService(), d.GetServiceSubset())
	v.peer("redirect", d.GetPeer(), d.GetServiceSubset(), d.GetPartition(), d.GetDatacenter())
	if d.GetDatacenter() != "" && (foreign(d.GetPartition()) || foreign(e.GetPartition())) {
		v.add("redirect.datacenter", "a redirect to another datacenter is only possible in the default partition", "leave out datacenter or partition")
	}
}

func foreign(partition string) bool {
	return partition != "" && !strings.EqualFold(partition, DefaultName)
}

// peer refuses what cannot stand beside a peer.
func (v *Violations) peer(path, peer, subset, partition, datacenter string) {
	if peer == "" {
		return
	}
	beside := []struct{ key, text string }{
		{"service_subset", subset}, {"partition", partition}, {"datacenter", datacenter},
	}
	for _, b := range beside {
		if b.text != "" {
			v.add(at(path, b.key), b.key+" cannot stand beside peer", "leave out one of the two")
		}
	}
}

func (v *Violations) failover(e *ConfigEntry, r *ServiceResolver, f *ServiceFailover) {
	path := "failover." + f.GetSubset()
	if f.GetSubset() != Wildcard {
		if f.GetSubset() == "" {
			v.add("failover", "a failover must name its subset", `use "*" for all subsets`)
		} else {
			v.subsetOf(path, e, r, "", f.GetSubset())
		}
	}
	single := f.GetService() + f.GetServiceSubset() + f.GetNamespace()
	if single == "" && len(f.GetDatacenters()) == 0 && len(f.GetTargets()) == 0 && f.GetSamenessGroup() == "" {
		v.add(path, "the failover leads nowhere", "give service, service_subset, namespace, datacenters, targets or sameness_group")
	}
	if len(f.GetTargets()) > 0 && (f.GetService() != "" || f.GetServiceSubset() != "" || len(f.GetDatacenters()) > 0 || f.GetSamenessGroup() != "") {
		v.add(at(path, "targets"), "targets cannot stand beside service, service_subset, datacenters or sameness_group", "put all of them into targets")
	}
	v.subsetOf(at(path, "service_subset"), e, r, f.GetService(), f.GetServiceSubset())
	if len(f.GetDatacenters()) > 0 && foreign(e.GetPartition()) {
		v.add(at(path, "datacenters"), "failover to other datacenters is only possible in the default partition", "leave out datacenters")
	}
	for i, dc := range f.GetDatacenters() {
		v.name(item(at(path, "datacenters"), i), dc)
	}
	for i, t := range f.GetTargets() {
		place := item(at(path, "targets"), i)
		v.subsetOf(at(place, "service_subset"), e, r, t.GetService(), t.GetServiceSubset())
		v.peer(place, t.GetPeer(), t.GetServiceSubset(), t.GetPartition(), t.GetDatacenter())
		if t.GetPartition() != "" && t.GetDatacenter() != "" {
			v.add(at(place, "partition"), "partition cannot stand beside datacenter", "leave out one of the two")
		}
	}
	v.failoverPolicy(at(path, "policy"), f.GetPolicy())
}

// wholeWeight is the sum of a splitter's weights: 100 %, in hundredths.
const wholeWeight = 10000

func (v *Violations) splitter(e *ConfigEntry, s *ServiceSplitter) {
	if len(s.GetSplits()) == 0 {
		v.add("splits", "a splitter needs at least one split", "give splits")
		return
	}
	var sum uint64
	seen := map[string]int{}
	for i, split := range s.GetSplits() {
		sum += uint64(split.GetWeight())
		place := item("splits", i)
		if split.GetService() != "" {
			v.exactName(at(place, "service"), split.GetService())
		}
		service := split.GetService()
		if service == "" {
			service = e.GetName()
		}
		key := Qualified(split.GetPartition(), split.GetNamespace(), service) + "\x00" + split.GetServiceSubset()
		if first, twice := seen[key]; twice {
			v.add(place, fmt.Sprintf("splits[%d] already leads to the same service and subset", first), "add the two weights into one split")
		} else {
			seen[key] = i
		}
	}
	if sum != wholeWeight {
		v.add("splits", fmt.Sprintf("the weights add up to %s, not 100", hundredths(sum)), "change the weights so that they add up to 100")
	}
}

func hundredths(n uint64) string {
	return strings.TrimSuffix(strings.TrimRight(fmt.Sprintf("%d.%02d", n/100, n%100), "0"), ".")
}
