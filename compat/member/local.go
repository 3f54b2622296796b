package member

import (
	"context"
	"net"
	"net/http"
	"net/url"
	"sync"
	"time"

	"go.etcd.io/etcd/client/pkg/v3/transport"
	"go.etcd.io/etcd/client/pkg/v3/types"
	"go.etcd.io/raft/v3/raftpb"

	"github.com/seed-4d73690b/rafthttp"
	"github.com/seed-4d73690b/rafthttp/compat/v36/drive"
)

// transporter is what ours and upstream's Transport have in common: all but SendSnapshot, whose argument is of another
// package.
type transporter interface {
	Start() error
	Handler() http.Handler
	Send(m []*raftpb.Message)
	AddRemote(id types.ID, urls []string)
	AddPeer(id types.ID, urls []string)
	RemovePeer(id types.ID)
	UpdatePeer(id types.ID, urls []string)
	ActiveSince(id types.ID) time.Time
	ActivePeers() int
	CutPeer(id types.ID)
	MendPeer(id types.ID)
	Pause()
	Resume()
	Stop()
}

// local is a member in this process.
type local struct {
	transporter
	cfg      Config
	gate     *gate
	url      url.URL
	server   *http.Server
	served   sync.WaitGroup
	requests drive.Requests
	errorC   chan error
	quit     chan struct{}
	stop     sync.Once
	snapshot func(*raftpb.Message, Source) <-chan bool
	closeDir func() error // nil: nothing keeps others out of it
}

// listenFunc is NewListener, of either make.
type listenFunc func(url.URL, *transport.TLSInfo) (net.Listener, error)

// newLocal listens and makes the parts that a transport is built from; serve does the rest.
func newLocal(cfg Config, listen listenFunc) (*local, net.Listener, error) {
	u := url.URL{Scheme: "http", Host: cfg.Listen}
	if cfg.TLS != nil {
		u.Scheme = "https"
	}
	if u.Host == "" {
		u.Host = "127.0.0.1:0"
	}
	tls := tlsInfo(cfg.TLS)
	listener, err := listen(u, &tls)
	if err != nil {
		return nil, nil, err
	}
	u.Host = listener.Addr().String()
	l := &local{cfg: cfg, gate: &gate{Raft: cfg.Raft}, url: u, errorC: make(chan error, 16), quit: make(chan struct{})}
	return l, listener, nil
}

// serve starts tr and serves its handler.
func (l *local) serve(tr transporter, listener net.Listener) error {
	l.transporter = tr
	if err := tr.Start(); err != nil {
		listener.Close()
		return err
	}
	l.server = &http.Server{Handler: l.requests.Counting(tr.Handler()), ErrorLog: quiet}
	l.served.Go(func() { _ = l.server.Serve(listener) })
	l.served.Go(l.forwardErrors)
	return nil
}

func (l *local) forwardErrors() {
	for {
		select {
		case err := <-l.errorC:
			if l.cfg.Failed != nil {
				l.cfg.Failed(err)
			}
		case <-l.quit:
			return
		}
	}
}

func (l *local) ID() uint64  { return l.cfg.ID }
func (l *local) URL() string { return l.url.String() }

func (l *local) AddPeer(id uint64, urls ...string)    { l.transporter.AddPeer(types.ID(id), urls) }
func (l *local) AddRemote(id uint64, urls ...string)  { l.transporter.AddRemote(types.ID(id), urls) }
func (l *local) UpdatePeer(id uint64, urls ...string) { l.transporter.UpdatePeer(types.ID(id), urls) }
func (l *local) RemovePeer(id uint64)                 { l.transporter.RemovePeer(types.ID(id)) }
func (l *local) Cut(id uint64)                        { l.CutPeer(types.ID(id)) }
func (l *local) Mend(id uint64)                       { l.MendPeer(types.ID(id)) }
func (l *local) Send(msgs ...*raftpb.Message)         { l.transporter.Send(msgs) }
func (l *local) SetAnswer(a drive.Answer)             { l.gate.setAnswer(a) }
func (l *local) MarkRemoved(id uint64)                { l.gate.markRemoved(id) }

func (l *local) SendSnapshot(m *raftpb.Message, db Source) <-chan bool { return l.snapshot(m, db) }

func (l *local) Look(peer uint64) Look {
	return Look{
		ActiveSince: l.ActiveSince(types.ID(peer)),
		ActivePeers: l.ActivePeers(),
		Requests:    l.requests.Counts(),
	}
}

func (l *local) Stop() {
	l.stop.Do(func() {
		l.transporter.Stop()
		l.server.Close()
		close(l.quit)
		l.served.Wait()
		if l.closeDir != nil {
			_ = l.closeDir()
		}
	})
}

// gate stands before the raft of a test and answers for it where a test says so.
type gate struct {
	rafthttp.Raft
	mu      sync.Mutex
	removed map[uint64]bool
	answer  drive.Answer
}

func (g *gate) Process(ctx context.Context, m *raftpb.Message) error {
	g.mu.Lock()
	answer := g.answer
	g.mu.Unlock()
	if err := answer.Err(); err != nil {
		return err
	}
	return g.Raft.Process(ctx, m)
}

func (g *gate) IsIDRemoved(id uint64) bool {
	g.mu.Lock()
	removed := g.removed[id]
	g.mu.Unlock()
	return removed || g.Raft.IsIDRemoved(id)
}

func (g *gate) markRemoved(id uint64) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.removed == nil {
		g.removed = make(map[uint64]bool)
	}
	g.removed[id] = true
}

func (g *gate) setAnswer(a drive.Answer) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.answer = a
}
