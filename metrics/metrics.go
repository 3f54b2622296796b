// Package metrics makes a Prometheus collector of a rafthttp.Transport: all
// metrics of etcd's rafthttp package under the same names, so that dashboards and
// alerts made for etcd work, and more about queues, streams, drops and clocks as
// rafthttp_*.
//
//	t := &rafthttp.Transport{…}
//	c := metrics.New(t, nil) // before Start
//	if err := t.Start(); err != nil {
//		return err
//	}
//	prometheus.MustRegister(c) // or any other Registerer
//
// Nothing is registered automatically. The metrics of etcd have no label for the
// local member, since each etcd is a separate process; to register several
// transports of one process, give each a label:
//
//	prometheus.WrapRegistererWith(prometheus.Labels{"member": "a"}, registry).MustRegister(c)
//
// The folder has an example dashboard for Grafana and example alerts:
// dashboard.json and alerts.yml. docs/metrics.md describes each metric.
package metrics

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/seed-4d73690b/rafthttp"
	"github.com/seed-4d73690b/rafthttp/observe"
)

// Options are the options of New. The zero value means the same as nil.
type Options struct {
	// SlowProcess makes rafthttp_process_slow_total count the messages for which
	// Process took this long or longer. That costs two clock readings per
	// message. 0: not counted.
	SlowProcess time.Duration

	// WorstGroups is how many raft groups have series of their own (rafthttp_group_*): those that
	// Transport.WorstGroups has first, at each scrape, so that a group that recovers loses its
	// series. Each scrape then looks at all groups, which takes about a millisecond for 1,000.
	// 0: none. All other metrics of raft groups have labels for nodes only.
	WorstGroups int
	// Groups returns the ids of further raft groups that have series of their own; nil: none. It
	// is called at each scrape, perhaps concurrently, and must not block. Unknown ids are ignored.
	Groups func() []uint64
}

// Collector collects the metrics of one Transport. It implements
// prometheus.Collector, and all of its methods may be called concurrently.
type Collector struct {
	t      *rafthttp.Transport
	events *events
	worst  int             // of the groups
	groups func() []uint64 // may be nil
}

var _ prometheus.Collector = (*Collector)(nil)

// New returns a collector for t. It adds itself to t.Observer, whose hooks are still
// called, so it must be called before t.Start; after that, there are no
// histograms and no counts of snapshots. A collector needs no Close, and may be
// registered before Start and after Stop.
//
// Each write of a batch costs two lookups and two observations of a histogram,
// about 100 ns (BenchmarkSent), and no allocation.
func New(t *rafthttp.Transport, o *Options) *Collector {
	if o == nil {
		o = &Options{}
	}
	e := newEvents(o.SlowProcess > 0)
	t.Observer = observe.Chain(t.Observer, e.observer(o.SlowProcess))
	return &Collector{t: t, events: e, worst: o.WorstGroups, groups: o.Groups}
}

// Describe implements prometheus.Collector.
func (c *Collector) Describe(ch chan<- *prometheus.Desc) {
	for _, f := range statusFamilies {
		ch <- f.desc
	}
	ch <- appendSeconds
	c.events.describe(ch)
}

// Collect implements prometheus.Collector. It omits the series of members that the
// transport no longer knows.
func (c *Collector) Collect(ch chan<- prometheus.Metric) {
	st := c.t.Status()
	collectTransport(ch, st)
	for _, p := range st.Peers {
		collectPeer(ch, st, p)
	}
	c.collectGroups(ch, st.Groups)
	c.events.prune(st)
	c.events.collect(ch)
}
