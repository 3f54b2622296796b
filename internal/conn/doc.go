// Package conn makes, accepts and watches the connections between members: the files of
// TLS, and what holds for a connection over time. It knows nothing of raft, of peers or of
// their requests.
package conn
