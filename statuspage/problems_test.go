package statuspage_test

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"os"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.etcd.io/etcd/client/pkg/v3/types"
	"go.etcd.io/raft/v3/raftpb"

	"github.com/seed-4d73690b/rafthttp"
	"github.com/seed-4d73690b/rafthttp/internal/bubble"
	"github.com/seed-4d73690b/rafthttp/internal/health"
	"github.com/seed-4d73690b/rafthttp/memnet"
	"github.com/seed-4d73690b/rafthttp/snap"
	"github.com/seed-4d73690b/rafthttp/statuspage"
)

// pair runs two members that know each other.
func pair(t *testing.T, n *memnet.Network, tune ...func(*rafthttp.Transport)) (a, b *rafthttp.Transport) {
	t.Helper()
	tune = append(tune, nil, nil)
	a, b = startMember(t, n, 1, tune[0]), startMember(t, n, 2, tune[1])
	a.AddPeer(2, []string{urlOf(2)})
	b.AddPeer(1, []string{urlOf(1)})
	time.Sleep(5 * time.Second)
	return a, b
}

// requireProblem finds a problem of a peer in all formats, in the summary too.
func requireProblem(t *testing.T, h http.Handler, want string) {
	t.Helper()
	d := decode(t, get(h, "/?format=json"))
	require.NotEqual(t, "ok", d.Health)
	require.NotEqual(t, "ok", d.Peers[0].Health)
	require.Contains(t, strings.Join(d.Peers[0].Problems, "\n"), want)
	page, text := get(h, "/?format=html").Body.String(), get(h, "/").Body.String()
	require.Regexp(t, `<p id="summary"[^>]*>[^<]*`+regexp.QuoteMeta(want), page)
	require.Regexp(t, `<li class="\w+"><a [^>]*>`+regexp.QuoteMeta(want), page)
	require.Regexp(t, `(?m)^(warning|bad): .*`+regexp.QuoteMeta(want), text)
	require.Contains(t, text, "  ! "+want)
}

// requireHealthy requires that nothing is wrong any more.
func requireHealthy(t *testing.T, h http.Handler) {
	t.Helper()
	d := decode(t, get(h, "/?format=json"))
	require.Equal(t, "ok", d.Health)
	require.Empty(t, d.Peers[0].Problems)
	require.Contains(t, get(h, "/").Body.String(), "ok: The only peer is healthy.")
}

// fullDisk is a Snapshotter without room while it is full.
type fullDisk struct{ full bool }

func (f *fullDisk) SaveDBFrom(r io.Reader, _ uint64) (int64, error) {
	if f.full {
		return 0, &os.PathError{Op: "write", Path: "/data/db", Err: syscall.ENOSPC}
	}
	return io.Copy(io.Discard, r)
}

func sendSnapshot(from *rafthttp.Transport, to types.ID) {
	m := &raftpb.Message{
		Type: raftpb.MsgSnap.Enum(), To: new(uint64(to)), From: new(uint64(from.ID)),
		Snapshot: &raftpb.Snapshot{Metadata: &raftpb.SnapshotMetadata{Index: new(uint64(2748)), Term: new(uint64(1))}},
	}
	from.SendSnapshot(snap.NewMessage(m, io.NopCloser(bytes.NewReader(make([]byte, 100))), 100))
}

// TestFailedSnapshot: a peer whose last snapshot failed is a warning at both ends, until one succeeds, or until
// nobody has tried again for a while.
func TestFailedSnapshot(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		disk := &fullDisk{full: true}
		a, b := pair(t, memnet.New(), nil, func(tr *rafthttp.Transport) { tr.Snapshotter = disk })
		sender, receiver := statuspage.Handler(a, nil), statuspage.Handler(b, nil)
		requireHealthy(t, sender)
		sendSnapshot(a, 2)
		time.Sleep(time.Second)
		requireProblem(t, sender, "the last snapshot to it failed: ")
		require.Contains(t, get(sender, "/").Body.String(), "disk full")
		d := decode(t, get(receiver, "/?format=json"))
		require.Equal(t, "warning", d.Health)
		require.Empty(t, d.Problems)
		require.Len(t, d.Peers[0].Problems, 1)
		require.Contains(t, d.Peers[0].Problems[0], "the last snapshot from it failed: ")
		require.Contains(t, get(receiver, "/").Body.String(), "\nwarning: The only peer is active. Peer 1: the last snapshot from it failed: ")
		require.Regexp(t, `<p id="summary" class="summary warning" [^>]*>The only peer is active. Peer 1: the last snapshot from it `, get(receiver, "/?format=html").Body.String())

		disk.full = false
		sendSnapshot(a, 2)
		time.Sleep(time.Second)
		requireHealthy(t, sender)
		requireHealthy(t, receiver)

		disk.full = true
		sendSnapshot(a, 2)
		time.Sleep(9 * time.Minute)
		requireProblem(t, sender, "the last snapshot to it failed: ")
		time.Sleep(2 * time.Minute)
		requireHealthy(t, sender)
	})
}

// TestFlap: a stream that reconnects again and again is a warning, at the first request too.
func TestFlap(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		n := memnet.New()
		a, _ := pair(t, n)
		h := statuspage.Handler(a, nil)
		flap := func(times int, every time.Duration) {
			for range times {
				n.Reset("m1", "m2")
				time.Sleep(every)
				decode(t, get(h, "/?format=json"))
			}
		}
		time.Sleep(10 * time.Minute)
		requireHealthy(t, h)
		flap(2, 10*time.Second)
		requireHealthy(t, h)
		flap(2, 10*time.Second)
		requireProblem(t, h, "stream message to it reconnected 4 times in 40 s")
		time.Sleep(2*time.Minute + 10*time.Second)
		requireHealthy(t, h)
		for range 5 {
			flap(1, 2*time.Minute)
			requireHealthy(t, h)
		}
	})
	bubble.Test(t, func(t *testing.T) {
		n := memnet.New()
		a, _ := pair(t, n)
		for range 10 {
			n.Reset("m1", "m2")
			time.Sleep(6 * time.Second)
		}
		h := statuspage.Handler(a, nil)
		requireProblem(t, h, "stream message to it reconnected 10 times in 60 s")
		time.Sleep(45 * time.Second)
		requireHealthy(t, statuspage.Handler(a, nil))
	})
}

// TestStale: what was measured of a peer before it became inactive is not shown as if it were current.
func TestStale(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		n := memnet.New()
		a, b := pair(t, n)
		n.Link("m1", "m2").SetDelay(10 * time.Millisecond)
		time.Sleep(time.Minute)
		h := statuspage.Handler(a, nil)
		d := decode(t, get(h, "/?format=json"))
		require.Equal(t, []string{}, d.Peers[0].Stale, "not null")
		p := d.Status.Peers[0]
		require.Positive(t, p.RTT)
		row := fmt.Sprintf(` %s +\d[\d.]* ms `, p.Version)
		require.Regexp(t, row, get(h, "/").Body.String())
		require.Regexp(t, `<dt>Round trip</dt><dd[^>]*>\d`, get(h, "/?format=html").Body.String())

		b.Stop()
		time.Sleep(20 * time.Second)
		require.Equal(t, []string{"rtt_ns", "clock_offset_ns", "clock_within_ns", "version"}, decode(t, get(h, "/?format=json")).Peers[0].Stale)
		text, page := get(h, "/").Body.String(), get(h, "/?format=html").Body.String()
		require.Regexp(t, ` inactive +– +`+p.Version+` \(stale\) +– +– `, text)
		require.Regexp(t, `<dt>Round trip</dt><dd title="last measured [^"]* ago[^"]*">–<`, page)
		require.Regexp(t, `<dt>Clock</dt><dd[^>]*>–<`, page)
		require.Contains(t, page, p.Version+" (stale)<")
	})
}

// TestManyCauses: the summary has the first causes, those of peers that are down first, and counts the others.
func TestManyCauses(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		n := memnet.New()
		a := startMember(t, n, 1, nil)
		for _, id := range []types.ID{2, 3, 4, 5, 6} {
			a.AddPeer(id, []string{urlOf(id)})
		}
		time.Sleep(time.Second)
		h := statuspage.Handler(a, &statuspage.Options{Name: func(id uint64) string { return map[uint64]string{3: "three"}[id] }})
		down := func(id string) string { return " is down: lookup m" + id + ": no such host" }
		require.Contains(t, get(h, "/").Body.String(),
			"bad: 0 of 5 peers active, no majority: 2"+down("2")+"; three (3)"+down("3")+"; 4"+down("4")+". And 2 more.\n")
	})
}

// TestAnchors: each problem links to a section of docs/operating.md that exists.
func TestAnchors(t *testing.T) {
	b, err := os.ReadFile("../docs/operating.md")
	require.NoError(t, err)
	sections := map[string]bool{}
	for _, m := range regexp.MustCompile(`(?m)^#+ (.*)$`).FindAllStringSubmatch(string(b), -1) {
		name := regexp.MustCompile(`[^\w -]`).ReplaceAllString(strings.ToLower(m[1]), "")
		sections[strings.ReplaceAll(name, " ", "-")] = true
	}
	require.NotEmpty(t, health.Kinds)
	for _, anchor := range health.Kinds {
		require.True(t, sections[anchor], "docs/operating.md has no section %q", anchor)
	}
}
