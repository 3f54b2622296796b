// Package history records what clients of a key-value store saw, and judges it: whether there is one order of all
// operations, each somewhere between its call and its return, in which every one of them makes sense.
package history

import (
	"encoding/json"
	"os"
	"sync"
	"time"
)

// Kind is what an operation does to its key.
type Kind string

// The kinds of operations.
const (
	Read  Kind = "read"
	Write Kind = "write"
	Swap  Kind = "swap" // a write that names the value it replaces
)

// Outcome is what a client knows of an operation that has ended.
type Outcome string

// The outcomes of operations.
const (
	Done    Outcome = "done"
	Differs Outcome = "differs" // a swap that found another value, and says which
	Unknown Outcome = "unknown" // a write or swap that may be carried out, has been, or never will be
	Refused Outcome = "refused" // it will never be carried out; or a read that says nothing
)

// None is the value of a key that has none.
const None = ""

// Op is one operation of one client on one key. Every value that is written is written once, by one operation.
type Op struct {
	Client  int           `json:"client"`
	Member  string        `json:"member"` // who was asked
	Kind    Kind          `json:"kind"`
	Key     string        `json:"key"`
	Value   string        `json:"value,omitempty"`  // what a write or a swap puts
	Expect  string        `json:"expect,omitempty"` // what a swap replaces
	Found   string        `json:"found,omitempty"`  // what a read, or a swap that differs, has found
	Call    time.Duration `json:"call"`             // since the start of the log
	Return  time.Duration `json:"return"`
	Outcome Outcome       `json:"outcome"`
	Error   string        `json:"error,omitempty"`
}

// writes says whether the operation changes its key, or may have.
func (o *Op) writes() bool {
	return o.Kind != Read && (o.Outcome == Done || o.Outcome == Unknown)
}

// observes returns the value that the operation has seen, if it has.
func (o *Op) observes() (value string, ok bool) {
	switch {
	case o.Kind == Read && o.Outcome == Done, o.Kind == Swap && o.Outcome == Differs:
		return o.Found, true
	case o.Kind == Swap && o.Outcome == Done:
		return o.Expect, true
	default:
		return None, false
	}
}

// Log is a history in the making. Its methods may be called concurrently.
type Log struct {
	start time.Time

	mu  sync.Mutex
	ops []Op
}

// NewLog returns an empty log.
func NewLog() *Log { return &Log{start: time.Now()} }

// Now is the time since the log was made.
func (l *Log) Now() time.Duration { return time.Since(l.start) }

// Add adds an operation that has ended.
func (l *Log) Add(op Op) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.ops = append(l.ops, op)
}

// Take returns all operations, and forgets them.
func (l *Log) Take() []Op {
	l.mu.Lock()
	defer l.mu.Unlock()
	ops := l.ops
	l.ops = nil
	return ops
}

// Save writes a history to a file, an operation a line.
func Save(path string, ops []Op) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	e := json.NewEncoder(f)
	for _, op := range ops {
		if err := e.Encode(op); err != nil {
			_ = f.Close()
			return err
		}
	}
	return f.Close()
}
