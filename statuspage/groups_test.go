package statuspage_test

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
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

// groupsDocument is what docs/status.md says of groups in the JSON.
type groupsDocument struct {
	Health   string
	Problems []string
	Groups   *struct {
		Nodes []struct {
			Member, Health string
			Problems       []string
			Sent           *float64 `json:"sent_bytes_per_second"`
			Lanes          []struct{ Name, Health string }
		}
		Worst []rafthttp.GroupStatus
		Group *rafthttp.GroupStatus
	}
}

func decodeGroups(t *testing.T, h http.Handler, target string) (d groupsDocument) {
	t.Helper()
	w := get(h, target)
	require.Equal(t, http.StatusOK, w.Code)
	require.NoError(t, json.Unmarshal(w.Body.Bytes(), &d))
	return d
}

// groupsOn adds groups with the ids to a member, each with a replica on another node.
func groupsOn(t *testing.T, m *rafthttp.Transport, other types.ID, process func(context.Context, *raftpb.Message) error, ids ...uint64) (all []*rafthttp.Group) {
	t.Helper()
	for _, id := range ids {
		g, err := m.Group(id, rafthttp.GroupConfig{Raft: raftFunc(process)})
		require.NoError(t, err)
		g.AddPeer(other, []string{urlOf(other)})
		all = append(all, g)
	}
	return all
}

// TestStrangersOfGroups: messages from replicas that groups do not have are shown once there are some, and what was dropped of them.
func TestStrangersOfGroups(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		n := memnet.New()
		noRaft := func(tr *rafthttp.Transport) { tr.Raft = rafthttp.NoRaft{} }
		a := startMember(t, n, 1, func(tr *rafthttp.Transport) { tr.Raft, tr.ReceiveQueueMessages = rafthttp.NoRaft{}, 3 })
		b := startMember(t, n, 2, noRaft)
		h := statuspage.Handler(a, nil)
		open := make(chan struct{})
		defer close(open)
		groupsOn(t, a, 2, func(context.Context, *raftpb.Message) error { <-open; return nil }, 13)
		stranger, err := b.Group(13, rafthttp.GroupConfig{Raft: raftFunc(nil), Replica: 22})
		require.NoError(t, err)
		stranger.AddPeer(1, []string{urlOf(1)})
		time.Sleep(time.Second)
		require.NotContains(t, get(h, "/").Body.String(), "STRANGERS")
		require.NotContains(t, get(h, "/?format=html").Body.String(), "group-strangers")
		for range 10 {
			stranger.Send([]*raftpb.Message{{Type: raftpb.MsgVote.Enum(), To: new(uint64(1)), From: new(uint64(22)), Term: new(uint64(5))}})
		}
		time.Sleep(5 * time.Second)
		require.Regexp(t, `(?m)^  STRANGERS .*\n  control +[12]/3 +\d+ % +0 +[78]\n  append +0/3 +0 % +– +0\n  proposal +0/3 `, get(h, "/").Body.String())
		page := get(h, "/?format=html").Body.String()
		require.Regexp(t, `<table id="group-strangers">`, page)
		require.Equal(t, []string{"control", "append", "proposal"}, all(`<tr class="\w+"><th scope="row">(\w+)</th><td data-label="Queued" class="n" title="\d of 3 messages, `, page))
		require.Regexp(t, `<td data-label="Dropped" class="n" title="queue full [78]">[78]</td>`, page)
	})
}

// TestGroups: groups have a section with their nodes, the worst groups, and one that is asked for, in all formats.
func TestGroups(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		n := memnet.New()
		noRaft := func(tr *rafthttp.Transport) { tr.Raft = rafthttp.NoRaft{} }
		a, b := startMember(t, n, 1, noRaft), startMember(t, n, 2, noRaft)
		h := statuspage.Handler(a, nil)
		require.Nil(t, decodeGroups(t, h, "/?format=json&groups=5").Groups)
		require.NotContains(t, get(h, "/").Body.String(), "raft groups")
		require.NotContains(t, get(h, "/?format=html").Body.String(), `id="groups"`)

		open := make(chan struct{})
		defer close(open)
		wait := func(context.Context, *raftpb.Message) error { <-open; return nil }
		groupsOn(t, a, 2, nil, 11, 12, 14)
		groupsOn(t, a, 2, wait, 13)
		to13 := groupsOn(t, b, 1, nil, 11, 12, 13, 14)[2]
		time.Sleep(time.Second)
		require.Contains(t, get(h, "/").Body.String(), "\nok: All nodes of raft groups are healthy.\n")
		to13.Send([]*raftpb.Message{{Type: raftpb.MsgApp.Enum(), To: new(uint64(1)), From: new(uint64(2))}})
		time.Sleep(5 * time.Second)

		d := decodeGroups(t, h, "/?format=json")
		require.Equal(t, "warning", d.Health)
		const blocked = "Process blocks for append messages of raft groups: 1 call, the longest for 5.0 s by group 13"
		require.Equal(t, []string{blocked}, d.Problems)
		require.Len(t, d.Groups.Nodes, 1)
		require.Equal(t, "2", d.Groups.Nodes[0].Member)
		require.Equal(t, "ok", d.Groups.Nodes[0].Health)
		require.NotNil(t, d.Groups.Nodes[0].Sent)
		require.Len(t, d.Groups.Nodes[0].Lanes, 6)
		require.Nil(t, d.Groups.Worst)
		require.Nil(t, d.Groups.Group)
		d = decodeGroups(t, h, "/?format=json&groups=2&group=12")
		require.Len(t, d.Groups.Worst, 2)
		require.EqualValues(t, 13, d.Groups.Worst[0].ID)
		require.Equal(t, 5*time.Second, d.Groups.Worst[0].BlockedFor)
		require.EqualValues(t, 12, d.Groups.Group.ID)

		text := get(h, "/?group=12").Body.String()
		require.Contains(t, text, "warning: 1 of 1 nodes of raft groups active. This member: "+blocked)
		require.Contains(t, text, "\nraft groups: 4; nodes active: 1 of 1; messages for unknown groups: 0\n")
		require.Regexp(t, `(?m)^  append +0 +1 +1 +5.0 s by group 13 +0$`, text)
		require.Regexp(t, `(?m)^node 2: http://m2:1$`, text)
		require.Regexp(t, `(?m)^  groupapp +up `, text)
		require.Regexp(t, `(?m)^GROUP .*\n12 +1 +ok +1 of 1 +0 B +0 +0\n  replicas: 2 on node 2, active\n`, text)
		require.Regexp(t, `(?m)^WORST .*\n13 +1 +blocked for 5.0 s +1 of 1 +\S+ K?i?B +0 +0\n11 `, text)

		page := get(h, "/?format=html&group=12").Body.String()
		require.Equal(t, []string{"12", "13", "11", "12", "14"}, all(`<tr class="\w+"><th scope="row">(\d+)</th>`, page))
		require.Contains(t, page, `<h3>All, the worst first</h3>`)
		require.Contains(t, page, `<input name="group" value="12"`)
		require.Contains(t, page, `id="node-2"`)
		require.NotContains(t, page, "There are no peers")
		require.Contains(t, get(h, "/?format=html&groups=1").Body.String(), `<h3>The worst 1 of 4</h3>`)
		require.Contains(t, get(h, "/?format=html&group=15").Body.String(), "There is no group 15 here.")
		require.Contains(t, get(h, "/?group=15").Body.String(), "\nThere is no group 15 here.\n")
		for _, wrong := range []string{"group=x", "group=0", "group=-1", "groups=x", "groups=-1", "groups=1001"} {
			require.Equal(t, http.StatusBadRequest, get(h, "/?"+wrong).Code, wrong)
		}
		require.Equal(t, http.StatusOK, get(h, "/?group=+&groups=").Code)

	})
}

// TestNodeAndPeer: what is wrong with a node of groups is not shown as the peer's with the same id, nor are its rates.
func TestNodeAndPeer(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		n := memnet.New()
		a, b := pair(t, n)
		groupsOn(t, a, 2, nil, 7)
		groupsOn(t, b, 1, nil, 7)
		groupsOn(t, a, 3, nil, 8)
		h := statuspage.Handler(a, nil)
		time.Sleep(10 * time.Second)
		d := decodeGroups(t, h, "/?format=json")
		require.Equal(t, "warning", d.Health)
		require.Empty(t, d.Problems)
		require.Equal(t, "ok", d.Groups.Nodes[0].Health)
		require.Equal(t, "3", d.Groups.Nodes[1].Member)
		require.Equal(t, "bad", d.Groups.Nodes[1].Health)
		require.Equal(t, "ok", decode(t, get(h, "/?format=json")).Peers[0].Health)
		text, page := get(h, "/").Body.String(), get(h, "/?format=html").Body.String()
		require.Regexp(t, `(?m)^warning: The only peer is active: node 3 is down: `, text)
		require.Less(t, strings.Index(text, "\nnode 3: "), strings.Index(text, "\nnode 2: "), "sick first")
		require.Equal(t, []string{"3", "2"}, all(`<details class="card peer \w+" id="node-(\w+)"`, page))
		require.Regexp(t, `(?m)^8 +1 +replicas inactive +0 of 1 `, text)
	})
}

// TestSnapshotsOfGroups: the node of a group has its snapshots: in progress in both directions, waiting, and the last ones.
func TestSnapshotsOfGroups(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		n := memnet.New()
		a := startMember(t, n, 1, func(tr *rafthttp.Transport) {
			tr.Raft, tr.MaxSnapshots, tr.SnapshotRateLimit = rafthttp.NoRaft{}, 1, 1<<10
		})
		b := startMember(t, n, 2, func(tr *rafthttp.Transport) { tr.Raft = rafthttp.NoRaft{} })
		send := map[uint64]*rafthttp.Group{}
		for _, id := range []uint64{7, 8} {
			g, err := b.Group(id, rafthttp.GroupConfig{Raft: raftFunc(nil), Snapshotter: discard{}})
			require.NoError(t, err)
			g.AddPeer(1, []string{urlOf(1)})
			send[id] = groupsOn(t, a, 2, nil, id)[0]
		}
		time.Sleep(time.Second)
		for _, id := range []uint64{7, 8} {
			m := &raftpb.Message{Type: raftpb.MsgSnap.Enum(), To: new(uint64(2)), From: new(uint64(1)), Term: new(uint64(1))}
			m.Snapshot = &raftpb.Snapshot{Metadata: &raftpb.SnapshotMetadata{Index: new(10 * id), Term: new(uint64(1))}}
			send[id].SendSnapshot(snap.NewMessage(m, io.NopCloser(bytes.NewReader(make([]byte, 100<<10))), 100<<10))
		}
		time.Sleep(10 * time.Second)
		text, page := get(statuspage.Handler(a, nil), "/").Body.String(), get(statuspage.Handler(a, nil), "/?format=html").Body.String()
		require.Contains(t, text, "\n  snapshot 70 of group 7 to the node: ")
		require.Contains(t, text, "\n  snapshots: waiting 1, sent 0, failed to send 0, received 0, failed to receive 0\n")
		require.NotContains(t, text, "snapshot 80")
		require.Contains(t, page, "<code>70</code> of group 7 to the node</b>")
		require.Regexp(t, `Snapshots waiting</dt>\s*<dd[^>]*title="sent 0, failed to send 0[^>]*>1<`, page)
		text = get(statuspage.Handler(b, nil), "/").Body.String()
		require.Contains(t, text, "\n  snapshot 70 of group 7 from the node: ")
		time.Sleep(5 * time.Minute)
		text = get(statuspage.Handler(a, nil), "/").Body.String()
		require.Contains(t, text, "\n  last snapshot sent of group 8, 80, 100 KiB in ")
		text, page = get(statuspage.Handler(b, nil), "/").Body.String(), get(statuspage.Handler(b, nil), "/?format=html").Body.String()
		require.Regexp(t, `\n  last snapshot received of group 8, 80, 100 KiB in `, text)
		require.Contains(t, page, `Last snapshot from it</span> of group 8, 80, `)
	})
}
