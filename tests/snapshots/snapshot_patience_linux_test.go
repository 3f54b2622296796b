package snapshots_test

import (
	"context"
	"net"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed-4d73690b/rafthttp"
	"github.com/seed-4d73690b/rafthttp/internal/testmember"
	"github.com/seed-4d73690b/rafthttp/snap"
)

// TestSnapshotKernelIsAsPatient: the kernel does not give the connection up before a sender
// does that is told that the receiver is at work, and when the sender has closed it, it is as
// quick as with others.
func TestSnapshotKernelIsAsPatient(t *testing.T) {
	const size = 4 << 20
	for _, stock := range []bool{false, true} {
		var mu sync.Mutex
		var conns []*net.TCPConn
		var during time.Duration
		fd := -1         // of its socket
		look := func() { // for the connection that would be given up last
			mu.Lock()
			defer mu.Unlock()
			for _, c := range conns {
				raw, err := c.SyscallConn()
				if err != nil {
					continue
				}
				_ = raw.Control(func(open uintptr) {
					ms, _ := syscall.GetsockoptInt(int(open), syscall.IPPROTO_TCP, 18) // TCP_USER_TIMEOUT
					if d := time.Duration(ms) * time.Millisecond; d > during {
						_ = syscall.Close(fd)
						during = d
						fd, _ = syscall.Dup(int(open))
					}
				})
			}
		}
		var s rafthttp.Snapshotter = &hanging{testmember.OpenStore(t, t.TempDir()), size / 2, look}
		if stock {
			s = testmember.PlainStore{Snapshotter: s}
		}
		b := testmember.Start(t, 2, testmember.Receives(s))
		ended := make(chan error, 1)
		a := testmember.Start(t, 1, func(tr *rafthttp.Transport) {
			tr.Observer = sentTo(ended)
			tr.DialContext = func(ctx context.Context, network, addr string) (net.Conn, error) {
				c, err := new(net.Dialer).DialContext(ctx, network, addr)
				if err == nil {
					mu.Lock()
					defer mu.Unlock()
					conns = append(conns, c.(*net.TCPConn))
				}
				return c, err
			}
		})
		a.AddPeer(2, []string{b.URL})
		a.SendSnapshot(snap.NewMessage(testmember.MsgSnap(2, 1, 7), fileWith(t, nil, testmember.RandomBytes(size)), size))
		require.NoError(t, <-ended)
		a.Stop()
		require.Equal(t, time.Hour, during)
		ms, err := syscall.GetsockoptInt(fd, syscall.IPPROTO_TCP, 18)
		require.NoError(t, err)
		require.NoError(t, syscall.Close(fd))
		require.Equal(t, rafthttp.DefaultConnReadTimeout, time.Duration(ms)*time.Millisecond)
	}
}
