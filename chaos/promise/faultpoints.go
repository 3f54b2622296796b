package promise

import "github.com/seed-4d73690b/rafthttp/internal/faultpoint"

// hasPoints says whether the library is built with fault points (build tag faultpoints).
const hasPoints = faultpoint.Enabled

// playPoints has fault points do what the plan's seed decides, if it has them. What it returns ends that, and counts.
func (s *simulation) playPoints() (end func()) {
	if !s.plan.Points {
		return func() {}
	}
	if !hasPoints {
		s.violate("simulation", "the plan has fault points, for which it has to be built with -tags faultpoints")
	}
	faultpoint.Seed(s.plan.Seed + 1) // 0 would do nothing
	return func() {
		for name, n := range faultpoint.Hits() {
			s.countN("fault point "+name, int(n))
		}
		faultpoint.Seed(0)
	}
}

// inTime reports whether judges of time look: a fault point sleeps where nobody can tell how long, and refuses what would
// have gone well.
func (s *simulation) inTime() bool { return !s.plan.Points }
