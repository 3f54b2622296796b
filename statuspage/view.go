package statuspage

import (
	"fmt"
	"html/template"
	"strings"
	"time"

	"github.com/seed-4d73690b/rafthttp"
)

// pageView is what the template is filled with: text, ready to be escaped.
type pageView struct {
	Title, Member, Cluster, Version, Up, URLs string
	Started                                   bool
	Health                                    level
	Problems                                  []problem
	Summary, Taken                            string
	TakenAt                                   string // for machines
	Icon                                      template.URL
	Picture                                   picture
	Peers                                     []peerView
	Receiving                                 []snapshotView
	LastReceived                              string
	Remotes                                   []string
	Facts                                     []fact
	Application                               *application
}

// fact is a name with a value, and a time for machines if it is one.
type fact struct {
	Name, Value, Title string
	Time               string
	Health             level
}

func newPage(title string, r *report) *pageView {
	st := r.Status
	v := &pageView{
		Title: title, Member: r.Local.label(), Cluster: st.ClusterID.String(), Version: st.Version, Started: st.ID != 0,
		Health: r.Health, Problems: r.Problems, Application: r.Application, Summary: r.summary(), Taken: st.Time.UTC().Format("15:04:05 UTC"), TakenAt: machine(st.Time),
		Icon: icons[r.Health], Picture: newPicture(r),
	}
	for _, p := range r.Peers {
		v.Peers = append(v.Peers, newPeerView(r, p))
	}
	for _, s := range st.Receiving {
		v.Receiving = append(v.Receiving, newSnapshotView(st.Time, s, "from "+s.Peer.String()))
	}
	if last := ending(st.Time, st.LastReceived); last != "" {
		v.LastReceived = "from " + st.LastReceived.Peer.String() + ": " + last
	}
	for _, id := range st.Remotes {
		v.Remotes = append(v.Remotes, id.String())
	}
	v.Facts = []fact{
		{Name: "Cluster", Value: v.Cluster},
		{Name: "Version", Value: st.Version},
		{Name: "Running for", Value: duration(st.Time.Sub(st.Started)), Time: machine(st.Started), Title: "since " + exact(st.Started)},
		{Name: "Told to others", Value: orNone(strings.Join(st.URLs, ", "))},
		{Name: "In all queues", Value: bytesOf(float64(st.QueuedBytes)), Title: "of " + bytesOf(float64(st.MaxQueuedBytes))},
	}
	var sent, received float64
	var known bool
	for _, p := range r.Peers {
		if p.SentRate != nil {
			sent, received, known = sent+*p.SentRate, received+*p.ReceivedRate, true
		}
	}
	if known {
		v.Facts = append(v.Facts, fact{Name: "Sent", Value: byteRate(&sent)}, fact{Name: "Received", Value: byteRate(&received)})
	}
	return v
}

// icons are a dot in the colour of the health, for the browser's tab.
var icons = map[level]template.URL{good: icon("1a7f37"), warn: icon("bf8700"), bad: icon("cf222e")}

func icon(colour string) template.URL {
	return template.URL("data:image/svg+xml,%3Csvg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 16 16'%3E%3Ccircle cx='8' cy='8' r='7' fill='%23" + colour + "'/%3E%3C/svg%3E")
}

func (m memberName) label() string {
	if m.Name == "" {
		return m.Member
	}
	return m.Name + " (" + m.Member + ")"
}

// peerView is one card.
type peerView struct {
	ID, Label, State, For, ForTitle   string
	Version, RTT, Clock, Certificate  string
	Dropped, Sent, Received           string
	LastError, LastErrorAgo, ErrorsAt string
	LastSnapshot                      string
	Health                            level
	Problems                          []problem
	URLs                              []string
	Facts                             []fact
	Lanes                             []laneView
	Streams                           []streamView
	StreamsUp                         string
	StreamsDown                       bool
	Snapshots                         []snapshotView
	Traffic                           spark
}

func newPeerView(r *report, pr peerReport) peerView {
	now, p := r.Status.Time, pr.p
	v := peerView{
		ID: p.ID.String(), Label: pr.label(), Health: pr.Health, Problems: pr.Problems, URLs: p.URLs,
		State: map[bool]string{true: "active", false: "inactive"}[p.Active], For: none,
		Version: orNone(p.Version), RTT: none, Clock: none, Certificate: none,
		Sent: byteRate(pr.SentRate), Received: byteRate(pr.ReceivedRate), LastError: p.LastError,
		Traffic: newSpark(pr.points, true),
	}
	if p.Active {
		v.For, v.ForTitle = duration(now.Sub(p.ActiveSince)), exact(p.ActiveSince)
	}
	if !pr.staleProbe(now) {
		v.RTT, v.Clock = duration(p.RTT), offset(p.ClockOffset)
	}
	if !p.Active && p.Version != "" {
		v.Version += " (stale)"
	}
	if at := p.CertificateExpires; !at.IsZero() {
		v.Certificate = "expired"
		if left := at.Sub(now); left > 0 {
			v.Certificate = duration(left)
		}
	}
	if p.LastError != "" {
		v.LastErrorAgo, v.ErrorsAt = ago(now, p.LastErrorAt), machine(p.LastErrorAt)
	}
	var dropped uint64
	for _, l := range pr.Lanes {
		dropped += l.l.Dropped
		v.Lanes = append(v.Lanes, newLaneView(l))
	}
	v.Dropped = count(float64(dropped))
	up := 0
	for _, s := range p.Streams {
		v.Streams = append(v.Streams, newStreamView(now, s))
		if s.Up {
			up++
		}
	}
	v.StreamsUp, v.StreamsDown = fmt.Sprintf("%d of %d", up, len(p.Streams)), up < len(p.Streams)
	for _, s := range p.Snapshots {
		v.Snapshots = append(v.Snapshots, newSnapshotView(now, s, "to the peer"))
	}
	v.LastSnapshot = ending(now, p.LastSnapshot)
	v.facts(now, p)
	return v
}

func (v *peerView) facts(now time.Time, p rafthttp.PeerStatus) {
	since := fact{Name: "Active for", Value: v.For, Time: machine(p.ActiveSince), Title: v.ForTitle}
	if !p.Active {
		since.Health = bad
	}
	clock := fact{Name: "Clock", Value: v.Clock}
	if v.Clock != none && p.ClockOffset.Abs() > clockApart {
		clock.Health = warn
	}
	cert := fact{Name: "Certificate ends in", Value: v.Certificate, Time: machine(p.CertificateExpires), Title: exact(p.CertificateExpires)}
	if at := p.CertificateExpires; !at.IsZero() && at.Sub(now) < certificate {
		cert.Health = warn
	}
	drops := fact{Name: "Dropped messages", Value: v.Dropped, Title: dropTitle(p.Lanes)}
	v.Facts = []fact{
		since,
		{Name: "Round trip", Value: v.RTT, Title: probeTitle(now, p)},
		clock,
		{Name: "Version", Value: v.Version},
		cert,
		drops,
		{Name: "Disconnects", Value: count(float64(p.Disconnects))},
		{Name: "Sent in all", Value: bytesOf(float64(p.SentBytes))},
		{Name: "Received in all", Value: bytesOf(float64(p.ReceivedBytes))},
	}
}

// probeTitle says when round-trip time and clock were measured.
func probeTitle(now time.Time, p rafthttp.PeerStatus) string {
	text := fmt.Sprintf("%d probes, %d failed", p.Probes, p.ProbeFailures)
	if p.ProbedAt.IsZero() {
		return text
	}
	return fmt.Sprintf("last measured %s: %s; %s", ago(now, p.ProbedAt), duration(p.RTT), text)
}

// dropTitle says why messages were dropped, over all lanes.
func dropTitle(lanes []rafthttp.LaneStatus) string {
	sums := map[rafthttp.DropReason]uint64{}
	for _, l := range lanes {
		for reason, n := range l.Drops.All() {
			sums[reason] += n
		}
	}
	var parts []string
	for reason := range (rafthttp.Drops{}).All() {
		if n := sums[reason]; n > 0 {
			parts = append(parts, fmt.Sprintf("%s %d", strings.ReplaceAll(string(reason), "_", " "), n))
		}
	}
	return strings.Join(parts, ", ")
}

// machine is a time for the attribute datetime; empty for the zero time.
func machine(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format(time.RFC3339)
}

func exact(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format("2006-01-02 15:04:05 UTC")
}

func orNone(s string) string {
	if s == "" {
		return none
	}
	return s
}
