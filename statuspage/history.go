package statuspage

import (
	"sync"
	"time"

	"go.etcd.io/etcd/client/pkg/v3/types"

	"github.com/seed-4d73690b/rafthttp"
)

const (
	// lookEvery is the shortest time between looks.
	lookEvery = time.Second
	// maxLooks limits the number of looks kept.
	maxLooks = 90
	// window is the time that a sparkline shows.
	window = 2 * time.Minute
	// rateOver is the shortest time that a rate is measured over, if there are
	// looks that far apart, and oldSample the longest.
	rateOver  = 5 * time.Second
	oldSample = 10 * time.Second
)

// laneKey identifies a lane. The name "" stands for all lanes of a peer.
type laneKey struct {
	peer   types.ID
	groups bool // it is a node of raft groups
	lane   string
}

// totals are counters at one time. For all lanes of a peer, a and b are bytes
// sent and received; for a lane, messages and bytes.
type totals struct {
	a, b  uint64
	drops rafthttp.Drops // of a lane
}

// restarted reports whether the counters were reset: the peer was removed, and added again.
func (t totals) restarted(before totals) bool {
	return before.a > t.a || before.b > t.b || before.drops.Total() > t.drops.Total()
}

// look has the counters of all lanes at one time.
type look struct {
	at    time.Time
	lanes map[laneKey]totals
}

// history has the recent looks at a transport. It is safe for
// concurrent use.
type history struct {
	mu    sync.Mutex
	looks []look // ordered by time
}

// look adds the counters of st, unless the last look was just now, and returns all
// looks, with that of st as the last.
func (h *history) look(st rafthttp.Status) []look {
	now := look{st.Time, map[laneKey]totals{}}
	now.add(st.Peers, false)
	if st.Groups != nil {
		now.add(st.Groups.Nodes, true)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	keep := h.looks[:0:0]
	for _, l := range h.looks {
		if age := st.Time.Sub(l.at); age < window+time.Minute && age >= 0 {
			keep = append(keep, l)
		}
	}
	all := append(keep, now)
	if len(keep) == 0 || now.at.Sub(keep[len(keep)-1].at) >= lookEvery {
		h.looks = all[max(0, len(all)-maxLooks):]
	} else {
		h.looks = keep
	}
	return all
}

// add adds the counters of peers, or of nodes of raft groups.
func (l look) add(peers []rafthttp.PeerStatus, groups bool) {
	for _, p := range peers {
		l.lanes[laneKey{p.ID, groups, ""}] = totals{a: p.SentBytes, b: p.ReceivedBytes}
		for _, one := range p.Lanes {
			l.lanes[laneKey{p.ID, groups, one.Name}] = totals{one.Messages, one.Bytes, one.Drops}
		}
	}
}

// rate is how fast the counters of a lane grow.
type rate struct{ a, b float64 } // a second

// sampleAt returns the counters of a lane at looks[i] and before, with the time
// between: over, or more, or else the available time; never more than oldSample. It is 0
// if there is no such sample.
func sampleAt(looks []look, i int, k laneKey, over time.Duration) (now, from totals, d time.Duration) {
	now, ok := looks[i].lanes[k]
	if !ok {
		return now, from, 0
	}
	for j := i - 1; j >= 0 && d < over; j-- {
		before, there := looks[j].lanes[k]
		age := looks[i].at.Sub(looks[j].at)
		if !there || age > oldSample || now.restarted(before) {
			break
		}
		from, d = before, age
	}
	return now, from, d
}

// rateAt returns the rates of a lane at looks[i], over that time, as for sampleAt.
func rateAt(looks []look, i int, k laneKey, over time.Duration) (rate, bool) {
	now, from, d := sampleAt(looks, i, k, over)
	if d <= 0 {
		return rate{}, false
	}
	return rate{float64(now.a-from.a) / d.Seconds(), float64(now.b-from.b) / d.Seconds()}, true
}

// recentDrops returns the rate of drops of a lane in messages a second, and their reasons.
func recentDrops(looks []look, k laneKey) (rate float64, reasons []string, ok bool) {
	now, from, d := sampleAt(looks, len(looks)-1, k, rateOver)
	if d <= 0 {
		return 0, nil, false
	}
	before := map[rafthttp.DropReason]uint64{}
	for reason, n := range from.drops.All() {
		before[reason] = n
	}
	for reason, n := range now.drops.All() {
		if n > before[reason] {
			reasons = append(reasons, reasonText(reason))
		}
	}
	return float64(now.drops.Total()-from.drops.Total()) / d.Seconds(), reasons, true
}

// point is a rate at one time.
type point struct {
	age   time.Duration
	first bool // the time before is unknown
	rate
}

// points returns the rates of a lane in the window, ordered by time.
func points(looks []look, k laneKey) (all []point) {
	end := looks[len(looks)-1].at
	first := true
	for i := 1; i < len(looks); i++ {
		if age := end.Sub(looks[i].at); age <= window {
			r, ok := rateAt(looks, i, k, lookEvery)
			if ok {
				all = append(all, point{age, first, r})
			}
			first = !ok
		}
	}
	return all
}
