package rafthttp_test

import (
	"bytes"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.etcd.io/etcd/client/pkg/v3/types"

	"github.com/seed-4d73690b/rafthttp"
	"github.com/seed-4d73690b/rafthttp/internal/bubble"
	"github.com/seed-4d73690b/rafthttp/snap"
)

// TestSnapshotsToOnePeerLeavePlaces: a peer that is slow, or cannot be reached, costs the others nothing, MaxSnapshots included:
// several groups may have snapshots for it.
func TestSnapshotsToOnePeerLeavePlaces(t *testing.T) {
	for name, spoil := range map[string]func(p *pair){
		"slow":        func(p *pair) { p.net.Link("a", "b").SetBandwidth(100_000) },
		"unreachable": func(p *pair) { p.net.Link("a", "b").Cut(); p.net.Link("b", "a").Cut() },
	} {
		t.Run(name, func(t *testing.T) {
			bubble.Test(t, func(t *testing.T) {
				const size = 1 << 20
				ended := make(chan types.ID, 100)
				p := newPair(t, func(tr *rafthttp.Transport) {
					tr.Observer = &rafthttp.Observer{
						SnapshotSent: func(id types.ID, _ uint64, _ int64, _ time.Duration, _ error) { ended <- id },
					}
				}, receives(savesAll))
				c := p.start(t, "c", 3, receives(savesAll))
				p.a.AddPeer(3, []string{c.url})
				time.Sleep(time.Second)
				spoil(p)
				for i := range uint64(8) {
					p.a.SendSnapshot(snap.NewMessage(msgSnap(2, 1, 100+i), &database{Reader: bytes.NewReader(make([]byte, size))}, size))
				}
				time.Sleep(time.Millisecond)
				start := time.Now()
				p.a.SendSnapshot(snap.NewMessage(msgSnap(3, 1, 7), &database{Reader: bytes.NewReader(make([]byte, size))}, size))
				for <-ended != 3 {
				}
				took := time.Since(start)
				p.a.Stop()
				p.net.Heal()
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
		p := newPair(t, nil, receives(savesAll))
		p.net.Link("a", "b").SetBandwidth(1 << 20)
		for id := types.ID(3); id <= 5; id++ {
			p.a.AddPeer(id, []string{"http://c:1"})
			p.b.AddPeer(id, []string{"http://c:1"})
		}
		time.Sleep(time.Second)
		for i := range uint64(transfers) {
			p.a.SendSnapshot(snap.NewMessage(msgSnap(2, 1, 7+i), &database{Reader: bytes.NewReader(make([]byte, size))}, size))
		}
		time.Sleep(500 * time.Millisecond)
		require.Len(t, p.b.Status().Receiving, share)
		for range transfers {
			require.NoError(t, <-p.sent)
		}
	})
}
