package statuspage_test

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.etcd.io/raft/v3/raftpb"

	"github.com/seed-4d73690b/rafthttp"
	"github.com/seed-4d73690b/rafthttp/internal/bubble"
	"github.com/seed-4d73690b/rafthttp/memnet"
	"github.com/seed-4d73690b/rafthttp/statuspage"
)

// disk is the Raft of a follower that answers each append after a while.
type disk struct {
	raftFunc
	t     *rafthttp.Transport
	fsync atomic.Int64
}

func (d *disk) Process(_ context.Context, m *raftpb.Message) error {
	if m.GetType() != raftpb.MsgApp {
		return nil
	}
	last := m.GetIndex() + uint64(len(m.GetEntries()))
	time.AfterFunc(time.Duration(d.fsync.Load()), func() {
		d.t.Send([]*raftpb.Message{{Type: raftpb.MsgAppResp.Enum(), To: m.From, From: m.To, Term: m.Term, Index: &last}})
	})
	return nil
}

// TestSlowFollower: the page, the JSON and the text name the part that is slow, and show how the time is divided.
func TestSlowFollower(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		n := memnet.New()
		d := &disk{}
		a, _ := pair(t, n, nil, func(tr *rafthttp.Transport) { d.t, tr.Raft = tr, d })
		h := statuspage.Handler(a, nil)
		index := uint64(0)
		talk := func() {
			for range 30 {
				a.Send([]*raftpb.Message{{
					Type: raftpb.MsgApp.Enum(), To: new(uint64(2)), From: new(uint64(1)), Term: new(uint64(1)), Index: new(index), LogTerm: new(uint64(1)),
					Entries: []*raftpb.Entry{{Term: new(uint64(1)), Index: new(index + 1), Data: []byte("x")}},
				}})
				index++
				time.Sleep(100 * time.Millisecond)
			}
		}
		require.NotContains(t, get(h, "/?format=html").Body.String(), "Appends to it", "there were none")
		d.fsync.Store(int64(5 * time.Millisecond))
		talk()
		requireHealthy(t, h)
		page := get(h, "/?format=html").Body.String()
		require.Regexp(t, `Appends to it</span> <b>5(\.\d+)? ms`, page)
		require.Regexp(t, `>5(\.\d+)? ms \(p50\), \S+ ms \(p99\) in the last 30–90 s<`, page, "as LatencyStatus says")
		require.Regexp(t, `title="in the last 30–90 s, answered after 5[^"]+; queue [^"]+"`, page)
		require.Regexp(t, `<rect class="of-follower" x="\d+\.\d" width="(9\d|100)\.\d"`, page)

		d.fsync.Store(int64(210 * time.Millisecond))
		talk()
		requireProblem(t, h, "answers appends after 210 ms, 210 ms of it at the follower: its disk, or its Ready loop")
		page, text := get(h, "/?format=html").Body.String(), get(h, "/").Body.String()
		require.Contains(t, page, `class="parts slow"`)
		require.Contains(t, page, `class="of-follower slow"`)
		require.Contains(t, page, "operating.md#a-follower-is-slow")
		require.Regexp(t, `appends to it: 21\d ms = queue [^+]+ \+ wire [^+]+ \+ follower 2\d\d ms; in the last 30–90 s, answered after `, text)
	})
}
