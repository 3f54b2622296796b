package statuspage

import (
	"cmp"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"go.etcd.io/etcd/client/pkg/v3/types"

	"github.com/seed-4d73690b/rafthttp"
)

// Thresholds of warnings.
const (
	oldMessage  = 2 * time.Second
	fullLane    = 0.8
	clockApart  = time.Second
	certificate = 14 * 24 * time.Hour
	oldSnapshot = 10 * time.Minute // a failure that was not followed by another attempt
	// A stream flaps if it reconnects flapCount times within flapWindow.
	flapWindow = 2 * time.Minute
	flapCount  = 3
)

// operating is the document that describes remedies, and the anchors are its sections.
const (
	operating       = "https://github.com/seed-4d73690b/rafthttp/blob/main/docs/operating.md"
	anchorInactive  = "a-peer-is-inactive"
	anchorTLS       = "tls-is-refused"
	anchorSlow      = "a-lane-is-slow"
	anchorDrops     = "messages-are-dropped"
	anchorFlap      = "streams-flap"
	anchorLog       = "log-messages"
	anchorSnapshots = "snapshots"
)

// problem is a finding about a peer, or about the local member.
type problem struct {
	Level  level
	Text   string
	anchor string
}

// MarshalText implements encoding.TextMarshaler: the JSON has only the text.
func (p problem) MarshalText() ([]byte, error) { return []byte(p.Text), nil }

// Link returns the URL of the explanation.
func (p problem) Link() string { return operating + "#" + p.anchor }

// problem adds a problem.
func (pr *peerReport) problem(l level, anchor, format string, args ...any) {
	pr.Health = max(pr.Health, l)
	pr.Problems = append(pr.Problems, problem{l, fmt.Sprintf(format, args...), anchor})
}

// judge finds the problems of a peer. The worst comes first.
func (pr *peerReport) judge(st rafthttp.Status, looks []look) {
	pr.out, pr.in = directions(pr.p)
	pr.judgeStreams(st, looks)
	for _, l := range pr.Lanes {
		switch {
		case l.Health == good:
		case l.Fill >= fullLane:
			pr.problem(l.Health, anchorSlow, "queue %s is %.0f %% full", l.title(), 100*l.Fill)
		default:
			pr.problem(l.Health, anchorSlow, "queue %s has not moved for %s", l.title(), duration(l.l.OldestAge))
		}
	}
	if rate, reasons := pr.drops(); rate != nil && pr.p.Active {
		pr.problem(warn, anchorDrops, "drops %s", dropsText(rate, reasons))
	}
	if last := pr.p.LastSnapshot; snapshotFailed(st.Time, last, len(pr.p.Snapshots)) {
		pr.problem(warn, anchorSnapshots, "the last snapshot to it failed: %s", shortCause(last.Error))
	}
	if !pr.staleProbe() && pr.p.ClockOffset.Abs() > clockApart {
		pr.problem(warn, anchorLog, "its clock is %s", offset(pr.p.ClockOffset))
	}
	if at := pr.p.CertificateExpires; !at.IsZero() {
		if left := at.Sub(st.Time); left <= 0 {
			pr.problem(bad, anchorTLS, "its certificate has expired")
		} else if left < certificate {
			pr.problem(warn, anchorTLS, "its certificate expires in %s", duration(left))
		}
	}
	slices.SortStableFunc(pr.Problems, func(a, b problem) int { return cmp.Compare(b.Level, a.Level) })
}

func (pr *peerReport) judgeStreams(st rafthttp.Status, looks []look) {
	switch {
	case !pr.p.Active:
		pr.problem(bad, anchorInactive, "down: %s", cmp.Or(shortCause(pr.p.LastError), "no stream from it delivers, and no POST succeeds"))
	case pr.out > good:
		pr.problem(warn, anchorInactive, "a stream to it is down")
	}
	if pr.p.Active && pr.in > good {
		pr.problem(warn, anchorInactive, "a stream from it is down")
	}
	for _, s := range pr.p.Streams {
		if n, over := reconnects(st, looks, pr.p.ID, s); n >= flapCount {
			pr.problem(warn, anchorFlap, "stream %s %s reconnected %d times in %s", s.Name, directionOf(s), n, duration(over))
		}
	}
}

// reconnects returns how often a stream reconnected within flapWindow, as far as there are samples. Without them over
// is the life of the transport, if that suffices for a judgement.
func reconnects(st rafthttp.Status, looks []look, peer types.ID, s rafthttp.StreamStatus) (n uint64, over time.Duration) {
	end := looks[len(looks)-1].at
	for i := len(looks) - 1; i >= 0; i-- {
		before, there := looks[i].lanes[streamKey(peer, s)]
		age := end.Sub(looks[i].at)
		if !there || age > flapWindow || before.a > s.Connects {
			break
		}
		n, over = s.Connects-before.a, age
	}
	const each = flapWindow / flapCount
	life := st.Time.Sub(st.Started)
	recent := !s.Up || st.Time.Sub(s.Since) < each
	if n < flapCount && recent && s.Connects > flapCount && life < time.Duration(s.Connects)*each {
		return s.Connects - 1, life
	}
	return n, over
}

// snapshotFailed reports whether the last snapshot failed and that still matters: another one is in progress, or was
// recently.
func snapshotFailed(now time.Time, last *rafthttp.SnapshotStatus, running int) bool {
	return last != nil && last.Error != "" && (running > 0 || now.Sub(last.Ended) < oldSnapshot)
}

// staleProbe says whether round-trip time and clock are unknown, or were measured too long ago.
func (pr *peerReport) staleProbe() bool { return pr.p.ProbedAt.IsZero() || pr.p.ProbeStale }

// stale names the fields of the peer's status that are not current.
func (pr *peerReport) stale() []string {
	names := []string{}
	if pr.p.ProbeStale {
		names = append(names, "rtt_ns", "clock_offset_ns")
	}
	if pr.p.VersionStale {
		names = append(names, "version")
	}
	return names
}

// addresses matches the parts of an error with the peer and the address, which are shown elsewhere.
var addresses = regexp.MustCompile(`^(?:\w+ stream of|post to|snapshot \d+ to) \w+ at \S+: |(?:(?:Get|Post) "[^"]*": )?dial \w+ \S+: (?:connect: )?`)

// shortCause shortens an error for a line of text.
func shortCause(err string) string {
	const limit = 140
	r := []rune(addresses.ReplaceAllString(err, ""))
	if len(r) > limit {
		r = append(r[:limit-1], '…')
	}
	return string(r)
}

// maxCauses limits the problems in the summary.
const maxCauses = 3

// summary describes the problems in one line.
func (r *report) summary() string {
	n, active := len(r.Peers), r.active()
	var head string
	switch {
	case r.Status.ID == 0:
		return "The transport is not started."
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
	for _, p := range r.Peers {
		switch {
		case len(p.Problems) == 0:
		case !p.p.Active:
			down = append(down, p.label()+" is "+p.Problems[0].Text)
		default:
			others = append(others, "Peer "+p.label()+": "+p.Problems[0].Text)
		}
	}
	for _, p := range r.Problems {
		others = append(others, "This member: "+p.Text)
	}
	return down, others
}
