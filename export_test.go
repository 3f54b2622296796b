package rafthttp

import (
	"net"
	"time"
)

// WithDeadlines is what NewListener does to a plain listener, with timeouts of
// the test's choice.
func WithDeadlines(l net.Listener, read, write time.Duration) net.Listener {
	return &deadlineListener{l, read, write}
}
