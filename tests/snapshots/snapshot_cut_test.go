package snapshots_test

import (
	"io"
	"math/rand/v2"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.etcd.io/raft/v3"

	"github.com/seed-4d73690b/rafthttp/internal/testmember"
	"github.com/seed-4d73690b/rafthttp/snap"
)

const (
	cuts = 20
	// SNAPSHOT_CUT_MIB is the size of the database in MiB, for a run by hand with one
	// as large as those of real life, and sockets with buffers as they come.
	cutSizeEnv     = "SNAPSHOT_CUT_MIB"
	defaultCutSize = 96 << 20
)

// cutter is a proxy that resets the connection of a snapshot when certain numbers
// of bytes have passed it in all.
type cutter struct {
	net.Listener
	buffer int // of its sockets; 0: as they come

	mu     sync.Mutex
	target string
	taken  int64   // from clients
	at     []int64 // where to cut, in order
	onCut  func()  // before the connection is reset, with mu held; may be nil
	wg     sync.WaitGroup
}

func (c *cutter) run() {
	for {
		client, err := c.Accept()
		if err != nil {
			return
		}
		c.wg.Go(func() { c.serve(client.(*net.TCPConn)) })
	}
}

func (c *cutter) serve(client *net.TCPConn) {
	c.mu.Lock()
	to := c.target
	c.mu.Unlock()
	conn, err := net.Dial("tcp", to)
	if err != nil {
		client.Close()
		return
	}
	target := conn.(*net.TCPConn)
	if c.buffer > 0 {
		for _, s := range []*net.TCPConn{client, target} {
			_ = s.SetReadBuffer(c.buffer)
			_ = s.SetWriteBuffer(c.buffer)
		}
	}
	var back sync.WaitGroup
	back.Go(func() {
		_, _ = io.Copy(client, struct{ io.Reader }{target})
		_ = client.CloseWrite()
	})
	if c.forth(target, client) {
		_ = target.SetLinger(0)
		_ = client.SetLinger(0)
		target.Close()
		client.Close()
	} else {
		_ = target.CloseWrite()
	}
	back.Wait()
	target.Close()
	client.Close()
}

// forth copies, and reports whether to cut the connection.
func (c *cutter) forth(target, client net.Conn) bool {
	buf := make([]byte, 32<<10)
	for {
		n, err := client.Read(buf)
		c.mu.Lock()
		c.taken += int64(n)
		cut := len(c.at) > 0 && c.taken >= c.at[0]
		if cut {
			c.at = c.at[1:]
			if c.onCut != nil {
				c.onCut()
			}
		}
		c.mu.Unlock()
		if cut {
			return true
		}
		if _, werr := target.Write(buf[:n]); err != nil || werr != nil {
			return false
		}
	}
}

// A transfer whose connection is reset 20 times goes on each time where it was: at
// most one byte in 20 is sent twice.
func TestSnapshotCutTwentyTimes(t *testing.T) {
	size, buffer := int64(defaultCutSize), 64<<10 // little is under way, as there is little to be sent
	if mib, err := strconv.Atoi(os.Getenv(cutSizeEnv)); err == nil {
		size, buffer = int64(mib)<<20, 0
	}
	source := fileWith(t, nil, testmember.RandomBytes(int(size)))
	dir := t.TempDir()
	store, err := snap.Open(dir)
	require.NoError(t, err)
	b := testmember.Start(t, 2, testmember.Receives(store))
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	proxy := &cutter{Listener: ln, target: strings.TrimPrefix(b.URL, "http://"), buffer: buffer}
	for range cuts {
		proxy.at = append(proxy.at, rand.Int64N(size))
	}
	slices.Sort(proxy.at)
	go proxy.run()
	t.Cleanup(func() { ln.Close(); proxy.wg.Wait() })

	a := testmember.Start(t, 1, nil)
	a.AddPeer(2, []string{"http://" + ln.Addr().String()})
	m := snap.NewMessage(testmember.MsgSnap(2, 1, 7), source, size)
	start := time.Now()
	a.SendSnapshot(m)
	require.True(t, <-m.CloseNotify(), a.Status().Peers[0].LastError)
	last := a.Status().Peers[0].LastSnapshot
	proxy.mu.Lock()
	taken := proxy.taken
	proxy.mu.Unlock()
	t.Logf("%d MiB in %v, %d attempts; sent twice: %.2f %% as the proxy counts, %.2f %% as the sender does", size>>20,
		time.Since(start).Round(time.Millisecond), last.Attempts, percent(taken, size), percent(int64(a.Status().Peers[0].SentBytes), size))
	require.Greater(t, last.Attempts, cuts/2, "cuts close to each other are one")
	require.Less(t, percent(taken, size), 5.0, "sent twice")
	a.Stop() // so that no other report can come
	require.Equal(t, []raft.SnapshotStatus{raft.SnapshotFinish}, a.Recorder.SnapshotReports())

	path, err := store.DBFilePath(7)
	require.NoError(t, err)
	requireSameFile(t, source.Name(), path)
	require.Len(t, b.Recorder.Received(), 1)
}

// percent is how much more of something there is than should be.
func percent(is, want int64) float64 { return 100 * float64(is-want) / float64(want) }

func requireSameFile(t *testing.T, want, got string) {
	t.Helper()
	w, err := os.ReadFile(want)
	require.NoError(t, err)
	g, err := os.ReadFile(got)
	require.NoError(t, err)
	require.True(t, string(w) == string(g), "the database differs")
}
