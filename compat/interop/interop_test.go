// Package interop_test proves that transports of every make understand each other, lane by lane: what one sends is what
// raft is told at the other. Every test runs on pairs of makes; the pairs of stock members are the control that shows
// that a test asks nothing that upstream does not do itself.
package interop_test

import (
	"context"
	"fmt"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	"github.com/seed-4d73690b/rafthttp/compat/member"
	"github.com/seed-4d73690b/rafthttp/compat/traffic"
	"github.com/seed-4d73690b/rafthttp/compat/v36/drive"
)

func TestMain(m *testing.M) {
	code := m.Run()
	member.RemoveHelper()
	os.Exit(code)
}

// patience is how long a test waits for what must happen; it is reached only by a test that fails.
const patience = 30 * time.Second

// pairing is two makes that a test runs on, in both directions.
type pairing struct{ a, b member.Kind }

func (p pairing) String() string { return string(p.a) + "-" + string(p.b) }

// directions returns who sends and who receives: both ways, where that makes a difference.
func (p pairing) directions() [][2]member.Kind {
	if p.a == p.b {
		return [][2]member.Kind{{p.a, p.b}}
	}
	return [][2]member.Kind{{p.a, p.b}, {p.b, p.a}}
}

var (
	controls = []pairing{{member.Stock37, member.Stock37}, {member.Stock37, member.Stock36}}
	mixed    = []pairing{{member.Ours, member.Stock37}, {member.Ours, member.Stock36}}
	all      = slices.Concat(controls, mixed, []pairing{{member.Ours, member.Ours}})
)

// end is a member with a raft that records.
type end struct {
	member.Member
	*member.Recorder
	kind member.Kind
	dir  string
}

const cluster = 0x1000

// start runs a member until the test ends.
func start(t *testing.T, kind member.Kind, id uint64, change ...func(*member.Config)) *end {
	t.Helper()
	e := &end{Recorder: new(member.Recorder), kind: kind, dir: t.TempDir()}
	cfg := member.Config{ID: id, Cluster: cluster, Dir: e.dir, Raft: e.Recorder, Failed: e.Fail}
	for _, c := range change {
		c(&cfg)
	}
	m, err := member.Start(kind, cfg)
	require.NoError(t, err)
	t.Cleanup(m.Stop)
	e.Member = m
	return e
}

func withTLS(files *drive.TLS) func(*member.Config) {
	return func(c *member.Config) { c.TLS = files }
}

// certificate makes a certificate for the members of a test.
func certificate(t *testing.T) *drive.TLS {
	t.Helper()
	files, err := member.NewCertificate(t.TempDir())
	require.NoError(t, err)
	return files
}

// connect runs two members that have each other as peers, and waits until all four streams between them are up.
func connect(t *testing.T, p pairing, change ...func(*member.Config)) (a, b *end) {
	t.Helper()
	a, b = start(t, p.a, 1, change...), start(t, p.b, 2, change...)
	a.AddPeer(b.ID(), b.URL())
	b.AddPeer(a.ID(), a.URL())
	awaitStreams(t, a, b)
	return a, b
}

// awaitStreams waits until what a and b send each other goes over the stream that is meant for it: until a message for each
// arrives without a post, and an append that does not say whom it is from arrives from its sender. Only the msgapp stream
// adds that, to a message that continues the last one; the message stream, which stands in for it, does not. Both
// recorders are empty afterwards.
func awaitStreams(t *testing.T, a, b *end) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for _, d := range [][2]*end{{a, b}, {b, a}} {
		from, to := d[0], d[1]
		for {
			require.NoError(t, ctx.Err(), "the streams do not come up")
			before := posts(to)
			to.Reset()
			anonymous := empty(from, to, 1)
			anonymous.From = nil
			from.Send(heartbeat(from, to, 1), empty(from, to, 1), anonymous)
			wait, cancel := context.WithTimeout(ctx, time.Second)
			named := true
			err := to.Wait(wait, func(s *member.Seen) bool {
				for _, m := range s.Messages {
					named = named && m.GetFrom() == from.ID()
				}
				return len(s.Messages) == 3
			})
			cancel()
			if err == nil && named && posts(to) == before {
				break
			}
		}
	}
	a.Reset()
	b.Reset()
}

// posts is how many messages e has received by POST /raft.
func posts(e *end) int { return e.Look(0).Requests["POST /raft"] }

func heartbeat(from, to *end, index uint64) *raftpb.Message {
	return &raftpb.Message{
		Type: raftpb.MessageType_MsgHeartbeat.Enum(), From: new(from.ID()), To: new(to.ID()), Term: new(uint64(3)), Commit: &index,
	}
}

func empty(from, to *end, index uint64) *raftpb.Message {
	return &raftpb.Message{
		Type: raftpb.MessageType_MsgApp.Enum(), From: new(from.ID()), To: new(to.ID()), Term: new(uint64(3)),
		LogTerm: new(uint64(3)), Index: &index, Commit: &index,
	}
}

// await waits until e's raft was told n messages and returns them.
func await(t *testing.T, e *end, n int) []*raftpb.Message {
	t.Helper()
	eventually(t, e, func(s *member.Seen) bool { return len(s.Messages) >= n })
	var got []*raftpb.Message
	e.Recorder.Look(func(s *member.Seen) { got = slices.Clone(s.Messages) })
	return got
}

// eventually waits until ok says yes of what e's raft was told.
func eventually(t *testing.T, e *end, ok func(*member.Seen) bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	err := e.Wait(ctx, ok)
	if err != nil {
		e.Recorder.Look(func(s *member.Seen) {
			t.Logf("%s was told %d messages, unreachable %v, snapshots %v, errors %v",
				e.kind, len(s.Messages), s.Unreachable, s.Snapshots, s.Errors)
		})
	}
	require.NoError(t, err)
}

// Look is the member's; the recorder has a method of the same name.
func (e *end) Look(peer uint64) member.Look { return e.Member.Look(peer) }

// alike compares two messages: exactly where both makes can tell a zero from a field not set.
func alike(from, to *end, want, got *raftpb.Message) bool {
	if from.kind == member.Stock36 || to.kind == member.Stock36 {
		want, got = traffic.Normal(want), traffic.Normal(got)
	}
	return proto.Equal(want, got)
}

// requireInOrder requires that got is want, in order within every lane.
func requireInOrder(t *testing.T, from, to *end, want, got []*raftpb.Message) {
	t.Helper()
	require.Len(t, got, len(want))
	next := make(map[string][]*raftpb.Message)
	for _, m := range got {
		next[traffic.Lane(m)] = append(next[traffic.Lane(m)], m)
	}
	for i, w := range want {
		l := traffic.Lane(w)
		require.NotEmptyf(t, next[l], "message %d (%s lane) is missing: %v", i, l, w)
		require.Truef(t, alike(from, to, w, next[l][0]), "message %d (%s lane): want %v\ngot %v", i, l, w, next[l][0])
		next[l] = next[l][1:]
	}
}

// inBothDirections calls f for a to b and for b to a.
func inBothDirections(t *testing.T, a, b *end, f func(t *testing.T, from, to *end)) {
	t.Helper()
	for _, d := range [][2]*end{{a, b}, {b, a}} {
		t.Run(fmt.Sprintf("from-%s-%d", d[0].kind, d[0].ID()), func(t *testing.T) { f(t, d[0], d[1]) })
	}
}
