package memnet

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// transcriptLines is how many events a transcript keeps: the last ones.
const transcriptLines = 2000

// transcript is what happened on a network, for people to read. All of it is guarded by the network's mutex.
type transcript struct {
	start time.Time
	lines []string // the oldest at next, once there are transcriptLines
	next  int
	count int // all there ever were
}

func (tr *transcript) add(format string, args ...any) {
	line := fmt.Sprintf("%12.6fs  %s", time.Since(tr.start).Seconds(), fmt.Sprintf(format, args...))
	tr.count++
	if len(tr.lines) < transcriptLines {
		tr.lines = append(tr.lines, line)
		return
	}
	tr.lines[tr.next] = line
	tr.next = (tr.next + 1) % transcriptLines
}

func (tr *transcript) String() string {
	var b strings.Builder
	if left := tr.count - len(tr.lines); left > 0 {
		fmt.Fprintf(&b, "(%d events before these are not kept)\n", left)
	}
	for i := range tr.lines {
		b.WriteString(tr.lines[(tr.next+i)%len(tr.lines)])
		b.WriteByte('\n')
	}
	return b.String()
}

// WithTranscript keeps what happens on the network (connections, changes of links, crashes, and what [Network.Note] adds;
// not single reads and writes), each with its time since the network was made, and logs the last 2,000 events when tb
// has failed at its end. It costs a formatted line an event.
func WithTranscript(tb testing.TB) Option {
	return func(n *Network) {
		n.events = &transcript{start: time.Now()}
		tb.Cleanup(func() {
			if tb.Failed() {
				tb.Logf("what happened on the network, seed %d:\n%s", n.seed, n.Transcript())
			}
		})
	}
}

// Transcript returns the events kept so far, one a line; empty without [WithTranscript].
func (n *Network) Transcript() string {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.events == nil {
		return ""
	}
	return n.events.String()
}

// Note adds an event of the test's own to the transcript, formatted as by fmt.Sprintf. Without [WithTranscript] it does
// nothing.
func (n *Network) Note(format string, args ...any) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.note(format, args...)
}

// note is Note with mu held.
func (n *Network) note(format string, args ...any) {
	if n.events != nil {
		n.events.add(format, args...)
	}
}
