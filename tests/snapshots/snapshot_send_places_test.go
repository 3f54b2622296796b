package snapshots_test

import (
	"bytes"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.etcd.io/etcd/client/pkg/v3/types"

	"github.com/seed-4d73690b/rafthttp"
	"github.com/seed-4d73690b/rafthttp/internal/bubble"
	"github.com/seed-4d73690b/rafthttp/internal/testmember"
	"github.com/seed-4d73690b/rafthttp/snap"
)

// TestSnapshotsToOnePeerLeavePlaces: a peer that is slow, or cannot be reached, costs the others nothing, MaxSnapshots included:
// several groups may have snapshots for it.
func TestSnapshotsToOnePeerLeavePlaces(t *testing.T) {
	for name, spoil := range map[string]func(p *testmember.Pair){
		"slow":        func(p *testmember.Pair) { p.Net.Link("a", "b").SetBandwidth(100_000) },
		"unreachable": func(p *testmember.Pair) { p.Net.Link("a", "b").Cut(); p.Net.Link("b", "a").Cut() },
	} {
		t.Run(name, func(t *testing.T) {
			bubble.Test(t, func(t *testing.T) {
				const size = 1 << 20
				ended := make(chan types.ID, 100)
				p := testmember.NewPair(t, func(tr *rafthttp.Transport) {
					tr.Observer = &rafthttp.Observer{
						SnapshotSent: func(id types.ID, _ uint64, _ int64, _ time.Duration, _ error) { ended <- id },
					}
				}, testmember.Receives(testmember.SavesAll))
				c := p.Start(t, "c", 3, testmember.Receives(testmember.SavesAll))
				p.A.AddPeer(3, []string{c.URL})
				time.Sleep(time.Second)
				spoil(p)
				for i := range uint64(8) {
					p.A.SendSnapshot(snap.NewMessage(testmember.MsgSnap(2, 1, 100+i), &testmember.Database{Reader: bytes.NewReader(make([]byte, size))}, size))
				}
				time.Sleep(time.Millisecond)
				start := time.Now()
				p.A.SendSnapshot(snap.NewMessage(testmember.MsgSnap(3, 1, 7), &testmember.Database{Reader: bytes.NewReader(make([]byte, size))}, size))
				for <-ended != 3 {
				}
				took := time.Since(start)
				p.A.Stop()
				p.Net.Heal()
				require.LessOrEqual(t, took, time.Second)
			})
		})
	}
}

// TestSnapshotsOverTheSharesWait: a sender has as many under way to a peer as that peer takes from it, where both have the same
// peers. The others wait, and none is refused.
func TestSnapshotsOverTheSharesWait(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		const size, transfers, share = 1 << 20, 6, 2 // of 4, since there are 4 peers
		p := testmember.NewPair(t, nil, testmember.Receives(testmember.SavesAll))
		p.Net.Link("a", "b").SetBandwidth(1 << 20)
		for id := types.ID(3); id <= 5; id++ {
			p.A.AddPeer(id, []string{"http://c:1"})
			p.B.AddPeer(id, []string{"http://c:1"})
		}
		time.Sleep(time.Second)
		for i := range uint64(transfers) {
			p.A.SendSnapshot(snap.NewMessage(testmember.MsgSnap(2, 1, 7+i), &testmember.Database{Reader: bytes.NewReader(make([]byte, size))}, size))
		}
		time.Sleep(500 * time.Millisecond)
		require.Len(t, p.B.Status().Receiving, share)
		for range transfers {
			require.NoError(t, <-p.Sent)
		}
	})
}
