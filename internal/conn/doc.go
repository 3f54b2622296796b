// Package conn makes, accepts and monitors the connections between members: TLS
// files, TCP options and deadlines, also for the bodies of requests and for
// connections taken over from a server. It knows nothing of raft, of peers or of
// the meaning of requests.
package conn
