package callback

import (
	"cmp"
	"fmt"
	"runtime/debug"
	"time"

	"go.etcd.io/etcd/client/pkg/v3/types"
	"go.etcd.io/raft/v3/raftpb"
	"go.uber.org/zap"
)

// Guard ends the process when a callback panics, even where a caller would recover, as
// net/http does around handlers: a raft that has found its log corrupt, and panics, must not
// continue. It is safe for concurrent use.
type Guard struct {
	Log   *zap.Logger // the application's own: the line must be written before the process ends
	Calls *Calls      // the calls of Begin that have not ended; nil: they are not tracked
	Group uint64      // the raft group of which all calls are; 0: none
}

// Call is a call of the application, for the log.
type Call struct {
	Name  string   // such as "Raft.Process"
	Group uint64   // the raft group; 0: none, or that of the Guard
	Peer  types.ID // the member that the call is about, or the sender of the message; 0: unknown

	Lane string             // of the message, "post" or "snapshot"; "": the call has no message
	Type raftpb.MessageType // of the message
	From uint64             // of the message
}

// Names of calls that are named in several places.
const (
	RaftProcess         = "Raft.Process"
	ObserverSlowProcess = "Observer.SlowProcess"
)

// logTimeout is how long the process waits for the log before it ends.
const logTimeout = time.Second

// Of returns the guard of calls of a raft group.
func (g Guard) Of(group uint64) Guard {
	g.Group = group
	return g
}

// Recover must be deferred around each callback that is called for each message or batch, or
// that Stop does not wait for. Around others, defer End. It does not allocate.
func (g Guard) Recover(in Call) {
	if v := recover(); v != nil {
		g.crash(in, v)
	}
}

// RecoverRun is Recover for calls with one message after another. It reads the current message
// only after a panic: before Process, its memory is often in no cache.
func (g Guard) RecoverRun(in Call, current **raftpb.Message) {
	if v := recover(); v != nil {
		in.Type, in.From = (*current).GetType(), (*current).GetFrom()
		g.crash(in, v)
	}
}

// crash does not return.
func (g Guard) crash(in Call, v any) {
	in.Group = cmp.Or(in.Group, g.Group)
	p := &panicError{in, v, debug.Stack()}
	logged := make(chan struct{})
	go func() {
		defer close(logged)
		defer func() { _ = recover() }() // the log itself may panic
		g.Log.Error("a callback panicked, which ends the process", p.fields()...)
		_ = g.Log.Sync()
	}()
	select {
	case <-logged:
	case <-time.After(logTimeout):
	}
	go func() { panic(p) }() // on a goroutine where nothing recovers
	select {}
}

// panicError is the value that the process panics with.
type panicError struct {
	call  Call
	value any
	stack []byte
}

// Error returns the value that the callback panicked with, and then its location.
func (p *panicError) Error() string {
	return fmt.Sprintf("%v\n\nin a callback of rafthttp, %s:\n%s", p.value, p.call.Name, p.stack)
}

func (p *panicError) fields() []zap.Field {
	fields := []zap.Field{zap.String("callback", p.call.Name)}
	if p.call.Group != 0 {
		fields = append(fields, zap.Uint64("group", p.call.Group))
	}
	if p.call.Peer != 0 {
		fields = append(fields, zap.String("remote-peer-id", p.call.Peer.String()))
	}
	if p.call.Lane != "" {
		fields = append(fields, zap.String("lane", p.call.Lane), zap.Stringer("type", p.call.Type),
			zap.String("from", types.ID(p.call.From).String()))
	}
	return append(fields, zap.String("panic", fmt.Sprint(p.value)), zap.ByteString("stack", p.stack))
}
