package snapshots_test

import (
	"bytes"
	"context"
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.etcd.io/etcd/client/pkg/v3/types"

	"github.com/seed-4d73690b/rafthttp"
	"github.com/seed-4d73690b/rafthttp/internal/testmember"
	"github.com/seed-4d73690b/rafthttp/internal/testtls"
	"github.com/seed-4d73690b/rafthttp/memnet"
	"github.com/seed-4d73690b/rafthttp/snap"
)

// dripping is a connection over a slow line: 5 KiB a second.
type dripping struct{ net.Conn }

func (d dripping) Write(p []byte) (written int, err error) {
	for len(p) > 0 && err == nil {
		var n int
		n, err = d.Conn.Write(p[:min(len(p), 1<<10)])
		p, written = p[n:], written+n
		time.Sleep(200 * time.Millisecond)
	}
	return written, err
}

func dialsDripping(tr *rafthttp.Transport) {
	dial := tr.DialContext
	tr.DialContext = func(ctx context.Context, network, addr string) (net.Conn, error) {
		c, err := dial(ctx, network, addr)
		if err != nil {
			return nil, err
		}
		return dripping{c}, nil
	}
}

// TestSnapshotOverASlowLineThatMoves: there is no limit to how long a transfer takes, as long as bytes move, also where a write does not
// tell how far it has got: over TLS, and over connections of DialContext's own kind. The receiver sees some all the time.
func TestSnapshotOverASlowLineThatMoves(t *testing.T) {
	const size, timeout = 100 << 10, 5 * time.Second
	for _, encrypted := range []bool{false, true} {
		t.Run(map[bool]string{false: "of its own kind", true: "TLS"}[encrypted], func(t *testing.T) {
			testmember.Simulate(t, func(t *testing.T, n *memnet.Network) {
				ended := make(chan error, 1)
				tuneA := func(tr *rafthttp.Transport) {
					dialsDripping(tr)
					tr.Observer, tr.ReadTimeout = sentTo(ended), timeout
				}
				tuneB := testmember.Tuned(testmember.Receives(testmember.SavesAll), func(tr *rafthttp.Transport) { tr.ReadTimeout = timeout })
				var a, b *testmember.Member
				if encrypted {
					ca := testtls.NewAuthority(t)
					s := testtls.NewNetwork(t, n, ca.Dir)
					for id := types.ID(1); id <= 2; id++ {
						s.Issue(ca, id, time.Hour)
						s.Trust(id, ca)
						s.Revoke(id, ca)
					}
					a, b = s.Start(1, tuneA), s.Start(2, tuneB)
				} else {
					a, b = testmember.StartSimulated(t, n, 1, tuneA), testmember.StartSimulated(t, n, 2, tuneB)
				}
				testmember.Connect(t, a, b)
				time.Sleep(time.Second)
				a.SendSnapshot(snap.NewMessage(testmember.MsgSnap(2, 1, 7), &testmember.Database{Reader: bytes.NewReader(make([]byte, size))}, size))
				require.NoError(t, <-ended)
			})
		})
	}
}
