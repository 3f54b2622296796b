package protocol

import "net/http"

// Endpoint is one of those that members serve, or a set of them (PROTOCOL.md,
// section 1; extensions: the question). It decides what a status means: 403 tells
// the sender of a post that it was removed from the cluster, and the reader of a
// stream nothing.
type Endpoint uint

// The endpoints.
const (
	EndpointPost Endpoint = 1 << iota
	EndpointMessage
	EndpointMsgApp
	EndpointSnapshot
	EndpointOffset
	EndpointProbe
)

// Sets of endpoints.
const (
	EndpointStreams  = EndpointMessage | EndpointMsgApp
	EndpointMessages = EndpointPost | EndpointSnapshot // where the request carries a message
	EndpointMembers  = EndpointStreams | EndpointMessages | EndpointOffset
	EndpointAll      = EndpointMembers | EndpointProbe
	EndpointNone     = Endpoint(0)
)

// Success is the status of a request that was served.
func (at Endpoint) Success() int {
	if at&(EndpointStreams|EndpointProbe) != 0 {
		return http.StatusOK
	}
	return http.StatusNoContent
}
