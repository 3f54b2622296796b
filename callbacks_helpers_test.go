package rafthttp_test

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
	"github.com/seed-4d73690b/rafthttp/memnet"
)

// barrier blocks those that pass it once it is shut, until it is opened for good.
type barrier struct {
	mu      sync.Mutex
	shut    bool
	opened  chan struct{}
	entered chan struct{} // has a value for each that is blocked
}

func newBarrier() *barrier {
	return &barrier{opened: make(chan struct{}), entered: make(chan struct{}, 1<<20)}
}

func (b *barrier) close() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.shut = true
}

func (b *barrier) open() { close(b.opened) }

func (b *barrier) pass() {
	b.mu.Lock()
	shut := b.shut
	b.mu.Unlock()
	if shut {
		b.entered <- struct{}{}
		<-b.opened
	}
}

// blockingCore is a log whose sink blocks at a barrier: for the lines of one member, or for all if peer is "".
type blockingCore struct {
	zapcore.LevelEnabler
	at    *barrier
	peer  string
	ofOne bool
}

func (c blockingCore) With(fields []zapcore.Field) zapcore.Core {
	for _, f := range fields {
		c.ofOne = c.ofOne || (f.Key == "remote-peer-id" && f.String == c.peer)
	}
	return c
}

func (c blockingCore) Check(e zapcore.Entry, ce *zapcore.CheckedEntry) *zapcore.CheckedEntry {
	return ce.AddCore(e, c)
}

func (c blockingCore) Write(zapcore.Entry, []zapcore.Field) error {
	if c.ofOne || c.peer == "" {
		c.at.pass()
	}
	return nil
}

func (c blockingCore) Sync() error { return nil }

// slowCallbacks are callbacks of which those about member 2 stand still at a barrier; those of "any" about all.
var slowCallbacks = map[string]func(tr *rafthttp.Transport, at *barrier){
	"PeerState": func(tr *rafthttp.Transport, at *barrier) {
		tr.Observer = &rafthttp.Observer{PeerState: func(id types.ID, _ bool, _ error) { at.passFor(id) }}
	},
	"Dropped": func(tr *rafthttp.Transport, at *barrier) {
		tr.Observer = &rafthttp.Observer{Dropped: func(id types.ID, _ string, _ int, _ error) { at.passFor(id) }}
	},
	"Sent": func(tr *rafthttp.Transport, at *barrier) {
		tr.Observer = &rafthttp.Observer{Sent: func(id types.ID, _ string, _ int, _ int64, _ time.Duration) { at.passFor(id) }}
	},
	"Received": func(tr *rafthttp.Transport, at *barrier) {
		tr.Observer = &rafthttp.Observer{Received: func(id types.ID, _ string, _ int, _ int64) { at.passFor(id) }}
	},
	"SlowProcess": func(tr *rafthttp.Transport, at *barrier) {
		tr.Observer = &rafthttp.Observer{SlowProcessAfter: 1, SlowProcess: func(id types.ID, _ string, _ raftpb.MessageType, _ time.Duration) {
			at.passFor(id)
		}}
	},
	"Probed": func(tr *rafthttp.Transport, at *barrier) {
		tr.Observer = &rafthttp.Observer{Probed: func(id types.ID, _, _ time.Duration, _ error) { at.passFor(id) }}
	},
	"log of one": func(tr *rafthttp.Transport, at *barrier) {
		tr.Logger = zap.New(blockingCore{LevelEnabler: zap.InfoLevel, at: at, peer: "2"})
	},
	"log of all": func(tr *rafthttp.Transport, at *barrier) {
		tr.Logger = zap.New(blockingCore{LevelEnabler: zap.InfoLevel, at: at})
	},
}

func (b *barrier) passFor(id types.ID) {
	if id == 2 {
		b.pass()
	}
}

// flappingPeer returns a member whose peer 2 is known from posts only, and a function that has a post to it succeed or fail, so
// that it becomes active or inactive at once.
func flappingPeer(t *testing.T, n *memnet.Network, tune func(*rafthttp.Transport)) (a *member, post func(ok bool)) {
	t.Helper()
	a = startSimulated(t, n, 1, tune)
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
	a.AddPeer(2, []string{urlOf(2)})
	return a, func(ok bool) {
		mu.Lock()
		good = ok
		mu.Unlock()
		a.Send(heartbeats(1, 2, 1))
		synctest.Wait()
	}
}

// states are what PeerState was told.
type states struct {
	mu  sync.Mutex
	all []bool
}

func (s *states) told(active bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.all = append(s.all, active)
}

func (s *states) list() []bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]bool(nil), s.all...)
}

// levelGate is a log that blocks, once armed, where a line asks whether its level is wanted: where a goroutine may be preempted
// within Send.
type levelGate struct {
	zapcore.Core
	*barrier
	level zapcore.Level
}

func (g levelGate) Enabled(l zapcore.Level) bool {
	if l == g.level {
		g.pass()
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
func heldLog() (tune func(*rafthttp.Transport), at *barrier) {
	at = newBarrier()
	return func(tr *rafthttp.Transport) {
		tr.Logger = zap.New(levelGate{zapcore.NewNopCore(), at, zap.WarnLevel})
	}, at
}
