package statuspage_test

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.etcd.io/etcd/client/pkg/v3/types"
	"go.etcd.io/raft/v3/raftpb"

	"github.com/seed-4d73690b/rafthttp"
	"github.com/seed-4d73690b/rafthttp/internal/bubble"
	"github.com/seed-4d73690b/rafthttp/memnet"
	"github.com/seed-4d73690b/rafthttp/snap"
	"github.com/seed-4d73690b/rafthttp/statuspage"
)

// TestHealth: what is wrong is said, in all formats and in the picture.
func TestHealth(t *testing.T) {
	for _, tt := range []struct {
		name           string
		harm           func(*memnet.Network, []*rafthttp.Transport)
		health         string
		peer2          string
		problem        string
		summary        string
		links2, links3 []string
	}{
		{"all healthy", func(*memnet.Network, []*rafthttp.Transport) {}, "ok", "ok", "", "All 2 peers are healthy.", []string{"ok", "ok"}, []string{"ok", "ok"}},
		{
			"one gone", func(_ *memnet.Network, all []*rafthttp.Transport) { all[1].Stop() }, "warning", "bad",
			"down: unexpected http status 503", "1 of 2 peers active: 2 is down: unexpected http status 503: rafthttp: transport stopped", []string{"bad", "bad"}, []string{"ok", "ok"},
		},
		{
			"no majority", func(_ *memnet.Network, all []*rafthttp.Transport) {
				all[1].Stop()
				all[2].Stop()
			}, "bad", "bad", "down: unexpected http status 503",
			"0 of 2 peers active, no majority: 2 is down: unexpected http status 503: rafthttp: transport stopped; " +
				"3 is down: unexpected http status 503: rafthttp: transport stopped", []string{"bad", "bad"}, []string{"bad", "bad"},
		},
		{
			"it does not dial", func(_ *memnet.Network, all []*rafthttp.Transport) { all[1].RemovePeer(1) }, "bad", "bad",
			"down: ", "", []string{"bad", "bad"}, []string{"ok", "ok"},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			bubble.Test(t, func(t *testing.T) {
				n := memnet.New()
				var all []*rafthttp.Transport
				for id := range types.ID(3) {
					all = append(all, startMember(t, n, id+1, nil))
				}
				for _, m := range all {
					for _, other := range all {
						if m != other {
							m.AddPeer(other.ID, []string{urlOf(other.ID)})
						}
					}
				}
				time.Sleep(5 * time.Second)
				tt.harm(n, all)
				time.Sleep(20 * time.Second)
				h := statuspage.Handler(all[0], nil)
				d := decode(t, get(h, "/?format=json"))
				page, text := get(h, "/?format=html").Body.String(), get(h, "/").Body.String()
				require.Equal(t, tt.peer2, d.Peers[0].Health)
				if tt.summary != "" {
					require.Equal(t, tt.health, d.Health)
					require.Contains(t, page, `<p id="summary" class="summary `+tt.health+`" role="status">`+tt.summary+"</p>")
					require.Contains(t, text, tt.health+": "+tt.summary)
				}
				if tt.problem != "" {
					require.Contains(t, d.Peers[0].Problems[0], tt.problem)
					require.Regexp(t, `<li class="\w+"><a [^>]*>`+tt.problem, page)
					require.Contains(t, text, "! "+tt.problem)
				}
				var links []string
				for _, m := range regexp.MustCompile(`<g class="link (\w+)">`).FindAllStringSubmatch(page, -1) {
					links = append(links, m[1])
				}
				require.Equal(t, append(tt.links2, tt.links3...), links)
			})
		})
	}
}

// TestStuckLane: a lane that does not move is shown with its age and its fill.
func TestStuckLane(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		n := memnet.New()
		a := startMember(t, n, 1, func(tr *rafthttp.Transport) {
			tr.ReceiveQueueMessages = 4
			tr.Raft = raftFunc(func(ctx context.Context, _ *raftpb.Message) error {
				<-ctx.Done()
				return ctx.Err()
			})
		})
		b := startMember(t, n, 2, nil)
		a.AddPeer(2, []string{urlOf(2)})
		b.AddPeer(1, []string{urlOf(1)})
		time.Sleep(time.Second)
		h := statuspage.Handler(a, nil)
		heartbeat := &raftpb.Message{Type: raftpb.MsgHeartbeat.Enum(), To: new(uint64(1)), From: new(uint64(2))}
		b.Send([]*raftpb.Message{heartbeat})
		time.Sleep(3 * time.Second)
		require.Equal(t, []string{"queue control (heartbeats, votes, responses from it) has a message that has waited for 3.0 s"}, decode(t, get(h, "/?format=json")).Peers[0].Problems)
		page := get(h, "/?format=html").Body.String()
		require.Regexp(t, `(?s)<tr class="warning">\s*<th scope="row">[^<]*<code>control</code>.*width="25.0".*<td data-label="Oldest" class="n">3.0 s</td>`, page)
		b.Send([]*raftpb.Message{heartbeat, heartbeat, heartbeat, heartbeat})
		time.Sleep(time.Second)
		d := decode(t, get(h, "/?format=json"))
		require.Equal(t, "bad", d.Peers[0].Health)
		require.Equal(t, []string{"queue control (heartbeats, votes, responses from it) is 100 % full", "drops 1.0/s: queue full"}, d.Peers[0].Problems)
		require.InDelta(t, 1, d.Peers[0].Lanes[3].Fill, 0)
		require.Regexp(t, `control +up +4/4 .* 100 % +4.0 s .* 1 \(1.0/s: queue full\)\n`, get(h, "/").Body.String())
		require.Contains(t, get(h, "/?format=html").Body.String(), `title="queue full 1">1.0/s: queue full</td>`)
	})
}

// TestSnapshots: transfers have bars, in both directions.
func TestSnapshots(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		n := memnet.New()
		save := func(tr *rafthttp.Transport) { tr.Snapshotter, tr.SnapshotRateLimit = discard{}, 1<<10 }
		a, b := startMember(t, n, 1, save), startMember(t, n, 2, save)
		a.AddPeer(2, []string{urlOf(2)})
		b.AddPeer(1, []string{urlOf(1)})
		m := &raftpb.Message{
			Type: raftpb.MsgSnap.Enum(), To: new(uint64(2)), From: new(uint64(1)),
			Snapshot: &raftpb.Snapshot{Metadata: &raftpb.SnapshotMetadata{Index: new(uint64(2748)), Term: new(uint64(1))}},
		}
		const size = 256 << 10
		a.SendSnapshot(snap.NewMessage(m, io.NopCloser(bytes.NewReader(make([]byte, size))), size))
		time.Sleep(100 * time.Second)
		for _, tt := range []struct {
			of   *rafthttp.Transport
			text string
		}{{a, "snapshot 2748: "}, {b, "snapshot 2748 from 1: "}} {
			h := statuspage.Handler(tt.of, nil)
			require.Regexp(t, tt.text+`[3-6]\d %, [\d.]+ KiB of 256 KiB, for 1 min 40 s, [\d.]+ (KiB|B)/s, about [\d minh]+ s to go`, get(h, "/").Body.String())
			require.Regexp(t, `<progress max="100" value="6\d\.\d" aria-label="Snapshot 2748 `, get(h, "/?format=html").Body.String())
		}
		time.Sleep(10 * time.Minute)
		require.Regexp(t, `last snapshot 2748, 256 KiB in \d min \d+ s, \d+ min \d+ s ago\n`, get(statuspage.Handler(a, nil), "/").Body.String())
		require.Contains(t, get(statuspage.Handler(b, nil), "/?format=html").Body.String(), "Last snapshot received</span> from 1: 2748, 256 KiB in ")
	})
}

type discard struct{}

func (discard) SaveDBFrom(r io.Reader, _ uint64) (int64, error) { return io.Copy(io.Discard, r) }

// TestPictures: whatever the number of peers, the picture has them inside, apart,
// and numbers that are numbers.
func TestPictures(t *testing.T) {
	for _, n := range []types.ID{0, 1, 2, 3, 4, 5, 8, 16, 40} {
		tr := &rafthttp.Transport{ID: 1000, Raft: raftFunc(nil), DialRetryFrequency: 0.001}
		require.NoError(t, tr.Start())
		for id := range n {
			tr.AddPeer(id+1, []string{"http://127.0.0.1:1"})
		}
		w := get(statuspage.Handler(tr, &statuspage.Options{Name: func(uint64) string { return "a-rather-long-name.example" }}), "/?format=html")
		tr.Stop()
		page := w.Body.String()
		require.Equal(t, http.StatusOK, w.Code)
		svg := page[strings.Index(page, "<svg"):strings.Index(page, "</svg>")]
		require.NotContains(t, svg, "NaN")
		require.NotContains(t, svg, "Inf")
		boxes := regexp.MustCompile(`<rect x="(-?[\d.]+)" y="(-?[\d.]+)" width="116" height="48"`).FindAllStringSubmatch(svg, -1)
		require.Len(t, boxes, min(int(n), 16))
		size := regexp.MustCompile(`viewBox="0 0 ([\d.]+) ([\d.]+)"`).FindStringSubmatch(svg)
		for i, b := range boxes {
			x, y := number(t, b[1]), number(t, b[2])
			require.GreaterOrEqual(t, x, 0.0)
			require.GreaterOrEqual(t, y, 0.0)
			require.LessOrEqual(t, x+116, number(t, size[1]))
			require.LessOrEqual(t, y+48, number(t, size[2]))
			for _, other := range boxes[:i] {
				dx, dy := x-number(t, other[1]), y-number(t, other[2])
				require.True(t, dx*dx >= 116*116 || dy*dy >= 48*48, "two of %d peers are on top of each other", n)
			}
		}
	}
}

func number(t *testing.T, s string) float64 {
	t.Helper()
	v, err := strconv.ParseFloat(s, 64)
	require.NoError(t, err)
	return v
}
