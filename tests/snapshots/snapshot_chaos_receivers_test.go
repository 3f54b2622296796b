package snapshots_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/stretchr/testify/require"
	"go.etcd.io/etcd/client/pkg/v3/types"
	"go.etcd.io/raft/v3/raftpb"

	"github.com/seed-4d73690b/rafthttp"
	"github.com/seed-4d73690b/rafthttp/internal/testmember"
	"github.com/seed-4d73690b/rafthttp/snap"
)

// chaosReceiver is a member that receives, in one life after another on one directory.
type chaosReceiver struct {
	*testmember.Member
	c     *chaos
	id    types.ID
	host  string
	dir   string
	store *snap.Store
	rand  *rand.Rand

	mu    sync.Mutex
	saved map[uint64]bool // databases that Process has seen, by index
}

func newChaosReceiver(c *chaos, host string, id types.ID, dir string) *chaosReceiver {
	return &chaosReceiver{
		c: c, id: id, host: host, dir: filepath.Join(dir, host), saved: map[uint64]bool{},
		rand: rand.New(rand.NewPCG(c.rand.Uint64(), uint64(id))),
	}
}

// start begins a life, with options of its own.
func (r *chaosReceiver) start() {
	r.store = testmember.OpenStore(r.c.t, r.dir)
	ln, err := r.c.pair.Net.Host(r.host).Listen("80")
	require.NoError(r.c.t, err)
	if r.rand.IntN(2) == 0 {
		ln = testmember.NewDeadlineListener(ln, rafthttp.DefaultConnReadTimeout, rafthttp.DefaultConnWriteTimeout)
	}
	r.Member = testmember.StartBy(r.c.t, r.server(), ln, "http://"+r.host+":80", r.id, func(tr *rafthttp.Transport) {
		tr.DialContext = r.c.pair.Net.Host(r.host).DialContext
		switch store := r.flaky(r.store); r.rand.IntN(12) {
		case 0:
			// it takes no databases
		case 1, 2, 3:
			tr.Snapshotter = testmember.PlainStore{Snapshotter: store} // as a stock member
		default:
			tr.Snapshotter = store
		}
		tr.Raft = &testmember.Recorder{OnProcess: r.process}
		tr.MaxSnapshots = 2 + r.rand.IntN(4)
		tr.ReadTimeout = time.Duration(2+r.rand.IntN(4)) * time.Second
	})
	r.AddPeer(1, []string{r.c.pair.A.URL})
}

// server draws what serves a life: a server as NewServer makes it, a bare one, or one that hides connections, so that
// none can be hijacked.
func (r *chaosReceiver) server() func(http.Handler) *http.Server {
	switch r.rand.IntN(3) {
	case 0:
		return rafthttp.NewServer
	case 1:
		return func(h http.Handler) *http.Server { return &http.Server{Handler: h} }
	}
	return func(h http.Handler) *http.Server {
		return &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
			h.ServeHTTP(testmember.NewDeadlineWriter(w), req)
		})}
	}
}

// crash ends a life as kill -9 does: its connections are reset, and what was half written stays on the disk.
func (r *chaosReceiver) crash() {
	r.c.pair.Net.Host(r.host).Crash()
	r.Stop()
	_ = r.Member.Server.Close()
	require.NoError(r.c.t, r.store.Close())
	require.NoError(r.c.t, os.WriteFile(filepath.Join(r.dir, "00000000000000ff.snap.db.1.tmp"), []byte("half"), 0o600))
}

// flaky is a store whose disk fails now and then, or is slow.
func (r *chaosReceiver) flaky(s *snap.Store) flakyStore {
	var mu sync.Mutex
	rnd := rand.New(rand.NewPCG(r.rand.Uint64(), 2))
	return flakyStore{s, &r.c.resumed, func() error {
		mu.Lock()
		n := rnd.IntN(12)
		mu.Unlock()
		switch n {
		case 0:
			return errors.New("disk full")
		case 1:
			time.Sleep(10 * time.Second)
		}
		return nil
	}}
}

type flakyStore struct {
	*snap.Store
	resumed *atomic.Int64
	fault   func() error
}

func (s flakyStore) SaveDBFrom(r io.Reader, id uint64) (int64, error) {
	if err := s.fault(); err != nil {
		return 0, err
	}
	return s.Store.SaveDBFrom(r, id)
}

func (s flakyStore) ResumeDBFrom(r io.Reader, t snap.Transfer, offset int64, sum func() (uint32, error)) (int64, error) {
	if err := s.fault(); err != nil {
		return 0, err
	}
	n, err := s.Store.ResumeDBFrom(r, t, offset, sum)
	if err == nil && offset > 0 {
		s.resumed.Add(1)
	}
	return n, err
}

// process is Raft.Process: the database must be there by now, and be what was sent.
func (r *chaosReceiver) process(_ context.Context, m *raftpb.Message) error {
	if m.GetType() != raftpb.MsgSnap {
		return nil
	}
	index := m.GetSnapshot().GetMetadata().GetIndex()
	if err := r.has(index); err != nil {
		r.c.t.Errorf("%s has processed snapshot %d: %v", r.host, index, err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.saved[index] = true
	return nil
}

// has returns what is wrong with the database of an index.
func (r *chaosReceiver) has(index uint64) error {
	got, err := os.ReadFile(filepath.Join(r.dir, nameOfDB(index)))
	if err == nil && !bytes.Equal(got, r.c.content(index)) {
		err = errors.New("it is not what was sent")
	}
	return err
}

// content is the database of an index, which differs from all others everywhere.
func (c *chaos) content(index uint64) []byte {
	if made, ok := c.contents.Load(index); ok {
		return made.([]byte)
	}
	data := bytes.Clone(c.data)
	for at := 0; at+8 <= len(data); at += 512 {
		binary.BigEndian.PutUint64(data[at:], index<<32|uint64(at))
	}
	c.contents.Store(index, data)
	return data
}
