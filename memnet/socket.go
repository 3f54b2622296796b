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
	// retransmissionTimeout is how long Linux sends what gets no acknowledgement again, by default (tcp_retries2).
	retransmissionTimeout = 924600 * time.Millisecond
	// orphanTimeout is the same for a socket that was closed (tcp_orphan_retries).
	orphanTimeout = 102200 * time.Millisecond
)

// Socket is one side of a connection of a network [WithSockets]. It is a net.Conn that behaves as a *net.TCPConn on Linux
// does. Beyond what a [Conn] does:
//
//   - Write returns once its bytes are in the send buffer, although nobody may ever get them. A socket sends what the
//     receive buffer of its peer has room for, and frees its own when the acknowledgement is back, a round trip later.
//   - Close with bytes in the receive buffer, or after SetLinger(0), resets the connection, as do bytes that arrive after
//     Close. Otherwise what is in the send buffer is still sent.
//   - What arrived before a reset is read first. Then one Read or Write fails with ECONNRESET, once; after it Read returns
//     io.EOF, and Write fails with EPIPE. A reset that meets a cut link is lost, and answers what is sent next.
//   - If bytes are not acknowledged for 15 minutes, or for what SetUserTimeout sets, the connection fails with ETIMEDOUT,
//     and the peer is not told.
//
// It also has what the system does for sockets, WriteBuffers for writev and SendFile for sendfile, so that programs can use
// them in tests too.
type Socket struct {
	endpoint
	peer *Socket

	// Guarded by net.mu.
	in       bytes.Buffer // received, and not read
	received int64        // bytes, in all
	read     int64        // of these
	promised int64        // up to where the peer may send, as it was told last
	ended    bool         // the peer's FIN arrived, and all before it

	unsent   bytes.Buffer // written, and not sent
	written  int64        // bytes, in all
	sent     int64        // of these
	acked    int64        // of these
	limit    int64        // up to where the peer lets us send
	finished bool         // a FIN follows what is unsent
	finSent  bool
	finAcked bool
	sending  bool // transmit is under way
	writing  bool // a write is under way, others wait

	err    syscall.Errno // what the next Read or Write fails with; 0: nothing
	dead   bool          // it was reset, or gave up: what still comes is answered with a reset
	linger bool          // Close sends what is unsent

	timeout  time.Duration // of SetUserTimeout; 0: the system's
	progress time.Time     // when something was written to an idle socket, or acknowledged, or let be sent, last
	timer    *time.Timer   // looks for progress; nil until needed
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

// Read reads what has arrived, and blocks until there is something.
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

// WriteBuffers writes buffers one after the other, as writev does, and takes out of v what it has written: with an error, the
// next WriteBuffers goes on behind that. It is for programs that use net.Buffers, which has its own way with connections of
// package net alone.
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

// fileBytes is how much of a file is in memory at once.
const fileBytes = 64 << 10

// SendFile sends the next n bytes of a file, or those up to its end, as sendfile does: it reads no more of the file than
// what goes into the send buffer.
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

// fromFile sends what it reads of a file; p has room. The network goes on meanwhile, but for other writes to the socket.
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

// beginWrite waits for the end of a write that is under way. op and call name the operation in errors.
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

// writeError returns why nothing can be written, if so.
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
