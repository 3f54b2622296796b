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

// Config has the fields of a Transport that its members use, as Start found them, with
// defaults filled in. They do not change afterwards, except for the values they point to.
type Config struct {
	ID          types.ID
	Self        *protocol.Member
	URLs        *atomic.Pointer[string] // as X-PeerURLs states them; changed by SetURLs
	Raft        callback.Raft
	ErrorC      chan<- error
	Log         *zap.Logger // asynchronous, for lines about no member
	AsyncLog    *callback.AsyncLog
	Notifiers   *callback.Registry
	StatusError func(*protocol.UnexpectedAnswer) error // the exported type of the answer
	DirectLog   *zap.Logger                            // the application's: it may block its callers
	Guard       callback.Guard
	Observer    Hooks
	VerifyPeer  func(types.ID, *tls.ConnectionState) error
	AllRefused  *IdentityCounters
	// OthersRefused are those of AllRefused whose requests state no peer.
	OthersRefused *IdentityCounters
	ClientTLS     *tls.Config // without the authorities, which are those of Files
	Files         *conn.Files
	TLSRecheck    time.Duration
	Dial          conn.DialFunc

	DialTimeout, ReadTimeout, WriteTimeout time.Duration
	RedialInterval                         time.Duration
	SnapshotBackoff                        time.Duration // 0: none
	IdlePosts                              int           // idle connections kept for POSTs to one member

	SendLimits, PipelineLimits, ReceiveLimits queue.Limits
	InflightAdvice                            *atomic.Bool // it was logged that raft's window is larger than SendLimits
	Queued                                    *queue.Budget
	MessageLimits                             wire.Limits
}

// HeartbeatInterval is the interval of link heartbeats (PROTOCOL.md,
// section 7).
func (c *Config) HeartbeatInterval() time.Duration { return c.ReadTimeout / 3 }

// Hooks are the application's hooks for communication between members, each guarded, or nil.
type Hooks struct {
	PeerState        func(id types.ID, active bool, cause error)
	Dropped          func(id types.ID, lane string, n int, cause error)
	Sent             func(id types.ID, lane string, messages int, bytes int64, took time.Duration)
	Received         func(id types.ID, lane string, messages int, bytes int64)
	SlowProcess      func(id types.ID, lane string, kind raftpb.MessageType, took time.Duration)
	SlowProcessAfter time.Duration
	Probed           func(id types.ID, rtt, clockOffset time.Duration, err error)
}

// RequestHeader returns the headers of every request to a peer.
func (c *Config) RequestHeader() http.Header { return c.Self.RequestHeader(*c.URLs.Load()) }

// TCPTimeout is how long data on a TCP connection of ours may stay unacknowledged,
// or unsent because the other end does not read, before the system closes the
// connection (RFC 5482). It detects what our deadlines cannot: bytes that
// were written, and never arrived.
func (c *Config) TCPTimeout() time.Duration {
	return max(c.ReadTimeout, c.WriteTimeout, conn.MinTimeout)
}

// ProbeInterval is the time after which a failed probe is repeated: 4 s by default.
// After one that succeeded, package probe leaves out six intervals: 28 s.
func (c *Config) ProbeInterval() time.Duration { return c.ReadTimeout * 4 / 5 }

// IsLocal reports whether a message to this id is for the local member, or for one of
// raft's local threads. No other member has such an id, whatever a request states.
func (c *Config) IsLocal(to types.ID) bool { return to == c.ID || raft.IsLocalMsgTarget(uint64(to)) }

// Conclude returns the meaning of an answer of the endpoint, nil for success, and
// tells the application if the local member was removed from the
// cluster. It reads the body up to a limit; the caller closes it.
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

// Process calls Process, guarded, and reports a slow call to the observer.
func (c *Config) Process(ctx context.Context, from types.ID, lane string, m *raftpb.Message) error {
	defer c.Guard.Recover(callback.Call{Name: callback.RaftProcess, Peer: from, Lane: lane, Type: m.GetType(), From: m.GetFrom()})
	return c.ProcessGuarded(ctx, from, lane, m)
}

// ProcessGuarded is Process for a caller that has guarded it.
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

// PostTimeout limits one POST of the pipeline.
func (c *Config) PostTimeout() time.Duration { return c.ReadTimeout + c.WriteTimeout }

// EventHooks returns the hooks that are called asynchronously, except those of transfers.
func (c *Config) EventHooks() callback.EventHooks {
	return callback.EventHooks{PeerState: c.Observer.PeerState, Dropped: c.Observer.Dropped, ReasonOf: func(cause error) int { return int(ReasonOf(cause)) }}
}
