// Package protocol has the requests and answers of the wire between members, in both directions: endpoints, headers,
// versions, and what a status means at which endpoint. It parses and builds; it knows no peers, queues or connections, and
// starts no goroutines.
//
// PROTOCOL.md beside this file describes the complete wire format, including bodies. Comments cite it by its sections.
package protocol
