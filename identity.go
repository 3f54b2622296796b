package rafthttp

import (
	"crypto/tls"
	"fmt"
	"sync/atomic"
)

// identityCounters count what was refused because it is not of the member that
// it says it is of: those of the settings everything, those of a member what was
// said to be of its member.
type identityCounters struct {
	dials, requests, messages atomic.Uint64
}

func (c *identityCounters) status() IdentityStatus {
	return IdentityStatus{Dials: c.dials.Load(), Requests: c.requests.Load(), Messages: c.messages.Load()}
}

// identityRefusal is a request that is not of the member that it states.
type identityRefusal struct {
	text  string
	cause error // for the log, not for the requester
}

func (e *identityRefusal) Error() string   { return e.text }
func (e *identityRefusal) Unwrap() []error { return []error{ErrIdentity, e.cause} }

// refuseIdentity returns the refusal of a request. Its status is a matter of the
// endpoint.
func (q *request) refuseIdentity(cause error) error {
	q.engine.cfg.allRefused.requests.Add(1)
	if p := q.engine.peerOf(q.from); p != nil {
		p.member.refused.requests.Add(1)
	}
	return &identityRefusal{"certificate does not fit the member id", cause}
}

// verifyDialed asks VerifyPeer about a connection that was dialled.
func (l *member) verifyDialed(addr string, state *tls.ConnectionState) error {
	if err := l.cfg.verifyPeer(l.remoteID, state); err != nil {
		return l.refusedDial(addr, err)
	}
	return nil
}

// refusedDial counts a connection that VerifyPeer refused, and says so.
func (l *member) refusedDial(addr string, cause error) error {
	l.cfg.allRefused.dials.Add(1)
	l.refused.dials.Add(1)
	return fmt.Errorf("%w, or the peer URL leads to another member: %s: %w", ErrIdentity, addr, cause)
}
