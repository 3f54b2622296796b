package metrics_test

import (
	"fmt"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/seed-4d73690b/rafthttp"
	"github.com/seed-4d73690b/rafthttp/metrics"
)

// clusterID was drawn at random when the cluster was founded; a real server keeps it with its data.
const clusterID = 0x4c1d80f7a2936be5

// A collector is made before its transport starts, and registered wherever the application wants it.
func ExampleNew() {
	var node raftFunc // whatever the server has
	t := &rafthttp.Transport{ID: 1, ClusterID: clusterID, Raft: node}
	c := metrics.New(t, nil) // before Start
	registry := prometheus.NewRegistry()
	registry.MustRegister(c)
	if err := t.Start(); err != nil {
		panic(err)
	}
	defer t.Stop()
	t.AddPeer(2, []string{"http://127.0.0.1:1"})

	families, err := registry.Gather()
	if err != nil {
		panic(err)
	}
	for _, f := range families {
		if f.GetName() == "etcd_network_active_peers" {
			fmt.Println(f.GetName(), f.GetMetric()[0].GetGauge().GetValue())
		}
	}
	// Output: etcd_network_active_peers 0
}

// Several transports of one process share a registry, each with a label.
func ExampleNew_severalTransports() {
	var node raftFunc // whatever the server has
	registry := prometheus.NewRegistry()
	for _, name := range []string{"orders", "accounts"} {
		t := &rafthttp.Transport{ID: 1, Raft: node}
		c := metrics.New(t, nil)
		prometheus.WrapRegistererWith(prometheus.Labels{"group": name}, registry).MustRegister(c)
	}
	families, err := registry.Gather()
	fmt.Println(len(families) > 0, err)
	// Output: true <nil>
}
