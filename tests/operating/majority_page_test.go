package operating_test

import (
	"net/http/httptest"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.etcd.io/raft/v3/raftpb"

	"github.com/seed-4d73690b/rafthttp/memnet"
	"github.com/seed-4d73690b/rafthttp/statuspage"
)

// TestPageSaysWhyThereIsNoMajority: in each format, if voters are missing that are no peers, and if peers are down; where to read on,
// and since when.
func TestPageSaysWhyThereIsNoMajority(t *testing.T) {
	simulate(t, func(t *testing.T, n *memnet.Network) {
		all := cluster(t, n, 2, nil)
		a := all[0]
		page := func(format string) string {
			w := httptest.NewRecorder()
			statuspage.Handler(a.Transport, nil).ServeHTTP(w, httptest.NewRequest("GET", "/?format="+format, nil))
			return w.Body.String()
		}
		a.SetConfState(&raftpb.ConfState{Voters: []uint64{1, 4, 5}, Learners: []uint64{2}}) // 4 and 5 were not added
		time.Sleep(5 * time.Second)
		require.Equal(t, "1 of 3 voters active, no majority", a.Health().Problems[0].Cause)
		for _, format := range []string{"health", "html", "text", "json"} {
			require.Contains(t, page(format), "1 of 3 voters active", format)
		}
		a.SetConfState(&raftpb.ConfState{Voters: []uint64{1, 2}})
		all[1].Stop()
		require.NoError(t, all[1].server.Close())
		time.Sleep(20 * time.Second)
		require.Regexp(t, `bad: 0 of 1 peers active, no majority: 2 is down: .*\n  ! 1 of 2 voters active, no majority \(since (19|20) s ago\)\n`, page("text"))
		require.Regexp(t, `operating.md#a-peer-is-inactive"[^>]* title="since (19|20) s ago">1 of 2 voters active, no majority`, page("html"))
	})
}
