package testmember

import (
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"github.com/seed-4d73690b/rafthttp"
)

// BlockingCore is a log whose sink blocks at a barrier: for the lines of one member, or for all if Peer is "".
type BlockingCore struct {
	zapcore.LevelEnabler
	At    *Barrier
	Peer  string
	ofOne bool
}

// With implements zapcore.Core.
func (c BlockingCore) With(fields []zapcore.Field) zapcore.Core {
	for _, f := range fields {
		c.ofOne = c.ofOne || (f.Key == "remote-peer-id" && f.String == c.Peer)
	}
	return c
}

// Check implements zapcore.Core.
func (c BlockingCore) Check(e zapcore.Entry, ce *zapcore.CheckedEntry) *zapcore.CheckedEntry {
	return ce.AddCore(e, c)
}

// Write blocks at the barrier.
func (c BlockingCore) Write(zapcore.Entry, []zapcore.Field) error {
	if c.ofOne || c.Peer == "" {
		c.At.Pass()
	}
	return nil
}

// Sync does nothing.
func (c BlockingCore) Sync() error { return nil }

// Logged has a member log to what it returns.
func Logged(level zap.AtomicLevel) (func(*rafthttp.Transport), *observer.ObservedLogs) {
	core, logs := observer.New(level)
	return func(tr *rafthttp.Transport) { tr.Logger = zap.New(core) }, logs
}
