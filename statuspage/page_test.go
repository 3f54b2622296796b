package statuspage_test

import (
	"context"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.etcd.io/raft/v3/raftpb"

	"github.com/seed-4d73690b/rafthttp"
	"github.com/seed-4d73690b/rafthttp/internal/bubble"
	"github.com/seed-4d73690b/rafthttp/memnet"
	"github.com/seed-4d73690b/rafthttp/statuspage"
)

// all returns the first group of each match.
func all(pattern, s string) (found []string) {
	for _, m := range regexp.MustCompile(pattern).FindAllStringSubmatch(s, -1) {
		found = append(found, m[1])
	}
	return found
}

// TestSickFirst: sick peers come first and are open, the others are one line; the JSON keeps the order of ids.
func TestSickFirst(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		members := cluster(t, 1, 2, 3, 4)
		members[3].Stop()
		time.Sleep(20 * time.Second)
		h := statuspage.Handler(members[0], nil)
		page, text := get(h, "/?format=html").Body.String(), get(h, "/").Body.String()
		require.Equal(t, []string{"4", "2", "3"}, all(`<details class="card peer \w+" id="peer-(\w+)"`, page))
		require.Equal(t, []string{"4"}, all(`<details class="card peer \w+" id="peer-(\w+)" data-open="true" open>`, page))
		require.Equal(t, []string{"4", "2", "3"}, all(`(?m)^peer (\w+): `, text))
		require.Equal(t, []string{"4", "2", "3"}, all(`(?m)^(\w+) +(?:in)?active `, text))
		d := decode(t, get(h, "/?format=json"))
		require.Equal(t, []string{"2", "3", "4"}, []string{d.Peers[0].Member, d.Peers[1].Member, d.Peers[2].Member})
	})
}

// TestDrops: drops are a recent rate with their reason, and stand out only while they go on.
func TestDrops(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		n := memnet.New()
		a, b := pair(t, n, func(tr *rafthttp.Transport) {
			tr.ReceiveQueueMessages = 4
			tr.Raft = raftFunc(func(ctx context.Context, _ *raftpb.Message) error {
				<-ctx.Done()
				return ctx.Err()
			})
		})
		h := statuspage.Handler(a, nil)
		d := decode(t, get(h, "/?format=json"))
		require.Nil(t, d.Peers[0].Lanes[3].Dropped, "there is one sample only")
		for range 24 {
			b.Send([]*raftpb.Message{{Type: raftpb.MsgHeartbeat.Enum(), To: new(uint64(1)), From: new(uint64(2))}})
		}
		time.Sleep(2 * time.Second)
		d = decode(t, get(h, "/?format=json"))
		control := d.Peers[0].Lanes[3]
		require.InDelta(t, 10, *control.Dropped, 0.001)
		require.Equal(t, []string{"queue full"}, control.Reasons)
		require.Contains(t, strings.Join(d.Peers[0].Problems, "\n"), "drops 10/s: queue full")
		require.Regexp(t, `(?s)active .* 20 \(10/s: queue full\) .*control .* 20 \(10/s: queue full\)\n`, get(h, "/").Body.String())
		page := get(h, "/?format=html").Body.String()
		require.Contains(t, page, `class="n dropped" title="queue full 20">10/s: queue full</td>`)
		require.Equal(t, 1, strings.Count(page, `class="n dropped"`))
		require.Regexp(t, `<div class="bad"><dt>Dropped</dt><dd title="queue full 20">10/s: queue full</dd>`, page)

		for range 6 {
			time.Sleep(2 * time.Second)
			get(h, "/")
		}
		d = decode(t, get(h, "/?format=json"))
		require.InDelta(t, 0, *d.Peers[0].Lanes[3].Dropped, 0)
		require.Empty(t, d.Peers[0].Lanes[3].Reasons)
		require.NotContains(t, strings.Join(d.Peers[0].Problems, "\n"), "drops")
		page = get(h, "/?format=html").Body.String()
		require.NotContains(t, page, `n dropped`)
		require.Contains(t, page, `class="n" title="queue full 20">20</td>`)
		require.Regexp(t, `<div class="ok"><dt>Dropped</dt><dd title="queue full 20">20</dd>`, page)
		require.Regexp(t, `control .* 20\n`, get(h, "/").Body.String())
	})
}

// TestWords: charts have a scale, lanes a direction and words, the legend dashes.
func TestWords(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		members := cluster(t, 1, 2)
		h := statuspage.Handler(members[0], nil)
		for range 5 {
			get(h, "/")
			propose(members[0], 2, 100)
			time.Sleep(2 * time.Second)
		}
		page := get(h, "/?format=html").Body.String()
		_, page, _ = strings.Cut(page, "<main")
		charts, scales := all(`(<svg class="spark")`, page), all(`<span class="max">max ([^<]*)</span>`, page)
		require.Len(t, charts, 7, "one for each lane, and one for the peer")
		require.Len(t, scales, 7)
		require.Contains(t, scales, "50/s")
		require.Contains(t, scales, "0/s")
		require.Regexp(t, `(?s)>To the peer<.*>All except appends <code>message</code>.*>Appends <code>msgapp</code>.*>Fallback POSTs <code>pipeline</code>.*`+
			`>From the peer<.*>Heartbeats, votes, responses <code>control</code>.*>Appends <code>append</code>.*>Proposals <code>proposal</code>`, page)
		require.Regexp(t, `(?s)TO THE PEER +UP.* message .* msgapp .* pipeline .*FROM THE PEER +UP.* control .* append .* proposal `, get(h, "/").Body.String())
		_, legend, _ := strings.Cut(page, "<figcaption")
		legend, _, _ = strings.Cut(legend, "</figcaption>")
		require.Equal(t, []string{"ok", "warning", "bad"}, all(`<svg class="key link (\w+)"`, legend))
		for _, want := range []string{"Advertised URL", "Queued bytes", "Trend", "Direction"} {
			require.Contains(t, page, ">"+want+"<")
		}
		require.NotRegexp(t, `Lately|\bWay\b|Told to others|In all queues|[Tt]rying on|Go on|\bin all<`, page)
	})
}
