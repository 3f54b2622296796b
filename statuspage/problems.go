package statuspage

import (
	"fmt"
	"slices"
	"strings"

	"github.com/seed-4d73690b/rafthttp"
)

// operating is the document that says what to do about a problem.
const operating = "https://github.com/seed-4d73690b/rafthttp/blob/main/docs/operating.md"

// problem is a finding about a peer, or about the local member, by the rules of rafthttp.Health.
type problem struct {
	Level level
	Text  string
	Since string // in words; empty: not known
	of    rafthttp.Problem
}

// MarshalText implements encoding.TextMarshaler: the JSON has only the text.
func (p problem) MarshalText() ([]byte, error) { return []byte(p.Text), nil }

// Link returns the URL of the explanation.
func (p problem) Link() string { return operating + "#" + p.of.Anchor }

// levelOf is how the page shows a severity.
func levelOf(s rafthttp.Severity) level {
	switch s {
	case rafthttp.SeverityNone:
		return good
	case rafthttp.SeverityWarning:
		return warn
	default:
		return bad
	}
}

// judge sorts what is wrong to whom it is about.
func (r *report) judge(h rafthttp.Health) {
	type key struct {
		member string
		groups bool
	}
	found := map[key]*peerReport{}
	for i := range r.Peers {
		found[key{r.Peers[i].Member, false}] = &r.Peers[i]
	}
	if r.Groups != nil {
		for i := range r.Groups.Nodes {
			found[key{r.Groups.Nodes[i].Member, true}] = &r.Groups.Nodes[i]
		}
	}
	for _, of := range h.Problems {
		p := problem{levelOf(of.Severity), of.Cause, "", of}
		if !of.Since.IsZero() {
			p.Since = ago(r.Status.Time, of.Since)
		}
		if pr := found[key{of.Peer.String(), of.Groups}]; pr != nil {
			pr.take(p)
		} else {
			r.Problems = append(r.Problems, p)
		}
	}
	switch h.Severity {
	case rafthttp.SeverityNone:
	case rafthttp.SeverityCritical:
		r.Health = bad
	default:
		r.Health = warn // something is left that works
	}
}

// take adds a problem.
func (pr *peerReport) take(p problem) {
	pr.Health = max(pr.Health, p.Level)
	pr.Problems = append(pr.Problems, p)
	for i := range pr.Lanes {
		if l := &pr.Lanes[i]; l.Name == p.of.Lane {
			l.Health = max(l.Health, p.Level)
		}
	}
}

// has reports whether a problem of this kind was found.
func (pr *peerReport) has(kinds ...string) bool {
	return slices.ContainsFunc(pr.Problems, func(p problem) bool { return slices.Contains(kinds, p.of.Kind) })
}

// staleProbe says whether round-trip time and clock are unknown, or were measured too long ago.
func (pr *peerReport) staleProbe() bool { return pr.p.ProbedAt.IsZero() || pr.p.ProbeStale }

// stale names the fields of the peer's status that are not current.
func (pr *peerReport) stale() []string {
	names := []string{}
	if pr.p.ProbeStale {
		names = append(names, "rtt_ns", "clock_offset_ns", "clock_within_ns")
	}
	if pr.p.VersionStale {
		names = append(names, "version")
	}
	return names
}

// maxCauses limits the problems in the summary.
const maxCauses = 3

// summary describes the problems in one line.
func (r *report) summary() string {
	n, active := len(r.Peers), r.active()
	activeNodes, nodes := r.activeNodes()
	var head string
	switch {
	case r.Status.ID == 0:
		return "The transport is not started."
	case r.Status.Stopped:
		return "The transport is stopped."
	case n == 0 && nodes > 0 && r.Health == good:
		return "All nodes of raft groups are healthy."
	case n == 0 && nodes > 0:
		head = fmt.Sprintf("%d of %d nodes of raft groups active", activeNodes, nodes)
	case n == 0:
		head = "There are no peers"
	case r.Health == good && n == 1:
		return "The only peer is healthy."
	case r.Health == good:
		return fmt.Sprintf("All %d peers are healthy.", n)
	case active == n && n == 1:
		head = "The only peer is active"
	case active == n:
		head = fmt.Sprintf("All %d peers are active", n)
	default:
		head = fmt.Sprintf("%d of %d peers active", active, n)
	}
	if r.Health == bad {
		head += ", no majority"
	}
	down, others := r.causes()
	left := max(0, len(down)+len(others)-maxCauses)
	down = down[:min(len(down), maxCauses)]
	others = others[:min(len(others), maxCauses-len(down))]
	if len(down) > 0 {
		head += ": " + strings.Join(down, "; ")
	}
	for _, o := range others {
		head += ". " + o
	}
	if left > 0 {
		return fmt.Sprintf("%s. And %d more.", head, left)
	}
	if len(down)+len(others) == 0 {
		head += "."
	}
	return head
}

// causes returns the worst problem of each peer that is down, and of all others.
func (r *report) causes() (down, others []string) {
	all := r.Peers
	if r.Groups != nil {
		all = slices.Concat(all, r.Groups.Nodes)
	}
	for _, p := range all {
		switch {
		case len(p.Problems) == 0:
		case !p.p.Active && p.groups:
			down = append(down, "node "+p.label()+" is "+p.Problems[0].Text)
		case !p.p.Active:
			down = append(down, p.label()+" is "+p.Problems[0].Text)
		default:
			others = append(others, sentence(p.what())+" "+p.label()+": "+p.Problems[0].Text)
		}
	}
	for _, p := range r.Problems {
		if p.of.Kind == "no_majority" { // the summary begins with it
			continue
		}
		others = append(others, "This member: "+p.Text)
	}
	return down, others
}
