package rafthttp_test

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.etcd.io/etcd/client/pkg/v3/types"
	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"

	"github.com/seed-4d73690b/rafthttp"
	"github.com/seed-4d73690b/rafthttp/internal/conn"
	"github.com/seed-4d73690b/rafthttp/memnet"
	"github.com/seed-4d73690b/rafthttp/snap"
)

// pair is two members in a network of memory: a sends, b receives. It is made
// inside a bubble of testing/synctest.
type pair struct {
	net  *memnet.Network
	a, b *member
	sent chan error // what a's observer is told of the ends of its snapshots

	deadlines bool // members listen as NewListener does
}

// newPair runs a (1) and b (2), peers of each other, on the hosts "a" and "b".
func newPair(t *testing.T, tuneA, tuneB func(*rafthttp.Transport)) *pair {
	t.Helper()
	p := &pair{net: newMemnet(), sent: make(chan error, 100)}
	p.a = p.start(t, "a", 1, func(tr *rafthttp.Transport) {
		tr.Observer = &rafthttp.Observer{
			SnapshotSent: func(_ types.ID, _ uint64, _ int64, _ time.Duration, err error) { p.sent <- err },
		}
		if tuneA != nil {
			tuneA(tr)
		}
	})
	p.b = p.start(t, "b", 2, tuneB)
	p.a.AddPeer(2, []string{p.b.url})
	p.b.AddPeer(1, []string{p.a.url})
	return p
}

// start runs a member on a host of the network.
func (p *pair) start(t *testing.T, host string, id types.ID, tune func(*rafthttp.Transport)) *member {
	t.Helper()
	ln, err := p.net.Host(host).Listen("80")
	require.NoError(t, err)
	if p.deadlines {
		ln = deadlineListener(ln, rafthttp.DefaultConnReadTimeout, rafthttp.DefaultConnWriteTimeout)
	}
	return startMemberOn(t, ln, id, func(tr *rafthttp.Transport) {
		tr.DialContext = p.net.Host(host).DialContext
		if tune != nil {
			tune(tr)
		}
	})
}

// deadlineListener is what NewListener does to a plain listener, with timeouts of the test's choice.
func deadlineListener(l net.Listener, read, write time.Duration) net.Listener {
	return conn.NewDeadlineListener(l, read, write, conn.DefaultListenLimits)
}

// saver is a Snapshotter.
type saver func(io.Reader, uint64) (int64, error)

func (f saver) SaveDBFrom(r io.Reader, id uint64) (int64, error) { return f(r, id) }

// savesAll takes every database and forgets it.
var savesAll = saver(func(r io.Reader, _ uint64) (int64, error) { return io.Copy(io.Discard, r) })

// receives gives a member a Snapshotter.
func receives(s rafthttp.Snapshotter) func(*rafthttp.Transport) {
	return func(tr *rafthttp.Transport) { tr.Snapshotter = s }
}

// database is the ReadCloser of a snapshot; it counts how often it is closed.
type database struct {
	io.Reader
	onClose func()
	closes  atomic.Int32
}

func (d *database) Close() error {
	d.closes.Add(1)
	if d.onClose != nil {
		d.onClose()
	}
	return errors.New("of no interest")
}

// blockingReader returns data, and then blocks in Read until it is closed.
func blockingReader(data []byte) *database {
	closed := make(chan struct{})
	rest := bytes.NewReader(data)
	return &database{
		Reader: readerFunc(func(p []byte) (int, error) {
			if rest.Len() > 0 {
				return rest.Read(p)
			}
			<-closed
			return 0, io.ErrClosedPipe
		}),
		onClose: func() { close(closed) },
	}
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

func randomBytes(n int) []byte {
	b := make([]byte, n)
	r := rand.NewChaCha8([32]byte{1})
	_, _ = r.Read(b)
	return b
}

func msgSnap(to, from types.ID, index uint64) *raftpb.Message {
	return &raftpb.Message{
		Type: raftpb.MsgSnap.Enum(), To: new(uint64(to)), From: new(uint64(from)), Term: new(uint64(1)),
		Snapshot: &raftpb.Snapshot{Metadata: &raftpb.SnapshotMetadata{
			Index: new(index), Term: new(uint64(1)), ConfState: &raftpb.ConfState{Voters: []uint64{1, 2}},
		}},
	}
}

// newSnapshot is a snapshot for b whose database is declared to have size bytes.
func newSnapshot(db *database, size int64) *snap.Message {
	return snap.NewMessage(msgSnap(2, 1, 7), db, size)
}

// requireEnd requires that m has come, or comes, to exactly one end: one value of
// CloseNotify, one Close, and these reports to raft. Time of the bubble passes.
func requireEnd(t *testing.T, m *snap.Message, db *database, ok bool, rec *recorder, reports ...raft.SnapshotStatus) {
	t.Helper()
	require.Equal(t, ok, <-m.CloseNotify(), "CloseNotify")
	time.Sleep(65 * time.Second) // whatever may come too much has come then
	select {
	case <-m.CloseNotify():
		require.Fail(t, "a second value from CloseNotify")
	default:
	}
	require.EqualValues(t, 1, db.closes.Load(), "closes of the reader")
	require.Equal(t, reports, rec.snapshotReports())
}

func heartbeats(from, to types.ID, n int) (ms []*raftpb.Message) {
	for i := range n {
		ms = append(ms, heartbeat(to, from, uint64(i)))
	}
	return ms
}

// sentTo is an Observer that tells how snapshots ended.
func sentTo(ended chan<- error) *rafthttp.Observer {
	return &rafthttp.Observer{
		SnapshotSent: func(_ types.ID, _ uint64, _ int64, _ time.Duration, err error) { ended <- err },
	}
}
