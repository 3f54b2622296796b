// Package stream has both ends of the streams of messages between two members: a Writer sends
// its queue over the connection that the other member has dialled, a Reader dials
// the other member and delivers the messages that it sends (PROTOCOL.md, sections 1, 2 and 5 to 7).
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
	Message  Kind = iota // for all messages
	MsgAppV2             // for appends
	Kinds                // number of kinds
)

// String returns the name of the stream's lane, which is also its path below
// RaftStreamPrefix.
func (k Kind) String() string {
	return [Kinds]string{"message", "msgapp"}[k]
}

// endpoint returns the endpoint of the stream.
func (k Kind) endpoint() protocol.Endpoint {
	return [Kinds]protocol.Endpoint{protocol.EndpointMessage, protocol.EndpointMsgApp}[k]
}

// KindAt returns the stream of an endpoint.
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
	Since        time.Time // when the connection was established; the zero time: none
	Connects     uint64
	DialFailures uint64 // of a reader
	Bytes        uint64
	// DownSince is when the last connection ended, or the stream was made; the zero time while there is a connection.
	DownSince time.Time
	// Reconnects counts those of the last two minutes, up to 16; ReconnectsSince is when the first of them was.
	Reconnects      int
	ReconnectsSince time.Time
}
