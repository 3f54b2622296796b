// Package snap has the parts of a raft snapshot beside the message: [Message], a MsgSnap with its database,
// and [Store], a directory that keeps incoming databases durably.
package snap

import (
	"io"
	"sync/atomic"

	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"
)

// Message is a MsgSnap with its database. Make one with [NewMessage] and pass it to the transport,
// which reads ReadCloser to its end and calls CloseWithError exactly when it is done with the message.
//
// A Message must not be copied. A literal &Message{…} works, but notifies no one: CloseNotify returns nil, and
// CloseWithError only closes the ReadCloser.
type Message struct {
	// Message is the raft message of type MsgSnap.
	*raftpb.Message
	// ReadCloser is the database; nil means that there is none, or that Open opens it. CloseWithError closes it.
	ReadCloser io.ReadCloser
	// Open opens the database when the turn of the snapshot has come, so that snapshots that wait cost no open files.
	// It is used if ReadCloser is nil. The size of its result is the one that NewMessage was given; a nil result
	// means that there is no database. It is called on a goroutine of the transport, and not at all if the snapshot ends
	// before its turn. It is called again, once the former result is closed, if that cannot seek and the transfer has to begin again:
	// a receiver that resumes was lost, or another sender took the last place at the receiver of a raft group. It may then return other bytes,
	// or an error if it can open the database only once. Each result is closed exactly once. Opening counts as reading: an error or a
	// panic fails the snapshot, and so does an Open that has not returned within ReadTimeout. A result that comes
	// after that is closed then, perhaps after CloseNotify, ReportSnapshot and Stop.
	Open func() (io.ReadCloser, error)
	// Priority decides which of the snapshots that wait for their turn (Transport.MaxSnapshots) is next: one with a higher
	// priority, and of equal ones the one that was given first to SendSnapshot. It counts within what the shares of the members
	// leave, and does not interrupt a transfer that runs. 0 is the usual priority, and below 0 comes after it. It must
	// not be changed after SendSnapshot.
	Priority int
	// TotalSize is the encoded size of the raft message plus the size of the database, in bytes: the value counted by
	// progress and metrics.
	TotalSize int64

	databaseSize int64
	closed       atomic.Bool
	closeC       chan bool // nil in a literal; holds one value, so that sending never blocks
}

// NewMessage returns the message rs with a database of rcSize bytes, read from rc. The Message owns rc;
// rc may be nil, with a size of 0.
func NewMessage(rs *raftpb.Message, rc io.ReadCloser, rcSize int64) *Message {
	return &Message{
		Message:      rs,
		ReadCloser:   rc,
		TotalSize:    int64(proto.Size(rs)) + rcSize,
		databaseSize: rcSize,
		closeC:       make(chan bool, 1),
	}
}

// DatabaseSize is the declared size of the database alone, in bytes. For a literal it is TotalSize without
// the raft message, never less than 0.
func (m *Message) DatabaseSize() int64 {
	if m.closeC != nil {
		return m.databaseSize
	}
	return max(0, m.TotalSize-int64(proto.Size(m.Message)))
}

// CloseNotify returns a channel that gets exactly one value, when the message is closed: true if the snapshot was sent,
// false if it was not. The channel is never closed, so a second receive blocks. It is nil for a literal.
func (m *Message) CloseNotify() <-chan bool { return m.closeC }

// CloseWithError closes the ReadCloser, and then sends err == nil to the channel of CloseNotify. Only the first call
// does this, every further one returns at once and does nothing, so it may be called concurrently and from inside
// ReadCloser.Close. It blocks for as long as ReadCloser.Close does, no longer. Closing ends reading and is not part
// of sending: an error or a panic of ReadCloser.Close is ignored and does not change the value.
func (m *Message) CloseWithError(err error) {
	if !m.closed.CompareAndSwap(false, true) {
		return
	}
	if m.closeC != nil {
		defer func() { m.closeC <- err == nil }()
	}
	defer func() { _ = recover() }()
	if m.ReadCloser != nil {
		_ = m.ReadCloser.Close()
	}
}
