package rafthttp_test

import (
	"math"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.etcd.io/etcd/client/pkg/v3/transport"
	"go.etcd.io/etcd/client/pkg/v3/types"
	"go.etcd.io/raft/v3/raftpb"
	"go.uber.org/zap"
	"golang.org/x/time/rate"

	"github.com/seed-4d73690b/rafthttp"
	"github.com/seed-4d73690b/rafthttp/internal/bubble"
	"github.com/seed-4d73690b/rafthttp/internal/testmember"
	"github.com/seed-4d73690b/rafthttp/snap"
)

func TestBadConfig(t *testing.T) {
	type tune = func(*rafthttp.Transport)
	tests := []struct {
		field string
		name  string
		tune  tune
	}{
		{"Raft", "nil", func(tr *rafthttp.Transport) { tr.Raft = nil }},
		{"Raft", "a nil pointer", func(tr *rafthttp.Transport) { tr.Raft = (*testmember.Recorder)(nil) }},
		{"Snapshotter", "a nil pointer of another type", func(tr *rafthttp.Transport) { tr.Snapshotter = (*testmember.Saver)(nil) }},
		{"Snapshotter", "a nil *snap.Store", func(tr *rafthttp.Transport) { tr.Snapshotter = (*snap.Store)(nil) }},
		{"Snapshotter", "a nil func", func(tr *rafthttp.Transport) { tr.Snapshotter = testmember.Saver(nil) }},
		{"ID", "0", func(tr *rafthttp.Transport) { tr.ID = 0 }},
		{"DialTimeout", "negative", func(tr *rafthttp.Transport) { tr.DialTimeout = -1 }},
		{"DialRetryFrequency", "negative", func(tr *rafthttp.Transport) { tr.DialRetryFrequency = -1 }},
		{"DialRetryFrequency", "no number", func(tr *rafthttp.Transport) { tr.DialRetryFrequency = rate.Limit(math.NaN()) }},
		{"ReadTimeout", "negative", func(tr *rafthttp.Transport) { tr.ReadTimeout = -1 }},
		{"ReadTimeout", "too short", func(tr *rafthttp.Transport) { tr.ReadTimeout = 10*time.Millisecond - 1 }},
		{"WriteTimeout", "negative", func(tr *rafthttp.Transport) { tr.WriteTimeout = -1 }},
		{"SendQueueMessages", "negative", func(tr *rafthttp.Transport) { tr.SendQueueMessages = -1 }},
		{"SendQueueBytes", "negative", func(tr *rafthttp.Transport) { tr.SendQueueBytes = -1 }},
		{"ReceiveQueueMessages", "negative", func(tr *rafthttp.Transport) { tr.ReceiveQueueMessages = -1 }},
		{"ReceiveQueueBytes", "negative", func(tr *rafthttp.Transport) { tr.ReceiveQueueBytes = -1 }},
		{"MaxMessageBytes", "negative", func(tr *rafthttp.Transport) { tr.MaxMessageBytes = -1 }},
		{"SnapshotRateLimit", "negative", func(tr *rafthttp.Transport) { tr.SnapshotRateLimit = -1 }},
		{"SnapshotRateLimit", "no number", func(tr *rafthttp.Transport) { tr.SnapshotRateLimit = rate.Limit(math.NaN()) }},
		{"MaxSnapshots", "negative", func(tr *rafthttp.Transport) { tr.MaxSnapshots = -1 }},
		{"SnapshotAnswerTimeout", "negative", func(tr *rafthttp.Transport) { tr.SnapshotAnswerTimeout = -1 }},
		{"ServerVersion", "not semantic", func(tr *rafthttp.Transport) { tr.ServerVersion = "3.7" }},
		{"ServerVersion", "two lines", func(tr *rafthttp.Transport) { tr.ServerVersion = "3.7.0-a\r\nX: y" }},
		{"MinClusterVersion", "not semantic", func(tr *rafthttp.Transport) { tr.MinClusterVersion = "v3.0.0" }},
		{"MinClusterVersion", "above ServerVersion", func(tr *rafthttp.Transport) { tr.ServerVersion, tr.MinClusterVersion = "3.4.0", "3.5.0" }},
		{"MinClusterVersion", "above the default of ServerVersion", func(tr *rafthttp.Transport) { tr.MinClusterVersion = "4.0.0" }},
		{"TLSInfo", "no such file", func(tr *rafthttp.Transport) { tr.TLSInfo = transport.TLSInfo{CertFile: "/none", KeyFile: "/none"} }},
		{"TLSInfo", "no such list", func(tr *rafthttp.Transport) { tr.TLSInfo = transport.TLSInfo{CRLFile: "/none"} }},
		{"TLSInfo", "list is something else", func(tr *rafthttp.Transport) { tr.TLSInfo = transport.TLSInfo{CRLFile: "config_test.go"} }},
		{"TLSInfo", "key missing", func(tr *rafthttp.Transport) { tr.TLSInfo = transport.TLSInfo{CertFile: "/none"} }},
		{"TLSInfo.LocalAddr", "no address", func(tr *rafthttp.Transport) { tr.TLSInfo.LocalAddr = "not an address" }},
		{"URLs", "with a path", func(tr *rafthttp.Transport) {
			tr.URLs = types.URLs{{Scheme: "http", Host: "10.0.0.1:1"}, {Scheme: "http", Host: "10.0.0.1:2", Path: "/x"}}
		}},
		{"URLs", "other scheme", func(tr *rafthttp.Transport) { tr.URLs = types.URLs{{Scheme: "ftp", Host: "10.0.0.1:1"}} }},
		{"URLs", "empty", func(tr *rafthttp.Transport) { tr.URLs = types.URLs{url.URL{}} }},
		{"URLs", "more than others take", func(tr *rafthttp.Transport) {
			tr.URLs = slices.Repeat(types.MustNewURLs([]string{"http://10.0.0.1:2380"}), 33)
		}},
		{"URLs", "longer than others take", func(tr *rafthttp.Transport) {
			tr.URLs = types.URLs{{Scheme: "unix", Path: "/" + strings.Repeat("a", 8<<10)}}
		}},
		{"URLs", "comma", func(tr *rafthttp.Transport) { tr.URLs = types.URLs{{Scheme: "unix", Path: "/a,b"}} }},
	}
	for _, tc := range tests {
		t.Run(tc.field+" "+tc.name, func(t *testing.T) {
			tr := &rafthttp.Transport{ID: 1, Raft: &testmember.Recorder{}}
			tc.tune(tr)
			err := tr.Start()
			var bad *rafthttp.ConfigError
			require.ErrorAs(t, err, &bad)
			require.Equal(t, tc.field, bad.Field)
			require.ErrorContains(t, err, "rafthttp: Transport."+tc.field+" is ")
			require.NotEmpty(t, bad.Want)

			// The error does no harm: the next try counts.
			tr.Send([]*raftpb.Message{testmember.Heartbeat(2, 1, 1)})
			*tr = rafthttp.Transport{ID: 1, Raft: &testmember.Recorder{}}
			require.NoError(t, tr.Start())
			tr.Stop()
		})
	}
}

func TestZeroConfigWorks(t *testing.T) {
	tr := &rafthttp.Transport{ID: 1, Raft: &testmember.Recorder{}}
	require.NoError(t, tr.Start())
	defer tr.Stop()
	other := testmember.Start(t, 2, func(tr *rafthttp.Transport) { tr.ClusterID = 0 })
	tr.AddPeer(2, []string{other.URL})
	tr.Send([]*raftpb.Message{testmember.Heartbeat(2, 1, 1)})
	testmember.Eventually(t, func() bool { return len(other.Recorder.Received()) == 1 })
}

func TestExtremeConfigWorks(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		p := testmember.NewPair(t, func(tr *rafthttp.Transport) {
			tr.DialRetryFrequency, tr.SnapshotRateLimit = rate.Inf, rate.Inf
			tr.MaxMessageBytes, tr.SendQueueBytes, tr.ReceiveQueueBytes = math.MaxInt64, math.MaxInt64, math.MaxInt64
			tr.SendQueueMessages, tr.ReceiveQueueMessages = 1, 1
		}, func(tr *rafthttp.Transport) {
			tr.DialRetryFrequency = 1e-300
			tr.ReadTimeout = 10 * time.Millisecond
			tr.MaxMessageBytes, tr.SendQueueBytes, tr.ReceiveQueueBytes = 1000, 1, 1
		})
		p.A.AddPeer(3, []string{"http://b:1"}) // refused, again and again
		time.Sleep(time.Second)
		p.A.Send([]*raftpb.Message{testmember.Heartbeat(2, 1, 1)})
		p.B.Send([]*raftpb.Message{testmember.Heartbeat(1, 2, 1)})
		time.Sleep(time.Second)
		require.Len(t, p.A.Recorder.Received(), 1)
		require.Len(t, p.B.Recorder.Received(), 1)
	})
}

func TestStartTwice(t *testing.T) {
	tr := &rafthttp.Transport{ID: 1, Raft: &testmember.Recorder{}}
	require.NoError(t, tr.Start())
	require.ErrorContains(t, tr.Start(), "before")
	tr.Stop()
	require.ErrorContains(t, tr.Start(), "before")
}

// Nothing reads the fields after Start.
func TestFieldsChangedAfterStart(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		observer := &rafthttp.Observer{}
		p := testmember.NewPair(t, func(tr *rafthttp.Transport) { tr.Observer = observer }, testmember.Receives(testmember.SavesAll))
		kept := p.A.Recorder
		tr := p.A.Transport
		tr.Raft, tr.ID, tr.ClusterID, tr.URLs = &testmember.Recorder{}, 99, 99, nil
		tr.Snapshotter, tr.ErrorC, tr.Logger, tr.TLSInfo = nil, nil, zap.NewExample(), transport.TLSInfo{CertFile: "/none"}
		tr.DialContext, tr.ReadTimeout, tr.MaxMessageBytes, tr.ServerVersion = nil, -1, 1, "no"
		*observer = rafthttp.Observer{PeerState: func(types.ID, bool, error) { t.Error("observed") }}
		tr.RemovePeer(2)
		tr.AddPeer(2, []string{p.B.URL})
		time.Sleep(time.Second)
		tr.Send([]*raftpb.Message{testmember.Heartbeat(2, 1, 1)})
		p.B.Send([]*raftpb.Message{testmember.Heartbeat(1, 2, 1)})
		time.Sleep(time.Second)
		require.Len(t, p.B.Recorder.Received(), 1)
		require.Len(t, kept.Received(), 1)
		require.Equal(t, types.ID(1), tr.Status().ID)
		g, err := tr.Group(7, rafthttp.GroupConfig{Raft: kept})
		require.NoError(t, err)
		require.EqualValues(t, 1, g.Status().Replica)
		require.Contains(t, panicText(func() { g.AddReplica(8, 1, []string{p.B.URL}) }), "the node is the local one")
		*observer = rafthttp.Observer{}
	})
}

func TestBadURLsPanic(t *testing.T) {
	for _, logger := range []*zap.Logger{nil, zap.NewNop()} {
		tr := &rafthttp.Transport{ID: 1, Raft: &testmember.Recorder{}, Logger: logger}
		require.NoError(t, tr.Start())
		tr.AddPeer(2, []string{"http://127.0.0.1:1"})
		before := tr.Status().Peers[0].URLs
		methods := map[string]func(types.ID, []string){"AddPeer": tr.AddPeer, "AddRemote": tr.AddRemote, "UpdatePeer": tr.UpdatePeer}
		for name, method := range methods {
			for _, urls := range [][]string{
				nil, {}, {""}, {"10.0.0.1:2380"}, {"http://10.0.0.1"}, {"http://10.0.0.1:1/path"}, {"ftp://10.0.0.1:1"},
				{"http://10.0.0.1:1", "http://%zz:1"}, {"http://[::1:1"},
			} {
				for _, id := range []types.ID{1, 2, 3} { // local, peer, unknown
					text := panicText(func() { method(id, urls) })
					require.Contains(t, text, "rafthttp: "+name+"("+id.String(), "%q", urls)
					for _, u := range urls {
						require.Contains(t, text, u)
					}
				}
			}
		}
		require.Equal(t, before, tr.Status().Peers[0].URLs)
		require.Len(t, tr.Status().Peers, 1)
		require.Empty(t, tr.Status().Remotes)
		tr.Stop()
	}
}

// No member has the id 0, so none gets it, whatever its URLs.
func TestMemberZeroPanics(t *testing.T) {
	tr := &rafthttp.Transport{ID: 1, Raft: &testmember.Recorder{}}
	require.NoError(t, tr.Start())
	t.Cleanup(tr.Stop)
	for name, method := range map[string]func(types.ID, []string){"AddPeer": tr.AddPeer, "AddRemote": tr.AddRemote} {
		for _, u := range []string{"http://127.0.0.1:1", "bad"} {
			want := "rafthttp: " + name + `(0, ["` + u + `"]): no member has the id 0`
			require.Equal(t, want, panicText(func() { method(0, []string{u}) }))
		}
	}
	tr.UpdatePeer(0, []string{testmember.RefusingURL}) // as any other that is no peer
	tr.RemovePeer(0)
	require.Empty(t, tr.Status().Peers)
	require.Empty(t, tr.Status().Remotes)
}

// panicText returns what f panics with, or "".
func panicText(f func()) (text string) {
	defer func() {
		if v, ok := recover().(string); ok {
			text = v
		}
	}()
	f()
	return ""
}

func TestErrors(t *testing.T) {
	require.Equal(t, "unexpected http status 500", (&rafthttp.StatusError{Code: 500}).Error())
	require.Equal(t, "unexpected http status 500: no", (&rafthttp.StatusError{Code: 500, Body: "no"}).Error())
	// Texts that go over the wire.
	require.Equal(t, "cluster ID mismatch", rafthttp.ErrClusterIDMismatch.Error())
	require.Equal(t, "incompatible version", rafthttp.ErrIncompatibleVersion.Error())
	require.Equal(t, "to field mismatch", rafthttp.ErrToMismatch.Error())
}
