package statuspage_test

import (
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.etcd.io/etcd/client/pkg/v3/types"
	"go.etcd.io/raft/v3/raftpb"

	"github.com/seed-4d73690b/rafthttp"
	"github.com/seed-4d73690b/rafthttp/internal/bubble"
	"github.com/seed-4d73690b/rafthttp/statuspage"
)

// propose sends n small messages from one member to another.
func propose(from *rafthttp.Transport, to types.ID, n int) {
	for range n {
		from.Send([]*raftpb.Message{{Type: raftpb.MsgProp.Enum(), To: new(uint64(to)), From: new(uint64(from.ID))}})
	}
}

// TestOldSamples: a rate is an average of at most 10 s. After a longer silence there is none, in any format.
func TestOldSamples(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		all := cluster(t, 1, 2)
		h := statuspage.Handler(all[0], nil)
		get(h, "/?format=json")
		propose(all[0], 2, 1000)
		time.Sleep(11 * time.Second)
		require.NotContains(t, get(h, "/?format=json").Body.String(), "_per_second")
		text := get(h, "/").Body.String()
		require.NotRegexp(t, `\d( .?i?B)?/s`, text)
		require.Regexp(t, ` message +up +0/.* – +1.00 k +– `, text)
		_, page, _ := strings.Cut(get(h, "/?format=html").Body.String(), "<main")
		require.NotRegexp(t, `\d( .?i?B)?/s`, page)

		propose(all[0], 2, 100)
		time.Sleep(2 * time.Second)
		require.InDelta(t, 50, *decode(t, get(h, "/?format=json")).Peers[0].Lanes[0].Messages, 0.001, "over the last 2 s only")
	})
}

// TestGaps: a chart has no line across a time without samples, nor across a counter that began anew.
func TestGaps(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		all := cluster(t, 1, 2)
		h := statuspage.Handler(all[0], nil)
		lines := func() (points []int) {
			page := get(h, "/?format=html").Body.String()
			_, row, _ := strings.Cut(page, `<tr class="ok`)
			row, _, _ = strings.Cut(row, "</tr>")
			for _, line := range regexp.MustCompile(`class="a" points="([^"]*)"`).FindAllStringSubmatch(row, -1) {
				points = append(points, len(strings.Fields(line[1])))
			}
			return points
		}
		look := func(n int) {
			for range n {
				time.Sleep(2 * time.Second)
				propose(all[0], 2, 10)
				lines()
			}
		}
		look(5)
		require.Equal(t, []int{5}, lines())
		time.Sleep(20 * time.Second)
		look(4)
		require.Equal(t, []int{4, 4}, lines())
		all[0].RemovePeer(2)
		all[0].AddPeer(2, []string{urlOf(2)})
		look(3)
		require.Equal(t, []int{4, 3, 3}, lines())
	})
}
