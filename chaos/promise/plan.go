package promise

import (
	"fmt"
	"reflect"
	"strconv"
	"strings"
	"time"
)

// Plan is all that is decided before a run.
type Plan struct {
	Seed    uint64        // of the network, and of what is in databases
	On      []string      // names of the dimensions that it was drawn with
	Length  time.Duration // of the trouble; what is left of it is mended then
	Members []Options     // of their first lives; the first member has the id 1
	Star    bool          // only the first has the others as peers
	TLS     bool
	Verify  bool          // with TLS: members with an odd id have VerifyPeer
	Recheck time.Duration // with TLS: members have this TLSRecheck; 0: the default
	Revokes bool          // with TLS: members have a revocation list
	Sockets Buffers       // of sockets; zero: connections are simple
	Points  bool          // fault points strike; needs the build tag faultpoints
	Delay   time.Duration // of each link
	Rate    int           // bytes a second of each link; 0: not bounded
	NoDial  []Way         // that cannot be dialled, ever
	Load    Load
	Groups  []Group // raft groups over the same Transports, numbered from 1 on
	NoRaft  bool    // members have nothing but groups
	Events  []Event
}

// Buffers are the sizes of the buffers of sockets (memnet.WithSockets), in bytes.
type Buffers struct{ Send, Receive int }

// Way leads from one member to another.
type Way struct {
	From, To uint64
	Hangs    bool // what is dialled hangs, instead of being refused
}

// Load is what is sent beside heartbeats, all the time: messages a second on each way, and their size.
type Load struct{ Appends, Proposals, Size int }

// Options are how a member runs in one of its lives. The zero value is what most servers have.
type Options struct {
	Saver         string        // of databases: "" in memory, "plain" the same without resuming, "careless" plain that takes no notice of errors, "store" a snap.Store, "none"
	Stock         bool          // neither says nor sees a header that stock members do not have
	Wrapper       string        // around the handler: "", "no hijack", "no flush", "no deadlines", "bare"
	NewServer     bool          // rafthttp.NewServer, else a http.Server with nothing set
	SlowLog       time.Duration // a line
	SlowHooks     time.Duration // a call of a hook that may be slow
	DiskHang      time.Duration // in the middle of each database
	AnswerTimeout time.Duration // SnapshotAnswerTimeout
	Torn          bool          // what is there of a database when its transfer breaks is torn

	MaxQueuedBytes  int64
	MaxMessageBytes int64
	SendQueue       int // messages
	ReceiveQueue    int
	MaxSnapshots    int
	SnapshotRate    int  // bytes a second
	Groups          bool // appends have a Context
	Resends         bool // appends are sent again after a loss, as raft does
	NoKeepAlive     bool // its server keeps no connection
	Receiver        bool // it has a GroupReceiver
}

// Action is what an event does.
type Action string

// Actions. A and B are the members of the event, For is how long it lasts.
const (
	Cut      Action = "cut"       // the link from A to B
	HalfOpen Action = "half-open" // connections from A to B, and from B to A
	Reset    Action = "reset"     // connections between A and B
	Slow     Action = "slow"      // the link from A to B, by N ms
	Narrow   Action = "narrow"    // the link from A to B, to N bytes a second
	End      Action = "end"       // A, by How ("stop", "crash", "power"); it lives again after For, with Life
	Block    Action = "block"     // Process of A, for the kind How
	HangLog  Action = "hang log"  // of A
	HangHook Action = "hang hook" // hooks of A
	FullDisk Action = "full disk" // of A
	Snapshot Action = "snapshot"  // from A to B, which may be no member (999), of N bytes, from a reader as How says
	Post     Action = "post"      // a MsgSnap without a database from A to B
	Burst    Action = "burst"     // N messages of the kind How from A to B, of Size bytes
	Pause    Action = "pause"     // B at A, by CutPeer
	Remove   Action = "remove"    // B from the peers of A, and add it again
	Update   Action = "update"    // the URLs of B at A, to one that leads nowhere and the right one
	Stranger Action = "stranger"  // ends A, and has somebody else serve its address, as How says
	Leave    Action = "leave"     // A leaves the cluster, and is told so
	Distrust Action = "distrust"  // VerifyPeer of A refuses B
	Forge    Action = "forge"     // A sends B a message that no raft may get, as How says
	Rotate   Action = "rotate"    // the certificate of A; How "torn": half of it is written first
	Revoke   Action = "revoke"    // the certificate of A, which then has another; How "torn": half of the list is written first
)

// Event is something that happens at a time.
type Event struct {
	At    time.Duration
	Do    Action
	A, B  uint64
	Group uint64
	For   time.Duration
	N     int
	Size  int
	How   string
	Life  Options
}

// String returns the plan as a Go literal.
func (p Plan) String() string {
	text := literal(reflect.ValueOf(p))
	text = strings.ReplaceAll(text, ", Members: ", ",\n\tMembers: ")
	text = strings.ReplaceAll(text, ", Events: []promise.Event{", ",\n\tEvents: []promise.Event{\n\t\t")
	text = strings.ReplaceAll(text, "}, {At", "},\n\t\t{At")
	return text
}

// literal returns a value as Go source, without fields that are zero.
func literal(v reflect.Value) string {
	if d, ok := v.Interface().(time.Duration); ok {
		if d%time.Second == 0 {
			return fmt.Sprintf("%d * time.Second", d/time.Second)
		}
		return fmt.Sprintf("%d * time.Millisecond", d/time.Millisecond)
	}
	switch v.Kind() {
	case reflect.Struct:
		return v.Type().String() + fields(v)
	case reflect.Slice:
		if n := v.Len(); n > 1 && allZero(v) {
			return fmt.Sprintf("make(%s, %d)", v.Type(), n)
		}
		var parts []string
		for i := range v.Len() {
			if e := v.Index(i); e.Kind() == reflect.String {
				parts = append(parts, strconv.Quote(e.String()))
			} else {
				parts = append(parts, fields(e))
			}
		}
		return fmt.Sprintf("%s{%s}", v.Type(), strings.Join(parts, ", "))
	default:
		return fmt.Sprint(v.Interface())
	}
}

func fields(v reflect.Value) string {
	var parts []string
	for i := range v.NumField() {
		if f := v.Field(i); !f.IsZero() && (f.Kind() != reflect.Slice || f.Len() > 0) {
			name := v.Type().Field(i).Name
			text := literal(f)
			if f.Kind() == reflect.String {
				text = strconv.Quote(f.String())
			}
			parts = append(parts, name+": "+text)
		}
	}
	return "{" + strings.Join(parts, ", ") + "}"
}

func allZero(v reflect.Value) bool {
	for i := range v.Len() {
		if !v.Index(i).IsZero() {
			return false
		}
	}
	return true
}
