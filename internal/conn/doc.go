// Package conn makes, accepts and monitors the connections between members: TLS
// files, TCP options and deadlines. It knows nothing of raft, of peers or of
// their requests.
package conn
