package ads

// tell reports what is known of a stream's proxy, unless a newer stream of the proxy
// does.
func (s *Server) tell(st *session) {
	if s.cfg.Reports == nil {
		return
	}
	s.said.Lock()
	defer s.said.Unlock()
	s.speak(st)
}

func (s *Server) speak(st *session) {
	if st.silent {
		return
	}
	if other := s.speakers[st.name]; other != nil && other.joined > st.joined {
		return
	}
	s.speakers[st.name] = st
	// What is newest is told, whoever has come first to tell.
	st.mu.Lock()
	said := st.progress.status(st.name, st.kind)
	st.mu.Unlock()
	s.cfg.Reports.Proxy(said)
}

// silence has a stream that has ended tell nothing more, but another one of the proxy,
// if there is one.
func (s *Server) silence(st, other *session) {
	if s.cfg.Reports == nil {
		return
	}
	s.said.Lock()
	defer s.said.Unlock()
	st.silent = true
	if s.speakers[st.name] != st {
		return
	}
	delete(s.speakers, st.name)
	if other != nil && !other.silent {
		s.speak(other)
		return
	}
	s.cfg.Reports.Forget(st.name)
}
