// Package stream has both ends of the streams of messages between two members: a Writer sends
// its queue over the connection that the other member has dialled, a Reader dials
// the other member and delivers the messages that it sends (PROTOCOL.md, sections 1, 2 and 5 to 7).
package stream

import (
	"slices"
	"time"

	"github.com/seed-4d73690b/rafthttp/internal/protocol"
	"github.com/seed-4d73690b/rafthttp/internal/wire"
)

// Kind is one of the kinds of streams: two of the protocol, and two of the extension groups-1.
type Kind int

// The kinds.
const (
	Message      Kind = iota // for all messages
	MsgAppV2                 // for appends
	GroupMessage             // for all messages of raft groups that share a stream
	GroupAppend              // for their appends
	allKinds

	Kinds = GroupMessage // number of kinds of the protocol
)

// String returns the name of the stream's lane, which is also its path below
// RaftStreamPrefix.
func (k Kind) String() string {
	return [allKinds]string{"message", "msgapp", "group", "groupapp"}[k]
}

// endpoint returns the endpoint of the stream.
func (k Kind) endpoint() protocol.Endpoint {
	return endpoints[k]
}

var endpoints = [allKinds]protocol.Endpoint{
	protocol.EndpointMessage, protocol.EndpointMsgApp, protocol.EndpointGroupMessage, protocol.EndpointGroupAppend,
}

// KindAt returns the stream of an endpoint.
func KindAt(at protocol.Endpoint) Kind { return Kind(max(slices.Index(endpoints[:], at), 0)) }

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
