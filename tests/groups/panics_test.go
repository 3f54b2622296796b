package groups_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"
	"go.etcd.io/etcd/client/pkg/v3/types"
	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/seed-4d73690b/rafthttp"
	"github.com/seed-4d73690b/rafthttp/internal/testmember"
	"github.com/seed-4d73690b/rafthttp/snap"
)

// panicking is a Raft and a GroupReceiver of which some methods panic.
type panicking struct{ in string }

func (p panicking) panicIn(method string) {
	if p.in == method {
		panic("whoops")
	}
}

func (p panicking) Process(context.Context, *raftpb.Message) error  { p.panicIn("Process"); return nil }
func (p panicking) IsIDRemoved(uint64) bool                         { p.panicIn("IsIDRemoved"); return false }
func (p panicking) ReportUnreachable(uint64)                        { p.panicIn("ReportUnreachable") }
func (p panicking) ReportSnapshot(uint64, raft.SnapshotStatus)      { p.panicIn("ReportSnapshot") }
func (p panicking) ReceiveGroups(types.ID, []rafthttp.GroupMessage) { p.panicIn("ReceiveGroups") }
func (p panicking) GroupsUnreachable(types.ID, []uint64)            { p.panicIn("GroupsUnreachable") }
func (p panicking) SaveDBFrom(r io.Reader, _ uint64) (n int64, _ error) {
	p.panicIn("SaveDBFrom")
	return io.Copy(io.Discard, r)
}

// deaths are callbacks that panic in the group 7 of node 1, while node 2 sends to it, and what the log says of each.
var deaths = map[string]struct {
	in       string
	stranger bool // node 1 does not know the replica of node 2
	receiver bool
	send     func(a, b *rafthttp.Group)
	log      string
}{
	"Process": {in: "Process", send: sendsHeartbeat,
		log: `"callback": "Raft.Process", "group": 7, "remote-peer-id": "2", "lane": "control", "type": "MsgHeartbeat", "from": "2"`},
	"Process, of a stranger": {in: "Process", stranger: true, send: sendsHeartbeat,
		log: `"callback": "Raft.Process", "group": 7, "remote-peer-id": "2", "lane": "control", "type": "MsgHeartbeat", "from": "2"`},
	"Process, snapshot": {in: "Process", send: sendsSnapshot,
		log: `"callback": "Raft.Process", "group": 7, "remote-peer-id": "2", "lane": "append", "type": "MsgSnap", "from": "2"`},
	"IsIDRemoved": {in: "IsIDRemoved", stranger: true, send: sendsHeartbeat, log: `"callback": "Raft.IsIDRemoved", "group": 7, "remote-peer-id": "2"`},
	"ReportUnreachable": {in: "ReportUnreachable", stranger: true, send: func(a, _ *rafthttp.Group) {
		a.AddPeer(3, []string{"http://127.0.0.1:1"})
		a.Send([]*raftpb.Message{testmember.Heartbeat(3, 1, 1)})
	}, log: `"callback": "Raft.ReportUnreachable", "group": 7, "remote-peer-id": "3"`},
	"ReportSnapshot": {in: "ReportSnapshot", send: func(a, _ *rafthttp.Group) { a.Send([]*raftpb.Message{testmember.MsgSnap(2, 1, 1)}) },
		log: `"callback": "Raft.ReportSnapshot", "group": 7, "remote-peer-id": "2"`},
	"SaveDBFrom": {in: "SaveDBFrom", send: sendsSnapshot, log: `"callback": "Snapshotter.SaveDBFrom", "group": 7, "remote-peer-id": "2", "lane": "snapshot"`},
	"ReceiveGroups": {in: "ReceiveGroups", receiver: true, send: sendsHeartbeat,
		log: `"callback": "GroupReceiver.ReceiveGroups", "remote-peer-id": "2"`},
	"GroupsUnreachable": {in: "GroupsUnreachable", receiver: true, send: func(a, _ *rafthttp.Group) {
		a.AddPeer(3, []string{"http://127.0.0.1:1"})
		a.Send([]*raftpb.Message{testmember.Heartbeat(3, 1, 1)})
	}, log: `"callback": "GroupReceiver.GroupsUnreachable", "remote-peer-id": "3"`},
}

func sendsHeartbeat(_, b *rafthttp.Group) { b.Send([]*raftpb.Message{testmember.Heartbeat(1, 2, 1)}) }

func sendsSnapshot(_, b *rafthttp.Group) {
	b.SendSnapshot(snap.NewMessage(testmember.MsgSnap(1, 2, 7), &testmember.Database{Reader: bytes.NewReader(make([]byte, 1000))}, 1000))
}

// dies runs a helper in a process that a panic ends, and returns what it has written.
func dies(t *testing.T, helper, arg string) string {
	t.Helper()
	cmd := exec.Command(os.Args[0], "-test.run=^"+helper+"$", "-test.timeout=20s")
	cmd.Env = append(os.Environ(), "PANIC_IN="+arg)
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	require.ErrorAs(t, err, &exit, "%s", out)
	require.Equal(t, 2, exit.ExitCode(), "%s", out)
	require.Contains(t, string(out), "panic: whoops")
	require.NotContains(t, string(out), "test timed out")
	return string(out)
}

// TestPanicsOfGroupsEndTheProcess: a panic of any callback of a group does, after a line of the log that names the group.
func TestPanicsOfGroupsEndTheProcess(t *testing.T) {
	for name, death := range deaths {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			out := dies(t, "TestPanicHelper", name)
			require.Contains(t, out, "a callback panicked, which ends the process")
			require.Contains(t, out, death.log)
		})
	}
}

// TestPanicHelper is the process that ends.
func TestPanicHelper(t *testing.T) {
	death, ok := deaths[os.Getenv("PANIC_IN")]
	if !ok {
		t.Skip("it is run by TestPanicsOfGroupsEndTheProcess")
	}
	p := panicking{death.in}
	encoder := zapcore.NewConsoleEncoder(zapcore.EncoderConfig{MessageKey: "m"})
	ma := testmember.Start(t, 1, func(tr *rafthttp.Transport) {
		tr.Raft, tr.Logger = rafthttp.NoRaft{}, zap.New(zapcore.NewCore(encoder, zapcore.AddSync(os.Stderr), zap.ErrorLevel))
		if death.receiver {
			tr.GroupReceiver = p
		}
	})
	mb := testmember.Start(t, 2, noRaft)
	a, err := ma.Group(7, rafthttp.GroupConfig{Raft: p, Snapshotter: p})
	require.NoError(t, err)
	b, err := mb.Group(7, rafthttp.GroupConfig{Raft: &testmember.Recorder{}})
	require.NoError(t, err)
	if !death.stranger {
		a.AddPeer(2, []string{mb.URL})
	}
	b.AddPeer(1, []string{ma.URL})
	death.send(a, b)
	select {}
}

// failsOnce is a Raft whose first call of Process panics once it is let go. It says if there is another call.
type failsOnce struct {
	testmember.Recorder
	calls atomic.Int32
	begun chan struct{}
	letGo chan struct{}
}

func (f *failsOnce) Process(context.Context, *raftpb.Message) error {
	if f.calls.Add(1) > 1 {
		fmt.Fprintln(os.Stderr, "there was another call")
		return nil
	}
	close(f.begun)
	<-f.letGo
	panic("whoops")
}

// TestNoCallAfterAPanic: a raft that panics gets no further message, also while the log stands still, and if its replica is added while it does.
func TestNoCallAfterAPanic(t *testing.T) {
	require.NotContains(t, dies(t, "TestNoCallHelper", "stranger"), "there was another call")
}

// TestNoCallHelper is the process that ends.
func TestNoCallHelper(t *testing.T) {
	if os.Getenv("PANIC_IN") != "stranger" {
		t.Skip("it is run by TestNoCallAfterAPanic")
	}
	at := testmember.NewBarrier()
	at.Close()
	ma := testmember.Start(t, 1, func(tr *rafthttp.Transport) {
		tr.Raft, tr.Logger = rafthttp.NoRaft{}, zap.New(testmember.BlockingCore{LevelEnabler: zap.ErrorLevel, At: at})
	})
	mb := testmember.Start(t, 2, noRaft)
	f := &failsOnce{begun: make(chan struct{}), letGo: make(chan struct{})}
	a, err := ma.Group(7, rafthttp.GroupConfig{Raft: f})
	require.NoError(t, err)
	b, err := mb.Group(7, rafthttp.GroupConfig{Raft: &testmember.Recorder{}})
	require.NoError(t, err)
	b.AddPeer(1, []string{ma.URL})
	sendsHeartbeat(nil, b)
	<-f.begun
	first := a.Status().QueuedBytes
	a.AddPeer(2, []string{mb.URL})
	sendsHeartbeat(nil, b)
	for a.Status().QueuedBytes < 2*first { // the second one waits
		runtime.Gosched()
	}
	close(f.letGo)
	select {}
}
