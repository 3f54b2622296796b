package members_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.etcd.io/etcd/client/pkg/v3/types"
	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/seed-4d73690b/rafthttp"
	"github.com/seed-4d73690b/rafthttp/internal/testmember"
	"github.com/seed-4d73690b/rafthttp/memnet"
	"github.com/seed-4d73690b/rafthttp/snap"
)

const stopWaits = "Stop still waits for callbacks"

// standing is a Raft whose methods pass a barrier.
type standing struct {
	testmember.Recorder
	at *testmember.Barrier
	in string
}

func (s *standing) pass(in string) {
	if s.in == in {
		pass(s.at)
	}
}

func (s *standing) Process(ctx context.Context, m *raftpb.Message) error {
	s.pass("Process " + m.GetType().String())
	return s.Recorder.Process(ctx, m)
}
func (s *standing) ReportUnreachable(id uint64) { s.pass("ReportUnreachable") }
func (s *standing) ReportSnapshot(id uint64, _ raft.SnapshotStatus) {
	s.pass("ReportSnapshot")
}

// stands are callbacks of member 1 that stand still, and what is said of each.
var stands = map[string]struct {
	in   string // of standing
	tune func(tr *rafthttp.Transport, at *testmember.Barrier)
	send func(a, b *testmember.Member)
	end  func(a *testmember.Member) // before Stop
	want string
}{
	"Process, control":  {in: "Process MsgHeartbeat", send: sendsOne(raftpb.MsgHeartbeat), want: "Raft.Process, control, of 2"},
	"Process, append":   {in: "Process MsgApp", send: sendsOne(raftpb.MsgApp), want: "Raft.Process, append, of 2"},
	"Process, proposal": {in: "Process MsgProp", send: sendsOne(raftpb.MsgProp), want: "Raft.Process, proposal, of 2"},
	"Process, post":     {in: "Process MsgSnap", send: sendsOne(raftpb.MsgSnap), want: "Raft.Process, append, of 2"},
	"Process, snapshot": {in: "Process MsgSnap", tune: saving, send: sendsSnapshot, want: "Raft.Process, append, of 2"},
	"Process, of a peer that was removed": {in: "Process MsgHeartbeat", send: sendsOne(raftpb.MsgHeartbeat),
		end: func(a *testmember.Member) { a.RemovePeer(2) }, want: "Raft.Process, control, of 2"},
	"Process, of a member that is no peer": {in: "Process MsgHeartbeat", send: func(a, b *testmember.Member) {
		a.RemovePeer(2)
		time.Sleep(time.Second) // b has no stream any more
		sendsOne(raftpb.MsgHeartbeat)(a, b)
	}, want: "Raft.Process, control, of 2"},
	"ReportUnreachable": {in: "ReportUnreachable", send: func(_, b *testmember.Member) { b.RemoveAllPeers() }, want: "Raft.ReportUnreachable of 2"},
	"ReportSnapshot": {in: "ReportSnapshot", send: func(a, _ *testmember.Member) { a.Send([]*raftpb.Message{testmember.Message(raftpb.MsgSnap, 2)}) },
		want: "Raft.ReportSnapshot of 2"},
	"SaveDBFrom": {tune: func(tr *rafthttp.Transport, at *testmember.Barrier) {
		tr.Snapshotter = testmember.Saver(func(io.Reader, uint64) (int64, error) { pass(at); return 0, io.EOF })
	}, send: sendsSnapshot, want: "Snapshotter.SaveDBFrom of 2"},
	"VerifyPeer": {tune: func(tr *rafthttp.Transport, at *testmember.Barrier) {
		tr.VerifyPeer = func(id types.ID, _ *tls.ConnectionState) error { passFor(at, id); return nil }
	}, send: sendsOne(raftpb.MsgSnap), want: "VerifyPeer of 2"},
	"DialContext": {tune: func(tr *rafthttp.Transport, at *testmember.Barrier) {
		dial := tr.DialContext
		tr.DialContext = func(ctx context.Context, network, addr string) (net.Conn, error) {
			pass(at)
			return dial(ctx, network, addr)
		}
	}, send: func(_, b *testmember.Member) { b.RemoveAllPeers() }, want: "DialContext"},
	"PeerState": {tune: slowCallbacks["PeerState"], send: func(_, b *testmember.Member) { b.Stop() }, want: "Observer.PeerState of 2"},
	"Dropped": {tune: slowCallbacks["Dropped"], send: func(a, _ *testmember.Member) { a.CutPeer(2); a.Send(testmember.Heartbeats(1, 2, 1)) },
		want: "Observer.Dropped of 2"},
	"Sent": {tune: slowCallbacks["Sent"], send: func(a, _ *testmember.Member) { a.Send(testmember.Heartbeats(1, 2, 1)) }, want: "Observer.Sent, message, of 2"},
	"Sent, post": {tune: slowCallbacks["Sent"], send: func(a, _ *testmember.Member) { a.Send([]*raftpb.Message{testmember.Message(raftpb.MsgSnap, 2)}) },
		want: "Observer.Sent, pipeline, of 2"},
	"Received":       {tune: slowCallbacks["Received"], send: sendsOne(raftpb.MsgHeartbeat), want: "Observer.Received, control, of 2"},
	"Received, post": {tune: slowCallbacks["Received"], send: sendsOne(raftpb.MsgSnap), want: "Observer.Received of 2"},
	"SlowProcess": {tune: func(tr *rafthttp.Transport, at *testmember.Barrier) {
		slowCallbacks["SlowProcess"](tr, at)
		tr.Raft.(*standing).OnProcess = func(context.Context, *raftpb.Message) error { time.Sleep(time.Second); return nil }
	}, send: sendsOne(raftpb.MsgHeartbeat), want: "Observer.SlowProcess of 2"},
	"Probed": {tune: slowCallbacks["Probed"], send: func(*testmember.Member, *testmember.Member) { time.Sleep(time.Minute) }, want: "Observer.Probed of 2"},
}

func saving(tr *rafthttp.Transport, _ *testmember.Barrier) { tr.Snapshotter = testmember.SavesAll }

// TestStopSaysWhatItWaitsFor: after 5 s, with the callback, its member and its goroutine, and then less and less often.
func TestStopSaysWhatItWaitsFor(t *testing.T) {
	for name, tt := range stands {
		t.Run(name, func(t *testing.T) {
			testmember.Simulate(t, func(t *testing.T, n *memnet.Network) {
				core, logs := observer.New(zap.WarnLevel)
				at := testmember.NewBarrier()
				open := sync.OnceFunc(at.Open)
				t.Cleanup(open)
				a := testmember.StartSimulated(t, n, 1, func(tr *rafthttp.Transport) {
					tr.Logger = zap.New(core)
					s := &standing{at: at, in: tt.in}
					if tr.Raft = s; tt.tune != nil {
						tt.tune(tr, at)
					}
				})
				b := testmember.StartSimulated(t, n, 2, nil)
				testmember.Connect(t, a, b)
				synctest.Wait()
				at.Close()
				tt.send(a, b)
				select {
				case <-at.Entered:
				case <-time.After(time.Hour):
					require.FailNow(t, "it is not called")
				}
				if tt.end != nil {
					tt.end(a)
				}
				stopped := make(chan struct{})
				began := time.Now()
				go func() {
					defer close(stopped)
					a.Stop()
				}()
				lines := func() []observer.LoggedEntry { return logs.FilterMessage(stopWaits).All() }
				time.Sleep(4900 * time.Millisecond)
				require.Empty(t, lines())
				time.Sleep(200 * time.Millisecond)
				require.Len(t, lines(), 1)
				fields := lines()[0].ContextMap()
				require.Equal(t, []any{tt.want}, fields["callbacks"])
				require.Contains(t, fields["goroutines"], "_test.pass")
				require.Equal(t, 1, strings.Count(fmt.Sprint(fields["goroutines"]), "_test.pass("))
				time.Sleep(time.Minute)
				var after []time.Duration
				for _, l := range lines() {
					after = append(after, l.Time.Sub(began).Round(time.Second))
				}
				require.Equal(t, []time.Duration{5 * time.Second, 15 * time.Second, 35 * time.Second}, after)
				open()
				<-stopped
				time.Sleep(5 * time.Minute)
				require.Len(t, lines(), 3)
			})
		})
	}
}

// TestStopWithoutWaitingSaysNothing: nor does one that takes a while.
func TestStopWithoutWaitingSaysNothing(t *testing.T) {
	testmember.Simulate(t, func(t *testing.T, n *memnet.Network) {
		core, logs := observer.New(zap.WarnLevel)
		a := testmember.StartSimulated(t, n, 1, func(tr *rafthttp.Transport) { tr.Logger = zap.New(core) })
		b := testmember.StartSimulated(t, n, 2, nil)
		testmember.Connect(t, a, b)
		b.Recorder.OnProcess = nil
		slow := &testmember.Database{Reader: bytes.NewReader(make([]byte, 1000))}
		a.SendSnapshot(snap.NewMessage(testmember.MsgSnap(2, 1, 7), slow, 1000))
		a.Stop()
		require.Zero(t, logs.FilterMessage(stopWaits).Len())
	})
}
