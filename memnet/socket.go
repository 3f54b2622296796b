package memnet

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"syscall"
	"time"
)

const (
	// retransmissionTimeout is how long Linux repeats unacknowledged segments, by default (tcp_retries2).
	retransmissionTimeout = 924600 * time.Millisecond
	// orphanTimeout is the same for a socket that was closed (tcp_orphan_retries).
	orphanTimeout = 102200 * time.Millisecond
)

// Socket is one side of a connection of a network [WithSockets]. It is a net.Conn that behaves like a *net.TCPConn on
// Linux. It differs from a [Conn]:
//
//   - Write returns once its bytes are in the send buffer, although they may never be received. A socket sends as much as
//     the receive buffer of its peer has room for, and frees its own when the acknowledgement is back, a round trip later.
//   - Close with bytes in the receive buffer, or after SetLinger(0), resets the connection, as do bytes that arrive after
//     Close. Otherwise the send buffer is still sent.
//   - Bytes that arrived before a reset are read first. Then one Read or Write fails with ECONNRESET, once; after it Read
//     returns io.EOF, and Write fails with EPIPE. A reset is lost on a cut link, and answers the next segment.
//   - If bytes are not acknowledged for 15 minutes, or for the time of SetUserTimeout, the connection fails with ETIMEDOUT,
//     and the peer is not told.
//
// It also has the operations of the system for sockets, WriteBuffers for writev and SendFile for sendfile, so that
// programs can use them in tests too.
type Socket struct {
	endpoint
	peer *Socket

	// Guarded by net.mu.
	in       bytes.Buffer // received, and not read
	received int64        // bytes in total
	read     int64        // of these
	promised int64        // limit for the peer, as last announced
	ended    bool         // the peer's FIN and all bytes before it arrived

	unsent   bytes.Buffer // written, and not sent
	written  int64        // bytes in total
	sent     int64        // of these
	acked    int64        // of these
	limit    int64        // limit set by the peer
	finished bool         // a FIN follows the unsent bytes
	finSent  bool
	finAcked bool
	sending  bool // transmit is running
	writing  bool // a write is in progress, others wait

	err    syscall.Errno // error of the next Read or Write; 0: none
	dead   bool          // it was reset, or timed out: later segments are answered with a reset
	linger bool          // Close sends the unsent bytes

	timeout  time.Duration // of SetUserTimeout; 0: the system's
	progress time.Time     // last time that bytes were written to an idle socket, or acknowledged, or allowed to be sent
	timer    *time.Timer   // checks for progress; nil until needed
	watched  bool          // timer runs
}

func newSockets(near, far endpoint) (client, server *Socket) {
	client, server = &Socket{endpoint: near}, &Socket{endpoint: far}
	client.peer, server.peer = server, client
	for _, s := range []*Socket{client, server} {
		s.linger, s.limit, s.promised = true, int64(s.net.receiveBuffer), int64(s.net.receiveBuffer)
	}
	return client, server
}

// Read reads bytes that have arrived, and blocks until there are some.
func (s *Socket) Read(b []byte) (int, error) {
	s.net.mu.Lock()
	defer s.net.mu.Unlock()
	for {
		switch {
		case s.closed:
			return 0, s.fail("read", net.ErrClosed)
		case len(b) == 0:
			return 0, nil
		case s.readLimit.expired:
			return 0, s.fail("read", os.ErrDeadlineExceeded)
		case s.in.Len() > 0:
			n, _ := s.in.Read(b[:s.net.readSize(len(b), s.out.link)])
			s.consumed(n)
			return n, nil
		case s.ended:
			return 0, io.EOF
		case s.err != 0:
			return 0, s.fail("read", os.NewSyscallError("read", s.takeError()))
		case s.dead:
			return 0, io.EOF
		}
		s.changed.Wait()
	}
}

// takeError returns what SO_ERROR is, and clears it.
func (s *Socket) takeError() error {
	err := s.err
	s.err = 0
	return err
}

// Write puts b into the send buffer, and blocks while that is full. With an error it returns how many bytes are in it.
func (s *Socket) Write(b []byte) (n int, err error) {
	s.net.mu.Lock()
	defer s.net.mu.Unlock()
	if err := s.beginWrite("write", "write"); err != nil {
		return 0, err
	}
	defer s.endWrite()
	return s.write(b, "write", "write")
}

// WriteBuffers writes buffers one after the other, like writev, and removes written bytes from v: after an error, the
// next WriteBuffers continues after them. It is for programs that use net.Buffers, which treats only connections of
// package net specially.
func (s *Socket) WriteBuffers(v *net.Buffers) (total int64, err error) {
	s.net.mu.Lock()
	defer s.net.mu.Unlock()
	if err := s.beginWrite("writev", "writev"); err != nil {
		return 0, err
	}
	defer s.endWrite()
	for len(*v) > 0 {
		if b := (*v)[0]; len(b) > 0 {
			n, err := s.write(b, "writev", "writev")
			total += int64(n)
			if (*v)[0] = b[n:]; err != nil {
				return total, err
			}
		}
		clear((*v)[:1])
		*v = (*v)[1:]
	}
	return total, nil
}

// fileBytes is how much of a file is in memory at a time.
const fileBytes = 64 << 10

// SendFile sends the next n bytes of a file, or those up to its end, like sendfile: it reads only the bytes of the file
// that fit into the send buffer.
func (s *Socket) SendFile(f *os.File, n int64) (sent int64, err error) {
	s.net.mu.Lock()
	defer s.net.mu.Unlock()
	if err := s.beginWrite("readfrom", "sendfile"); err != nil {
		return 0, err
	}
	defer s.endWrite()
	buf := make([]byte, max(0, min(n, fileBytes)))
	for sent < n {
		room, err := s.waitRoom("readfrom", "sendfile")
		if err != nil {
			return sent, err
		}
		m, err := s.fromFile(f, buf[:min(n-sent, int64(room), fileBytes)])
		sent += int64(m)
		if err != nil || m == 0 {
			return sent, err
		}
	}
	return sent, nil
}

// fromFile sends bytes read from a file; p has room. The network continues meanwhile, except other writes to the
// socket.
func (s *Socket) fromFile(f *os.File, p []byte) (int, error) {
	s.net.mu.Unlock()
	n, rerr := f.Read(p)
	s.net.mu.Lock()
	if err := s.writeError("readfrom", "sendfile"); err != nil {
		s.net.mu.Unlock()
		defer s.net.mu.Lock()
		_, _ = f.Seek(-int64(n), io.SeekCurrent) // it was not sent
		return 0, err
	}
	s.push(p[:n])
	if rerr != nil && !errors.Is(rerr, io.EOF) {
		return n, s.fail("readfrom", rerr)
	}
	return n, nil
}

// beginWrite waits for the end of a write in progress. op and call name the operation in errors.
func (s *Socket) beginWrite(op, call string) error {
	for s.writing {
		if s.closed {
			return s.writeError(op, call)
		}
		s.changed.Wait()
	}
	if s.closed || s.writeLimit.expired {
		return s.writeError(op, call)
	}
	s.writing = true
	return nil
}

func (s *Socket) endWrite() {
	s.writing = false
	s.changed.Broadcast()
}

func (s *Socket) write(b []byte, op, call string) (n int, err error) {
	if len(b) == 0 {
		return 0, s.writeError(op, call)
	}
	for n < len(b) {
		room, err := s.waitRoom(op, call)
		if err != nil {
			return n, err
		}
		n += s.push(b[n:min(len(b), n+room)])
	}
	return n, nil
}

// waitRoom waits until the send buffer has room, and returns how much.
func (s *Socket) waitRoom(op, call string) (int, error) {
	for {
		if err := s.writeError(op, call); err != nil {
			return 0, err
		}
		if room := s.room(); room > 0 {
			return room, nil
		}
		s.changed.Wait()
	}
}

// writeError returns why writing is impossible, if so.
func (s *Socket) writeError(op, call string) error {
	switch {
	case s.closed:
		return s.fail(op, net.ErrClosed)
	case s.writeLimit.expired:
		return s.fail(op, os.ErrDeadlineExceeded)
	case s.err != 0:
		return s.fail(op, os.NewSyscallError(call, s.takeError()))
	case s.finished, s.dead:
		return s.fail(op, os.NewSyscallError(call, syscall.EPIPE))
	}
	return nil
}
