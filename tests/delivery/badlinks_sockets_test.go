package delivery_test

import (
	"context"
	"flag"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.etcd.io/etcd/client/pkg/v3/types"
	"go.etcd.io/raft/v3/raftpb"

	"github.com/seed-4d73690b/rafthttp"
	"github.com/seed-4d73690b/rafthttp/internal/testmember"
	"github.com/seed-4d73690b/rafthttp/memnet/faultproxy"
)

// socketReadTimeout is the read timeout of the tests of bad links over real
// sockets, which log what they measure: docs/reliability.md has the figures for 5s.
var socketReadTimeout = flag.Duration("socketreadtimeout", time.Second, "ReadTimeout and WriteTimeout of members with bad links over real sockets")

// patience is for what must happen, on a machine that is busy.
func patience() time.Duration { return 20*time.Second + 4*(*socketReadTimeout) }

func socketTimeouts(tr *rafthttp.Transport) {
	tr.ReadTimeout, tr.WriteTimeout = *socketReadTimeout, *socketReadTimeout
}

// await waits until a member does, or does not, find all well, or has other
// connections than before, and returns how long that took.
func await(t *testing.T, start time.Time, cond func() bool) time.Duration {
	t.Helper()
	require.Eventually(t, cond, patience(), time.Millisecond)
	return time.Since(start)
}

// disturbed says whether m has found something wrong since it had so many connections.
func disturbed(m, other *testmember.Member, before uint64) bool {
	is, connects := streams(m, other)
	return !is || connects > before
}

// TestBadLinksThroughProxies has each of two members reach the other through a
// proxy that goes bad. What is measured is logged, not required.
func TestBadLinksThroughProxies(t *testing.T) {
	// Both ways of both proxies, or those from 1 to 2 alone: forward where 1 dials, backward where 2 does.
	type ways []*faultproxy.Direction
	each := func(do func(*faultproxy.Direction)) func(*faultproxy.Proxy, ways) {
		return func(_ *faultproxy.Proxy, all ways) {
			for _, d := range all {
				do(d)
			}
		}
	}
	nothing := func(*faultproxy.Proxy, ways) {}
	for name, bad := range map[string]struct {
		oneWay     bool
		begin, end func(*faultproxy.Proxy, ways)
	}{
		"paused":             {false, each((*faultproxy.Direction).Pause), each((*faultproxy.Direction).Resume)},
		"paused one way":     {true, each((*faultproxy.Direction).Pause), each((*faultproxy.Direction).Resume)},
		"thrown away":        {false, each((*faultproxy.Direction).Cut), each((*faultproxy.Direction).Mend)},
		"half-open, one way": {true, each((*faultproxy.Direction).HalfOpen), nothing},
		"a byte a second": {
			false,
			each(func(d *faultproxy.Direction) { d.SetBandwidth(1) }), each(func(d *faultproxy.Direction) { d.SetBandwidth(0) }),
		},
		"reset":             {false, func(p *faultproxy.Proxy, _ ways) { p.Reset() }, nothing},
		"cut in the middle": {false, each(func(d *faultproxy.Direction) { d.CutAfter(2000) }), each(func(d *faultproxy.Direction) { d.CutAfter(0) })},
	} {
		t.Run(name, func(t *testing.T) {
			a, b, to1, to2 := throughProxies(t)
			all := ways{to2.ToTarget(), to1.ToClient()}
			if !bad.oneWay {
				all = append(all, to2.ToClient(), to1.ToTarget())
			}
			_, beforeA := streams(a, b)
			_, beforeB := streams(b, a)
			start := time.Now()
			bad.begin(to1, all)
			bad.begin(to2, nil)
			noticedA := await(t, start, func() bool { return disturbed(a, b, beforeA) })
			noticedB := await(t, start, func() bool { return disturbed(b, a, beforeB) })
			start = time.Now()
			bad.end(to1, all)
			whole := await(t, start, func() bool { return up(a, b) && up(b, a) })
			t.Logf("%s: noticed after %v by 1 and %v by 2, whole again %v after its end",
				name, noticedA.Round(time.Millisecond), noticedB.Round(time.Millisecond), whole.Round(time.Millisecond))
		})
	}
}

// throughProxies returns members 1 and 2, which send to each other all the time,
// and the proxies that lead to them.
func throughProxies(t *testing.T) (a, b *testmember.Member, to1, to2 *faultproxy.Proxy) {
	t.Helper()
	a, b = testmember.Start(t, 1, socketTimeouts), testmember.Start(t, 2, socketTimeouts)
	a.Recorder.OnProcess, b.Recorder.OnProcess = discard, discard
	proxy := func(m *testmember.Member) *faultproxy.Proxy {
		p, err := faultproxy.Listen("127.0.0.1:0", types.MustNewURLs([]string{m.URL})[0].Host)
		require.NoError(t, err)
		t.Cleanup(func() { require.NoError(t, p.Close()) })
		return p
	}
	to1, to2 = proxy(a), proxy(b)
	a.AddPeer(2, []string{"http://" + to2.Addr()})
	b.AddPeer(1, []string{"http://" + to1.Addr()})
	await(t, time.Now(), func() bool { return up(a, b) && up(b, a) })
	stop, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		send(stop, a, b)
	}()
	t.Cleanup(func() {
		close(stop)
		<-ended
	})
	return a, b, to1, to2
}

// send has two members send to each other until stop closes.
func send(stop <-chan struct{}, a, b *testmember.Member) {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for i := uint64(1); ; i++ {
		select {
		case <-tick.C:
		case <-stop:
			return
		}
		a.Send(trafficTo(b.ID, a.ID, i))
		b.Send(trafficTo(a.ID, b.ID, i))
	}
}

// trafficTo is what a member sends to another, again and again.
func trafficTo(to, from types.ID, i uint64) []*raftpb.Message {
	return []*raftpb.Message{testmember.MsgApp(to, from, i, make([]byte, 1000)), testmember.Heartbeat(to, from, i)}
}

func discard(context.Context, *raftpb.Message) error { return nil }
