package metrics

import (
	"slices"

	"github.com/prometheus/client_golang/prometheus"
)

// family is a metric with values from Status at the time of a scrape.
type family struct {
	desc *prometheus.Desc
	kind prometheus.ValueType
}

func (f *family) send(ch chan<- prometheus.Metric, v float64, labels ...string) {
	ch <- prometheus.MustNewConstMetric(f.desc, f.kind, v, labels...)
}

// statusFamilies are all families.
var statusFamilies []*family

func newFamily(kind prometheus.ValueType, name, help string, labels ...string) *family {
	f := &family{prometheus.NewDesc(name, help, labels, nil), kind}
	statusFamilies = append(statusFamilies, f)
	return f
}

func gauge(name, help string, labels ...string) *family {
	return newFamily(prometheus.GaugeValue, name, help, labels...)
}

func counter(name, help string, labels ...string) *family {
	return newFamily(prometheus.CounterValue, name, help, labels...)
}

// The metrics of etcd with values from Status, with etcd's help texts.
var (
	etcdActivePeers = gauge("etcd_network_active_peers", "The current number of active peer connections.", "Local", "Remote")
	etcdDisconnects = counter("etcd_network_disconnected_peers_total", "The total number of disconnected peers.", "Local", "Remote")
	etcdSentBytes   = counter("etcd_network_peer_sent_bytes_total", "The total number of bytes sent to peers.", "To")
	etcdGotBytes    = counter("etcd_network_peer_received_bytes_total", "The total number of bytes received from peers.", "From")
	etcdSendFails   = counter("etcd_network_peer_sent_failures_total", "The total number of send failures from peers.", "To")
	etcdGetFails    = counter("etcd_network_peer_received_failures_total", "The total number of receive failures from peers.", "From")
	etcdSending     = gauge("etcd_network_snapshot_send_inflights_total", "Total number of inflight snapshot sends", "To")
	etcdReceiving   = gauge("etcd_network_snapshot_receive_inflights_total", "Total number of inflight snapshot receives", "From")
)

// Our metrics of the transport and of peers.
var (
	remotes      = gauge("rafthttp_remotes", "Members that are known by their URLs only.")
	queuedBytes  = gauge("rafthttp_queued_bytes", "Memory that all queues together take.")
	queueBudget  = gauge("rafthttp_max_queued_bytes", "Memory that all queues together may take.")
	refused      = counter("rafthttp_identity_refused_total", "Dials, requests and messages that were refused because they are not of the member that they are said to be of.", "kind")
	problems     = gauge("rafthttp_problems", "Problems that Health finds; those of the local member have its id as peer, those of raft groups groups=\"true\".", "peer", "kind", "severity", "groups")
	handshakes   = counter("rafthttp_handshake_failures_total", "TLS handshakes of clients that failed at the listener, by reason.", "reason")
	peerInfo     = gauge("rafthttp_peer_info", "1 for each peer, with the version that it states.", "peer", "version")
	peerSince    = gauge("rafthttp_peer_active_since_timestamp_seconds", "When the peer became active; 0 while it is not.", "peer")
	peerRTT      = gauge("rafthttp_peer_rtt_seconds", "Smoothed round-trip time of probes; absent until it was measured.", "peer")
	clockError   = gauge("rafthttp_peer_clock_offset_error_seconds", "By how much the clock offset may be wrong: half of the round trip that measured it.", "peer")
	clockOffset  = gauge("rafthttp_peer_clock_offset_seconds", "The peer's clock minus ours; absent until it was measured.", "peer")
	probes       = counter("rafthttp_probes_total", "Probes of the peer.", "peer")
	probeFails   = counter("rafthttp_probe_failures_total", "Probes of the peer that failed.", "peer")
	certExpiry   = gauge("rafthttp_peer_certificate_expiry_timestamp_seconds", "End of the certificate that the peer showed last; absent without TLS.", "peer")
	certStart    = gauge("rafthttp_peer_certificate_start_timestamp_seconds", "Begin of the validity of the certificate that the peer showed last; absent without TLS.", "peer")
	snapshots    = gauge("rafthttp_snapshots", "Database snapshots under way or waiting, by direction: out or in.", "peer", "direction")
	snapshotDone = gauge("rafthttp_snapshot_transferred_bytes", "Bytes of the snapshots under way that were transferred.", "peer", "direction")
	snapshotSize = gauge("rafthttp_snapshot_size_bytes", "Bytes that the snapshots under way have, where that is known.", "peer", "direction")
	snapshotRate = gauge("rafthttp_snapshot_rate_bytes_per_second", "How fast the snapshots under way are.", "peer", "direction")
	snapshotAge  = gauge("rafthttp_snapshot_age_seconds", "Age of the oldest snapshot under way or waiting; 0 without one.", "peer", "direction")
)

// Our metrics of streams and lanes.
var (
	streamUp       = gauge("rafthttp_stream_up", "1 while the stream is connected. Direction out: written by this member; in: read by it.", "peer", "stream", "direction")
	streamAge      = gauge("rafthttp_stream_age_seconds", "Age of the stream's connection; 0 while there is none.", "peer", "stream", "direction")
	streamConnects = counter("rafthttp_stream_connects_total", "Connections of the stream: all but the first are reconnects.", "peer", "stream", "direction")
	streamFails    = counter("rafthttp_stream_dial_failures_total", "Failed attempts to dial the stream.", "peer", "stream")
	streamBytes    = counter("rafthttp_stream_bytes_total", "Bytes that the stream carried.", "peer", "stream", "direction")

	laneUp       = gauge("rafthttp_lane_up", "1 while the lane takes messages.", "peer", "lane")
	laneQueued   = gauge("rafthttp_lane_queued_messages", "Messages that wait in the lane or are being written or processed.", "peer", "lane")
	laneBytes    = gauge("rafthttp_lane_queued_bytes", "Memory of the messages in the lane.", "peer", "lane")
	laneCap      = gauge("rafthttp_lane_capacity_messages", "How many messages the lane holds at most.", "peer", "lane")
	laneCapBytes = gauge("rafthttp_lane_capacity_bytes", "How much memory of messages the lane holds at most.", "peer", "lane")
	laneAge      = gauge("rafthttp_lane_oldest_age_seconds", "How long the oldest message has been in the lane.", "peer", "lane")
	laneDone     = counter("rafthttp_lane_messages_total", "Messages that were written to the network, or handed to Process.", "peer", "lane")
	laneTraffic  = counter("rafthttp_lane_bytes_total", "The same in bytes: on the wire for lanes to the peer, in memory for lanes from it.", "peer", "lane")
	laneBatches  = counter("rafthttp_lane_batches_total", "Writes, posts or handovers that this took.", "peer", "lane")
	laneBusy     = counter("rafthttp_lane_busy_seconds_total", "Time spent on those: encoding and writing, posting, or processing.", "peer", "lane")
	laneCopies   = counter("rafthttp_lane_duplicate_messages_total", "Appends that were not sent, since their entries were on their way or in a snapshot.", "peer", "lane")
	laneDropped  = counter("rafthttp_lane_dropped_messages_total", "Messages that were not delivered, by reason: queue_full, disconnected, refused, paused, ended, memory_limit, too_large; local, with the local member as the peer: Send was given messages for raft's local threads or for the local member.", "peer", "lane", "reason")
)

// Our metrics and etcd's that count events.
var (
	snapshotBuckets = prometheus.ExponentialBuckets(0.1, 2, 10)     // as etcd
	rttBuckets      = prometheus.ExponentialBuckets(0.0001, 2, 16)  // as etcd
	batchBuckets    = []float64{1, 2, 4, 8, 16, 32, 64, 128, 256}   // at most 512
	flushBuckets    = prometheus.ExponentialBuckets(0.00001, 4, 10) // 10 µs to 2.6 s
)

func etcdCounter(name, help string, label string) *prometheus.CounterVec {
	return prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: "etcd", Subsystem: "network", Name: name, Help: help}, []string{label})
}

func etcdHistogram(name, help string, buckets []float64, label string) *prometheus.HistogramVec {
	return prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Namespace: "etcd", Subsystem: "network", Name: name, Help: help, Buckets: slices.Clone(buckets),
	}, []string{label})
}
