package metrics

import (
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.etcd.io/etcd/client/pkg/v3/types"
	"go.etcd.io/raft/v3/raftpb"

	"github.com/seed-4d73690b/rafthttp"
)

// maxMembers limits the members with counted events between two scrapes:
// the sender of a snapshot may be any client.
const maxMembers = 256

// events are the metrics that Status does not have, because they are
// distributions or count finished transfers. They are safe for concurrent use.
type events struct {
	snapshotSent, snapshotSendFailed         *prometheus.CounterVec
	snapshotReceived, snapshotReceiveFailed  *prometheus.CounterVec
	snapshotSendSeconds, snapshotReceiveTime *prometheus.HistogramVec
	rtt                                      *prometheus.HistogramVec
	batchMessages, flushSeconds              *prometheus.HistogramVec
	slow                                     *prometheus.CounterVec // nil: not counted

	mu   sync.RWMutex
	byID map[types.ID]*member
}

// member has the series of one member's lanes, found without formatting its
// id.
type member struct {
	id string

	mu    sync.Mutex
	lanes map[string]laneSeries
}

type laneSeries struct{ batch, flush prometheus.Observer }

func (m *member) lane(e *events, name string) laneSeries {
	m.mu.Lock()
	defer m.mu.Unlock()
	s, ok := m.lanes[name]
	if !ok {
		s = laneSeries{e.batchMessages.WithLabelValues(m.id, name), e.flushSeconds.WithLabelValues(m.id, name)}
		m.lanes[name] = s
	}
	return s
}

func newEvents(slow bool) *events {
	e := &events{
		snapshotSent:          etcdCounter("snapshot_send_success", "Total number of successful snapshot sends", "To"),
		snapshotSendFailed:    etcdCounter("snapshot_send_failures", "Total number of snapshot send failures", "To"),
		snapshotReceived:      etcdCounter("snapshot_receive_success", "Total number of successful snapshot receives", "From"),
		snapshotReceiveFailed: etcdCounter("snapshot_receive_failures", "Total number of snapshot receive failures", "From"),
		snapshotSendSeconds: etcdHistogram("snapshot_send_total_duration_seconds",
			"Total latency distributions of v3 snapshot sends", snapshotBuckets, "To"),
		snapshotReceiveTime: etcdHistogram("snapshot_receive_total_duration_seconds",
			"Total latency distributions of v3 snapshot receives", snapshotBuckets, "From"),
		rtt: etcdHistogram("peer_round_trip_time_seconds", "Round-Trip-Time histogram between peers", rttBuckets, "To"),
		batchMessages: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "rafthttp_lane_batch_messages", Help: "Messages in each write or post.", Buckets: batchBuckets,
		}, []string{"peer", "lane"}),
		flushSeconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "rafthttp_lane_flush_seconds", Help: "Time to encode and write each batch, or to post.", Buckets: flushBuckets,
		}, []string{"peer", "lane"}),
		byID: map[types.ID]*member{},
	}
	if slow {
		e.slow = prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "rafthttp_process_slow_total", Help: "Messages for which Process took longer than the threshold, by receive lane, post or snapshot.",
		}, []string{"peer", "lane"})
	}
	return e
}

type vector interface {
	prometheus.Collector
	DeletePartialMatch(prometheus.Labels) int
}

func (e *events) vectors() []vector {
	all := []vector{
		e.snapshotSent, e.snapshotSendFailed, e.snapshotReceived, e.snapshotReceiveFailed,
		e.snapshotSendSeconds, e.snapshotReceiveTime, e.rtt, e.batchMessages, e.flushSeconds,
	}
	if e.slow != nil {
		all = append(all, e.slow)
	}
	return all
}

func (e *events) describe(ch chan<- *prometheus.Desc) {
	for _, v := range e.vectors() {
		v.Describe(ch)
	}
}

func (e *events) collect(ch chan<- prometheus.Metric) {
	for _, v := range e.vectors() {
		v.Collect(ch)
	}
}

// hold returns the series of a member, or nil if there are too many, with mu held for reading: nobody forgets the member before the
// caller has counted and called e.mu.RUnlock. A series that was made afterwards would stay for ever.
func (e *events) hold(id types.ID) *member {
	for {
		e.mu.RLock()
		if m := e.byID[id]; m != nil || len(e.byID) >= maxMembers {
			return m
		}
		e.mu.RUnlock()
		e.mu.Lock()
		if e.byID[id] == nil && len(e.byID) < maxMembers {
			e.byID[id] = &member{id: id.String(), lanes: map[string]laneSeries{}}
		}
		e.mu.Unlock()
	}
}

// prune forgets members that the transport no longer knows.
func (e *events) prune(st rafthttp.Status) {
	known := members(st)
	e.mu.Lock()
	defer e.mu.Unlock()
	for id, m := range e.byID {
		if known[id] {
			continue
		}
		delete(e.byID, id)
		for _, v := range e.vectors() {
			for _, label := range []string{"To", "From", "peer"} {
				v.DeletePartialMatch(prometheus.Labels{label: m.id})
			}
		}
	}
}

// observer returns the hooks.
func (e *events) observer(slow time.Duration) *rafthttp.Observer {
	o := &rafthttp.Observer{
		Sent: func(id types.ID, lane string, messages int, _ int64, took time.Duration) {
			m := e.hold(id)
			defer e.mu.RUnlock()
			if m != nil && messages > 0 { // not a heartbeat alone
				s := m.lane(e, lane)
				s.batch.Observe(float64(messages))
				s.flush.Observe(took.Seconds())
			}
		},
		Probed: func(id types.ID, rtt, _ time.Duration, err error) {
			m := e.hold(id)
			defer e.mu.RUnlock()
			if m != nil && err == nil {
				e.rtt.WithLabelValues(m.id).Observe(rtt.Seconds())
			}
		},
		SnapshotSent:     e.snapshotEnd(e.snapshotSent, e.snapshotSendFailed, e.snapshotSendSeconds),
		SnapshotReceived: e.snapshotEnd(e.snapshotReceived, e.snapshotReceiveFailed, e.snapshotReceiveTime),
	}
	if e.slow != nil {
		o.SlowProcessAfter = slow
		o.SlowProcess = func(id types.ID, lane string, _ raftpb.MessageType, _ time.Duration) {
			m := e.hold(id)
			defer e.mu.RUnlock()
			if m != nil {
				e.slow.WithLabelValues(m.id, lane).Inc()
			}
		}
	}
	return o
}

func (e *events) snapshotEnd(done, failed *prometheus.CounterVec, seconds *prometheus.HistogramVec) func(types.ID, uint64, int64, time.Duration, error) {
	return func(id types.ID, _ uint64, _ int64, took time.Duration, err error) {
		m := e.hold(id)
		defer e.mu.RUnlock()
		switch {
		case m == nil:
		case err != nil:
			failed.WithLabelValues(m.id).Inc()
		default:
			done.WithLabelValues(m.id).Inc()
			seconds.WithLabelValues(m.id).Observe(took.Seconds())
		}
	}
}
