package e2e_test

// compared: isthmus compare finds that what Consul serves to proxies of a datacenter's
// agent differs from ours in nothing but what is intended.
func (w *consulWorld) compared(datacenter string, args ...string) {
	w.t.Helper()
	args = append([]string{"compare", "--consul", w.agents[datacenter].HTTP, "--nats", w.nats, "--patience", "20s"}, args...)
	out, err := run(w.t, args...)
	if err != nil {
		w.t.Errorf("isthmus %v (%v):\n%s", args, err, out)
	}
}
