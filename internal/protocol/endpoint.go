package protocol

import (
	"net/http"
	"path"

	"go.etcd.io/etcd/client/pkg/v3/types"
)

// Paths of the endpoints (PROTOCOL.md, section 1; extensions: the question, groups).
const (
	RaftPath     = "/raft"
	ProbingPath  = RaftPath + "/probing"
	StreamPath   = RaftPath + "/stream" // followed by the name of the stream and the id of the client
	SnapshotPath = RaftPath + "/snapshot"
	OffsetPath   = SnapshotPath + OffsetOf
	GroupsPath   = RaftPath + "/groups"

	// GroupSnapshotPath is a path of its own, so that no member takes the snapshot of a raft group for one of its own raft.
	GroupSnapshotPath = GroupsPath + "/snapshot"
	// OffsetOf follows the path of a snapshot in the offset question.
	OffsetOf = "/offset"
)

// Endpoint is one endpoint of members, or a set of them (PROTOCOL.md,
// section 1; extensions: the question, groups). It determines the meaning of a status: 403 tells
// the sender of a POST that it was removed from the cluster, and has no meaning for the
// reader of a stream.
type Endpoint uint

// The endpoints.
const (
	EndpointPost Endpoint = 1 << iota
	EndpointMessage
	EndpointMsgApp
	EndpointSnapshot
	EndpointOffset
	EndpointProbe
	EndpointGroupMessage
	EndpointGroupAppend
	EndpointGroupPost
)

// Sets of endpoints.
const (
	EndpointStreams  = EndpointMessage | EndpointMsgApp | EndpointGroupStreams
	EndpointMessages = EndpointPost | EndpointSnapshot // the request carries a message
	EndpointMembers  = EndpointStreams | EndpointMessages | EndpointOffset | EndpointGroupPost

	EndpointGroupStreams = EndpointGroupMessage | EndpointGroupAppend

	EndpointAll  = EndpointMembers | EndpointProbe
	EndpointNone = Endpoint(0)
)

// MaxAnswerBytes limits the head of an answer, and its body.
const MaxAnswerBytes = 64 << 10

// streamNames are the names of the streams in their paths.
var streamNames = map[Endpoint]string{
	EndpointMessage: "message", EndpointMsgApp: "msgapp",
	EndpointGroupMessage: "group", EndpointGroupAppend: "groupapp",
}

// StreamPathOf returns the path for requesting a stream.
func StreamPathOf(at Endpoint, client types.ID) string {
	return StreamPath + "/" + streamNames[at] + "/" + client.String()
}

// StreamOf returns the stream that a path requests, and its client.
func StreamOf(p string) (at Endpoint, client types.ID, err error) {
	for at, name := range streamNames {
		if path.Dir(p) == StreamPath+"/"+name {
			if client, err = StreamClient(p); err != nil {
				return 0, 0, &RequestError{Code: http.StatusNotFound, Text: "invalid from"}
			}
			return at, client, nil
		}
	}
	return 0, 0, &RequestError{Code: http.StatusNotFound, Text: "invalid path"}
}

// StreamClient returns the client of a stream's path.
func StreamClient(p string) (types.ID, error) { return types.IDFromString(path.Base(p)) }

// Success is the status of a request that was served.
func (at Endpoint) Success() int {
	if at&(EndpointStreams|EndpointProbe|EndpointGroupPost) != 0 {
		return http.StatusOK
	}
	return http.StatusNoContent
}
