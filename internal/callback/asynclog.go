package callback

import (
	"slices"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"golang.org/x/time/rate"

	"github.com/seed-4d73690b/rafthttp/internal/loglimit"
)

// How many lines with one message an AsyncLog writes in a row, and then in a minute.
const (
	MemberLines    = 10 // about one member
	TransportLines = 64 // of a Transport, about no known member, and of a listener
)

// maxQueuedLines limits the lines that wait for a blocked log.
const maxQueuedLines = 64

// AsyncLog writes log lines about one member, or of a Transport, in order and asynchronously,
// since the log may be slow. Each message has a limit, so that repeated events do not fill the
// log. The next line states how many were suppressed. It is safe for concurrent use.
type AsyncLog struct {
	guard  Guard
	burst  int
	queue  *Queue
	limits map[string]*lineLimit // by message; guarded by the lock of queue
}

// lineLimit is the limit of one message.
type lineLimit struct {
	rate       *rate.Limiter
	suppressed uint64 // since the last line
}

// NewAsyncLog returns a log that writes burst lines with one message in a row, then burst a
// minute.
func NewAsyncLog(g Guard, burst int) *AsyncLog {
	return &AsyncLog{guard: g, burst: burst, queue: NewQueue(maxQueuedLines), limits: map[string]*lineLimit{}}
}

// Wrap returns a logger that writes asynchronously to the same place as log.
func (l *AsyncLog) Wrap(log *zap.Logger) *zap.Logger {
	return log.WithOptions(zap.WrapCore(func(c zapcore.Core) zapcore.Core { return &asyncCore{c, l} }))
}

// Close waits until all lines are written. None is written later.
func (l *AsyncLog) Close() { l.queue.Close() }

// add calls write asynchronously, unless there were too many lines with this message.
func (l *AsyncLog) add(message string, write func(suppressed uint64)) {
	l.queue.notifier.mu.Lock()
	defer l.queue.notifier.mu.Unlock()
	limit := l.limits[message]
	if limit == nil {
		limit = &lineLimit{rate: loglimit.PerMinute(l.burst)}
		l.limits[message] = limit
	}
	if l.queue.full() || !limit.rate.Allow() {
		limit.suppressed++
		return
	}
	suppressed := limit.suppressed
	limit.suppressed = 0
	l.queue.add(func() { write(suppressed) })
}

// asyncCore is the core of a logger that writes through an AsyncLog.
type asyncCore struct {
	zapcore.Core
	log *AsyncLog
}

// With implements zapcore.Core.
func (c *asyncCore) With(fields []zapcore.Field) zapcore.Core {
	return &asyncCore{c.Core.With(fields), c.log}
}

// Check implements zapcore.Core.
func (c *asyncCore) Check(e zapcore.Entry, ce *zapcore.CheckedEntry) *zapcore.CheckedEntry {
	if !c.Enabled(e.Level) {
		return ce
	}
	return ce.AddCore(e, c)
}

// Write implements zapcore.Core.
func (c *asyncCore) Write(e zapcore.Entry, fields []zapcore.Field) error {
	c.log.add(e.Message, func(suppressed uint64) {
		if suppressed > 0 {
			fields = append(slices.Clip(fields), zap.Uint64("suppressed", suppressed))
		}
		defer c.log.guard.End(c.log.guard.Begin(Call{Name: "Logger"}))
		if ce := c.Core.Check(e, nil); ce != nil {
			ce.Write(fields...)
		}
	})
	return nil
}
