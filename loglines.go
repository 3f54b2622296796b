package rafthttp

import (
	"slices"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"golang.org/x/time/rate"

	"github.com/seed-4d73690b/rafthttp/internal/callback"
)

// logLines are the lines of the log about one member, or of a Transport about
// nobody that it knows. They are written in order, and never by whoever logs,
// since where they go may be slow. Each message has a limit, so that whatever
// happens again and again does not fill the log: burst lines in a row, then burst a
// minute. The next line says how many were left out.
type logLines struct {
	notifier notifier
	guard    callback.Guard
	burst    int

	queue  []func()
	limits map[string]*lineLimit // by message
}

// lineLimit is the limit of one message.
type lineLimit struct {
	*rate.Limiter
	suppressed uint64 // since the last line
}

const (
	memberLines    = 10 // burst, of the log about one member
	transportLines = 64 // the same, about all that are none
	// maxQueuedLines bounds what waits for a log that stands still.
	maxQueuedLines = 64
)

func newLogLines(g callback.Guard, burst int) *logLines {
	l := &logLines{guard: g, burst: burst, limits: map[string]*lineLimit{}}
	l.notifier.take = l.takeOne
	return l
}

// of returns a logger that writes to the same place as log, through the lines.
func (l *logLines) of(log *zap.Logger) *zap.Logger {
	return log.WithOptions(zap.WrapCore(func(c zapcore.Core) zapcore.Core { return &linesCore{c, l} }))
}

// newLimiter returns a limit of n lines in a row, then n a minute.
func newLimiter(n int) *rate.Limiter {
	return rate.NewLimiter(rate.Every(time.Minute/time.Duration(n)), n)
}

// add has write called, unless there were too many lines with this message.
func (l *logLines) add(message string, write func(suppressed uint64)) {
	l.notifier.mu.Lock()
	defer l.notifier.mu.Unlock()
	limit := l.limits[message]
	if limit == nil {
		limit = &lineLimit{Limiter: newLimiter(l.burst)}
		l.limits[message] = limit
	}
	if len(l.queue) >= maxQueuedLines || !limit.Allow() {
		limit.suppressed++
		return
	}
	suppressed := limit.suppressed
	limit.suppressed = 0
	l.queue = append(l.queue, func() { write(suppressed) })
	l.notifier.start()
}

// takeOne is called with mu held.
func (l *logLines) takeOne() func() {
	if len(l.queue) == 0 {
		l.queue = nil
		return nil
	}
	write := l.queue[0]
	l.queue = slices.Delete(l.queue, 0, 1)
	return write
}

// linesCore is the core of a logger whose entries become lines.
type linesCore struct {
	zapcore.Core
	lines *logLines
}

// With implements zapcore.Core.
func (c *linesCore) With(fields []zapcore.Field) zapcore.Core {
	return &linesCore{c.Core.With(fields), c.lines}
}

// Check implements zapcore.Core.
func (c *linesCore) Check(e zapcore.Entry, ce *zapcore.CheckedEntry) *zapcore.CheckedEntry {
	if !c.Enabled(e.Level) {
		return ce
	}
	return ce.AddCore(e, c)
}

// Write implements zapcore.Core.
func (c *linesCore) Write(e zapcore.Entry, fields []zapcore.Field) error {
	c.lines.add(e.Message, func(suppressed uint64) {
		if suppressed > 0 {
			fields = append(slices.Clip(fields), zap.Uint64("suppressed", suppressed))
		}
		defer c.lines.guard.End(c.lines.guard.Begin(callback.Call{Name: "Logger"}))
		if ce := c.Core.Check(e, nil); ce != nil {
			ce.Write(fields...)
		}
	})
	return nil
}
