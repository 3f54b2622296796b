package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed-4d73690b/rafthttp/chaos/internal/network"
)

// inert is a network of nothing, which remembers what its links are like.
type inert struct {
	proxied
	links map[[2]int]*network.Link
	now   map[[2]int]network.Conditions
}

func (i *inert) link(from, to int) *network.Link { return i.links[[2]int{from, to}] }

// cut returns the ways that are cut, as "from-to", from 1.
func (i *inert) cut() (ways []string) {
	for way, c := range i.now {
		if c.Cut {
			ways = append(ways, fmt.Sprintf("%d-%d", way[0]+1, way[1]+1))
		}
	}
	slices.Sort(ways)
	return ways
}

// inertCluster is a cluster without processes; its members count as running all the same.
func inertCluster(t *testing.T) (*cluster, *inert) {
	t.Helper()
	net := &inert{links: make(map[[2]int]*network.Link), now: make(map[[2]int]network.Conditions)}
	for from := range size {
		for to := range size {
			way := [2]int{from, to}
			net.links[way] = network.NewLink(func(c network.Conditions) { net.now[way] = c })
		}
	}
	events, err := os.Create(filepath.Join(t.TempDir(), "events"))
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, events.Close()) })
	c := &cluster{network: net, events: events, broken: make(chan struct{})}
	for slot := range size {
		c.members = append(c.members, &member{c: c, slot: slot, cmd: &exec.Cmd{}})
	}
	return c, net
}

func TestNemesisEndsWhatItBegins(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, _ := inertCluster(t)
		active, most := 0, 0
		begun, ended := map[string]int{}, map[string]int{}
		var kinds []fault
		for _, name := range []string{"a", "b", "c", "d", "e"} {
			kinds = append(kinds, fault{name, func(*nemesis) (string, func(), bool) {
				begun[name]++
				active++
				most = max(most, active)
				return name, func() { active--; ended[name]++ }, true
			}})
		}
		kinds = append(kinds,
			fault{"never", func(*nemesis) (string, func(), bool) { return "", nil, false }},
			fault{"at once", func(*nemesis) (string, func(), bool) { return "done", nil, true }})
		n := newNemesis(c, 1, kinds)
		for range 20 {
			n.era(t.Context(), time.Minute, n.draw())
			require.Zero(t, active)
			require.Equal(t, begun, ended)
		}
		require.Greater(t, most, 2, "faults are composed")
		require.NotContains(t, n.counts, "never")
		require.Positive(t, n.counts["at once"])
		for _, name := range []string{"a", "b", "c", "d", "e"} {
			require.Positive(t, begun[name])
			require.Equal(t, begun[name], n.counts[name])
		}
	})
}

// era is one era of a nemesis alone.
func (n *nemesis) era(ctx context.Context, d time.Duration, kinds []fault) {
	ctx, cancel := context.WithTimeout(ctx, d)
	defer cancel()
	n.rage(ctx, kinds)
	n.mend()
}

func TestNemesisIsItsSeed(t *testing.T) {
	run := func(seed uint64) (done []string) {
		synctest.Test(t, func(t *testing.T) {
			c, net := inertCluster(t)
			n := newNemesis(c, seed, []fault{{"partition", partition}, {"deaf or mute", deafOrMute}, {"one-way cut", cutOneWay}})
			for i := range n.faults {
				begin := n.faults[i].begin
				n.faults[i].begin = func(n *nemesis) (string, func(), bool) {
					what, end, ok := begin(n)
					done = append(done, fmt.Sprint(time.Now().UnixNano(), what, net.cut()))
					return what, end, ok
				}
			}
			n.era(t.Context(), time.Minute, n.draw())
			require.Empty(t, net.cut())
		})
		return done
	}
	require.Equal(t, run(1), run(1))
	require.NotEqual(t, run(1), run(2))
}

func TestNetworkFaults(t *testing.T) {
	c, net := inertCluster(t)
	n := newNemesis(c, 1, nil)
	n.rand = rand.New(rand.NewPCG(1, 1))

	_, end, _ := n.split(c.members[:2], c.members[2:])
	require.Equal(t, []string{"1-3", "1-4", "1-5", "2-3", "2-4", "2-5", "3-1", "3-2", "4-1", "4-2", "5-1", "5-2"}, net.cut())
	_, other, _ := cutOneWay(n)
	end()
	require.Len(t, net.cut(), 1)
	other()
	require.Empty(t, net.cut())

	what, end, _ := deafOrMute(n)
	require.Len(t, net.cut(), size-1, what)
	end()
	require.Empty(t, net.cut())
}

func TestOneFaultHasAMember(t *testing.T) {
	c, _ := inertCluster(t)
	n := newNemesis(c, 1, nil)
	taken := n.take(3, "pause")
	require.Len(t, taken, 3)
	others := n.take(size, "kill")
	require.Len(t, others, size-3)
	for _, m := range others {
		require.NotContains(t, taken, m)
	}
	require.Empty(t, n.take(1, "full disk"))
	releaseAll(taken)
	require.ElementsMatch(t, taken, n.take(size, "kill"))
	c.members[0].release()
	c.members[0].cmd = nil
	require.Empty(t, n.take(size, "pause"), "who does not run cannot be paused")
}
