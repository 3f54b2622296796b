package interop_test

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"go.etcd.io/etcd/client/pkg/v3/types"
	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	"github.com/seed-4d73690b/rafthttp"
	"github.com/seed-4d73690b/rafthttp/compat/golden"
	"github.com/seed-4d73690b/rafthttp/compat/member"
	"github.com/seed-4d73690b/rafthttp/compat/v36/drive"
)

// mixedCluster is two members of ours, 1 and 3, with raft groups beside their own, or without, and a stock member, 2.
type mixedCluster struct {
	t                 *testing.T
	files             *drive.TLS
	groups            int // of ours
	ours, stock, last *end
	atOurs, atStock   *tap // what 1 and 2 are sent by each other
	members           [2][]*rafthttp.Group
	told              [2][]*member.Recorder
}

func newMixedCluster(t *testing.T, kind member.Kind, files *drive.TLS, groups int) *mixedCluster {
	t.Helper()
	c := &mixedCluster{t: t, files: files, groups: groups, atOurs: newTap(t, files), atStock: newTap(t, files)}
	c.ours, c.last = c.startOurs(0, 1, ""), c.startOurs(1, 3, "")
	c.startStock(kind)
	c.meet()
	return c
}

// startOurs starts a member of ours with its groups.
func (c *mixedCluster) startOurs(i int, id uint64, listen string) *end {
	c.t.Helper()
	var tr *rafthttp.Transport
	e := start(c.t, member.Ours, id, withTLS(c.files), keepTransport(&tr), func(cfg *member.Config) {
		cfg.Listen = listen
		if tune := cfg.Tune; id == 1 {
			cfg.Tune = func(t *rafthttp.Transport) {
				tune(t)
				t.URLs = types.MustNewURLs([]string{c.atOurs.url})
			}
		}
	})
	c.members[i], c.told[i] = nil, nil
	for g := range uint64(c.groups) {
		joined, told := join(c.t, tr, g+1)
		c.members[i], c.told[i] = append(c.members[i], joined), append(c.told[i], told)
	}
	if id == 1 {
		c.atOurs.lead(c.t, e)
	}
	return e
}

func (c *mixedCluster) startStock(kind member.Kind) {
	c.t.Helper()
	c.stock = start(c.t, kind, 2, withTLS(c.files))
	c.atStock.lead(c.t, c.stock)
}

// meet introduces the members of ours to each other, and 1 to the stock member.
func (c *mixedCluster) meet() {
	c.t.Helper()
	c.ours.AddPeer(2, c.atStock.url)
	c.ours.AddPeer(3, c.last.URL())
	c.last.AddPeer(1, c.ours.URL())
	for g := range c.groups {
		c.members[0][g].AddPeer(3, []string{c.last.URL()})
		c.members[1][g].AddPeer(1, []string{c.ours.URL()})
	}
	c.requireGroups()
}

// send sends messages of all groups, both ways.
func (c *mixedCluster) send() {
	for g := range c.groups {
		c.members[0][g].Send([]*raftpb.Message{heartbeat(c.ours, c.last, kept), empty(c.ours, c.last, kept)})
		c.members[1][g].Send([]*raftpb.Message{heartbeat(c.last, c.ours, kept), empty(c.last, c.ours, kept)})
	}
}

// requireGroups requires that messages of all groups arrive.
func (c *mixedCluster) requireGroups() {
	c.t.Helper()
	all := slices.Concat(c.told[0], c.told[1])
	for _, told := range all {
		told.Reset()
	}
	require.Eventually(c.t, func() bool {
		c.send()
		return !slices.ContainsFunc(all, func(r *member.Recorder) bool {
			e := &end{Recorder: r}
			return !got(e, kept, raftpb.MessageType_MsgHeartbeat) || !got(e, kept, raftpb.MessageType_MsgApp)
		})
	}, patience, 10*pollEvery)
}

// bothWays sends every message both ways between 1 and the stock member, with messages of groups between.
func (c *mixedCluster) bothWays() {
	c.t.Helper()
	for _, d := range [][2]*end{{c.ours, c.stock}, {c.stock, c.ours}} {
		from, to := d[0], d[1]
		to.Reset()
		want := everyMessage(from, to)
		for i, m := range want {
			c.send()
			from.Send(m)
			require.Truef(c.t, alike(from, to, m, await(c.t, to, i+1)[i]), "want %v", m)
		}
		require.Len(c.t, await(c.t, to, len(want)), len(want))
	}
}

// snapshots sends a database each way.
func (c *mixedCluster) snapshots(index uint64) {
	c.t.Helper()
	c.send()
	transfer(c.t, c.ours, c.stock, index, 1<<20)
	c.send()
	transfer(c.t, c.stock, c.ours, index+1, 1<<20)
}

var marker = []byte("what follows is compared")

// mark sends a message on both streams of 1 to the stock member after which the bytes are the same in each run.
func (c *mixedCluster) mark() {
	c.t.Helper()
	c.stock.Reset()
	control, app := heartbeat(c.ours, c.stock, 1), empty(c.ours, c.stock, 1)
	control.Context, app.Context = marker, marker
	c.ours.Send(control, app)
	await(c.t, c.stock, 2)
}

// run walks through everything that members do with each other.
func (c *mixedCluster) run() {
	c.t.Helper()
	c.stock.AddRemote(1, c.atOurs.url)
	c.bothWays() // by POST: the stock member does not dial
	c.stock.AddPeer(1, c.atOurs.url)
	awaitStreams(c.t, c.ours, c.stock)
	c.mark()
	c.bothWays()
	c.snapshots(1000)
}

// restart starts the stock member again, and then 1.
func (c *mixedCluster) restart() {
	c.t.Helper()
	c.stock.Stop()
	c.startStock(c.stock.kind)
	c.stock.AddPeer(1, c.atOurs.url)
	awaitStreams(c.t, c.ours, c.stock)
	c.bothWays()
	c.requireGroups()
	listen := hostOf(c.t, c.ours.URL())
	c.ours.Stop()
	c.ours = c.startOurs(0, 1, listen)
	c.meet()
	awaitStreams(c.t, c.ours, c.stock)
	c.bothWays()
	c.snapshots(2000)
}

// wire is what a stock member got from 1.
type wire struct {
	requests, answers map[string][]string // the heads, each once, by name
	posts             [][]byte            // the bodies of POSTs, sorted, without those of awaitStreams
	streams           map[string][][]byte // the records after the marker
}

// regularProbe is the head of a probe that has nothing to do with snapshots.
const regularProbe = "GET /raft/probing HTTP/1.1\r\nHost: <address>\r\nUser-Agent: Go-http-client/1.1\r\nConnection: close\r\nX-Etcd-Cluster-Id: 1000"

func (c *mixedCluster) wire() wire {
	w := wire{map[string][]string{}, map[string][]string{}, nil, map[string][][]byte{}}
	note := func(m map[string][]string, name, head string) {
		if head != "" && !slices.Contains(m[name], head) {
			m[name] = append(m[name], head)
			slices.Sort(m[name])
		}
	}
	note(w.requests, "GET /raft/probing", regularProbe) // it may not have been due
	for _, x := range c.atStock.exchanges() {
		if x.name == "POST /raft" { // they differ by length
			x.request = strings.Join(slices.DeleteFunc(strings.Split(x.request, "\r\n"), func(l string) bool { return strings.HasPrefix(l, "Content-Length") }), "\r\n")
		}
		note(w.requests, x.name, x.request)
		if strings.HasPrefix(x.name, "POST") && !isAwaiting(x) {
			w.posts = append(w.posts, x.body)
		}
	}
	slices.SortFunc(w.posts, bytes.Compare) // several connections carry them
	for _, x := range c.atOurs.exchanges() {
		note(w.answers, x.name, x.answer)
		if !strings.HasPrefix(x.name, "GET /raft/stream/") || !strings.HasPrefix(x.answer, "HTTP/1.1 200 OK\r\n") {
			continue
		}
		records := golden.Messages(x.answerBodies, strings.HasSuffix(x.name, "msgapp"))
		if i := slices.IndexFunc(records, func(r []byte) bool { return bytes.Contains(r, marker) }); i >= 0 {
			w.streams[x.name] = append(w.streams[x.name], records[i:]...)
		}
	}
	return w
}

// isAwaiting reports whether a POST is one of awaitStreams, which makes a number of them that depends on chance.
func isAwaiting(x exchange) bool {
	m := new(raftpb.Message)
	return x.name == "POST /raft" && proto.Unmarshal(x.body, m) == nil && m.GetTerm() == 3 && m.GetCommit() == 1
}

// statesGroups removes groups-1 from the list of extensions in all heads, and returns the names of those that have it, and of
// those that have another list.
func statesGroups(heads map[string][]string) (with, without []string) {
	for name, all := range heads {
		for i, head := range all {
			switch {
			case strings.Contains(head, "X-Raft-Extensions: snapshot-1, snapshot-working-1, groups-1"):
				all[i] = strings.Replace(head, ", groups-1", "", 1)
				with = append(with, name)
			case strings.Contains(head, "X-Raft-Extensions"):
				without = append(without, name)
			}
		}
	}
	slices.Sort(with)
	slices.Sort(without)
	return with, without
}

// TestGroupsBesideAStockMember: two members of ours have 20 raft groups besides their own, in which a stock member takes part. It
// works as without groups, and is sent the same bytes, except for the list of extensions (docs/extensions.md).
func TestGroupsBesideAStockMember(t *testing.T) {
	for _, kind := range []member.Kind{member.Stock37, member.Stock36} {
		for _, secure := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/tls=%t", kind, secure), func(t *testing.T) {
				t.Parallel()
				var files *drive.TLS
				if secure {
					files = certificate(t)
				}
				plain, grouped := newMixedCluster(t, kind, files, 0), newMixedCluster(t, kind, files, 20)
				plain.run()
				grouped.run()
				requireSameWire(t, plain.wire(), grouped.wire())
				if secure && kind == member.Stock36 {
					return // the restarts cost seconds
				}
				grouped.restart()
				requests := grouped.wire().requests
				statesGroups(requests)
				before := plain.wire().requests
				for name, heads := range requests {
					require.Subset(t, before[name], heads, "requests to a stock member")
				}
			})
		}
	}
}

func requireSameWire(t *testing.T, plain, grouped wire) {
	t.Helper()
	with, without := statesGroups(grouped.requests)
	require.Equal(t, []string{"GET /raft/stream/message", "GET /raft/stream/msgapp"}, with)
	require.Empty(t, without)
	require.Equal(t, plain.requests, grouped.requests)

	with, without = statesGroups(grouped.answers)
	require.Subset(t, []string{"GET /raft/probing", "GET /raft/stream/message", "GET /raft/stream/msgapp"}, with)
	require.Contains(t, with, "GET /raft/stream/message")
	require.Contains(t, with, "GET /raft/stream/msgapp")
	require.Empty(t, without)
	delete(plain.answers, "GET /raft/probing") // they may not have been due
	delete(grouped.answers, "GET /raft/probing")
	require.Equal(t, plain.answers, grouped.answers)

	require.Greater(t, len(plain.posts), 40)
	require.Equal(t, plain.posts, grouped.posts)
	require.Len(t, plain.streams, 2)
	for name, records := range plain.streams {
		require.Greater(t, len(records), 1)
		require.Equal(t, records, grouped.streams[name], name)
	}
}
