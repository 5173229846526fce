package compare

// joinAssignment has a cluster's assignment compared under the cluster's name.
func (s *side) joinAssignment(n *node) {
	eds := n.at("eds_cluster_config")
	if n.say("type") != "EDS" || eds == nil {
		return
	}
	name := s.current
	if other := eds.at("service_name"); other != nil {
		name = other.text
		delete(eds.fields, "service_name")
	}
	sent := s.sent[typeAssignment][name]
	if sent == nil {
		return // That it is missing is a difference, unless it is missing on both sides.
	}
	s.joined[typeAssignment][name] = true
	s.assignment = s.unwrap(sent)
	delete(s.assignment.fields, "cluster_name")
}

// joinRoutes has routes stand where they are named.
func (s *side) joinRoutes(n *node) {
	name := n.say("rds", "route_config_name")
	sent := s.sent[typeRoute][name]
	if sent == nil {
		return
	}
	s.joined[typeRoute][name] = true
	found := s.unwrap(sent)
	delete(found.fields, typeField)
	delete(n.fields, "rds")
	n.fields["route_config"] = found
}
