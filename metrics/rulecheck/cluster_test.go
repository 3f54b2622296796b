package rulecheck

import (
	"context"
	"io"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"go.etcd.io/etcd/client/pkg/v3/types"
	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"

	"github.com/seed-4d73690b/rafthttp"
	"github.com/seed-4d73690b/rafthttp/memnet/rafttest"
	"github.com/seed-4d73690b/rafthttp/metrics"
	"github.com/seed-4d73690b/rafthttp/snap"
)

const members = 3

// idle is a Raft that takes all and does nothing, for 2 ms with each append.
type idle struct{}

func (idle) Process(_ context.Context, m *raftpb.Message) error {
	if m.GetType() == raftpb.MsgApp {
		time.Sleep(2 * time.Millisecond)
	}
	return nil
}
func (idle) IsIDRemoved(uint64) bool                    { return false }
func (idle) ReportUnreachable(uint64)                   {}
func (idle) ReportSnapshot(uint64, raft.SnapshotStatus) {}

// forgets is a Snapshotter that keeps nothing.
type forgets struct{}

func (forgets) SaveDBFrom(r io.Reader, _ uint64) (int64, error) { return io.Copy(io.Discard, r) }

// rounds of talk, 15 s each: a little more than ten minutes.
const rounds = 42

// live has three members live for ten minutes, well and busy, and returns what
// Prometheus has of them then. All snapshots arrive, or some fail as well.
func live(t *testing.T, failures bool) (s *store, end time.Time) {
	t.Helper()
	if lives[failures] == nil {
		lives[failures] = liveOnce(t, failures)
	}
	s = lives[failures].clone()
	return s, s.end
}

// lives are what live has returned, by failures.
var lives = map[bool]*store{}

func liveOnce(t *testing.T, failures bool) *store {
	t.Helper()
	s := newStore()
	synctest.Test(t, func(t *testing.T) {
		registries := map[uint64]*prometheus.Registry{}
		c := rafttest.New(t, rafttest.Config{Members: members, Tune: func(id uint64, tr *rafthttp.Transport) {
			registries[id] = prometheus.NewRegistry()
			registries[id].MustRegister(metrics.New(tr, &metrics.Options{SlowProcess: time.Millisecond, WorstGroups: 1}))
			tr.Snapshotter = forgets{}
			if id == 1 {
				tr.SnapshotRateLimit = 16 << 10
			}
		}})
		all := map[uint64]*rafthttp.Transport{}
		for id := uint64(1); id <= members; id++ {
			all[id] = c.Start(id, idle{}).Transport
		}
		for id, tr := range all {
			joinGroup(t, tr, id)
		}
		time.Sleep(time.Second)
		all[1].SendSnapshot(snapshot(1, 2, 7, 1<<30, 1<<30)) // goes on for longer
		for range rounds {
			talk(all, failures)
			time.Sleep(15 * time.Second)
			s.end = time.Now()
			for id, r := range registries {
				s.scrape(t, r, instance(id))
				for peer := range all { // as if the network in memory had TLS
					for name, days := range map[string]time.Duration{certificates: 30, certificateStarts: -30} {
						s.add(s.end, float64(s.end.Add(days*24*time.Hour).Unix()), labels.FromStrings(model.MetricNameLabel, name,
							"instance", instance(id), "job", "raft", "peer", types.ID(peer).String()))
					}
				}
			}
		}
		s.types[certificates], s.types[certificateStarts] = dto.MetricType_GAUGE, dto.MetricType_GAUGE
	})
	return s
}

const (
	certificates      = "rafthttp_peer_certificate_expiry_timestamp_seconds"
	certificateStarts = "rafthttp_peer_certificate_start_timestamp_seconds"
)

func instance(id uint64) string { return rafttest.Host(id) + ":9100" }

// joinGroup adds a raft group with a replica on each member.
func joinGroup(t *testing.T, tr *rafthttp.Transport, id uint64) {
	t.Helper()
	g, err := tr.Group(7, rafthttp.GroupConfig{Raft: idle{}})
	if err != nil {
		t.Fatal(err)
	}
	for other := uint64(1); other <= members; other++ {
		if other != id {
			g.AddPeer(types.ID(other), []string{rafttest.URL(other)})
		}
	}
}

// talk has each member send to each other one what members send.
func talk(all map[uint64]*rafthttp.Transport, failures bool) {
	for from, tr := range all {
		for to := range all {
			if from == to {
				continue
			}
			for _, typ := range []raftpb.MessageType{raftpb.MsgHeartbeat, raftpb.MsgApp, raftpb.MsgProp} {
				tr.Send([]*raftpb.Message{{Type: typ.Enum(), From: &from, To: &to, Entries: []*raftpb.Entry{{Data: []byte("x")}}}})
			}
			if from == 1 {
				continue // is busy with a large one
			}
			tr.SendSnapshot(snapshot(from, to, 7, 1000, 1000))
			if failures {
				tr.SendSnapshot(snapshot(from, to, 8, 1000, 10))
			}
		}
	}
}

// snapshot is one whose reader has another number of bytes than declared.
func snapshot(from, to, index uint64, declared, has int64) *snap.Message {
	return snap.NewMessage(&raftpb.Message{
		Type: raftpb.MsgSnap.Enum(), From: &from, To: &to, Term: new(uint64(1)),
		Snapshot: &raftpb.Snapshot{Metadata: &raftpb.SnapshotMetadata{
			Index: &index, Term: new(uint64(1)), ConfState: &raftpb.ConfState{Voters: []uint64{1, 2, 3}},
		}},
	}, io.NopCloser(io.LimitReader(zeros{}, has)), declared)
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}
