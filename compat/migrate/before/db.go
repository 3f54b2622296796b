package raftnode

import "io"

// dbReader reads a database of the server.
type dbReader struct {
	io.ReadCloser
	size int64
}

var _ = (*raftNode).sendSnapshot
