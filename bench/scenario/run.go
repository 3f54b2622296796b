package scenario

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"runtime"
	"time"

	"github.com/seed-4d73690b/rafthttp/bench/system"
)

// run is one run of a scenario.
type run struct {
	Scenario
	Settings
	load    *system.Load
	before  settled // the cluster starts
	sink    *sink
	cluster system.Cluster
}

// Run starts a cluster of sys, measures and closes it.
func (s Scenario) Run(sys system.System, t Settings) (Outcome, error) {
	other := make([]byte, t.Heap)
	defer runtime.KeepAlive(other)
	switch s.Kind {
	case Batches:
		return s.runRounds(sys, t)
	case Groups:
		return s.runGroup(sys, t)
	}
	figures, err := s.runCluster(sys, t)
	return Outcome{Figures: figures}, err
}

func (s Scenario) runCluster(sys system.System, t Settings) (_ Figures, err error) {
	window := cmp.Or(s.Window, system.Window(s.Entries, s.Size, s.Peers))
	r := &run{Scenario: s, Settings: t, load: system.NewLoad(s.Entries, s.Size, s.Peers, window), sink: newSink(s.Peers)}
	cfg := system.Config{Peers: s.Peers, Checksum: s.Checksum, Load: r.load, Sink: r.sink}
	if s.TLS {
		dir, err := os.MkdirTemp("", "bench")
		if err != nil {
			return nil, err
		}
		defer os.RemoveAll(dir)
		if cfg.TLS, err = system.NewTLS(dir); err != nil {
			return nil, err
		}
	}
	if s.Folder != "" {
		if cfg.SnapshotDir, err = os.MkdirTemp(t.Folders[s.Folder], "saved"); err != nil {
			return nil, err
		}
		defer os.RemoveAll(cfg.SnapshotDir)
	}
	r.before = settle()
	if r.cluster, err = sys.Start(cfg); err != nil {
		return nil, fmt.Errorf("start: %w", err)
	}
	stop := make(chan struct{})
	go r.sink.watch(stop)
	figures, err := s.run(r)
	close(stop)
	r.cluster.Close()
	if err == nil {
		err = r.sink.err() // Close looks at what was dropped
	}
	return figures, err
}

// throughput sends appends as fast as they are taken.
func throughput(r *run) (Figures, error) {
	runtime.GC()
	s := startSender(r.cluster, r.sink, r.load)
	time.Sleep(r.WarmUp)
	before, first := usageNow(), r.sink.total()
	last := first
	for last == first && len(s.done) == 0 { // again, where nothing at all came in so short a time
		time.Sleep(r.Measure)
		last = r.sink.total()
	}
	after := usageNow()
	if err := s.finish(); err != nil {
		return nil, err
	}
	used := after.since(before)
	n, seconds := float64(last-first), used.elapsed.Seconds()
	data := n * float64(r.Entries*r.Size)
	return Figures{
		Rate: n / seconds, CPU: used.cpu.Seconds() / n * 1e6, Allocs: float64(used.mallocs) / n,
		Data: data / seconds / 1e6, Bytes: float64(used.bytes) / data,
	}.only(r.Metrics), nil
}

// latency sends heartbeats one after the other while nothing else is sent.
func latency(r *run) (Figures, error) {
	if _, err := pingFor(r.cluster, r.sink, r.WarmUp); err != nil {
		return nil, err
	}
	runtime.GC()
	times, err := pingFor(r.cluster, r.sink, r.Measure)
	if err != nil {
		return nil, err
	}
	return Figures{Median: percentile(times, 0.50) * 1e6, Tail: percentile(times, 0.99) * 1e6}, nil
}

// only leaves out what is not in metrics.
func (f Figures) only(metrics []Metric) Figures {
	kept := Figures{}
	for _, m := range metrics {
		kept[m] = f[m]
	}
	return kept
}

// latencyBesideBulk sends heartbeats one after the other while as many appends are sent as are taken.
func latencyBesideBulk(r *run) (Figures, error) {
	runtime.GC()
	s := startSender(r.cluster, r.sink, r.load)
	_, err := pingFor(r.cluster, r.sink, r.WarmUp)
	first, start := r.sink.total(), time.Now()
	var times []time.Duration
	if err == nil {
		times, err = pingFor(r.cluster, r.sink, r.Measure)
	}
	arrived, elapsed := r.sink.total()-first, time.Since(start)
	if err := errors.Join(err, s.finish()); err != nil {
		return nil, err
	}
	data := float64(arrived) * float64(r.Entries*r.Size)
	return Figures{TailBulk: percentile(times, 0.99) * 1e3, Bulk: data / elapsed.Seconds() / 1e6}, nil
}

// idle sends some appends and a heartbeat to each peer, waits until the system has settled, and looks at what it keeps
// and does.
func idle(r *run) (Figures, error) {
	if err := r.pingAll(); err != nil {
		return nil, err
	}
	r.cluster.Send(0, r.load.Window)
	if err := r.sink.waitAll(int64(r.load.Window)); err != nil {
		return nil, err
	}
	time.Sleep(r.Settle)
	now := settle()
	cpu := cpuTime()
	start := time.Now()
	time.Sleep(r.Idle)
	cpu = cpuTime() - cpu
	ends := float64(2 * r.Peers)
	return Figures{
		Goroutines: float64(now.goroutines-r.before.goroutines) / ends,
		Heap:       (float64(now.heap) - float64(r.before.heap)) / ends / 1024,
		IdleCPU:    cpu.Seconds() / time.Since(start).Seconds() * 100,
	}, nil
}

// pingAll sends a heartbeat to each peer and waits for the answer.
func (r *run) pingAll() error {
	for peer := range r.Peers {
		r.cluster.Ping(peer)
		if err := r.sink.wait(&r.sink.ponged[peer], 1); err != nil {
			return err
		}
	}
	return nil
}

// settled is what a process keeps when the collector has done its work.
type settled struct {
	goroutines int
	heap       uint64
}

func settle() settled {
	runtime.GC()
	runtime.GC() // what pools hold survives the first
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return settled{goroutines: runtime.NumGoroutine(), heap: m.HeapAlloc}
}
