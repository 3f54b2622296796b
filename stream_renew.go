package rafthttp

import (
	"crypto/tls"
	"crypto/x509"
	"slices"
	"time"

	"go.uber.org/zap"

	"github.com/seed-4d73690b/rafthttp/internal/conn"
)

// renewal is a connection that will continue a stream: the peer ends the one
// that it wrote before between two messages, when it is asked for another.
type renewal struct {
	done chan struct{} // closed when s is set
	s    *incoming     // nil: it failed
}

// isOutdated reports whether the connection that is read should be another one.
func (r *streamReader) isOutdated() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	c, ok := r.conn.(*conn.Dialed)
	return ok && c.Outdated()
}

// renew has the stream continued on a new connection: nothing is lost, and the
// order is kept. If that fails the old one goes on.
func (r *streamReader) renew() {
	ctx := r.untilMoved()
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.conn == nil || r.renewal != nil {
		return
	}
	n := &renewal{done: make(chan struct{})}
	open := func() {
		s, err := r.open(ctx, r.member.urls.pick())
		if err != nil && r.member.ctx.Err() == nil {
			r.member.log.Warn("failed to renew a stream of the peer; reading on as it is", zap.Stringer("stream", r.kind), zap.Error(err))
		}
		r.mu.Lock()
		defer r.mu.Unlock()
		if n.s = s; s == nil {
			r.renewal = nil
		}
		close(n.done)
	}
	if r.member.spawn(open) {
		r.renewal = n
	}
}

// continuation returns the connection that continues the stream that has ended,
// or nil.
func (r *streamReader) continuation() *incoming {
	r.mu.Lock()
	n := r.renewal
	r.mu.Unlock()
	if n == nil {
		return nil
	}
	<-n.done // no later than the peer's context ends
	r.mu.Lock()
	defer r.mu.Unlock()
	r.renewal = nil
	return n.s
}

// renews reports whether the client has dialled c with another certificate than
// the older connection, or with another chain.
func (c *outgoingConn) renews(old *outgoingConn) bool {
	now, before := shownOn(c.state), shownOn(old.state)
	return len(now) > 0 && len(before) > 0 && !slices.EqualFunc(now, before, (*x509.Certificate).Equal)
}

// shownOn returns the certificates that the other end showed.
func shownOn(state *tls.ConnectionState) []*x509.Certificate {
	if state == nil {
		return nil
	}
	return state.PeerCertificates
}

// handoverGrace is how long a connection that a newer one replaced has to end
// the batch that is being written to it.
const handoverGrace = 500 * time.Millisecond

// retire has a connection that was replaced closed between two batches: a peer
// that is alive reads it to its end, and goes on with the newer one. One that is
// stuck is closed after a moment.
func (w *streamWriter) retire(old *outgoingConn) {
	grace := time.NewTimer(handoverGrace)
	wait := func() {
		defer grace.Stop()
		select {
		case <-old.gone:
		case <-grace.C:
		case <-w.member.ctx.Done():
		}
		old.close()
	}
	if !w.member.spawn(wait) {
		grace.Stop()
		old.close()
	}
}
