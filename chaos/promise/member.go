package promise

import (
	"bytes"
	"context"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"go.etcd.io/etcd/client/pkg/v3/types"
	"go.uber.org/zap"
	"golang.org/x/time/rate"

	"github.com/seed-4d73690b/rafthttp"
	"github.com/seed-4d73690b/rafthttp/snap"
)

const cluster = types.ID(0xc1)

// machine is what outlives a member: its disk, and what hangs.
type machine struct {
	s       *simulation
	id      uint64
	dir     string
	disk    *disk
	options Options // of the last life

	log, hook, saving gate
	process           [kinds]gate
	full              atomic.Bool // the disk

	mu      sync.Mutex
	refuses map[uint64]*gate // members whose certificates VerifyPeer refuses while it is shut
}

// refusing returns the gate of a member that is refused.
func (mc *machine) refusing(id uint64) *gate {
	mc.mu.Lock()
	defer mc.mu.Unlock()
	if mc.refuses == nil {
		mc.refuses = map[uint64]*gate{}
	}
	if mc.refuses[id] == nil {
		mc.refuses[id] = &gate{}
	}
	return mc.refuses[id]
}

func newMachine(s *simulation, id uint64) *machine {
	mc := &machine{s: s, id: id, dir: filepath.Join(s.cfg.Dir, strconv.FormatUint(id, 10))}
	mc.disk = newDisk(s, mc.dir)
	return mc
}

// gate is something that stands still until a time.
type gate struct {
	mu    sync.Mutex
	until time.Time
}

func (g *gate) shut(d time.Duration) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if t := time.Now().Add(d); t.After(g.until) {
		g.until = t
	}
}

// opens returns when the gate was last to open.
func (g *gate) opens() time.Time {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.until
}

func (g *gate) left() time.Duration {
	g.mu.Lock()
	defer g.mu.Unlock()
	return max(0, time.Until(g.until))
}

// pass waits until the gate opens, or ctx ends.
func (g *gate) pass(ctx context.Context) error {
	for d := g.left(); d > 0; d = g.left() {
		if err := sleep(ctx, d); err != nil {
			return err
		}
	}
	return ctx.Err()
}

func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// member is one life of a member.
type member struct {
	*rafthttp.Transport
	s    *simulation
	id   uint64
	life int
	opt  Options
	*machine

	born    time.Time
	errorC  chan error
	told    atomic.Bool // that it is no member any more
	store   *snap.Store // nil: it has none
	server  *http.Server
	served  chan struct{}
	over    chan struct{}   // closed at the end
	ending  atomic.Bool     // the end has begun: nothing is sent any more
	stopped atomic.Bool     // Stop has returned
	settled atomic.Bool     // its snapshots were counted
	calls   atomic.Int64    // callbacks under way
	open    atomic.Int64    // connections
	often   [2]atomic.Int64 // callbacks that come with messages
	lines   lines
	turns   turns
}

func startMember(s *simulation, id uint64, o Options) (*member, error) {
	m := &member{
		s: s, id: id, life: s.lives[id] + 1, opt: o, born: time.Now(), machine: s.states[id], errorC: make(chan error, 4),
		served: make(chan struct{}), over: make(chan struct{}),
	}
	m.Transport = &rafthttp.Transport{
		ID: types.ID(id), ClusterID: cluster, URLs: types.MustNewURLs([]string{s.url(id)}), Raft: m, ErrorC: m.errorC,
		DialContext: m.dial, Observer: m.observer(), Logger: zap.New(&lineCore{m: m}),
		MaxQueuedBytes: o.MaxQueuedBytes, MaxMessageBytes: o.MaxMessageBytes, SendQueueMessages: o.SendQueue,
		ReceiveQueueMessages: o.ReceiveQueue, MaxSnapshots: o.MaxSnapshots, SnapshotAnswerTimeout: o.AnswerTimeout, SnapshotRateLimit: rate.Limit(o.SnapshotRate),
	}
	if m.GroupReceiver = m.receiver(); s.plan.NoRaft {
		m.Raft = rafthttp.NoRaft{}
	}
	var err error
	if m.Snapshotter, err = m.snapshotter(); err != nil {
		return nil, err
	}
	if s.trust != nil {
		m.TLSInfo, m.TLSRecheck = s.trust.info(id), s.plan.Recheck
		if s.verifies(id) {
			m.VerifyPeer = m.verify
		}
	}
	ln, err := s.net.Host(host(id)).Listen("80")
	if err != nil {
		return nil, err
	}
	if err := m.Start(); err != nil {
		ln.Close()
		return nil, err
	}
	m.serve(ln)
	return m, nil
}

func (m *member) serve(ln net.Listener) {
	h := m.handler(m.Handler())
	if m.opt.NewServer {
		m.server = rafthttp.NewServer(h)
	} else {
		m.server = &http.Server{Handler: h, ErrorLog: log.New(io.Discard, "", 0), ReadHeaderTimeout: time.Minute}
	}
	m.server.SetKeepAlivesEnabled(!m.opt.NoKeepAlive)
	ln = m.accepts(ln)
	go func() {
		defer close(m.served)
		_ = m.server.Serve(ln)
	}()
}

// noStreams reports whether the member's handler cannot serve streams.
func (m *member) noStreams() bool { return m.opt.Wrapper == "bare" }

// dial implements the Transport's DialContext.
func (m *member) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	defer m.enter("DialContext")()
	name, _, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, err
	}
	to, _ := strconv.ParseUint(name[1:], 10, 64)
	if d := m.s.noDial(m.id, to); d != nil {
		if d.Hangs {
			<-ctx.Done()
			return nil, ctx.Err()
		}
		return nil, &net.OpError{Op: "dial", Net: network, Err: os.NewSyscallError("connect", syscall.ECONNREFUSED)}
	}
	c, err := m.s.net.Host(host(m.id)).DialContext(ctx, network, addr)
	if err != nil {
		return nil, err
	}
	return m.opened(c), nil
}

// opened counts a connection, and makes it that of a stock member if the member is one.
func (m *member) opened(c net.Conn) net.Conn {
	m.open.Add(1)
	if m.s.sabotaged("bounds") {
		m.open.Add(10)
	}
	c = counting(c, func() { m.open.Add(-1) })
	if m.opt.Stock {
		c = &stockConn{Conn: c}
	}
	return c
}

// accepts returns a listener whose connections are opened, and that have TLS if the plan says so.
func (m *member) accepts(ln net.Listener) net.Listener {
	ln = &countingListener{ln, m}
	if m.s.trust != nil {
		ln = m.s.trust.listener(ln, m.TLSInfo)
	}
	return ln
}

type countingListener struct {
	net.Listener
	m *member
}

// Accept implements net.Listener.
func (l *countingListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return l.m.opened(c), nil
}

// enter begins a callback. What it returns ends it.
func (m *member) enter(what string) func() {
	m.lookAtCaller(what)
	if m.stopped.Load() {
		m.s.violate("silence", "%s of member %d is called after Stop", what, m.id)
	}
	m.calls.Add(1)
	return func() { m.calls.Add(-1) }
}

// isOver reports whether the life has ended.
func (m *member) isOver() bool {
	select {
	case <-m.over:
		return true
	default:
		return false
	}
}

// end ends the life.
func (m *member) end(how string) {
	m.ending.Store(true)
	switch how {
	case "crash":
		m.s.net.Host(host(m.id)).Crash()
	case "power":
		m.s.net.Host(host(m.id)).PowerLoss()
	}
	began := time.Now()
	m.Stop()
	took, bound := time.Since(began), m.stopBound(began)
	m.s.checked("stop")
	if took > bound && m.s.inTime() {
		m.s.violate("stop", "Stop of member %d took %v, more than %v", m.id, took, bound)
	}
	m.stopped.Store(true)
	m.tooLate()
	if m.s.sabotaged("silence") {
		m.ReportUnreachable(m.id%2 + 1)
	}
	m.s.checked("silence")
	if n := m.calls.Load(); n > 0 {
		m.s.violate("silence", "%d callbacks of member %d run after Stop", n, m.id)
	}
	_ = m.server.Close()
	<-m.served
	if m.store != nil {
		_ = m.store.Close()
	}
}

// tooLate gives the transport a snapshot after Stop, which closes it on another goroutine.
func (m *member) tooLate() {
	began, data := time.Now(), bytes.NewReader(nil)
	t := &transfer{sender: m}
	msg := snap.NewMessage(m.s.snapshotMessage(&way{from: m.id, to: 1}, 0, 1), &closeHangs{data, t}, 0)
	m.SendSnapshot(msg)
	m.s.checked("send")
	if took := time.Since(began); took > 0 {
		m.s.violate("send", "SendSnapshot of member %d took %v after Stop", m.id, took)
	}
	m.s.waiting.Go(func() {
		<-msg.CloseNotify()
		if n := t.closes.Load(); n != 1 {
			m.s.violate("snapshot ends", "%d calls of Close for a snapshot that was sent after Stop", n)
		}
	})
}

// stopBound is how long Stop may have taken: what hangs in callbacks is waited for, also what began to after Stop.
func (m *member) stopBound(began time.Time) time.Duration {
	d := max(0, m.log.opens().Sub(began), m.hook.opens().Sub(began), m.saving.opens().Sub(began))
	d += maxPendingLines*m.opt.SlowLog + maxPendingHooks*m.opt.SlowHooks + 2*m.opt.DiskHang
	return d + 5*time.Second
}

const (
	maxPendingLines = 64 // that wait for a log
	maxPendingHooks = 64
)
