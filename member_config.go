package rafthttp

import (
	"context"
	"crypto/tls"
	"errors"
	"net/http"
	"sync/atomic"
	"time"

	"go.etcd.io/etcd/client/pkg/v3/types"
	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"
	"go.uber.org/zap"

	"github.com/seed-4d73690b/rafthttp/internal/callback"
	"github.com/seed-4d73690b/rafthttp/internal/conn"
	"github.com/seed-4d73690b/rafthttp/internal/protocol"
	"github.com/seed-4d73690b/rafthttp/internal/queue"
	"github.com/seed-4d73690b/rafthttp/internal/wire"
)

// settings are the fields of a Transport that its members go by, as Start found them, with
// defaults filled in. Nothing changes them afterwards, but for what they point to.
type settings struct {
	id          types.ID
	self        *protocol.Member
	urls        *atomic.Pointer[string] // as X-PeerURLs states them; changed by SetURLs
	raft        callback.Raft
	errorC      chan<- error
	log         *zap.Logger // asynchronous, of what is about no member
	asyncLog    *callback.AsyncLog
	notifiers   *callback.Registry
	statusError func(*protocol.UnexpectedAnswer) error // as users know the answer
	directLog   *zap.Logger                            // the application's: it may block whoever uses it
	guard       callback.Guard
	observer    hooks
	verifyPeer  func(types.ID, *tls.ConnectionState) error
	allRefused  *identityCounters
	clientTLS   *tls.Config // but for the authorities, which are those of files
	files       *conn.Files
	tlsRecheck  time.Duration
	dial        conn.DialFunc

	dialTimeout, readTimeout, writeTimeout time.Duration
	redialInterval                         time.Duration

	sendLimits, pipelineLimits, receiveLimits queue.Limits
	inflightAdvice                            *atomic.Bool // it was logged that raft's window is larger than sendLimits
	queued                                    *queue.Budget
	messageLimits                             wire.Limits
}

// heartbeatInterval is how often the link heartbeat goes out (PROTOCOL.md,
// section 7).
func (s *settings) heartbeatInterval() time.Duration { return s.readTimeout / 3 }

// hooks are the application's for what happens between members, each guarded, or nil.
type hooks struct {
	PeerState        func(id types.ID, active bool, cause error)
	Dropped          func(id types.ID, lane string, n int, cause error)
	Sent             func(id types.ID, lane string, messages int, bytes int64, took time.Duration)
	Received         func(id types.ID, lane string, messages int, bytes int64)
	SlowProcess      func(id types.ID, lane string, kind raftpb.MessageType, took time.Duration)
	SlowProcessAfter time.Duration
	Probed           func(id types.ID, rtt, clockOffset time.Duration, err error)
}

// requestHeader returns the headers that every request to a peer carries.
func (s *settings) requestHeader() http.Header { return s.self.RequestHeader(*s.urls.Load()) }

// tcpTimeout is how long data on a TCP connection of ours may stay unacknowledged,
// or unsent because the other end does not read, before the system gives the
// connection up (RFC 5482). It finds what no deadline of ours can: bytes that
// were written, and never arrived.
func (s *settings) tcpTimeout() time.Duration {
	return max(s.readTimeout, s.writeTimeout, conn.MinTimeout)
}

// probeInterval is the time after which a probe that failed is made again, and
// the least time between two: 4 s by default (PROTOCOL.md, section 9).
func (s *settings) probeInterval() time.Duration { return s.readTimeout * 4 / 5 }

// isLocal reports whether a message to this id is for the local member, or for one of
// raft's local threads. Nobody else has such an id, whatever a request states.
func (s *settings) isLocal(to types.ID) bool { return to == s.id || raft.IsLocalMsgTarget(uint64(to)) }

// conclude returns what an answer of the endpoint means, nil for success, and
// tells the application if the local member was removed from the
// cluster. It reads the body to a bound and leaves it to the caller to close it.
func (s *settings) conclude(resp *http.Response, at protocol.Endpoint) error {
	err := s.self.AnswerError(resp, at)
	if errors.Is(err, protocol.ErrMemberRemoved) && s.errorC != nil {
		select {
		case s.errorC <- protocol.ErrMemberRemoved:
		default:
		}
	}
	if u := (*protocol.UnexpectedAnswer)(nil); errors.As(err, &u) {
		return s.statusError(u)
	}
	return err
}

// process calls Process, under guard, and tells the observer if it was slow.
func (s *settings) process(ctx context.Context, from types.ID, lane string, m *raftpb.Message) error {
	defer s.guard.Recover(callback.Call{Name: callback.RaftProcess, Peer: from, Lane: lane, Type: m.GetType(), From: m.GetFrom()})
	return s.processGuarded(ctx, from, lane, m)
}

// processGuarded is process for a caller that has it under guard.
func (s *settings) processGuarded(ctx context.Context, from types.ID, lane string, m *raftpb.Message) error {
	f := s.observer.SlowProcess
	if f == nil {
		return s.raft.Process(ctx, m)
	}
	kind, start := m.GetType(), time.Now() // m is not ours afterwards
	err := s.raft.Process(ctx, m)
	if took := time.Since(start); took >= s.observer.SlowProcessAfter {
		f(from, lane, kind, took)
	}
	return err
}

// postTimeout bounds one pipeline post.
func (s *settings) postTimeout() time.Duration { return s.readTimeout + s.writeTimeout }

// eventHooks returns the hooks that are called asynchronously, but for those of transfers.
func (s *settings) eventHooks() callback.EventHooks {
	return callback.EventHooks{PeerState: s.observer.PeerState, Dropped: s.observer.Dropped, ReasonOf: func(cause error) int { return int(dropReason(cause)) }}
}
