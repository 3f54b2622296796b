package statuspage

import (
	"fmt"
	"html/template"
	"slices"
	"time"

	"github.com/seed-4d73690b/rafthttp"
)

// pageView is the data of the template: text, ready to be escaped.
type pageView struct {
	Title, Member  string
	Started        bool
	Health         level
	Problems       []problem
	Summary, Taken string
	TakenAt        string // for machines
	Icon           template.URL
	Picture        picture
	Peers          []peerView
	Groups         *groupsView
	Receiving      []snapshotView
	LastReceived   string
	Handshakes     []string
	URLs, Remotes  []string
	Facts          []fact
	Application    *application
}

// fact is a name with a value, and a machine-readable time if it is one.
type fact struct {
	Name, Value, Title string
	Time               string
	Health             level
}

func newPage(title string, r *report) *pageView {
	st := r.Status
	v := &pageView{
		Title: title, Member: r.Local.label(), Started: st.ID != 0, URLs: st.URLs,
		Health: r.Health, Problems: r.Problems, Application: r.Application, Summary: r.summary(), Taken: st.Time.UTC().Format("15:04:05 UTC"), TakenAt: machine(st.Time),
		Icon: icons[r.Health], Picture: newPicture(r),
	}
	for _, p := range sickFirst(r.Peers) {
		v.Peers = append(v.Peers, newPeerView(r, p))
	}
	v.Groups = newGroupsView(r)
	for _, s := range st.Receiving {
		v.Receiving = append(v.Receiving, newSnapshotView(st.Time, s, "from "+s.Peer.String()))
	}
	if last := ending(st.Time, st.LastReceived); last != "" {
		v.LastReceived = "from " + st.LastReceived.Peer.String() + ": " + last
	}
	v.Handshakes = handshakes(st)
	for _, id := range st.Remotes {
		v.Remotes = append(v.Remotes, id.String())
	}
	sent, received := r.traffic()
	v.Facts = []fact{
		{Name: "Cluster", Value: st.ClusterID.String()},
		{Name: "Version", Value: st.Version},
		{Name: "Running for", Value: duration(st.Time.Sub(st.Started)), Time: machine(st.Started), Title: "since " + exact(st.Started)},
		{Name: "Sent", Value: byteRate(sent)},
		{Name: "Received", Value: byteRate(received)},
		{Name: "Queued bytes", Value: bytesOf(float64(st.QueuedBytes)), Title: "of " + bytesOf(float64(st.MaxQueuedBytes))},
	}
	return v
}

// handshakes says which TLS handshakes of clients have failed, and who the last client was.
func handshakes(st rafthttp.Status) (lines []string) {
	for _, h := range st.Handshakes {
		if h.Failures > 0 {
			lines = append(lines, fmt.Sprintf("%s: %s, the last one %s with %s: %s", h.Reason, count(float64(h.Failures)), ago(st.Time, h.LastAt), h.LastAddress, h.LastError))
		}
	}
	return lines
}

// traffic returns the sum over all peers, as far as known; nil if unknown.
func (r *report) traffic() (sent, received *float64) {
	var out, in float64
	for _, p := range r.Peers {
		if p.SentRate != nil {
			out, in = out+*p.SentRate, in+*p.ReceivedRate
			sent, received = &out, &in
		}
	}
	return sent, received
}

// icons are dots in the colour of the health, for the browser's tab.
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
	ID, Label, State, Mark, For       string
	Version, RTT, Clock, Certificate  string
	Dropped                           string
	Sent, Received                    string // rates
	SentTotal, ReceivedTotal          string
	LastError, LastErrorAgo, ErrorsAt string
	LastSnapshot                      string
	LastReceived                      string // of a node
	Health                            level
	Open, Dropping                    bool
	DroppedTotal                      uint64
	Problems                          []problem
	URLs                              []string
	Facts                             []fact
	Parts                             []partsView
	Out, In                           []laneView
	Streams                           []streamView
	StreamsUp                         string
	StreamsDown                       bool
	Snapshots                         []snapshotView
	Traffic                           spark
	What                              string // "peer" or "node"
}

func newPeerView(r *report, pr peerReport) peerView {
	now, p := r.Status.Time, pr.p
	v := peerView{
		ID: p.ID.String(), What: pr.what(), Label: pr.label(), Health: pr.Health, Mark: marks[pr.Health], Open: pr.Health > good,
		Problems: pr.Problems, URLs: p.URLs,
		State: map[bool]string{true: "active", false: "inactive"}[p.Active], For: none,
		Version: orNone(p.Version), RTT: none, Clock: none, Certificate: none,
		Sent: byteRate(pr.SentRate), SentTotal: bytesOf(float64(p.SentBytes)),
		Received: byteRate(pr.ReceivedRate), ReceivedTotal: bytesOf(float64(p.ReceivedBytes)),
		LastError: p.LastError, LastSnapshot: ending(now, p.LastSnapshot), Traffic: newSpark(pr.points, true),
	}
	if p.Active {
		v.For = duration(now.Sub(p.ActiveSince))
	}
	if !pr.staleProbe() {
		v.RTT, v.Clock = duration(p.RTT), offset(p.ClockOffset)
	}
	if p.VersionStale {
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
	for _, s := range p.Snapshots {
		v.Snapshots = append(v.Snapshots, newSnapshotView(now, s, wayOf(s)))
	}
	for _, s := range p.GroupSnapshots.Receiving {
		v.Snapshots = append(v.Snapshots, newSnapshotView(now, s, wayOf(s)))
	}
	if p.Active {
		v.Parts = newParts(p.Appends)
	}
	v.lanes(pr)
	v.streams(now, p)
	v.facts(now, pr)
	if pr.groups { // which is not probed
		v.Facts = slices.DeleteFunc(v.Facts, func(f fact) bool { return slices.Contains([]string{"Round trip", "Clock", "Failed probes"}, f.Name) })
		v.Facts = append(v.Facts, fact{Name: "Sent", Value: v.SentTotal}, fact{Name: "Received", Value: v.ReceivedTotal}, snapshotsFact(p.GroupSnapshots))
		v.LastSnapshot, v.LastReceived = endingOfGroup(now, p.LastSnapshot), endingOfGroup(now, p.LastReceived)
	}
	return v
}

func (v *peerView) lanes(pr peerReport) {
	for _, l := range pr.Lanes {
		v.DroppedTotal += l.l.Dropped
		if laneTexts[l.Name].in {
			v.In = append(v.In, newLaneView(l))
		} else {
			v.Out = append(v.Out, newLaneView(l))
		}
	}
	rate, reasons := pr.drops()
	v.Dropped, v.Dropping = droppedText(rate, reasons, v.DroppedTotal)
}

func (v *peerView) streams(now time.Time, p rafthttp.PeerStatus) {
	up := 0
	for _, s := range p.Streams {
		v.Streams = append(v.Streams, newStreamView(now, s))
		if s.Up {
			up++
		}
	}
	v.StreamsUp, v.StreamsDown = fmt.Sprintf("%d of %d", up, len(p.Streams)), up < len(p.Streams)
}

// facts adds a number of facts that fits into rows of four and of two.
func (v *peerView) facts(now time.Time, pr peerReport) {
	p := pr.p
	since := fact{Name: "Active for", Value: v.For, Time: machine(p.ActiveSince), Title: exact(p.ActiveSince)}
	if !p.Active {
		since.Health = bad
	}
	clock := fact{Name: "Clock", Value: v.Clock}
	if pr.has("clock") {
		clock.Health = warn
	}
	cert := fact{Name: "Certificate expires in", Value: v.Certificate, Time: machine(p.CertificateExpires), Title: exact(p.CertificateExpires)}
	if pr.has("certificate_expires", "certificate_expired") {
		cert.Health = warn
	}
	drops := fact{Name: "Dropped", Value: v.Dropped, Title: dropTitle(p.Lanes)}
	if v.Dropping {
		drops.Health = bad
	}
	v.Facts = []fact{
		since,
		{Name: "Round trip", Value: v.RTT, Title: probeTitle(now, p)},
		clock,
		drops,
		{Name: "Version", Value: v.Version},
		cert,
		{Name: "Disconnects", Value: count(float64(p.Disconnects))},
		{Name: "Failed probes", Value: fmt.Sprintf("%s of %s", count(float64(p.ProbeFailures)), count(float64(p.Probes)))},
	}
}

// probeTitle tells when round-trip time and clock were measured.
func probeTitle(now time.Time, p rafthttp.PeerStatus) string {
	text := fmt.Sprintf("%d probes, %d failed", p.Probes, p.ProbeFailures)
	if p.ProbedAt.IsZero() {
		return text
	}
	return fmt.Sprintf("last measured %s: %s; %s", ago(now, p.ProbedAt), duration(p.RTT), text)
}

// machine formats a time for the attribute datetime; empty for the zero time.
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
