// Package stream has both ends of the streams of messages between two members: a Writer sends
// what is in its queue over the connection that the other member has dialled, a Reader dials
// the other member and hands on what it sends (PROTOCOL.md, sections 1, 2 and 5 to 7).
package stream

import (
	"time"

	"github.com/seed-4d73690b/rafthttp/internal/protocol"
	"github.com/seed-4d73690b/rafthttp/internal/wire"
)

// Kind is one of the two kinds of streams of the protocol.
type Kind int

// The kinds.
const (
	Message  Kind = iota // of all messages
	MsgAppV2             // of appends
	Kinds                // how many there are
)

// String returns the name of the stream's lane, which is its path below
// RaftStreamPrefix as well.
func (k Kind) String() string {
	return [Kinds]string{"message", "msgapp"}[k]
}

// endpoint is where the stream is asked for.
func (k Kind) endpoint() protocol.Endpoint {
	return [Kinds]protocol.Endpoint{protocol.EndpointMessage, protocol.EndpointMsgApp}[k]
}

// KindAt is the stream of an endpoint.
func KindAt(at protocol.Endpoint) Kind {
	if at == protocol.EndpointMsgApp {
		return MsgAppV2
	}
	return Message
}

func (k Kind) encoder() wire.Encoder {
	if k == MsgAppV2 {
		return wire.NewMsgAppV2Encoder()
	}
	return wire.NewMessageEncoder()
}

// State is the state of one direction of a stream.
type State struct {
	Since        time.Time // when the connection began; the zero time: there is none
	Connects     uint64
	DialFailures uint64 // of a reader
	Bytes        uint64
}
