package members_test

import (
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.etcd.io/etcd/client/pkg/v3/types"

	"github.com/seed-4d73690b/rafthttp"
	"github.com/seed-4d73690b/rafthttp/internal/testmember"
	"github.com/seed-4d73690b/rafthttp/internal/wire"
	"github.com/seed-4d73690b/rafthttp/memnet"
)

// moments are when things happened, by what they happened to.
type moments[K comparable] struct {
	mu  sync.Mutex
	all map[K][]time.Time
}

func (m *moments[K]) note(k K) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.all == nil {
		m.all = map[K][]time.Time{}
	}
	m.all[k] = append(m.all[k], time.Now())
}

// things returns to how many something happened.
func (m *moments[K]) things() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.all)
}

// requireSpread requires that everything happened at regular intervals, from the
// first one after since on, and at most so many things at once.
func (m *moments[K]) requireSpread(t *testing.T, things int, since time.Time, every time.Duration, atOnce int) {
	t.Helper()
	m.mu.Lock()
	defer m.mu.Unlock()
	require.Len(t, m.all, things)
	byTime := map[time.Time]int{}
	for k, times := range m.all {
		for len(times) > 0 && !times[0].After(since) {
			times = times[1:]
		}
		require.Greater(t, len(times), 2, "%v", k)
		require.LessOrEqual(t, times[0].Sub(since), every, "%v", k)
		for i, at := range times {
			byTime[at]++
			if i > 0 {
				require.InDelta(t, every, at.Sub(times[i-1]), float64(time.Microsecond), "%v", k)
			}
		}
	}
	for at, n := range byTime {
		require.LessOrEqual(t, n, atOnce, "%v", at.Sub(since))
	}
}

const manyPeers = 100

// TestProbesAreSpread: peers that are added together are not probed together.
func TestProbesAreSpread(t *testing.T) {
	testmember.Simulate(t, func(t *testing.T, n *memnet.Network) {
		var probes moments[types.ID]
		b := testmember.StartSimulated(t, n, 1000, nil)
		a := testmember.StartSimulated(t, n, 1001, func(tr *rafthttp.Transport) {
			tr.DialRetryFrequency = 0.001 // b knows none of them
			tr.Observer = &rafthttp.Observer{Probed: func(id types.ID, _, _ time.Duration, err error) {
				if err == nil {
					probes.note(id)
				}
			}}
		})
		start := time.Now()
		for id := range types.ID(manyPeers) {
			a.AddPeer(id+1, []string{b.URL})
		}
		time.Sleep(4*time.Second + time.Millisecond)
		require.Equal(t, manyPeers, probes.things(), "the first of each within an interval")
		time.Sleep(2 * time.Minute)
		probes.requireSpread(t, manyPeers, start, 28*time.Second, 10)
	})
}

// TestHeartbeatsAreSpread: nor are idle streams written to together.
func TestHeartbeatsAreSpread(t *testing.T) {
	testmember.Simulate(t, func(t *testing.T, n *memnet.Network) {
		type stream struct {
			kind string
			id   types.ID
		}
		var beats moments[stream]
		a := testmember.StartSimulated(t, n, 1001, nil)
		for id := range types.ID(manyPeers) {
			a.AddPeer(id+1, []string{testmember.RefusingURL})
			for _, kind := range []string{"message", "msgapp"} {
				c, status := testmember.RequestStream(t, n.Host("client").DialContext, a, kind, id+1)
				require.Equal(t, http.StatusOK, status)
				dec := wire.NewMessageDecoder(wire.NewReader(c.Body), wire.Limits{})
				if kind == "msgapp" {
					dec = wire.NewMsgAppV2Decoder(wire.NewReader(c.Body), uint64(a.ID), uint64(id+1), wire.Limits{})
				}
				go func() {
					for {
						if m, err := dec.Decode(); err != nil || m != nil {
							return
						}
						beats.note(stream{kind, id + 1})
					}
				}()
			}
		}
		start := time.Now()
		time.Sleep(time.Minute)
		beats.requireSpread(t, 2*manyPeers, start, testmember.ReadTimeout/3, 2*30)
	})
}
