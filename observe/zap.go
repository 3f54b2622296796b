package observe

import (
	"context"
	"log/slog"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// Zap returns a logger for Transport.Logger whose lines go to a handler of
// log/slog, with their fields as attributes: those of With once, and the name of
// the logger, if it has one, as "logger". The handler decides which levels are
// logged. DPanic and above are errors; Fatal ends the process.
func Zap(h slog.Handler) *zap.Logger { return zap.New(&core{h}) }

// core is a zapcore.Core on a slog.Handler.
type core struct{ h slog.Handler }

func level(l zapcore.Level) slog.Level {
	switch {
	case l <= zapcore.DebugLevel:
		return slog.LevelDebug
	case l == zapcore.InfoLevel:
		return slog.LevelInfo
	case l == zapcore.WarnLevel:
		return slog.LevelWarn
	default:
		return slog.LevelError
	}
}

// Enabled implements zapcore.LevelEnabler.
func (c *core) Enabled(l zapcore.Level) bool { return c.h.Enabled(context.Background(), level(l)) }

// With implements zapcore.Core.
func (c *core) With(fields []zapcore.Field) zapcore.Core { return &core{c.h.WithAttrs(attrs(fields))} }

// Check implements zapcore.Core.
func (c *core) Check(e zapcore.Entry, ce *zapcore.CheckedEntry) *zapcore.CheckedEntry {
	if c.Enabled(e.Level) {
		return ce.AddCore(e, c)
	}
	return ce
}

// Write implements zapcore.Core.
func (c *core) Write(e zapcore.Entry, fields []zapcore.Field) error {
	r := slog.NewRecord(e.Time, level(e.Level), e.Message, e.Caller.PC)
	if e.LoggerName != "" {
		r.AddAttrs(slog.String("logger", e.LoggerName))
	}
	r.AddAttrs(attrs(fields)...)
	return c.h.Handle(context.Background(), r)
}

// Sync implements zapcore.Core.
func (c *core) Sync() error { return nil }

// attrs converts fields to attributes. Those after a zap.Namespace are a group.
func attrs(fields []zapcore.Field) []slog.Attr {
	var all []slog.Attr
	for i, f := range fields {
		if f.Type == zapcore.NamespaceType {
			return append(all, slog.Attr{Key: f.Key, Value: slog.GroupValue(attrs(fields[i+1:])...)})
		}
		enc := zapcore.NewMapObjectEncoder()
		f.AddTo(enc)
		if v, ok := enc.Fields[f.Key]; ok {
			all = append(all, slog.Any(f.Key, v))
			continue
		}
		for k, v := range enc.Fields { // zap.Inline
			all = append(all, slog.Any(k, v))
		}
	}
	return all
}
