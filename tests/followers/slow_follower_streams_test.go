package followers_test

import (
	"context"
	"net"
	"strings"
	"sync"

	"github.com/seed-4d73690b/rafthttp/internal/testmember"
	"github.com/seed-4d73690b/rafthttp/memnet/rafttest"
)

// streamConns knows the connections of streams, so that one of them can be cut.
type streamConns struct {
	mu    sync.Mutex
	conns map[streamKey]net.Conn // the newest of each
	block map[streamKey]bool     // those that cannot be had
}

// streamKey is a stream that a member dialled, and reads.
type streamKey struct {
	reader uint64
	writer string // host and port
	kind   string
}

// dial returns a dialler of a member that tells which of its connections are streams.
func (s *streamConns) dial(reader uint64, next testmember.DialFunc) testmember.DialFunc {
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		c, err := next(ctx, network, addr)
		if err != nil {
			return nil, err
		}
		return &streamConn{Conn: c, opened: func(kind string) bool { return s.opened(streamKey{reader, addr, kind}, c) }}, nil
	}
}

func (s *streamConns) opened(key streamKey, c net.Conn) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.conns == nil {
		s.conns = make(map[streamKey]net.Conn)
	}
	s.conns[key] = c
	return !s.block[key]
}

// refuse cuts a stream, for ever.
func (s *streamConns) refuse(kind string, from, to uint64) {
	s.mu.Lock()
	if s.block == nil {
		s.block = make(map[streamKey]bool)
	}
	s.block[streamKey{to, rafttest.Host(from) + ":2380", kind}] = true
	s.mu.Unlock()
	s.cut(kind, from, to)
}

// cut closes the newest connection of a stream.
func (s *streamConns) cut(kind string, from, to uint64) {
	s.mu.Lock()
	c := s.conns[streamKey{to, rafttest.Host(from) + ":2380", kind}]
	s.mu.Unlock()
	if c != nil {
		c.Close()
	}
}

// streamConn looks at the request that is written first.
type streamConn struct {
	net.Conn
	once   sync.Once
	opened func(kind string) bool
}

func (c *streamConn) Write(b []byte) (int, error) {
	c.once.Do(func() {
		if _, path, ok := strings.Cut(string(b[:min(len(b), 64)]), "/raft/stream/"); ok {
			kind, _, _ := strings.Cut(path, "/")
			if !c.opened(kind) {
				c.Close()
			}
		}
	})
	return c.Conn.Write(b)
}
