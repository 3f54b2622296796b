package rafthttp

import (
	"time"

	"github.com/seed-4d73690b/rafthttp/internal/latency"
	"github.com/seed-4d73690b/rafthttp/internal/queue"
	"github.com/seed-4d73690b/rafthttp/internal/socket"
)

// AppendStatus is where appends to a peer, and those from it, spend their time, in samples: one append is followed at a
// time, at most 100 in a second. Appends that carry a Context, and those that go by POST, are not followed. It is empty
// until there was an append.
type AppendStatus struct {
	// Answer is the time from Send to the peer's MsgAppResp that covers the append. It is the sum of Queue, the time in the
	// send queue; Wire, from the write until the peer's system has received it, as far as the local system tells, else, and
	// behind a proxy, a round trip of probes; and Follower, the rest: the peer reads, processes and saves it, and answers.
	Answer   LatencyStatus `json:"answer"`
	Queue    LatencyStatus `json:"queue"`
	Wire     LatencyStatus `json:"wire"`
	Follower LatencyStatus `json:"follower"`
	// Receive is the time that appends of the peer wait in the receive queue, and Process how long Process has them.
	Receive LatencyStatus `json:"receive"`
	Process LatencyStatus `json:"process"`
	// Recent is the mean of the last samples; of those that are slow, if the peer has become slow; 0 if there was none for
	// half a minute.
	Recent AppendParts `json:"recent"`
	// Pending is what the append that is followed had taken when the local member led last, in nanoseconds; 0: none is.
	Pending time.Duration `json:"pending_ns"`
	// Slow is nil unless one part stands out: it was slow for a second together, compared with its past, of an hour, and, on the
	// way to the peer, with how most other peers have changed. What has been slow for an hour is its past from then on.
	Slow *SlowStatus `json:"slow,omitempty"`
}

// AppendParts is how long appends are in each part of their way, in nanoseconds, as AppendStatus has them.
type AppendParts struct {
	Queue    time.Duration `json:"queue_ns"`
	Wire     time.Duration `json:"wire_ns"`
	Follower time.Duration `json:"follower_ns"`
	Receive  time.Duration `json:"receive_ns"`
	Process  time.Duration `json:"process_ns"`
}

// LatencyStatus is a distribution of durations.
type LatencyStatus struct {
	// Count and Sum are of all samples; Sum is in nanoseconds.
	Count uint64        `json:"count"`
	Sum   time.Duration `json:"sum_ns"`
	// P50 and P99 are of the last 30 to 60 s, up to 90 s if samples are rare, in nanoseconds, to 10 %; 0: no sample.
	P50 time.Duration `json:"p50_ns"`
	P99 time.Duration `json:"p99_ns"`
	// Buckets counts all samples, by the index of the buckets of a native histogram of Prometheus with schema 2: bucket i
	// has durations over 2^((i-1)/4) s and up to 2^(i/4) s.
	Buckets map[int]uint64 `json:"-"`
}

// SlowStatus says which part of the way of appends is slow.
type SlowStatus struct {
	// Part is "queue", "wire" or "follower" on the way to the peer, "receive" or "process" on the way from it: those are of
	// the local member.
	Part  string    `json:"part"`
	Since time.Time `json:"since"`
	// Took is the mean time of recent appends, and PartTook that in the part, in nanoseconds.
	Took     time.Duration `json:"took_ns"`
	PartTook time.Duration `json:"part_took_ns"`
	// Text says it in words, without a subject, which is the peer: "answers appends after 210 ms, 190 ms of it at the
	// follower: its disk, or its Ready loop".
	Text string `json:"text"`
}

// TCPStatus is what the system knows of the TCP connection of a stream that the local member writes.
type TCPStatus struct {
	// RTT is the smoothed round-trip time, and MinRTT the least of the last minutes, in nanoseconds.
	RTT    time.Duration `json:"rtt_ns"`
	MinRTT time.Duration `json:"min_rtt_ns"`
	// Retransmits counts segments that were sent again.
	Retransmits uint64 `json:"retransmits"`
	// Unacked counts bytes that the peer's system has not acknowledged, Unsent those of them that were not sent yet.
	Unacked int64 `json:"unacked_bytes"`
	Unsent  int64 `json:"unsent_bytes"`
	// Window is how many bytes the peer's system takes without an acknowledgement; 0 on systems that do not tell.
	Window int64 `json:"window_bytes"`
	// WindowFull says that the peer does not read: bytes are unsent although all others are acknowledged.
	WindowFull bool `json:"window_full"`
}

// appends returns the peer's part of Status for appends, and how those to it and from it are now.
func (p *peer) appends() (st AppendStatus, to, from latency.View) {
	now := time.Now()
	out, to := p.member.Latency.Out.Read(now)
	r := p.receivers[queue.Append]
	took, messages := r.Processing(now)
	in, from := p.member.Latency.In.Read(now, r.Queue.Status().OldestAppend, took, messages)
	return AppendStatus{
		Answer: LatencyStatus(out.Answer), Queue: LatencyStatus(out.Queue), Wire: LatencyStatus(out.Wire), Follower: LatencyStatus(out.Follower),
		Receive: LatencyStatus(in.Receive), Process: LatencyStatus(in.Process), Pending: out.Pending,
		Recent: AppendParts{to.Recent[latency.Queue], to.Recent[latency.Wire], to.Recent[latency.Follower], from.Recent[latency.Receive], from.Recent[latency.Process]},
	}, to, from
}

// appendStatuses returns what is known of the appends to and from each of peers.
func appendStatuses(peers []*peer) []AppendStatus {
	all, to, from := make([]AppendStatus, len(peers)), make([]latency.View, len(peers)), make([]latency.View, len(peers))
	for i, p := range peers {
		all[i], to[i], from[i] = p.appends()
	}
	for i, v := range latency.Judge(to) {
		if v == nil {
			v = latency.Own(from[i])
		}
		if v != nil {
			all[i].Slow = &SlowStatus{v.Part.String(), v.Since, v.Took, v.Of, v.Text}
		}
	}
	return all
}

func tcpStatus(s socket.SendState, ok bool) *TCPStatus {
	if !ok {
		return nil
	}
	return &TCPStatus{s.RTT, s.MinRTT, s.Retransmits, s.Unacked, s.Unsent, s.Window, s.Shut}
}
