package member

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

// Config are the fields of a Transport that its members go by, as Start found them, with
// defaults filled in. Nothing changes them afterwards, but for what they point to.
type Config struct {
	ID          types.ID
	Self        *protocol.Member
	URLs        *atomic.Pointer[string] // as X-PeerURLs states them; changed by SetURLs
	Raft        callback.Raft
	ErrorC      chan<- error
	Log         *zap.Logger // asynchronous, of what is about no member
	AsyncLog    *callback.AsyncLog
	Notifiers   *callback.Registry
	StatusError func(*protocol.UnexpectedAnswer) error // as users know the answer
	DirectLog   *zap.Logger                            // the application's: it may block whoever uses it
	Guard       callback.Guard
	Observer    Hooks
	VerifyPeer  func(types.ID, *tls.ConnectionState) error
	AllRefused  *IdentityCounters
	ClientTLS   *tls.Config // but for the authorities, which are those of files
	Files       *conn.Files
	TLSRecheck  time.Duration
	Dial        conn.DialFunc

	DialTimeout, ReadTimeout, WriteTimeout time.Duration
	RedialInterval                         time.Duration
	IdlePosts                              int // connections for POSTs to one member that are kept

	SendLimits, PipelineLimits, ReceiveLimits queue.Limits
	InflightAdvice                            *atomic.Bool // it was logged that raft's window is larger than sendLimits
	Queued                                    *queue.Budget
	MessageLimits                             wire.Limits
}

// HeartbeatInterval is how often the link heartbeat goes out (PROTOCOL.md,
// section 7).
func (c *Config) HeartbeatInterval() time.Duration { return c.ReadTimeout / 3 }

// Hooks are the application's for what happens between members, each guarded, or nil.
type Hooks struct {
	PeerState        func(id types.ID, active bool, cause error)
	Dropped          func(id types.ID, lane string, n int, cause error)
	Sent             func(id types.ID, lane string, messages int, bytes int64, took time.Duration)
	Received         func(id types.ID, lane string, messages int, bytes int64)
	SlowProcess      func(id types.ID, lane string, kind raftpb.MessageType, took time.Duration)
	SlowProcessAfter time.Duration
	Probed           func(id types.ID, rtt, clockOffset time.Duration, err error)
}

// RequestHeader returns the headers that every request to a peer carries.
func (c *Config) RequestHeader() http.Header { return c.Self.RequestHeader(*c.URLs.Load()) }

// TCPTimeout is how long data on a TCP connection of ours may stay unacknowledged,
// or unsent because the other end does not read, before the system gives the
// connection up (RFC 5482). It finds what no deadline of ours can: bytes that
// were written, and never arrived.
func (c *Config) TCPTimeout() time.Duration {
	return max(c.ReadTimeout, c.WriteTimeout, conn.MinTimeout)
}

// ProbeInterval is the time after which a probe that failed is made again, and
// the least time between two: 4 s by default (PROTOCOL.md, section 9).
func (c *Config) ProbeInterval() time.Duration { return c.ReadTimeout * 4 / 5 }

// IsLocal reports whether a message to this id is for the local member, or for one of
// raft's local threads. Nobody else has such an id, whatever a request states.
func (c *Config) IsLocal(to types.ID) bool { return to == c.ID || raft.IsLocalMsgTarget(uint64(to)) }

// Conclude returns what an answer of the endpoint means, nil for success, and
// tells the application if the local member was removed from the
// cluster. It reads the body to a bound and leaves it to the caller to close it.
func (c *Config) Conclude(resp *http.Response, at protocol.Endpoint) error {
	err := c.Self.AnswerError(resp, at)
	if errors.Is(err, protocol.ErrMemberRemoved) && c.ErrorC != nil {
		select {
		case c.ErrorC <- protocol.ErrMemberRemoved:
		default:
		}
	}
	if u := (*protocol.UnexpectedAnswer)(nil); errors.As(err, &u) {
		return c.StatusError(u)
	}
	return err
}

// Process calls Process, under guard, and tells the observer if it was slow.
func (c *Config) Process(ctx context.Context, from types.ID, lane string, m *raftpb.Message) error {
	defer c.Guard.Recover(callback.Call{Name: callback.RaftProcess, Peer: from, Lane: lane, Type: m.GetType(), From: m.GetFrom()})
	return c.ProcessGuarded(ctx, from, lane, m)
}

// ProcessGuarded is process for a caller that has it under guard.
func (c *Config) ProcessGuarded(ctx context.Context, from types.ID, lane string, m *raftpb.Message) error {
	f := c.Observer.SlowProcess
	if f == nil {
		return c.Raft.Process(ctx, m)
	}
	kind, start := m.GetType(), time.Now() // m is not ours afterwards
	err := c.Raft.Process(ctx, m)
	if took := time.Since(start); took >= c.Observer.SlowProcessAfter {
		f(from, lane, kind, took)
	}
	return err
}

// PostTimeout bounds one pipeline post.
func (c *Config) PostTimeout() time.Duration { return c.ReadTimeout + c.WriteTimeout }

// EventHooks returns the hooks that are called asynchronously, but for those of transfers.
func (c *Config) EventHooks() callback.EventHooks {
	return callback.EventHooks{PeerState: c.Observer.PeerState, Dropped: c.Observer.Dropped, ReasonOf: func(cause error) int { return int(ReasonOf(cause)) }}
}
