package promise

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"go.etcd.io/etcd/client/pkg/v3/types"
	"go.uber.org/zap/zapcore"
)

const (
	memberLines = 10 // in a row, about one member; and then as many a minute
	otherLines  = 64
)

// notes are the last lines of what happened.
type notes struct {
	mu    sync.Mutex
	lines []string
	next  int
}

const keptNotes = 300

// note adds a line to what happened. It may be called concurrently.
func (s *simulation) note(format string, args ...any) {
	line := fmt.Sprintf("%9.3f  ", s.now().Seconds()) + fmt.Sprintf(format, args...)
	n := &s.notes
	n.mu.Lock()
	defer n.mu.Unlock()
	if len(n.lines) < keptNotes {
		n.lines = append(n.lines, line)
		return
	}
	n.lines[n.next] = line
	n.next = (n.next + 1) % keptNotes
}

// all returns the lines, the oldest first.
func (n *notes) all() []string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return append(slices.Clone(n.lines[n.next:]), n.lines[:n.next]...)
}

// lines counts the lines of a log.
type lines struct {
	mu    sync.Mutex
	count map[[2]string]*lineCount // by message and member
}

// forget begins anew for a peer that is added again, as its limits do.
func (l *lines) forget(peer types.ID) {
	l.mu.Lock()
	defer l.mu.Unlock()
	maps.DeleteFunc(l.count, func(key [2]string, _ *lineCount) bool { return key[1] == peer.String() })
}

type lineCount struct {
	began time.Time
	n     int
}

// lineCore is the log of a member, which may be slow.
type lineCore struct {
	m     *member
	about string // the other member
}

// Enabled implements zapcore.Core.
func (c *lineCore) Enabled(zapcore.Level) bool { return true }

// With implements zapcore.Core.
func (c *lineCore) With(fields []zapcore.Field) zapcore.Core {
	n := *c
	for _, f := range fields {
		if f.Key == "remote-peer-id" {
			n.about = f.String
		}
	}
	return &n
}

// Check implements zapcore.Core.
func (c *lineCore) Check(e zapcore.Entry, ce *zapcore.CheckedEntry) *zapcore.CheckedEntry {
	return ce.AddCore(e, c)
}

// Write implements zapcore.Core.
func (c *lineCore) Write(e zapcore.Entry, fields []zapcore.Field) error {
	defer c.m.enter("the log")()
	if c.about != "" && !c.m.s.hasGroups() && !strings.HasPrefix(e.Message, "refused a request of a member") { // who it is of may be no more than what it says
		defer c.m.inTurn("lines of the log", c.about, e.Message)()
		c.m.lookAtLine(c.about, e.Message, e.Time)
	}
	c.count(e.Message, e.Time)
	text := zapcore.NewMapObjectEncoder()
	for _, f := range fields {
		f.AddTo(text)
	}
	c.m.s.note("member %d: about %s: %s %v", c.m.id, c.about, e.Message, text.Fields)
	_ = c.m.log.pass(context.Background())
	time.Sleep(c.m.opt.SlowLog)
	return nil
}

// Sync implements zapcore.Core.
func (c *lineCore) Sync() error { return nil }

// count holds a line that was logged at a time to the limit of its message. It may be written later.
func (c *lineCore) count(message string, at time.Time) {
	l := &c.m.lines
	l.mu.Lock()
	defer l.mu.Unlock()
	key := [2]string{message, c.about}
	n := l.count[key]
	if n == nil {
		if l.count == nil {
			l.count = map[[2]string]*lineCount{}
		}
		n = &lineCount{began: at}
		l.count[key] = n
	}
	n.n++
	if c.m.s.sabotaged("log lines") {
		n.n += memberLines
	}
	burst := memberLines
	if c.about == "" {
		burst = otherLines
	}
	if strings.HasPrefix(message, "the clock of the peer differs") {
		c.m.s.violate("log lines", "member %d says that the clock of %s differs: all have the same", c.m.id, c.about)
	}
	if c.m.s.hasGroups() { // a node is another than the member with its id
		burst *= 2
	}
	minutes := at.Sub(n.began).Minutes()
	c.m.s.checked("log lines")
	if limit := burst + 1 + int(float64(burst)*minutes); n.n > limit {
		c.m.s.violate("log lines", "member %d has logged %q about %q %d times in %.1f minutes", c.m.id, message, c.about, n.n, minutes)
	}
}
