package snapshots_test

import (
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.etcd.io/etcd/client/pkg/v3/types"
	"go.etcd.io/raft/v3"

	"github.com/seed-4d73690b/rafthttp"
	"github.com/seed-4d73690b/rafthttp/internal/bubble"
	"github.com/seed-4d73690b/rafthttp/internal/testmember"
	"github.com/seed-4d73690b/rafthttp/memnet"
	"github.com/seed-4d73690b/rafthttp/snap"
)

const (
	chaosTransfers = 52 // in each bubble: 2,080 in all
	chaosSize      = 300_000
)

// TestSnapshotExactlyOnce: whatever happens to 2,080 transfers, from cuts and
// stalls to refusals, crashes of receivers that come back with other options, removal
// of the peer and the end of the transport, each ends in one report, one Close and one
// value of CloseNotify, all of the same opinion, and what a receiver processes, and
// still has in the end, is what was sent, byte for byte.
func TestSnapshotExactlyOnce(t *testing.T) {
	chaosBubbles := bubble.Runs(40, 6)
	var ends [2]atomic.Int64
	var resumed, crashed atomic.Int64
	for seed := range uint64(chaosBubbles) {
		dir := t.TempDir()
		bubble.Test(t, func(t *testing.T) {
			c := newChaos(t, dir, seed)
			c.run()
			c.check(&ends)
			resumed.Add(c.resumed.Load())
			crashed.Add(c.crashed)
		})
	}
	t.Logf("%d transfers succeeded, %d failed; %d were resumed, and receivers crashed %d times", ends[1].Load(), ends[0].Load(), resumed.Load(), crashed.Load())
	require.EqualValues(t, chaosBubbles*chaosTransfers, ends[0].Load()+ends[1].Load())
	require.Greater(t, ends[1].Load(), int64(chaosBubbles*chaosTransfers/10), "most of it broke: that proves little")
	require.Greater(t, ends[0].Load(), int64(chaosBubbles*chaosTransfers/10), "too little broke: that proves little")
	require.Greater(t, resumed.Load(), int64(chaosBubbles/2), "too little was resumed: that proves little")
	require.Greater(t, crashed.Load(), int64(chaosBubbles), "too few receivers crashed: that proves little")
}

// chaos is a sender, two receivers, and what happens between them.
type chaos struct {
	t         *testing.T
	pair      *testmember.Pair // the sender, and the network
	receivers [2]*chaosReceiver
	rand      *rand.Rand
	data      []byte
	calm      int // milliseconds, at most, until the next transfer: one that broke may be resumed

	transfers  []*chaosTransfer
	beforeStop int
	crashed    int64
	resumed    atomic.Int64 // databases that were saved from the middle on
	contents   sync.Map     // index → []byte: what was sent
	observed   sync.Map     // index → *atomic.Int32: calls of SnapshotSent
}

type chaosTransfer struct {
	*snap.Message
	index  uint64
	to     types.ID
	closes atomic.Int32
}

func newChaos(t *testing.T, dir string, seed uint64) *chaos {
	c := &chaos{t: t, rand: rand.New(rand.NewPCG(seed, 1)), data: testmember.RandomBytes(chaosSize), calm: 1 + int(seed%2)*4000}
	c.pair = &testmember.Pair{Net: testmember.NewNetwork(memnet.WithSeed(seed)), Deadlines: seed%2 == 0}
	c.pair.A = c.pair.Start(t, "a", 1, func(tr *rafthttp.Transport) {
		tr.MaxSnapshots, tr.SnapshotAnswerTimeout = 8, 20*time.Second
		tr.Observer = &rafthttp.Observer{
			SnapshotSent: func(_ types.ID, index uint64, _ int64, _ time.Duration, err error) {
				calls, _ := c.observed.LoadOrStore(index, new(atomic.Int32))
				calls.(*atomic.Int32).Add(1)
			},
		}
	})
	for i, host := range []string{"b", "c"} {
		r := newChaosReceiver(c, host, types.ID(2+i), dir)
		c.receivers[i] = r
		r.start()
		c.pair.A.AddPeer(r.id, []string{r.URL})
		c.pair.Net.Link("a", host).SetBandwidth(512 << 10)
	}
	return c
}

// run makes the transfers, with trouble between and during them.
func (c *chaos) run() {
	stopAt := chaosTransfers - c.rand.IntN(10)
	for i := range chaosTransfers {
		if i == stopAt {
			go c.pair.A.Stop()
			synctest.Wait()
		}
		if i < stopAt {
			c.beforeStop++ // what comes later is closed, and not reported
		}
		c.send(uint64(i + 1))
		c.sleep(400)
		if i < stopAt {
			c.trouble()
			c.sleep(c.calm)
		}
	}
	time.Sleep(time.Minute)
	c.pair.Net.Heal()
	c.pair.A.Stop()
}

func (c *chaos) sleep(milliseconds int) {
	time.Sleep(time.Duration(c.rand.IntN(milliseconds)) * time.Millisecond)
}

func (c *chaos) send(index uint64) {
	to := types.ID(2 + c.rand.IntN(2))
	x := &chaosTransfer{index: index, to: to}
	size := int64(chaosSize)
	rc := c.reader(x)
	switch c.rand.IntN(20) {
	case 0:
		to = 9 // nobody
	case 1:
		size++
	case 2:
		size--
	}
	x.Message = snap.NewMessage(testmember.MsgSnap(to, 1, index), rc, size)
	c.transfers = append(c.transfers, x)
	c.pair.A.SendSnapshot(x.Message)
}

// reader is a database in one of several conditions.
func (c *chaos) reader(x *chaosTransfer) io.ReadCloser {
	content := c.content(x.index)
	data := bytes.NewReader(content)
	closes := func() { x.closes.Add(1) }
	switch c.rand.IntN(12) {
	case 0:
		return &testmember.Database{Reader: io.MultiReader(io.LimitReader(data, 100_000), errReader{}), OnClose: closes}
	case 1:
		return &testmember.Database{Reader: testmember.ReaderFunc(func([]byte) (int, error) { panic("in Read") }), OnClose: closes}
	case 2:
		stuck := testmember.BlockingReader(content[:100_000])
		end := stuck.OnClose
		stuck.OnClose = func() { closes(); end() }
		return stuck
	case 3, 4:
		return &testmember.Database{Reader: data, OnClose: closes} // cannot go back
	}
	return &chaosFile{data, closes}
}

type chaosFile struct {
	*bytes.Reader
	onClose func()
}

func (f *chaosFile) Close() error { f.onClose(); return nil }

// trouble is what happens between two calls of SendSnapshot.
func (c *chaos) trouble() {
	n, a, m := c.pair.Net, c.pair.A, c.receivers[c.rand.IntN(2)]
	host := m.host
	switch c.rand.IntN(11) {
	case 0, 1, 2:
		n.Reset("a", host)
	case 3:
		n.Link("a", host).Cut()
		time.AfterFunc(time.Duration(c.rand.IntN(12_000))*time.Millisecond, n.Heal)
	case 4:
		n.Partition([]string{"a"}, []string{host})
		time.AfterFunc(time.Duration(c.rand.IntN(12_000))*time.Millisecond, n.Heal)
	case 5:
		a.RemovePeer(m.ID)
		c.sleep(200)
		a.AddPeer(m.ID, []string{m.URL})
	case 6:
		a.CutPeer(m.ID)
		c.sleep(200)
		a.MendPeer(m.ID)
	case 7:
		a.UpdatePeer(m.ID, []string{"http://" + host + ":1", m.URL})
	case 8:
		c.crashed++
		m.crash()
		c.sleep(3000)
		m.start()
	default:
		c.sleep(2000)
	}
}

// check looks at how the transfers ended.
func (c *chaos) check(ends *[2]atomic.Int64) {
	t, a := c.t, c.pair.A
	finished := 0
	for _, x := range c.transfers {
		ok := <-x.CloseNotify()
		select {
		case <-x.CloseNotify():
			require.Fail(t, "a second value from CloseNotify")
		default:
		}
		require.EqualValues(t, 1, x.closes.Load(), "closes of %d", x.index)
		if ok {
			finished++
			ends[1].Add(1)
			require.True(t, c.receivers[x.to-2].saved[x.index], "%d was sent, and not processed", x.index)
		} else {
			ends[0].Add(1)
		}
	}
	c.observed.Range(func(index, calls any) bool {
		require.EqualValues(t, 1, calls.(*atomic.Int32).Load(), "SnapshotSent for %v", index)
		return true
	})
	var reported [2]int
	for _, status := range a.Recorder.SnapshotReports() {
		if status == raft.SnapshotFinish {
			reported[1]++
		} else {
			reported[0]++
		}
	}
	require.Equal(t, finished, reported[1], "reports of success")
	require.Equal(t, c.beforeStop-finished, reported[0], "reports of failure")
	for _, r := range c.receivers {
		require.Empty(t, r.Status().Receiving)
		for index := range r.saved {
			require.NoError(t, r.has(index), "the database of %d, which was processed", index)
		}
	}
}

// nameOfDB is the file of a database, as snap.Store names it.
func nameOfDB(index uint64) string { return fmt.Sprintf("%016x.snap.db", index) }
