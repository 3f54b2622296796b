package metrics_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"github.com/stretchr/testify/require"
	"go.etcd.io/etcd/client/pkg/v3/types"
	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"

	"github.com/seed-4d73690b/rafthttp"
	"github.com/seed-4d73690b/rafthttp/memnet"
	"github.com/seed-4d73690b/rafthttp/metrics"
	"github.com/seed-4d73690b/rafthttp/snap"
)

// raftFunc is a Raft whose Process is the function.
type raftFunc func(context.Context, *raftpb.Message) error

func (f raftFunc) Process(ctx context.Context, m *raftpb.Message) error { return f(ctx, m) }
func (raftFunc) IsIDRemoved(uint64) bool                                { return false }
func (raftFunc) ReportUnreachable(uint64)                               {}
func (raftFunc) ReportSnapshot(uint64, raft.SnapshotStatus)             {}

// saver is a Snapshotter that forgets databases, and fails for index 13.
type saver struct{}

func (saver) SaveDBFrom(r io.Reader, index uint64) (int64, error) {
	if index == 13 {
		return 0, errors.New("no luck")
	}
	return io.Copy(io.Discard, r)
}

func hostOf(id types.ID) string { return "m" + id.String() }

func urlOf(id types.ID) string { return "http://" + hostOf(id) + ":1" }

// member is a transport with a server on a network in memory, and its collector.
type member struct {
	*rafthttp.Transport
	collector *metrics.Collector
}

func startMember(t *testing.T, n *memnet.Network, id types.ID, tune func(*rafthttp.Transport), o *metrics.Options) *member {
	t.Helper()
	tr := &rafthttp.Transport{
		ID: id, ClusterID: 1, Snapshotter: saver{}, DialContext: n.Host(hostOf(id)).DialContext,
		Raft: raftFunc(func(context.Context, *raftpb.Message) error { return nil }),
	}
	if tune != nil {
		tune(tr)
	}
	m := &member{tr, metrics.New(tr, o)}
	require.NoError(t, tr.Start())
	ln, err := n.Host(hostOf(id)).Listen("1")
	require.NoError(t, err)
	server := &http.Server{Handler: tr.Handler()}
	go func() { _ = server.Serve(ln) }()
	t.Cleanup(func() {
		tr.Stop()
		_ = server.Close()
	})
	return m
}

func connect(t *testing.T, a, b *member) {
	t.Helper()
	a.AddPeer(b.ID, []string{urlOf(b.ID)})
	b.AddPeer(a.ID, []string{urlOf(a.ID)})
	time.Sleep(10 * time.Second) // of a bubble: streams are up, and a probe was made
	require.Equal(t, 1, a.ActivePeers())
	require.Equal(t, 1, b.ActivePeers())
}

func message(typ raftpb.MessageType, to types.ID) *raftpb.Message {
	return &raftpb.Message{Type: typ.Enum(), To: new(uint64(to)), From: new(uint64(1)), Term: new(uint64(1))}
}

// sendSnapshot sends a database and waits for the end.
func sendSnapshot(a *member, to types.ID, index uint64, size int) bool {
	m := message(raftpb.MsgSnap, to)
	m.Snapshot = &raftpb.Snapshot{Metadata: &raftpb.SnapshotMetadata{Index: new(index), Term: new(uint64(1))}}
	s := snap.NewMessage(m, io.NopCloser(bytes.NewReader(make([]byte, size))), int64(size))
	a.SendSnapshot(s)
	return <-s.CloseNotify()
}

// gather collects m as a registry of its own does, which refuses what is wrong.
func gather(t *testing.T, cs ...prometheus.Collector) map[string]*dto.MetricFamily {
	t.Helper()
	reg := prometheus.NewPedanticRegistry()
	for _, c := range cs {
		require.NoError(t, reg.Register(c))
	}
	all, err := reg.Gather()
	require.NoError(t, err)
	byName := map[string]*dto.MetricFamily{}
	for _, f := range all {
		byName[f.GetName()] = f
	}
	return byName
}

// series returns the series of a family by label values.
func series(f *dto.MetricFamily) map[string]*dto.Metric {
	all := map[string]*dto.Metric{}
	for _, m := range f.GetMetric() {
		key := ""
		for i, l := range m.GetLabel() {
			if i > 0 {
				key += ","
			}
			key += l.GetValue()
		}
		all[key] = m
	}
	return all
}

func value(m *dto.Metric) float64 {
	switch {
	case m.GetGauge() != nil:
		return m.GetGauge().GetValue()
	case m.GetCounter() != nil:
		return m.GetCounter().GetValue()
	default:
		return float64(m.GetHistogram().GetSampleCount())
	}
}

func requireValue(t *testing.T, want float64, m *dto.Metric) {
	t.Helper()
	require.InDelta(t, want, value(m), 0)
}
