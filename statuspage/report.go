package statuspage

import (
	"cmp"
	"encoding/json"
	"io"
	"slices"

	"github.com/seed-4d73690b/rafthttp"
)

// level is a level of health.
type level int

const (
	good level = iota
	warn
	bad
)

// String returns the level as in the JSON and the style sheet.
func (l level) String() string { return [...]string{"ok", "warning", "bad"}[l] }

// MarshalText implements encoding.TextMarshaler.
func (l level) MarshalText() ([]byte, error) { return []byte(l.String()), nil }

// schemaVersion changes when a field of the JSON changes its meaning or is removed.
const schemaVersion = 1

// report has the data of all formats. Its JSON is described in docs/status.md.
type report struct {
	Schema int   `json:"schema"`
	Health level `json:"health"`
	// Application is nil if Options.Facts is.
	Application *application    `json:"application,omitempty"`
	Problems    []problem       `json:"problems"` // of the local member
	Local       memberName      `json:"local"`
	Peers       []peerReport    `json:"peers"`
	Groups      *groupsReport   `json:"groups,omitempty"`
	Status      rafthttp.Status `json:"status"`
}

// memberName is the name of a member.
type memberName struct {
	Member string `json:"member"` // its id in hexadecimal
	Name   string `json:"name,omitempty"`
}

// peerReport is derived from a PeerStatus.
type peerReport struct {
	memberName
	Health   level     `json:"health"`
	Problems []problem `json:"problems"`
	// Stale names fields of the PeerStatus that are not current.
	Stale []string `json:"stale"`
	// Rates in bytes a second; nil: not known yet.
	SentRate     *float64     `json:"sent_bytes_per_second,omitempty"`
	ReceivedRate *float64     `json:"received_bytes_per_second,omitempty"`
	Lanes        []laneReport `json:"lanes"`

	p      rafthttp.PeerStatus
	groups bool // it is a node of raft groups
	points []point
	out    level // health of the direction to the peer
	in     level // health of the direction from the peer
}

// laneReport is derived from a LaneStatus.
type laneReport struct {
	Name        string   `json:"name"`
	Health      level    `json:"health"`
	Fill        float64  `json:"fill"`
	MessageRate *float64 `json:"messages_per_second,omitempty"`
	ByteRate    *float64 `json:"bytes_per_second,omitempty"`
	DropRate    *float64 `json:"dropped_per_second,omitempty"`
	DropReasons []string `json:"drop_reasons,omitempty"` // of these drops

	l      rafthttp.LaneStatus
	points []point
}

func newReport(st rafthttp.Status, looks []look, name func(uint64) string) *report {
	r := &report{
		Schema: schemaVersion, Status: st, Local: memberName{st.ID.String(), name(uint64(st.ID))},
		Peers: []peerReport{}, Problems: []problem{},
	}
	for _, p := range st.Peers {
		r.Peers = append(r.Peers, newPeerReport(p, false, looks, name))
	}
	if st.Groups != nil {
		r.Groups = &groupsReport{Nodes: []peerReport{}}
		for _, n := range st.Groups.Nodes {
			r.Groups.Nodes = append(r.Groups.Nodes, newPeerReport(n, true, looks, name))
		}
	}
	r.judge(st.Health())
	return r
}

// active returns the number of active peers.
func (r *report) active() (n int) {
	for _, p := range r.Peers {
		if p.p.Active {
			n++
		}
	}
	return n
}

func newPeerReport(p rafthttp.PeerStatus, groups bool, looks []look, name func(uint64) string) peerReport {
	pr := peerReport{p: p, groups: groups, memberName: memberName{p.ID.String(), name(uint64(p.ID))}, Problems: []problem{}, Lanes: []laneReport{}}
	k := laneKey{p.ID, groups, ""}
	pr.points = points(looks, k)
	if now, ok := rateAt(looks, len(looks)-1, k, rateOver); ok {
		pr.SentRate, pr.ReceivedRate = &now.a, &now.b
	}
	for _, l := range p.Lanes {
		pr.Lanes = append(pr.Lanes, newLaneReport(laneKey{p.ID, groups, l.Name}, l, looks))
	}
	pr.out, pr.in = directions(p)
	pr.Stale = pr.stale()
	return pr
}

func newLaneReport(k laneKey, l rafthttp.LaneStatus, looks []look) laneReport {
	lr := laneReport{Name: l.Name, l: l, points: points(looks, k), Fill: fill(l)}
	if now, ok := rateAt(looks, len(looks)-1, k, rateOver); ok {
		lr.MessageRate, lr.ByteRate = &now.a, &now.b
	}
	if drops, reasons, ok := recentDrops(looks, k); ok {
		lr.DropRate, lr.DropReasons = &drops, reasons
	}
	return lr
}

// drops returns the sum of the current drops of the peer's lanes: nil if none.
func (pr *peerReport) drops() (rate *float64, reasons []string) {
	var sum float64
	for _, l := range pr.Lanes {
		if l.DropRate != nil && *l.DropRate > 0 {
			sum += *l.DropRate
			rate = &sum
			reasons = append(reasons, l.DropReasons...)
		}
	}
	slices.Sort(reasons)
	return rate, slices.Compact(reasons)
}

// what says whether it is a peer, or a node of raft groups.
func (pr *peerReport) what() string {
	if pr.groups {
		return "node"
	}
	return "peer"
}

// sickFirst returns peers, the worst first, and inactive ones before others.
func sickFirst(peers []peerReport) []peerReport {
	rank := func(p peerReport) int {
		if !p.p.Active {
			return int(p.Health) + 1
		}
		return int(p.Health)
	}
	return slices.SortedStableFunc(slices.Values(peers), func(a, b peerReport) int { return cmp.Compare(rank(b), rank(a)) })
}

// fill returns the fill level of a lane, by the nearer limit.
func fill(l rafthttp.LaneStatus) float64 {
	var f float64
	if l.Capacity > 0 {
		f = float64(l.Queued) / float64(l.Capacity)
	}
	if l.CapacityBytes > 0 {
		f = max(f, float64(l.QueuedBytes)/float64(l.CapacityBytes))
	}
	return f
}

// directions returns the health of the streams to a peer and from it.
func directions(p rafthttp.PeerStatus) (out, in level) {
	down := map[string]int{}
	for _, s := range p.Streams {
		if !s.Up {
			down[s.Direction]++
		}
	}
	of := func(n int) level { return min(level(n), bad) }
	return of(down[rafthttp.StreamOut]), of(down[rafthttp.StreamIn])
}

// writeJSON writes the report as described in docs/status.md.
func writeJSON(w io.Writer, r *report) error {
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	return enc.Encode(r)
}
