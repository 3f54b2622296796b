package server

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// newReadySeconds returns the metric of what the Ready loop, or the threads of async.go, do: how
// long a step takes. The transport cannot measure it: raft's Step does not wait for the loop, so
// a slow disk fills no queue of the transport.
func newReadySeconds() *prometheus.HistogramVec {
	return prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name: "raft_ready_seconds", Help: "How long a step of the Ready loop takes: save (to the log, with fsync), apply, or install (a snapshot).",
		Buckets: prometheus.ExponentialBuckets(0.0001, 4, 10), // 0.1 ms to 26 s
	}, []string{"step"})
}

// took observes a step that began at start.
func (s *Server) took(step string, start time.Time) {
	s.readySeconds.WithLabelValues(step).Observe(time.Since(start).Seconds())
}
