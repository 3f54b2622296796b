//go:build faultpoints

package promise

import "github.com/seed-4d73690b/rafthttp/internal/faultpoint"

func init() {
	points.on = true
	for _, p := range faultpoint.Table() {
		points.names = append(points.names, p.Name)
	}
	points.seed = func(seed uint64) func() map[string]uint64 {
		faultpoint.Seed(seed + 1) // 0 would do nothing
		return func() map[string]uint64 {
			hits := faultpoint.Hits()
			faultpoint.Seed(0)
			return hits
		}
	}
}
