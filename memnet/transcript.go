package memnet

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// transcriptLines is how many events a transcript keeps: the last ones.
const transcriptLines = 2000

// transcript records the events of a network, for people to read. All of it is guarded by the network's mutex.
type transcript struct {
	start  time.Time
	events []event // the oldest at next, once there are transcriptLines
	next   int
	count  int // of all events so far
}

// event is formatted when it is read: most are replaced by later ones before that.
type event struct {
	at     time.Duration
	format string
	args   []any // of types that do not change
}

func (tr *transcript) add(format string, args ...any) {
	e := event{time.Since(tr.start), format, args}
	tr.count++
	if len(tr.events) < transcriptLines {
		tr.events = append(tr.events, e)
		return
	}
	tr.events[tr.next] = e
	tr.next = (tr.next + 1) % transcriptLines
}

func (tr *transcript) String() string {
	var b strings.Builder
	if left := tr.count - len(tr.events); left > 0 {
		fmt.Fprintf(&b, "(%d events before these are not kept)\n", left)
	}
	for i := range tr.events {
		e := tr.events[(tr.next+i)%len(tr.events)]
		fmt.Fprintf(&b, "%12.6fs  ", e.at.Seconds())
		fmt.Fprintf(&b, e.format+"\n", e.args...)
	}
	return b.String()
}

// WithTranscript records the events of the network (connections, changes of links, crashes, and those of
// [Network.Note]; not single reads and writes), each with its time since the network was made, and logs the last 2,000
// events when tb has failed at its end. It costs a formatted line for each Note.
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

// Transcript returns the events kept so far, one per line; empty without [WithTranscript].
func (n *Network) Transcript() string {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.events == nil {
		return ""
	}
	return n.events.String()
}

// Note adds a custom event to the transcript, formatted like fmt.Sprintf. Without [WithTranscript] it does
// nothing.
func (n *Network) Note(format string, args ...any) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.events != nil {
		n.note("%s", fmt.Sprintf(format, args...)) // now: args may change later
	}
}

// note is Note with mu held, for args that do not change.
func (n *Network) note(format string, args ...any) {
	if n.events != nil {
		n.events.add(format, args...)
	}
}
