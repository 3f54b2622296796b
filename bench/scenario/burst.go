package scenario

import (
	"slices"
	"sync"
	"time"
)

const (
	burstBytes = 300 << 20
	bursts     = 6
)

// inBursts proposes many entries at once, again and again, to a group of which no member is slow.
func inBursts(r *groupRun) (Outcome, error) {
	n := int(r.bytes(burstBytes) / entryBytes)
	if _, err := r.burst(max(1, n/4)); err != nil { // as a warm-up
		return Outcome{}, err
	}
	dropped, reports, used := r.group.dropped(), r.group.leader().Reports(), cpuTime()
	var busy time.Duration
	var all []time.Duration
	for range bursts {
		start := time.Now()
		took, err := r.burst(n)
		if err != nil {
			return Outcome{}, err
		}
		busy += time.Since(start)
		all = append(all, took...)
		if err := r.group.await("that all members have the burst", func() bool { return r.group.level(2) && r.group.level(followerID) }); err != nil {
			return Outcome{}, err
		}
	}
	used = cpuTime() - used
	slices.Sort(all)
	bytes := float64(bursts) * float64(n) * entryBytes
	return Outcome{Figures: Figures{
		Commits: bytes / busy.Seconds() / 1e6, TailBulk: percentile(all, 0.99) * 1e3, CPUPerGB: used.Seconds() / (bytes / 1e9),
		Drops: float64(r.group.dropped() - dropped), Reports: float64(r.group.leader().Reports() - reports),
	}}, nil
}

// burst proposes n entries as fast as raft takes them, and waits until the leader has applied all of them. It returns how
// long each took.
func (r *groupRun) burst(n int) ([]time.Duration, error) {
	var mu sync.Mutex
	proposed := make([]time.Time, 0, n)
	took := make([]time.Duration, 0, n)
	first := r.group.leader().Last() + 1 // nobody else proposes
	r.group.onCommit(func(index uint64) {
		mu.Lock()
		defer mu.Unlock()
		for len(took) < len(proposed) && first+uint64(len(took)) <= index {
			took = append(took, time.Since(proposed[len(took)]))
		}
	})
	defer r.group.onCommit(nil)
	for i := range n {
		mu.Lock()
		proposed = append(proposed, time.Now())
		mu.Unlock()
		if err := r.proposeOne(i); err != nil {
			return nil, err
		}
	}
	err := r.group.await("that a burst is committed", func() bool {
		mu.Lock()
		defer mu.Unlock()
		return len(took) == n
	})
	return took, err
}
