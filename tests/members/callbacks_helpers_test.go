package members_test

import (
	"net/http"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.etcd.io/etcd/client/pkg/v3/types"
	"go.etcd.io/raft/v3/raftpb"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/seed-4d73690b/rafthttp"
	"github.com/seed-4d73690b/rafthttp/internal/testmember"
	"github.com/seed-4d73690b/rafthttp/memnet"
)

// pass is at.Pass, and waits in this package: Stop shows the goroutines that wait in functions of the application, and for it
// all internal packages are the library.
func pass(at *testmember.Barrier) {
	if opened := at.Enter(); opened != nil {
		<-opened
	}
}

// passFor is pass for member 2, and returns at once for any other.
func passFor(at *testmember.Barrier, id types.ID) {
	if id == 2 {
		pass(at)
	}
}

// slowCallbacks are callbacks of which those about member 2 stand still at a barrier; those of "any" about all.
var slowCallbacks = map[string]func(tr *rafthttp.Transport, at *testmember.Barrier){
	"PeerState": func(tr *rafthttp.Transport, at *testmember.Barrier) {
		tr.Observer = &rafthttp.Observer{PeerState: func(id types.ID, _ bool, _ error) { passFor(at, id) }}
	},
	"Dropped": func(tr *rafthttp.Transport, at *testmember.Barrier) {
		tr.Observer = &rafthttp.Observer{Dropped: func(id types.ID, _ string, _ int, _ error) { passFor(at, id) }}
	},
	"Sent": func(tr *rafthttp.Transport, at *testmember.Barrier) {
		tr.Observer = &rafthttp.Observer{Sent: func(id types.ID, _ string, _ int, _ int64, _ time.Duration) { passFor(at, id) }}
	},
	"Received": func(tr *rafthttp.Transport, at *testmember.Barrier) {
		tr.Observer = &rafthttp.Observer{Received: func(id types.ID, _ string, _ int, _ int64) { passFor(at, id) }}
	},
	"SlowProcess": func(tr *rafthttp.Transport, at *testmember.Barrier) {
		tr.Observer = &rafthttp.Observer{SlowProcessAfter: 1, SlowProcess: func(id types.ID, _ string, _ raftpb.MessageType, _ time.Duration) {
			passFor(at, id)
		}}
	},
	"Probed": func(tr *rafthttp.Transport, at *testmember.Barrier) {
		tr.Observer = &rafthttp.Observer{Probed: func(id types.ID, _, _ time.Duration, _ error) { passFor(at, id) }}
	},
	"log of one": func(tr *rafthttp.Transport, at *testmember.Barrier) {
		tr.Logger = zap.New(testmember.BlockingCore{LevelEnabler: zap.InfoLevel, At: at, Peer: "2"})
	},
	"log of all": func(tr *rafthttp.Transport, at *testmember.Barrier) {
		tr.Logger = zap.New(testmember.BlockingCore{LevelEnabler: zap.InfoLevel, At: at})
	},
}

// flappingPeer returns a member whose peer 2 is known from posts only, and a function that has a post to it succeed or fail, so
// that it becomes active or inactive at once.
func flappingPeer(t *testing.T, n *memnet.Network, tune func(*rafthttp.Transport)) (a *testmember.Member, post func(ok bool)) {
	t.Helper()
	a = testmember.StartSimulated(t, n, 1, tune)
	var mu sync.Mutex
	good := true
	ln, err := n.Host("m2").Listen("2380")
	require.NoError(t, err)
	s := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		if good && r.Method == http.MethodPost {
			w.WriteHeader(http.StatusNoContent)
		} else {
			w.WriteHeader(http.StatusInternalServerError)
		}
	})}
	go func() { _ = s.Serve(ln) }()
	t.Cleanup(func() { s.Close() })
	a.AddPeer(2, []string{testmember.URLOf(2)})
	return a, func(ok bool) {
		mu.Lock()
		good = ok
		mu.Unlock()
		a.Send(testmember.Heartbeats(1, 2, 1))
		synctest.Wait()
	}
}

// levelGate is a log that blocks, once armed, where a line asks whether its level is wanted: where a goroutine may be preempted
// within Send.
type levelGate struct {
	zapcore.Core
	*testmember.Barrier
	level zapcore.Level
}

func (g levelGate) Enabled(l zapcore.Level) bool {
	if l == g.level {
		g.Pass()
	}
	return true
}

func (g levelGate) With([]zapcore.Field) zapcore.Core { return g }

func (g levelGate) Check(e zapcore.Entry, ce *zapcore.CheckedEntry) *zapcore.CheckedEntry {
	if g.Enabled(e.Level) {
		return ce.AddCore(e, g)
	}
	return ce
}

// heldLog is the log of a transport whose goroutine stands still at its next warning.
func heldLog() (tune func(*rafthttp.Transport), at *testmember.Barrier) {
	at = testmember.NewBarrier()
	return func(tr *rafthttp.Transport) {
		tr.Logger = zap.New(levelGate{zapcore.NewNopCore(), at, zap.WarnLevel})
	}, at
}
