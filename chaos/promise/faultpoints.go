package promise

// points are the fault points inside the library, where it is built with them (build tag faultpoints).
var points struct {
	on    bool
	names []string
	// seed has a seed decide what happens at them, until hits is called, which returns how often each was hit.
	seed func(seed uint64) (hits func() map[string]uint64)
}

// playPoints has fault points do what the plan's seed decides. What it returns ends that, and counts.
func (s *simulation) playPoints() (end func()) {
	if !points.on {
		return func() {}
	}
	hits := points.seed(s.plan.Seed)
	return func() {
		for name, n := range hits() {
			s.countN("fault point "+name, int(n))
		}
	}
}

// inTime reports whether judges of time look: a fault point sleeps where nobody can tell how long, and refuses what would
// have gone well.
func (s *simulation) inTime() bool { return !points.on }
