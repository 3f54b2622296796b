package metrics

import (
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.etcd.io/etcd/client/pkg/v3/types"

	"github.com/seed-4d73690b/rafthttp"
)

func yes(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

// timestamp returns t in seconds since 1970, and 0 for the zero time.
func timestamp(t time.Time) float64 {
	if t.IsZero() {
		return 0
	}
	return float64(t.Unix()) + float64(t.Nanosecond())/float64(time.Second) // UnixNano ends in 2262
}

func collectTransport(ch chan<- prometheus.Metric, st rafthttp.Status) {
	remotes.send(ch, float64(len(st.Remotes)))
	queuedBytes.send(ch, float64(st.QueuedBytes))
	queueBudget.send(ch, float64(st.MaxQueuedBytes))
	refused.send(ch, float64(st.Refused.Dials), "dial")
	refused.send(ch, float64(st.Refused.Requests), "request")
	refused.send(ch, float64(st.Refused.Messages), "message")
	refused.send(ch, float64(st.Refused.OtherCluster), "other_cluster")
	collectProblems(ch, st)
	for _, h := range st.Handshakes {
		handshakes.send(ch, float64(h.Failures), strings.ReplaceAll(h.Reason, " ", "_"))
	}
	if st.ID != 0 { // it was started
		laneDropped.send(ch, float64(st.Drops.Local), st.ID.String(), string(rafthttp.DropLocal), string(rafthttp.DropLocal))
	}
	known := members(st)
	receiving := map[types.ID][]rafthttp.SnapshotStatus{}
	for _, p := range st.Peers {
		receiving[p.ID] = nil
	}
	for _, s := range st.Receiving {
		if known[s.Peer] { // not the id of an unauthenticated client
			receiving[s.Peer] = append(receiving[s.Peer], s)
		}
	}
	for id, all := range receiving {
		etcdReceiving.send(ch, float64(len(all)), id.String())
		collectSnapshots(ch, st.Time, id, "in", all)
	}
}

// ofGroups is the label groups of problems of raft groups; that of others is empty.
const ofGroups = "true"

// collectProblems sends how many problems of each kind there are; that there is no majority, or that a peer is inactive, also
// if that is not so.
func collectProblems(ch chan<- prometheus.Metric, st rafthttp.Status) {
	type series struct{ peer, kind, severity, groups string }
	local := st.ID.String()
	n := map[series]int{{local, "no_majority", rafthttp.SeverityCritical.String(), ""}: 0}
	for _, p := range st.Peers {
		n[series{p.ID.String(), "peer_inactive", rafthttp.SeverityError.String(), ""}] = 0
	}
	if st.Groups != nil {
		for _, node := range st.Groups.Nodes {
			n[series{node.ID.String(), "peer_inactive", rafthttp.SeverityError.String(), ofGroups}] = 0
		}
	}
	for _, p := range st.Health().Problems {
		s := series{local, p.Kind, p.Severity.String(), ""}
		if p.Peer != 0 {
			s.peer = p.Peer.String()
		}
		if p.Groups {
			s.groups = ofGroups
		}
		n[s]++
	}
	for s, count := range n {
		problems.send(ch, float64(count), s.peer, s.kind, s.severity, s.groups)
	}
}

// members returns the members known to the transport: peers and remotes.
func members(st rafthttp.Status) map[types.ID]bool {
	known := make(map[types.ID]bool, len(st.Peers)+len(st.Remotes))
	for _, p := range st.Peers {
		known[p.ID] = true
	}
	for _, id := range st.Remotes {
		known[id] = true
	}
	return known
}

func collectPeer(ch chan<- prometheus.Metric, st rafthttp.Status, p rafthttp.PeerStatus) {
	local, id := st.ID.String(), p.ID.String()
	etcdActivePeers.send(ch, yes(p.Active), local, id)
	etcdDisconnects.send(ch, float64(p.Disconnects), local, id)
	etcdSentBytes.send(ch, float64(p.SentBytes), id)
	etcdGotBytes.send(ch, float64(p.ReceivedBytes), id)
	etcdSendFails.send(ch, float64(p.SendFailures), id)
	etcdGetFails.send(ch, float64(p.ReceiveFailures), id)
	etcdSending.send(ch, float64(len(p.Snapshots)), id)

	version := p.Version
	if p.VersionStale {
		version = ""
	}
	peerInfo.send(ch, 1, id, version)
	peerSince.send(ch, timestamp(p.ActiveSince), id)
	probes.send(ch, float64(p.Probes), id)
	probeFails.send(ch, float64(p.ProbeFailures), id)
	if !p.ProbedAt.IsZero() && !p.ProbeStale {
		peerRTT.send(ch, p.RTT.Seconds(), id)
		clockOffset.send(ch, p.ClockOffset.Seconds(), id)
		clockError.send(ch, p.ClockWithin.Seconds(), id)
	}
	if !p.CertificateExpires.IsZero() {
		certExpiry.send(ch, timestamp(p.CertificateExpires), id)
		certStart.send(ch, timestamp(p.CertificateStarts), id)
	}
	collectSnapshots(ch, st.Time, p.ID, "out", p.Snapshots)
	for _, s := range p.Streams {
		collectStream(ch, st.Time, id, s)
	}
	for _, l := range p.Lanes {
		collectLane(ch, id, l)
	}
	collectAppends(ch, id, p.Appends)
}

func collectSnapshots(ch chan<- prometheus.Metric, now time.Time, id types.ID, direction string, all []rafthttp.SnapshotStatus) {
	var done, size int64
	var rate float64
	var age time.Duration
	for _, s := range all {
		done += s.Bytes
		size += max(0, s.Total)
		rate += s.Rate
		age = max(age, now.Sub(s.Started))
	}
	peer := id.String()
	snapshots.send(ch, float64(len(all)), peer, direction)
	snapshotDone.send(ch, float64(done), peer, direction)
	snapshotSize.send(ch, float64(size), peer, direction)
	snapshotRate.send(ch, rate, peer, direction)
	snapshotAge.send(ch, age.Seconds(), peer, direction)
}

func collectStream(ch chan<- prometheus.Metric, now time.Time, id string, s rafthttp.StreamStatus) {
	var age time.Duration
	if s.Up {
		age = max(0, now.Sub(s.Since))
	}
	streamUp.send(ch, yes(s.Up), id, s.Name, s.Direction)
	streamAge.send(ch, age.Seconds(), id, s.Name, s.Direction)
	streamConnects.send(ch, float64(s.Connects), id, s.Name, s.Direction)
	streamBytes.send(ch, float64(s.Bytes), id, s.Name, s.Direction)
	collectTCP(ch, id, s.Name, s.TCP)
	if s.Direction == rafthttp.StreamIn { // the peer dials the others
		streamFails.send(ch, float64(s.DialFailures), id, s.Name)
	}
}

func collectLane(ch chan<- prometheus.Metric, id string, l rafthttp.LaneStatus) {
	laneUp.send(ch, yes(l.Up), id, l.Name)
	laneQueued.send(ch, float64(l.Queued), id, l.Name)
	laneBytes.send(ch, float64(l.QueuedBytes), id, l.Name)
	laneCap.send(ch, float64(l.Capacity), id, l.Name)
	laneCapBytes.send(ch, float64(l.CapacityBytes), id, l.Name)
	laneAge.send(ch, l.OldestAge.Seconds(), id, l.Name)
	laneDone.send(ch, float64(l.Messages), id, l.Name)
	laneTraffic.send(ch, float64(l.Bytes), id, l.Name)
	laneBatches.send(ch, float64(l.Batches), id, l.Name)
	laneBusy.send(ch, l.BusyTime.Seconds(), id, l.Name)
	laneCopies.send(ch, float64(l.Duplicates), id, l.Name)
	for reason, n := range l.Drops.All() {
		if reason != rafthttp.DropLocal { // local drops reach no lane
			laneDropped.send(ch, float64(n), id, l.Name, string(reason))
		}
	}
}
