package snapshots_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.etcd.io/etcd/client/pkg/v3/transport"
	"go.etcd.io/etcd/client/pkg/v3/types"
	"go.etcd.io/raft/v3"

	"github.com/seed-4d73690b/rafthttp"
	"github.com/seed-4d73690b/rafthttp/internal/bubble"
	"github.com/seed-4d73690b/rafthttp/internal/testmember"
	"github.com/seed-4d73690b/rafthttp/internal/testtls"
	"github.com/seed-4d73690b/rafthttp/memnet"
	"github.com/seed-4d73690b/rafthttp/snap"
)

// The axes of the table: what the receiver is when an attempt begins, whether that is the
// first one or one after a cut, how the database is read, and what carries it.
var (
	tableReceivers = []string{
		"same", "restarted", "now plain", "now another member", "now another member, plain", "disk full",
		"without keep-alive", "behind a proxy that takes one request", "plain from the beginning",
	}
	tableSources  = []string{"file", "reader", "reader that cannot go back"}
	tableNetworks = []string{"http", "https", "unix"} // beside memnet
)

const tableSize = 512<<10 + 12345

// cell is one of the table.
type cell struct {
	receiver, source, network string
	later                     bool // an attempt after a cut
}

func (c cell) name() string {
	attempt := "attempt 1"
	if c.later {
		attempt = "attempt n"
	}
	return fmt.Sprintf("%s/%s/%s/%s", c.network, c.source, c.receiver, attempt)
}

// succeeds says how it ends.
func (c cell) succeeds() bool {
	switch c.receiver {
	case "now another member", "now another member, plain", "disk full":
		return false
	case "plain from the beginning":
		return !c.later
	}
	return !c.later || c.source != "reader that cannot go back"
}

// cells generates the table for some networks.
func cells(networks ...string) (all []cell) {
	for _, network := range networks {
		for _, source := range tableSources {
			if network != "memnet" && network != "http" && source != "file" {
				continue // it goes the same way over all sockets
			}
			for _, receiver := range tableReceivers {
				if network == "https" && receiver == "behind a proxy that takes one request" {
					continue // it cannot see where one ends
				}
				all = append(all, cell{receiver, source, network, false}, cell{receiver, source, network, true})
			}
		}
	}
	return all
}

func TestSnapshotTableInMemory(t *testing.T) { testSnapshotTable(t) }

func TestSnapshotTableOverSocketsInMemory(t *testing.T) {
	testSnapshotTable(t, memnet.WithSockets(0, 0))
}

func testSnapshotTable(t *testing.T, network ...memnet.Option) {
	for _, c := range cells("memnet") {
		t.Run(c.name(), func(t *testing.T) {
			dir := t.TempDir()
			file := fileWith(t, []byte("not of it"), testmember.RandomBytes(tableSize))
			bubble.Test(t, func(t *testing.T) {
				n := testmember.NewNetwork(network...)
				tb := &table{T: t, cell: c, dir: dir, file: file}
				tb.dialer = func(host string) testmember.DialFunc { return n.Host(host).DialContext }
				tb.listen = func(host string, _ transport.TLSInfo) (net.Listener, string, func() (net.Conn, error)) {
					ln, err := n.Host(host).Listen("80")
					require.NoError(t, err)
					return ln, "http://" + host + ":80", func() (net.Conn, error) {
						return n.Host("road").DialContext(context.Background(), "tcp", host+":80")
					}
				}
				tb.run(func(d time.Duration) { time.Sleep(d) })
			})
		})
	}
}

// TestSnapshotTable is the same over sockets: the file goes by sendfile, and is spliced,
// where it can.
func TestSnapshotTable(t *testing.T) {
	ca := testtls.NewAuthority(t)
	tls := [4]transport.TLSInfo{{}, ca.Member(t, 1), ca.Member(t, 2), ca.Member(t, 3)}
	for _, c := range cells(tableNetworks...) {
		t.Run(c.name(), func(t *testing.T) {
			t.Parallel()
			sockets, err := os.MkdirTemp("", "rafthttp") // a path that is short enough for a socket
			require.NoError(t, err)
			t.Cleanup(func() { os.RemoveAll(sockets) })
			tb := &table{T: t, cell: c, dir: t.TempDir(), file: fileWith(t, []byte("not of it"), testmember.RandomBytes(tableSize))}
			tb.dialer = func(string) testmember.DialFunc { return nil }
			if c.network == "https" {
				tb.tls = tls
			}
			tb.listen = func(host string, info transport.TLSInfo) (net.Listener, string, func() (net.Conn, error)) {
				u := url.URL{Scheme: c.network, Host: "127.0.0.1:0"}
				if c.network == "unix" {
					u = url.URL{Scheme: "unix", Path: filepath.Join(sockets, host)}
				}
				ln, err := rafthttp.NewListener(u, &info)
				require.NoError(t, err)
				addr := ln.Addr()
				if u.Path == "" {
					u.Host = addr.String()
				}
				return ln, u.String(), func() (net.Conn, error) { return net.Dial(addr.Network(), addr.String()) }
			}
			tb.run(func(time.Duration) {})
		})
	}
}

// table is one cell while it is tested.
type table struct {
	*testing.T
	cell
	dir    string
	file   *os.File
	dialer func(host string) testmember.DialFunc
	tls    [4]transport.TLSInfo // by member
	listen func(host string, info transport.TLSInfo) (ln net.Listener, url string, dial func() (net.Conn, error))

	road *road

	mu        sync.Mutex
	receivers []*audited // some are made while a transfer runs
}

func (tb *table) all() []*audited {
	tb.mu.Lock()
	defer tb.mu.Unlock()
	return slices.Clone(tb.receivers)
}

// audited is a receiver, and its Snapshotter: it looks at what comes.
type audited struct {
	*snap.Store
	t    *testing.T
	m    *testmember.Member
	dial func() (net.Conn, error)
	full atomic.Bool
}

func (a *audited) SaveDBFrom(r io.Reader, id uint64) (int64, error) {
	return a.audit(r, 0, func() (int64, error) { return a.Store.SaveDBFrom(r, id) })
}

func (a *audited) ResumeDBFrom(r io.Reader, t snap.Transfer, offset int64, sum func() (uint32, error)) (int64, error) {
	return a.audit(r, offset, func() (int64, error) { return a.Store.ResumeDBFrom(r, t, offset, sum) })
}

// audit compares what is declared with what comes.
func (a *audited) audit(r io.Reader, offset int64, save func() (int64, error)) (int64, error) {
	declared := r.(interface{ Len() int64 }).Len()
	if offset+declared != tableSize {
		a.t.Errorf("%d bytes are declared from byte %d on, of %d", declared, offset, tableSize)
	}
	if a.full.Load() {
		return 0, &os.PathError{Op: "write", Path: "db", Err: syscall.ENOSPC}
	}
	n, err := save()
	if (err == nil) != (n == declared) {
		a.t.Errorf("%d bytes came, %d were declared: %v", n, declared, err)
	}
	return n, err
}

// receiver runs another one, in a directory of its own unless it takes the place of an
// older one.
func (tb *table) receiver(id types.ID, place *audited, isPlain, keepAlive bool) *audited {
	n := len(tb.all())
	host := fmt.Sprint("b", n)
	a := &audited{t: tb.T}
	dir := filepath.Join(tb.dir, host)
	if place != nil {
		dir = filepath.Join(tb.dir, "b0")
	}
	var err error
	a.Store, err = snap.Open(dir)
	require.NoError(tb, err)
	tb.Cleanup(func() { a.Close() })
	ln, url, dial := tb.listen(host, tb.tls[id])
	a.dial = dial
	a.m = testmember.StartAt(tb.T, ln, url, id, func(tr *rafthttp.Transport) {
		if tr.Snapshotter = a; isPlain {
			tr.Snapshotter = testmember.PlainStore{Snapshotter: a}
		}
		tr.TLSInfo, tr.DialContext = tb.tls[id], tb.dialer(host)
	})
	a.m.Server.SetKeepAlivesEnabled(keepAlive)
	tb.mu.Lock()
	defer tb.mu.Unlock()
	tb.receivers = append(tb.receivers, a)
	return a
}

// change makes of the receiver what the cell says.
func (tb *table) change() {
	old := tb.all()[0]
	oneRequest := false
	switch tb.cell.receiver {
	case "restarted":
		old.m.Stop()
		_ = old.m.Server.Close()
		require.NoError(tb, old.Close())
		tb.receiver(2, old, false, true)
	case "now plain":
		tb.receiver(2, nil, true, true)
	case "now another member":
		tb.receiver(3, nil, false, true)
	case "now another member, plain":
		tb.receiver(3, nil, true, true)
	case "disk full":
		old.full.Store(true)
	case "without keep-alive":
		tb.receiver(2, nil, false, false)
	case "behind a proxy that takes one request":
		oneRequest = true
	}
	all := tb.all()
	tb.road.lead(all[len(all)-1].dial, oneRequest)
}

func (tb *table) source() io.ReadCloser {
	data := make([]byte, tableSize)
	_, err := tb.file.ReadAt(data, int64(len("not of it")))
	require.NoError(tb, err)
	switch tb.cell.source {
	case "file":
		return tb.file
	case "reader":
		return &testmember.Seekable{Reader: bytes.NewReader(data)}
	}
	return &testmember.Database{Reader: bytes.NewReader(data)}
}

func (tb *table) run(pass func(time.Duration)) {
	want := testmember.ReadString(tb.T, io.NewSectionReader(tb.file, int64(len("not of it")), tableSize))
	first := tb.receiver(2, nil, tb.cell.receiver == "plain from the beginning", true)
	var roadURL string
	tb.road, roadURL = tb.newRoad()
	tb.road.lead(first.dial, false)
	aln, aURL, _ := tb.listen("a", tb.tls[1])
	a := testmember.StartAt(tb.T, aln, aURL, 1, func(tr *rafthttp.Transport) { tr.DialContext, tr.TLSInfo = tb.dialer("a"), tb.tls[1] })
	a.AddPeer(2, []string{roadURL})
	first.m.AddPeer(1, []string{a.URL})
	pass(time.Second)
	testmember.WaitStreams(tb.T, a, 2) // by which the receiver has said what it can

	var once sync.Once
	if tb.later {
		tb.road.mu.Lock()
		tb.road.cutAt, tb.road.onCut = tableSize/2, func() { once.Do(tb.change) }
		tb.road.mu.Unlock()
	} else {
		tb.change()
	}
	m := snap.NewMessage(testmember.MsgSnap(2, 1, 7), tb.source(), tableSize)
	a.SendSnapshot(m)
	ok := <-m.CloseNotify()
	pass(10 * time.Second)
	require.Equal(tb, tb.succeeds(), ok, a.Status().Peers[0].LastSnapshot.Error)
	if tb.later && tb.succeeds() {
		require.GreaterOrEqual(tb, a.Status().Peers[0].LastSnapshot.Attempts, 2)
	}
	tb.check(a, want, ok)
}

func (tb *table) newRoad() (*road, string) {
	if tb.network == "https" { // which passes as it is
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		require.NoError(tb, err)
		return newRoad(tb.T, ln), "https://" + ln.Addr().String()
	}
	ln, url, _ := tb.listen("road", transport.TLSInfo{})
	return newRoad(tb.T, ln), url
}

// check compares what was reported with what is on disk, and was processed.
func (tb *table) check(a *testmember.Member, want string, ok bool) {
	reports := map[bool]raft.SnapshotStatus{true: raft.SnapshotFinish, false: raft.SnapshotFailure}
	a.Stop()
	require.Equal(tb, []raft.SnapshotStatus{reports[ok]}, a.Recorder.SnapshotReports())
	all := tb.all()
	for i, r := range all {
		last := i == len(all)-1
		testmember.Eventually(tb.T, func() bool { return len(r.m.Status().Receiving) == 0 })
		got := ""
		path, err := r.DBFilePath(7)
		if err == nil {
			b, err := os.ReadFile(path)
			require.NoError(tb, err)
			got = string(b)
		} else {
			require.ErrorIs(tb, err, snap.ErrNoDBSnapshot)
		}
		if ok && last {
			require.True(tb, want == got, "the database differs: %d bytes", len(got))
			require.NotEmpty(tb, r.m.Recorder.Received())
		} else if !(i == 0 && tb.cell.receiver == "restarted") { // which has the same directory
			require.Empty(tb, got, "a database that nobody was told of")
		}
		if !ok || !last {
			require.Empty(tb, r.m.Recorder.Received())
		}
	}
}
