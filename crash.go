package rafthttp

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"runtime/debug"
	"time"

	"go.etcd.io/etcd/client/pkg/v3/types"
	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"
	"go.uber.org/zap"

	"github.com/seed-4d73690b/rafthttp/internal/conn"
)

// crasher ends the process when a callback panics: also where somebody would
// recover, as net/http does around handlers. A raft that has found its log corrupt,
// and panics, must not go on.
type crasher struct {
	log   *zap.Logger // the application's own: a line must be written before the end
	calls *calls      // those under way; nil: they are not kept
}

// callback is a call of the application, for the log.
type callback struct {
	name string
	peer types.ID // whom it is about, or who sent the message; 0: not known

	lane string // of the message; "": there is none. Also lanePost and laneSnapshot
	kind raftpb.MessageType
	from uint64 // of the message
}

// crashGrace is how long the log may take for the line.
const crashGrace = time.Second

// guard is to be deferred around each callback that is called for each message or batch,
// or that Stop does not wait for; around others it is end. It costs no allocation.
func (c crasher) guard(in callback) {
	if v := recover(); v != nil {
		c.crash(in, v)
	}
}

// guardRun is guard around calls with one message after another. What they are told of the
// one under way is read only after a panic: its memory is often in no cache before Process.
func (c crasher) guardRun(in callback, under **raftpb.Message) {
	if v := recover(); v != nil {
		in.kind, in.from = (*under).GetType(), (*under).GetFrom()
		c.crash(in, v)
	}
}

// crash does not return.
func (c crasher) crash(in callback, v any) {
	p := &callbackPanic{in, v, debug.Stack()}
	logged := make(chan struct{})
	go func() {
		defer close(logged)
		defer func() { _ = recover() }() // perhaps it is the log that panics
		c.log.Error("a callback panicked, which ends the process", p.fields()...)
		_ = c.log.Sync()
	}()
	select {
	case <-logged:
	case <-time.After(crashGrace):
	}
	go func() { panic(p) }() // where nobody recovers
	select {}
}

// callbackPanic is what the process ends with.
type callbackPanic struct {
	callback
	value any
	stack []byte
}

// Error returns what the callback panicked with first, and then where.
func (p *callbackPanic) Error() string {
	return fmt.Sprintf("%v\n\nin a callback of rafthttp, %s:\n%s", p.value, p.name, p.stack)
}

func (p *callbackPanic) fields() []zap.Field {
	fields := []zap.Field{zap.String("callback", p.name)}
	if p.peer != 0 {
		fields = append(fields, zap.String("remote-peer-id", p.peer.String()))
	}
	if p.lane != "" {
		fields = append(fields, zap.String("lane", p.lane), zap.Stringer("type", p.kind), zap.String("from", types.ID(p.from).String()))
	}
	return append(fields, zap.String("panic", fmt.Sprint(p.value)), zap.ByteString("stack", p.stack))
}

// guardedRaft is a Raft under guard, but for Process: settings.process knows more
// of a message.
type guardedRaft struct {
	Raft
	guard crasher
}

// IsIDRemoved implements Raft.
func (r guardedRaft) IsIDRemoved(id uint64) bool {
	defer r.guard.guard(callback{name: "Raft.IsIDRemoved", peer: types.ID(id)})
	return r.Raft.IsIDRemoved(id)
}

// ReportUnreachable implements Raft.
func (r guardedRaft) ReportUnreachable(id uint64) {
	defer r.guard.end(r.guard.begin(callback{name: "Raft.ReportUnreachable", peer: types.ID(id)}))
	r.Raft.ReportUnreachable(id)
}

// ReportSnapshot implements Raft.
func (r guardedRaft) ReportSnapshot(id uint64, status raft.SnapshotStatus) {
	defer r.guard.end(r.guard.begin(callback{name: "Raft.ReportSnapshot", peer: types.ID(id)}))
	r.Raft.ReportSnapshot(id, status)
}

// guardVerify returns f, which may be nil, under guard.
func (c crasher) guardVerify(f func(types.ID, *tls.ConnectionState) error) func(types.ID, *tls.ConnectionState) error {
	if f == nil {
		return nil
	}
	return func(id types.ID, state *tls.ConnectionState) error {
		defer c.end(c.begin(callback{name: "VerifyPeer", peer: id}))
		return f(id, state)
	}
}

// guardDial returns f under guard.
func (c crasher) guardDial(f conn.DialFunc) conn.DialFunc {
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		defer c.end(c.begin(callback{name: "DialContext"}))
		return f(ctx, network, addr)
	}
}

// writeAnswer has an error of Process answer by itself.
func (q *request) writeAnswer(err interface{ WriteTo(http.ResponseWriter) }) {
	defer q.engine.cfg.guard.end(q.engine.cfg.guard.begin(callback{name: "WriteTo of an error of Raft.Process", peer: q.from}))
	err.WriteTo(q.w)
}
