package wire_test

import (
	"bytes"
	"io"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	"github.com/seed-4d73690b/rafthttp/internal/wire"
)

// TestGroupOrderOfRows: rows of both kinds collect in two frames, and a heartbeat after a response of its group is
// in a later one.
func TestGroupOrderOfRows(t *testing.T) {
	beat, answer := groupHeartbeat(1, 2, 5, 9), groupResponse(1, 2, 5)
	var apart []grouped // responses of even groups and heartbeats of odd ones, mixed
	for group := range uint64(1000) {
		apart = append(apart, grouped{group, []*raftpb.Message{answer, beat}[group%2]})
	}
	b := groupFrames(t, apart...)
	got := checkGroups(t, b)
	requireSameFlows(t, apart, got)
	require.Equal(t, raftpb.MsgHeartbeat, got[499].m.GetType())
	require.Equal(t, raftpb.MsgHeartbeatResp, got[500].m.GetType())

	same := []grouped{{7, beat}, {7, answer}, {8, beat}, {7, beat}, {7, answer}, {7, answer}, {7, beat}}
	got = checkGroups(t, groupFrames(t, same...))
	requireSameFlows(t, same, got)

	mixed := []grouped{{7, beat}, {7, msgApp(1, 1, 1, 1)}, {7, beat}, {7, answer}, {7, msgApp(1, 2, 1, 1)}, {7, beat}}
	requireSameGroups(t, mixed, checkGroups(t, groupFrames(t, mixed...)))

	// The set forgets with the frame.
	enc := wire.NewGroupEncoder()
	appendGroupFrames(t, enc, grouped{7, answer})
	require.Equal(t, byte(2), appendGroupFrames(t, enc, grouped{8, beat}, grouped{7, beat})[2], "two rows in one frame")
	for group := uint64(1); group < 4096; group++ {
		require.False(t, wire.SameGroupPlace(0, group), "neighbors are apart")
	}
}

// TestGroupPayload: rows of any size fill frames of up to 64 KiB.
func TestGroupPayload(t *testing.T) {
	rng := rand.New(rand.NewPCG(5, 5))
	lengths := func(b []byte) (sizes []int) {
		for len(b) > 0 {
			d := plainGroups{b: b[1:]}
			p := d.bytes()
			sizes = append(sizes, len(p))
			b = d.b
		}
		return sizes
	}
	for _, varies := range []string{"nothing", "everything", "late"} {
		var ms []grouped
		for i := range 40_000 {
			m := groupHeartbeat(1, 2, 5, uint64(i))
			if varies == "everything" && i < 4000 {
				m = groupHeartbeat(rng.Uint64(), rng.Uint64(), rng.Uint64(), rng.Uint64())
			}
			if varies == "late" && i%13_000 == 12_999 {
				m.From, m.To, m.Term = new(uint64(9)), new(uint64(9)), new(uint64(9))
			}
			ms = append(ms, grouped{uint64(i), m})
			if i%2 == 0 {
				ms = append(ms, grouped{uint64(i), groupResponse(m.GetTo(), m.GetFrom(), m.GetTerm())})
			}
		}
		b := groupFrames(t, ms...)
		for _, size := range lengths(b) {
			require.LessOrEqual(t, size, wire.MaxPayload)
		}
		if varies == "nothing" {
			require.GreaterOrEqual(t, slices.Max(lengths(b)), wire.MaxPayload-100)
		}
		got, err := decodeGroups(newGroupDecoder(bytes.NewReader(b), noLimits))
		require.Equal(t, io.EOF, err)
		require.Len(t, got, len(ms))
		plain, _ := decodeGroups(&plainGroups{b: b})
		for i, g := range plain {
			require.True(t, g.group == got[i].group && proto.Equal(g.m, got[i].m))
		}
	}
}

// TestGroupHeartbeatBytes has the goal of the extension: 8 bytes a heartbeat on the wire, frames of HTTP included.
func TestGroupHeartbeatBytes(t *testing.T) {
	const groups = 10_000
	rng := rand.New(rand.NewPCG(6, 6))
	var beats, answers []grouped
	for group := range uint64(groups) {
		beats = append(beats, grouped{50_000 + group, groupHeartbeat(1, 2, 17, rng.Uint64N(2_000_000))})
		answers = append(answers, grouped{50_000 + group, groupResponse(2, 1, 17)})
	}
	require.Less(t, len(groupFrames(t, beats...)), 4*groups+20)
	require.Less(t, len(groupFrames(t, answers...)), groups+20)
}
