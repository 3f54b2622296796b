package rafthttp

import (
	"crypto/tls"
	"slices"

	"go.uber.org/zap"

	"github.com/seed-4d73690b/rafthttp/internal/callback"
)

// maxFailedHandshakes bounds those that wait for HandshakeFailure.
const maxFailedHandshakes = 64

// handshakeHook tells HandshakeFailure of handshakes, one after another: while it
// stands still, handshakes go on.
type handshakeHook struct {
	notifier notifier
	listener *tlsListener
	call     func(*tls.Conn, error) // nil: nobody
	queue    []func()
}

func newHandshakeHook(l *tlsListener, call func(*tls.Conn, error)) *handshakeHook {
	h := &handshakeHook{listener: l, call: call}
	h.notifier.take = h.takeOne
	return h
}

// failed tells of a handshake, unless too many wait.
func (h *handshakeHook) failed(c *tls.Conn, err error) {
	if h.call == nil {
		return
	}
	h.notifier.mu.Lock()
	defer h.notifier.mu.Unlock()
	if len(h.queue) >= maxFailedHandshakes {
		return
	}
	h.queue = append(h.queue, func() {
		defer h.listener.guard().Recover(callback.Call{Name: "TLSInfo.HandshakeFailure"})
		h.call(c, err)
	})
	h.notifier.start()
}

// takeOne is called with mu held.
func (h *handshakeHook) takeOne() func() {
	if len(h.queue) == 0 {
		h.queue = nil
		return nil
	}
	tell := h.queue[0]
	h.queue = slices.Delete(h.queue, 0, 1)
	return tell
}

// guard ends the process for a callback of the listener, with a line in the log that
// its handshakes are logged in.
func (l *tlsListener) guard() callback.Guard {
	if l.log != nil {
		return l.lines.guard
	}
	if t := l.serves.Load(); t != nil {
		if e := t.engine.Load(); e != nil {
			return e.cfg.guard
		}
	}
	return callback.Guard{Log: zap.NewNop()}
}
