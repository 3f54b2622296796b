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

// BenchmarkGatherGroups is what a scrape of a member with 10,000 raft groups on two other nodes costs, by how many of them have series.
func BenchmarkGatherGroups(b *testing.B) {
	tr := &rafthttp.Transport{ID: 1, Raft: rafthttp.NoRaft{}}
	none, worst := metrics.New(tr, nil), metrics.New(tr, &metrics.Options{WorstGroups: 10})
	if err := tr.Start(); err != nil {
		b.Fatal(err)
	}
	defer tr.Stop()
	for id := range uint64(10_000) {
		g, err := tr.Group(id+1, rafthttp.GroupConfig{Raft: raftFunc(nil)})
		if err != nil {
			b.Fatal(err)
		}
		g.AddPeer(2, []string{"http://127.0.0.1:1"})
		g.AddPeer(3, []string{"http://127.0.0.1:1"})
	}
	for name, c := range map[string]*metrics.Collector{"none": none, "worst=10": worst} {
		b.Run(name, func(b *testing.B) {
			b.ReportMetric(float64(testutil.CollectAndCount(c)), "series")
			b.ReportAllocs()
			for b.Loop() {
				testutil.CollectAndCount(c)
			}
		})
	}
}
