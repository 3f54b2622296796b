package promise

import (
	"context"
	"fmt"
	"io"
	"log"
	"math/rand/v2"
	"net"
	"net/http"
	"path/filepath"
	"sync"
	"time"

	"go.etcd.io/etcd/client/pkg/v3/types"
	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/seed-4d73690b/rafthttp"
)

// Scene is an action: when the members have stopped, a small situation is played that they do not get into by themselves,
// such as a client that posts half a message. How names it, and N decides what is left to chance.
const Scene Action = "scene"

// scene is one of these situations. It has a judge with its name.
type scene struct {
	name    string
	promise string
	play    func(*stage)
}

const scenesOfPlan = 4

// drawScenes draws scenes. They are in each plan, since they mask nothing, and come in turn: seeds one after another play each
// about as often.
func drawScenes(d *drawing) {
	all := scenes()
	for i := range uint64(scenesOfPlan) {
		one := all[(d.plan.Seed*scenesOfPlan+i)%uint64(len(all))]
		d.plan.Events = append(d.plan.Events, Event{At: d.plan.Length, Do: Scene, N: d.IntN(1000), How: one.name})
	}
}

// playScenes plays the scenes of the plan.
func (s *simulation) playScenes() {
	for n, e := range s.plan.Events {
		for _, one := range scenes() {
			if e.Do != Scene || e.How != one.name || s.failed() {
				continue
			}
			s.note("--- scene %s", one.name)
			st := &stage{simulation: s, Rand: rand.New(rand.NewPCG(s.plan.Seed, uint64(e.N))), name: one.name, number: n}
			st.ctx, st.cancel = context.WithCancel(context.Background())
			one.play(st)
			st.end()
			s.count("scene " + one.name)
			s.checked(one.name)
		}
	}
}

// stage is where a scene is played: hosts of its own on the network of the run. Its methods run on the goroutine of Run.
type stage struct {
	*simulation
	*rand.Rand
	name   string
	number int
	ctx    context.Context // ends with the scene
	cancel context.CancelFunc
	ends   []func()
}

// wrong says that the promise of the scene was not kept.
func (st *stage) wrong(format string, args ...any) { st.violate(st.name, format, args...) }

// atEnd has something done at the end of the scene, before what was to be done until now.
func (st *stage) atEnd(f func()) { st.ends = append(st.ends, f) }

func (st *stage) end() {
	st.cancel()
	for i := range st.ends {
		st.ends[len(st.ends)-1-i]()
	}
}

// host returns the name of a host of the scene.
func (st *stage) host(name string) string { return fmt.Sprintf("scene%d%s", st.number, name) }

func (st *stage) urlOf(name string) string { return "http://" + st.host(name) + ":80" }

func (st *stage) dir(name string) string { return filepath.Join(st.cfg.Dir, st.host(name)) }

// dial connects a client to the host a of the scene.
func (st *stage) dial() net.Conn {
	c, err := st.net.Host(st.host("client")).DialContext(st.ctx, "tcp", st.host("a")+":80")
	if err != nil {
		st.wrong("cannot connect: %v", err)
		c, _ = net.Pipe()
	}
	st.atEnd(func() { c.Close() })
	return c
}

// serve serves a host of the scene with a handler that is no transport's.
func (st *stage) serve(name string, h http.HandlerFunc) {
	ln, err := st.net.Host(st.host(name)).Listen("80")
	if err != nil {
		st.wrong("cannot listen: %v", err)
		return
	}
	st.serveOn(ln, &http.Server{Handler: h, ErrorLog: log.New(io.Discard, "", 0), ReadHeaderTimeout: time.Minute})
}

func (st *stage) serveOn(ln net.Listener, server *http.Server) {
	var served sync.WaitGroup
	served.Go(func() { _ = server.Serve(ln) })
	st.atEnd(func() {
		_ = server.Close()
		served.Wait()
	})
}

// actor is a transport of a scene, with a Raft that notes what it is told.
type actor struct {
	*rafthttp.Transport
	process func(*raftpb.Message) error // nil: takes everything
	removed uint64                      // a member that is none any more
	busy    func(id uint64)             // called by ReportUnreachable; nil: nothing

	mu          sync.Mutex
	got         []*raftpb.Message
	unreachable map[uint64]int
	snapshots   map[uint64][]raft.SnapshotStatus
	states      map[types.ID][]bool
	lines       map[string]int
}

// actor starts a transport at a host of the scene; set may change its fields before.
func (st *stage) actor(id uint64, name string, set func(*actor)) *actor {
	a := st.newActor(id, name, set)
	ln, err := st.net.Host(st.host(name)).Listen("80")
	if err == nil {
		err = a.Start()
	}
	if err != nil {
		st.wrong("member does not start: %v", err)
		return a
	}
	st.serveOn(ln, rafthttp.NewServer(a.Handler()))
	st.atEnd(a.Stop)
	return a
}

func (st *stage) newActor(id uint64, name string, set func(*actor)) *actor {
	a := &actor{
		unreachable: map[uint64]int{}, snapshots: map[uint64][]raft.SnapshotStatus{}, states: map[types.ID][]bool{}, lines: map[string]int{},
	}
	a.Transport = &rafthttp.Transport{
		ID: types.ID(id), ClusterID: cluster, Raft: a, URLs: types.MustNewURLs([]string{st.urlOf(name)}), Logger: zap.New(actorLog{a}),
		DialContext: st.net.Host(st.host(name)).DialContext,
		Observer: &rafthttp.Observer{PeerState: func(id types.ID, active bool, _ error) {
			a.mu.Lock()
			defer a.mu.Unlock()
			a.states[id] = append(a.states[id], active)
		}},
	}
	if set != nil {
		set(a)
	}
	return a
}

// Process implements rafthttp.Raft.
func (a *actor) Process(_ context.Context, m *raftpb.Message) error {
	a.mu.Lock()
	a.got = append(a.got, m)
	process := a.process
	a.mu.Unlock()
	if process != nil {
		return process(m)
	}
	return nil
}

// IsIDRemoved implements rafthttp.Raft.
func (a *actor) IsIDRemoved(id uint64) bool { return id != 0 && id == a.removed }

// ReportUnreachable implements rafthttp.Raft.
func (a *actor) ReportUnreachable(id uint64) {
	a.mu.Lock()
	a.unreachable[id]++
	a.mu.Unlock()
	if a.busy != nil {
		a.busy(id)
	}
}

// told returns how often raft was told of losses.
func (a *actor) told(id uint64) int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.unreachable[id]
}

// ReportSnapshot implements rafthttp.Raft.
func (a *actor) ReportSnapshot(id uint64, status raft.SnapshotStatus) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.snapshots[id] = append(a.snapshots[id], status)
}

// said returns how often the log of an actor has a message.
func (a *actor) said(message string) int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.lines[message]
}

// reports returns the ends of snapshots that were reported.
func (a *actor) reports(id uint64) []raft.SnapshotStatus {
	a.mu.Lock()
	defer a.mu.Unlock()
	return append([]raft.SnapshotStatus(nil), a.snapshots[id]...)
}

// actorLog counts the lines of an actor.
type actorLog struct{ a *actor }

// Enabled implements zapcore.Core.
func (actorLog) Enabled(zapcore.Level) bool { return true }

// With implements zapcore.Core.
func (l actorLog) With([]zapcore.Field) zapcore.Core { return l }

// Check implements zapcore.Core.
func (l actorLog) Check(e zapcore.Entry, ce *zapcore.CheckedEntry) *zapcore.CheckedEntry {
	return ce.AddCore(e, l)
}

// Write implements zapcore.Core.
func (l actorLog) Write(e zapcore.Entry, _ []zapcore.Field) error {
	l.a.mu.Lock()
	defer l.a.mu.Unlock()
	l.a.lines[e.Message]++
	return nil
}

// Sync implements zapcore.Core.
func (actorLog) Sync() error { return nil }
