// Package callback calls the application. A panic of a callback ends the process. Reports to
// Raft, events for the Observer and lines of the log are delivered asynchronously and in order
// for each member, so that a slow callback delays neither the transport nor the callbacks about
// other members. The package knows nothing of connections, queues or the protocol.
package callback
