package metrics_test

import (
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"go.etcd.io/etcd/client/pkg/v3/types"

	"github.com/seed-4d73690b/rafthttp"
	"github.com/seed-4d73690b/rafthttp/metrics"
)

// BenchmarkSent is what the collector costs for each write of a batch.
func BenchmarkSent(b *testing.B) {
	tr := &rafthttp.Transport{ID: 1, Raft: raftFunc(nil)}
	metrics.New(tr, nil)
	b.ReportAllocs()
	for b.Loop() {
		tr.Observer.Sent(2, "msgapp", 100, 1<<20, time.Millisecond)
	}
}

// BenchmarkGather is what a scrape of a member with four peers costs.
func BenchmarkGather(b *testing.B) {
	tr := &rafthttp.Transport{ID: 1, Raft: raftFunc(nil)}
	c := metrics.New(tr, nil)
	if err := tr.Start(); err != nil {
		b.Fatal(err)
	}
	defer tr.Stop()
	for id := range types.ID(4) {
		tr.AddPeer(id+2, []string{"http://127.0.0.1:1"})
	}
	b.ReportMetric(float64(testutil.CollectAndCount(c)), "series")
	reg := prometheus.NewRegistry()
	reg.MustRegister(c)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := reg.Gather(); err != nil {
			b.Fatal(err)
		}
	}
}
