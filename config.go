package rafthttp

import (
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"go.etcd.io/etcd/client/pkg/v3/types"
	"go.etcd.io/raft/v3"
	"go.uber.org/zap"
	"golang.org/x/time/rate"

	"github.com/seed-4d73690b/rafthttp/internal/callback"
	"github.com/seed-4d73690b/rafthttp/internal/conn"
	"github.com/seed-4d73690b/rafthttp/internal/groups"
	"github.com/seed-4d73690b/rafthttp/internal/member"
	"github.com/seed-4d73690b/rafthttp/internal/pipeline"
	"github.com/seed-4d73690b/rafthttp/internal/protocol"
	"github.com/seed-4d73690b/rafthttp/internal/queue"
	"github.com/seed-4d73690b/rafthttp/internal/snapshot"
	"github.com/seed-4d73690b/rafthttp/internal/wire"
)

// Default timeouts, as upstream names them: 5 s.
const (
	DefaultConnReadTimeout  = conn.DefaultTimeout
	DefaultConnWriteTimeout = conn.DefaultTimeout
)

const (
	defaultDialTimeout           = 5 * time.Second
	defaultDialRetryFrequency    = rate.Limit(10)
	defaultTLSRecheck            = 10 * time.Second
	defaultQueueMessages         = 4096
	defaultQueueBytes            = 64 << 20
	defaultMaxQueuedBytes        = 1 << 30
	defaultMaxMessageBytes       = 512 << 20
	defaultMaxSnapshots          = 4
	defaultSnapshotAnswerTimeout = time.Minute
	defaultServerVersion         = "3.7.0"
	defaultMinClusterVersion     = "3.0.0"

	maxRequestHeadBytes = 64 << 10 // of a request, behind NewServer
	minRedialSeconds    = 1e-3     // for an infinite DialRetryFrequency
	maxRedialSeconds    = 3600     // for one close to zero
)

// snapshotSettings are the fields of a Transport for snapshots, with defaults
// filled in.
type snapshotSettings struct {
	store          *callback.Store // nil: snapshots are refused
	headLimits     wire.Limits
	rate           rate.Limit
	most           int
	transfer       snapshot.Config       // timeouts
	sent, received callback.SnapshotHook // nil: no hook
	progress       func(SnapshotStatus)  // nil: no hook
	ofGroup        func(SnapshotStatus)  // the same: at the end of one of a group
}

// settings validates the fields of t and fills in defaults. Its errors are
// *ConfigError.
func (t *Transport) settings() (*member.Config, error) {
	if err := t.validate(); err != nil {
		return nil, err
	}
	log := t.Logger
	if log == nil {
		log = zap.NewNop()
	}
	s := &member.Config{
		ID: t.ID, URLs: &t.urls,
		ErrorC: t.ErrorC, StatusError: statusError, IdlePosts: pipeline.MaxIdle,
		DirectLog:  log.With(zap.String("local-member-id", t.ID.String())),
		AllRefused: new(member.IdentityCounters), OthersRefused: new(member.IdentityCounters), InflightAdvice: new(atomic.Bool), SnapshotBackoff: t.SnapshotBackoff,

		DialTimeout:  orDefault(t.DialTimeout, defaultDialTimeout),
		ReadTimeout:  orDefault(t.ReadTimeout, DefaultConnReadTimeout),
		WriteTimeout: orDefault(t.WriteTimeout, DefaultConnWriteTimeout),
		TLSRecheck:   orDefault(t.TLSRecheck, defaultTLSRecheck),
	}
	s.Guard = callback.Guard{Log: s.DirectLog, Calls: new(callback.Calls)}
	s.AsyncLog = callback.NewAsyncLog(s.Guard, callback.TransportLines)
	s.Log = s.AsyncLog.Wrap(s.DirectLog)
	s.Raft, s.VerifyPeer = callback.GuardRaft(s.Guard, t.Raft), callback.GuardVerify(s.Guard, t.VerifyPeer)
	o := t.hooks(s.Guard)
	s.Observer = member.Hooks{
		PeerState: o.PeerState, Sent: o.Sent, Received: o.Received, Dropped: o.Dropped, Probed: o.Probed,
		SlowProcess: o.SlowProcess, SlowProcessAfter: orDefault(o.SlowProcessAfter, DefaultSlowProcess),
	}
	retry := orDefault(t.DialRetryFrequency, defaultDialRetryFrequency)
	s.RedialInterval = time.Duration(min(max(1/float64(retry), minRedialSeconds), maxRedialSeconds) * float64(time.Second))

	sendBytes := sizeLimit(t.SendQueueBytes, defaultQueueBytes)
	s.Queued = queue.NewBudget(sizeLimit(t.MaxQueuedBytes, defaultMaxQueuedBytes))
	maxMessage := sizeLimit(t.MaxMessageBytes, defaultMaxMessageBytes)
	s.SendLimits = queue.Limits{
		Messages: orDefault(t.SendQueueMessages, defaultQueueMessages), Bytes: sendBytes, Shared: s.Queued, MessageBytes: maxMessage,
	}
	s.PipelineLimits = queue.Limits{Messages: pipeline.Messages, Bytes: sendBytes, Shared: s.Queued, MessageBytes: maxMessage}
	s.ReceiveLimits = queue.Limits{
		Messages: orDefault(t.ReceiveQueueMessages, defaultQueueMessages),
		Bytes:    sizeLimit(t.ReceiveQueueBytes, defaultQueueBytes),
		Shared:   s.Queued,
	}
	s.MessageLimits = wire.Limits{MaxMessageBytes: uint64(maxMessage)}

	var err error
	if s.Self, err = t.self(); err != nil {
		return nil, err
	}
	s.Notifiers = callback.NewRegistry(s.Guard, s.Raft, s.EventHooks(), s.DirectLog)
	if s.Files, err = conn.NewFiles(&t.TLSInfo, s.Log); err == nil {
		s.ClientTLS, err = s.Files.Client(t.TLSInfo)
	}
	if err != nil {
		return nil, &ConfigError{"TLSInfo", t.TLSInfo, "readable files: " + err.Error()}
	}
	if s.Dial, err = t.dialFunc(s); err != nil {
		return nil, &ConfigError{"TLSInfo.LocalAddr", t.TLSInfo.LocalAddr, "an IP address: " + err.Error()}
	}
	return s, nil
}

// groupsConfig returns the configuration of raft groups of a Transport with these settings. Nodes have no hooks.
func groupsConfig(s *member.Config, to GroupReceiver, snapshots groups.Snapshots, asking *sync.WaitGroup, changed func()) groups.Config {
	node := *s
	node.ErrorC, node.Observer = nil, member.Hooks{}
	var receiver groups.Receiver
	if to != nil {
		receiver = guardedReceiver{to, s.Guard}
	}
	return groups.Config{
		Node: node, Changed: changed, Receiver: receiver, Snapshots: snapshots, Asking: asking,
		URLs: func(us types.URLs) groups.URLs { return newURLPicker(us) },
		Notifiers: func(r callback.Raft) *callback.Registry {
			return callback.NewRegistry(s.Guard, r, callback.EventHooks{}, s.DirectLog)
		},
	}
}

// hooks returns the guarded hooks of the Observer.
func (t *Transport) hooks(g callback.Guard) callback.Hooks[SnapshotStatus] {
	if t.Observer == nil {
		return callback.Hooks[SnapshotStatus]{}
	}
	return callback.GuardHooks(g, callback.Hooks[SnapshotStatus](*t.Observer), SnapshotStatus.peer)
}

// snapshotSettings fills in defaults; s are the valid settings of t.
func (t *Transport) snapshotSettings(s *member.Config) *snapshotSettings {
	o := t.hooks(s.Guard)
	return &snapshotSettings{
		store:      callback.NewStore(t.Snapshotter, s.Guard, s.ReadTimeout),
		headLimits: wire.Limits{MaxMessageBytes: min(s.MessageLimits.MaxMessageBytes, snapshot.MaxHeadBytes)},
		rate:       rateLimit(t.SnapshotRateLimit), most: orDefault(t.MaxSnapshots, defaultMaxSnapshots),
		sent: o.SnapshotSent, received: o.SnapshotReceived, progress: o.SnapshotProgress, ofGroup: o.GroupSnapshotEnded,
		transfer: snapshot.Config{
			ID: s.ID, ReadTimeout: s.ReadTimeout, WriteTimeout: s.WriteTimeout,
			AnswerTimeout: orDefault(t.SnapshotAnswerTimeout, defaultSnapshotAnswerTimeout),
		},
	}
}

// self returns the local member as requests and answers state it.
func (t *Transport) self() (m *protocol.Member, err error) {
	m = &protocol.Member{
		ID: t.ID, ClusterID: t.ClusterID,
		VersionText:    orDefault(t.ServerVersion, defaultServerVersion),
		MinVersionText: orDefault(t.MinClusterVersion, defaultMinClusterVersion),
	}
	if m.Version, err = protocol.ParseVersion(m.VersionText); err != nil {
		return nil, &ConfigError{"ServerVersion", t.ServerVersion, `a semantic version such as "3.7.0"`}
	}
	if m.MinVersion, err = protocol.ParseVersion(m.MinVersionText); err != nil {
		return nil, &ConfigError{"MinClusterVersion", t.MinClusterVersion, `a semantic version such as "3.0.0"`}
	}
	if m.Version.Less(m.MinVersion) {
		return nil, &ConfigError{"MinClusterVersion", m.MinVersionText, "at most ServerVersion, which is " + m.VersionText}
	}
	if t.Snapshotter != nil {
		_, resumes := t.Snapshotter.(ResumingSnapshotter)
		m.Extensions = protocol.Extensions(resumes)
	}
	return m, nil
}

// dialFunc returns the function that makes the plain connections.
func (t *Transport) dialFunc(s *member.Config) (conn.DialFunc, error) {
	if t.DialContext != nil {
		return callback.GuardDial(s.Guard, t.DialContext), nil
	}
	d, err := conn.NewNetDialer(t.TLSInfo.LocalAddr, s.DialTimeout, s.TCPTimeout())
	if err != nil {
		return nil, err
	}
	return d.DialContext, nil
}

func (t *Transport) validate() error {
	if t.Raft == nil || callback.IsNilPointer(t.Raft) {
		return &ConfigError{"Raft", t.Raft, "what receives messages and reports"}
	}
	if callback.IsNil(t.GroupReceiver) {
		return &ConfigError{"GroupReceiver", fmt.Sprintf("a nil %T", t.GroupReceiver), "what receives messages of groups, or nil itself for none"}
	}
	if callback.IsNil(t.Snapshotter) {
		return &ConfigError{"Snapshotter", fmt.Sprintf("a nil %T", t.Snapshotter), "what saves databases, or nil itself for none"}
	}
	if t.ID == 0 {
		return &ConfigError{"ID", 0, "the id of the local member: raft does not allow 0"}
	}
	if raft.IsLocalMsgTarget(uint64(t.ID)) {
		return &ConfigError{"ID", t.ID, "the id of a member: this one is of a local thread of raft"}
	}
	if err := t.validateNumbers(); err != nil {
		return err
	}
	return validateURLs(t.URLs)
}

// validateURLs returns a *ConfigError for URLs that X-PeerURLs cannot state, or that
// other members refuse.
func validateURLs(urls types.URLs) error {
	if n := len(urls.String()); len(urls) > protocol.MaxPeerURLs || n > protocol.MaxPeerURLsBytes {
		return &ConfigError{"URLs", fmt.Sprintf("%d URLs of %d bytes", len(urls), n),
			fmt.Sprintf("at most %d URLs of %d bytes together, commas between them included", protocol.MaxPeerURLs, protocol.MaxPeerURLsBytes)}
	}
	for _, u := range urls {
		if _, err := types.NewURLs([]string{u.String()}); err != nil || strings.Contains(u.String(), ",") {
			return &ConfigError{"URLs", u.String(), "http, https, unix or unixs URLs without a path, such as http://10.0.0.1:2380"}
		}
	}
	return nil
}

// validateNumbers returns a *ConfigError for an invalid duration, size or rate.
func (t *Transport) validateNumbers() error {
	slow := time.Duration(0)
	if t.Observer != nil {
		slow = t.Observer.SlowProcessAfter
	}
	for _, c := range []struct {
		field string
		value any
		ok    bool
	}{
		{"DialRetryFrequency", t.DialRetryFrequency, t.DialRetryFrequency >= 0},
		{"SendQueueMessages", t.SendQueueMessages, t.SendQueueMessages >= 0},
		{"SendQueueBytes", t.SendQueueBytes, t.SendQueueBytes >= 0},
		{"ReceiveQueueMessages", t.ReceiveQueueMessages, t.ReceiveQueueMessages >= 0},
		{"ReceiveQueueBytes", t.ReceiveQueueBytes, t.ReceiveQueueBytes >= 0},
		{"MaxQueuedBytes", t.MaxQueuedBytes, t.MaxQueuedBytes >= 0},
		{"MaxMessageBytes", t.MaxMessageBytes, t.MaxMessageBytes >= 0},
		{"SnapshotRateLimit", t.SnapshotRateLimit, t.SnapshotRateLimit >= 0},
		{"MaxSnapshots", t.MaxSnapshots, t.MaxSnapshots >= 0},
		{"Observer.SlowProcessAfter", slow, slow >= 0},
	} {
		if !c.ok {
			return &ConfigError{c.field, c.value, "0 for the default, or a positive value"}
		}
	}
	for _, c := range []struct {
		field string
		value time.Duration
		least time.Duration
	}{
		{"DialTimeout", t.DialTimeout, 1},
		{"ReadTimeout", t.ReadTimeout, minReadTimeout}, // a link heartbeat must fit in
		{"WriteTimeout", t.WriteTimeout, 1},
		{"TLSRecheck", t.TLSRecheck, 1},
		{"SnapshotAnswerTimeout", t.SnapshotAnswerTimeout, 1},
		{"SnapshotBackoff", t.SnapshotBackoff, 1},
	} {
		if err := checkTimeout(c.field, c.value, c.least); err != nil {
			return err
		}
	}
	return nil
}

const (
	minReadTimeout = 10 * time.Millisecond
	// maxTimeout is longer than any useful timeout, and short enough that sums of
	// timeouts do not overflow.
	maxTimeout = 365 * 24 * time.Hour
	// maxSize replaces larger sizes, such as math.MaxInt64 for no
	// limit: no machine has as much memory, and sums of many do not overflow.
	maxSize = 1 << 50
)

func checkTimeout(field string, v, least time.Duration) error {
	if v == 0 || (v >= least && v <= maxTimeout) {
		return nil
	}
	return &ConfigError{field, v, fmt.Sprintf("0 for the default, or from %v to %v", least, maxTimeout)}
}

// sizeLimit returns the value of a limit in bytes.
func sizeLimit(v, d int64) int64 { return min(orDefault(v, d), maxSize) }

// rateLimit returns the value of a rate for which 0 is unlimited. Infinity, which
// is above rate.Inf, is unlimited as well.
func rateLimit(v rate.Limit) rate.Limit { return min(orDefault(v, rate.Inf), rate.Inf) }

func orDefault[T comparable](v, d T) T {
	var zero T
	if v == zero {
		return d
	}
	return v
}
