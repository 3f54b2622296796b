package metrics

import (
	"maps"
	"math"
	"slices"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	"github.com/seed-4d73690b/rafthttp"
)

// Of the way of appends, and of the TCP connections that they take.
var (
	appendSlow = gauge("rafthttp_append_slow", "1 for the part of the way of appends to or from the peer that is slow: queue, wire, follower, against its past and the other peers; receive and process, which are of this member, against its past.", "peer", "part")

	tcpRTT     = gauge("rafthttp_stream_tcp_rtt_seconds", "Smoothed round-trip time of the stream's connection; 0 where it is not known.", "peer", "stream")
	tcpRetrans = counter("rafthttp_stream_tcp_retransmits_total", "Segments of the stream's connection that were sent again; begins anew with each connection.", "peer", "stream")
	tcpUnacked = gauge("rafthttp_stream_tcp_unacknowledged_bytes", "Bytes written to the stream that the system of the peer has not acknowledged.", "peer", "stream")
	tcpUnsent  = gauge("rafthttp_stream_tcp_unsent_bytes", "Those of them that were not sent yet.", "peer", "stream")
	tcpWindow  = gauge("rafthttp_stream_tcp_window_bytes", "Bytes that the system of the peer takes without an acknowledgement; 0 where it is not known.", "peer", "stream")
	tcpShut    = gauge("rafthttp_stream_tcp_window_full", "1 while the peer does not read: bytes are unsent, and all others acknowledged.", "peer", "stream")
)

// appendSeconds is a histogram whose values are those of Status.
var appendSeconds = prometheus.NewDesc("rafthttp_append_seconds",
	"Time of sampled appends by part: answer, from Send to the answer of the peer, is queue, wire and follower; receive and process are of appends from the peer.",
	[]string{"peer", "part"}, nil)

// appendParts are the values of the label part, in a fixed order.
var appendParts = []string{"queue", "wire", "follower", "receive", "process"}

func collectAppends(ch chan<- prometheus.Metric, id string, a rafthttp.AppendStatus) {
	for part, l := range map[string]rafthttp.LatencyStatus{
		"answer": a.Answer, "queue": a.Queue, "wire": a.Wire, "follower": a.Follower, "receive": a.Receive, "process": a.Process,
	} {
		ch <- latencyHistogram{id, part, l}
	}
	for _, part := range appendParts {
		appendSlow.send(ch, yes(a.Slow != nil && a.Slow.Part == part), id, part)
	}
}

func collectTCP(ch chan<- prometheus.Metric, id, stream string, s *rafthttp.TCPStatus) {
	if s == nil {
		return
	}
	tcpRTT.send(ch, s.RTT.Seconds(), id, stream)
	tcpRetrans.send(ch, float64(s.Retransmits), id, stream)
	tcpUnacked.send(ch, float64(s.Unacked), id, stream)
	tcpUnsent.send(ch, float64(s.Unsent), id, stream)
	tcpWindow.send(ch, float64(s.Window), id, stream)
	tcpShut.send(ch, yes(s.WindowFull), id, stream)
}

// latencyHistogram is a native histogram and a classic one of the same values.
type latencyHistogram struct {
	peer, part string
	l          rafthttp.LatencyStatus
}

const (
	// nativeSchema is that of rafthttp.LatencyStatus.Buckets.
	nativeSchema = 2
	perOctave    = 1 << nativeSchema
	// The classic buckets are those up to 2^k s from one k to the other, in steps of 2: from 61 µs to 16 s.
	firstClassic, lastClassic = -14, 4
)

// Desc implements prometheus.Metric.
func (latencyHistogram) Desc() *prometheus.Desc { return appendSeconds }

// Write implements prometheus.Metric.
func (h latencyHistogram) Write(m *dto.Metric) error {
	m.Label = []*dto.LabelPair{{Name: new("part"), Value: &h.part}, {Name: new("peer"), Value: &h.peer}}
	d := &dto.Histogram{
		SampleCount: &h.l.Count, SampleSum: new(h.l.Sum.Seconds()),
		Schema: new(int32(nativeSchema)), ZeroThreshold: new(0.0), ZeroCount: new(uint64(0)),
	}
	h.classic(d)
	h.native(d)
	m.Histogram = d
	return nil
}

func (h latencyHistogram) classic(d *dto.Histogram) {
	for k := firstClassic; k <= lastClassic; k += 2 {
		var n uint64
		for i, in := range h.l.Buckets {
			if i <= k*perOctave {
				n += in
			}
		}
		d.Bucket = append(d.Bucket, &dto.Bucket{UpperBound: new(math.Exp2(float64(k))), CumulativeCount: &n})
	}
}

// native fills in spans of buckets that follow each other, and the differences of their counts.
func (h latencyHistogram) native(d *dto.Histogram) {
	if len(h.l.Buckets) == 0 {
		d.PositiveSpan = []*dto.BucketSpan{{Offset: new(int32(0)), Length: new(uint32(0))}} // native, and empty
		return
	}
	var last int64
	next := 0 // behind the last span
	for _, i := range slices.Sorted(maps.Keys(h.l.Buckets)) {
		if spans := len(d.PositiveSpan); spans > 0 && i == next {
			*d.PositiveSpan[spans-1].Length++
		} else {
			d.PositiveSpan = append(d.PositiveSpan, &dto.BucketSpan{Offset: new(int32(i - next)), Length: new(uint32(1))})
		}
		n := int64(h.l.Buckets[i])
		d.PositiveDelta = append(d.PositiveDelta, n-last)
		last, next = n, i+1
	}
}
