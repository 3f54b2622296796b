package memnet

import (
	"bytes"
	"net"
	"os"
	"syscall"
	"time"
)

// This file has the operations of the system for a socket.

// room returns how many bytes the send buffer accepts.
func (s *Socket) room() int {
	return max(0, s.net.sendBuffer-int(s.written-s.acked))
}

// push puts b, for which there is room, into the send buffer.
func (s *Socket) push(b []byte) int {
	if len(b) == 0 {
		return 0
	}
	if s.written == s.acked {
		s.progress = time.Now()
	}
	s.written += int64(len(b))
	s.unsent.Write(b)
	s.transmit()
	return len(b)
}

// transmit sends the unsent bytes for which the peer has room.
func (s *Socket) transmit() {
	if s.sending { // an acknowledgement arrived meanwhile: the outer call continues
		return
	}
	s.sending = true
	for !s.dead {
		n := int(min(int64(s.unsent.Len()), s.limit-s.sent))
		if n <= 0 {
			break
		}
		s.sent += int64(n)
		s.out.send(s.unsent.Next(n), noSignal)
	}
	s.sending = false
	if s.finished && !s.finSent && !s.dead && s.unsent.Len() == 0 {
		s.finSent = true
		s.out.send(nil, signalEOF)
	}
	s.watch()
}

// receive implements side.
func (s *Socket) receive(seg segment) {
	switch {
	case seg.signal == signalReset:
		s.receiveReset()
	case s.dead:
		s.out.reset()
	case seg.signal == signalAck:
		s.receiveAck(seg.ack)
	case s.closed && len(seg.data) > 0: // no Read will return it
		s.die(0)
		s.out.reset()
	default:
		s.in.Write(seg.data)
		s.received += int64(len(seg.data))
		s.ended = s.ended || seg.signal == signalEOF
		s.acknowledge()
	}
	s.changed.Broadcast()
}

func (s *Socket) receiveAck(a ack) {
	if a.received > s.acked || a.limit > s.limit {
		s.progress = time.Now()
	}
	s.acked, s.limit = max(s.acked, a.received), max(s.limit, a.limit)
	s.finAcked = s.finAcked || a.end && s.finSent
	s.transmit()
}

// acknowledge tells the peer which bytes were received, and how many more it may send.
func (s *Socket) acknowledge() {
	s.promised = s.read + int64(s.net.receiveBuffer)
	s.out.acknowledge(ack{received: s.received, limit: s.promised, end: s.ended})
}

// consumed notes that n bytes were read. The peer is told once it can send a large part more, not for each byte.
func (s *Socket) consumed(n int) {
	s.read += int64(n)
	more := s.read + int64(s.net.receiveBuffer) - s.promised
	if !s.dead && !s.ended && more >= int64(max(1, min(maxSegment, s.net.receiveBuffer/2))) {
		s.acknowledge()
	}
}

// acknowledgeable implements side. Acknowledgements that were held back are sent by the link.
func (s *Socket) acknowledgeable() {}

// isOver reports whether both sides have sent everything, and this one knows.
func (s *Socket) isOver() bool { return s.ended && s.finAcked }

func (s *Socket) receiveReset() {
	switch {
	case s.dead || s.isOver():
		return
	case s.ended && !s.finished: // CLOSE_WAIT
		s.die(syscall.EPIPE)
	default:
		s.die(syscall.ECONNRESET)
	}
	s.out.discard()
}

// die ends the connection, with an error for the application unless it is 0.
func (s *Socket) die(err syscall.Errno) {
	if s.dead {
		return
	}
	if err != 0 {
		s.net.note("%s: its connection with %s ends: %v", s.local, s.remote, err)
	}
	s.dead, s.err = true, err
	s.unsent = bytes.Buffer{}
	s.unwatch()
	s.changed.Broadcast()
}

// Close ends the connection: calls on this side fail with net.ErrClosed. The send buffer is still sent, and the
// peer reads io.EOF after it; but if there are unread bytes, or after SetLinger(0), the peer gets a reset. It does
// not block. Closing again fails with net.ErrClosed.
func (s *Socket) Close() error {
	s.net.mu.Lock()
	defer s.net.mu.Unlock()
	if s.closed {
		return s.fail("close", net.ErrClosed)
	}
	s.close(s.in.Len() > 0 || !s.linger && !s.isOver())
	return nil
}

// close ends the connection on behalf of the application.
func (s *Socket) close(reset bool) {
	s.net.note("%s closes its connection with %s", s.local, s.remote)
	s.closed = true
	s.stopDeadlines()
	s.in = bytes.Buffer{}
	switch {
	case s.dead:
	case reset:
		s.die(0)
		s.out.reset()
	default:
		s.unwatch() // its timeout changes now
		s.progress = time.Now()
		s.finish()
	}
	s.changed.Broadcast()
	if s.peer.closed {
		s.unwatch()
		s.peer.unwatch()
		s.net.forget(s, s.peer)
	}
}

// CloseWrite ends the stream to the peer, which reads io.EOF after all bytes written; the other direction continues. It
// fails with ENOTCONN after a reset, and once both sides have ended their streams.
func (s *Socket) CloseWrite() error {
	s.net.mu.Lock()
	defer s.net.mu.Unlock()
	switch {
	case s.closed:
		return s.fail("close", net.ErrClosed)
	case s.dead || s.isOver():
		return s.fail("close", os.NewSyscallError("shutdown", syscall.ENOTCONN))
	}
	s.finish()
	s.changed.Broadcast()
	return nil
}

// finish makes a FIN follow the unsent bytes.
func (s *Socket) finish() {
	if !s.finished && s.written == s.acked {
		s.progress = time.Now()
	}
	s.finished = true
	s.transmit()
}

// SetLinger with 0 makes Close reset the connection and drop the send buffer. Other values undo that.
func (s *Socket) SetLinger(seconds int) error {
	s.net.mu.Lock()
	defer s.net.mu.Unlock()
	if s.closed {
		return s.fail("set", net.ErrClosed)
	}
	s.linger = seconds != 0
	return nil
}

// SetUserTimeout sets how long bytes may be in the send buffer without any being acknowledged, or allowed to be sent by
// a peer that reads, before the connection fails with ETIMEDOUT: TCP_USER_TIMEOUT. Zero and below mean the system's: 15
// minutes without an acknowledgement, and none while the peer does not read.
func (s *Socket) SetUserTimeout(d time.Duration) error {
	s.net.mu.Lock()
	defer s.net.mu.Unlock()
	if s.closed {
		return s.fail("set", net.ErrClosed)
	}
	s.timeout = max(0, d)
	s.unwatch()
	s.watch()
	return nil
}

// SendState returns how many bytes the peer has acknowledged, of all that were written; how many it has not; and how many
// of these were not sent.
func (s *Socket) SendState() (acked, unacked, unsent int64) {
	s.net.mu.Lock()
	defer s.net.mu.Unlock()
	return s.acked, s.written - s.acked, s.written - s.sent
}

// patience returns how long the socket waits for progress; 0: it does not wait.
func (s *Socket) patience() time.Duration {
	underWay := s.sent > s.acked || s.finSent && !s.finAcked
	switch {
	case s.dead, !underWay && s.unsent.Len() == 0:
		return 0
	case s.timeout > 0:
		return s.timeout
	case s.closed:
		return orphanTimeout
	case underWay:
		return retransmissionTimeout
	}
	return 0
}

// watch runs the timer while the socket waits for progress. Progress does not change the timer, which detects that it
// fired too early.
func (s *Socket) watch() {
	patience := s.patience()
	if patience == 0 || s.watched {
		return
	}
	s.watched = true
	left := time.Until(s.progress.Add(patience))
	if s.timer == nil {
		s.timer = time.AfterFunc(left, s.lookForProgress)
	} else {
		s.timer.Reset(left)
	}
}

func (s *Socket) unwatch() {
	if s.watched {
		s.watched = false
		s.timer.Stop()
	}
}

func (s *Socket) lookForProgress() {
	s.net.mu.Lock()
	defer s.net.mu.Unlock()
	if !s.watched {
		return // just started to wait
	}
	s.watched = false
	if patience := s.patience(); patience == 0 || time.Now().Before(s.progress.Add(patience)) {
		s.watch()
		return
	}
	s.die(syscall.ETIMEDOUT)
	s.out.discard()
	s.out.finish()
}

// reset implements side.
func (s *Socket) reset() { s.receiveReset() }

// abort implements side.
func (s *Socket) abort() {
	s.out.discard()
	if !s.closed {
		s.close(true)
	}
}

// vanish implements side.
func (s *Socket) vanish() {
	s.out.discard()
	s.die(0)
	s.out.finish()
	if !s.closed {
		s.close(false)
	}
}
