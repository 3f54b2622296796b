package protocol

import (
	"math"
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed-4d73690b/rafthttp/snap"
)

// TestContentLength: what is declared is what is written, or nothing is.
func TestContentLength(t *testing.T) {
	tests := []struct {
		name            string
		p               SnapshotPlan
		size, remaining int64
		want            int64 // below 0: none
	}{
		{"plain", SnapshotPlan{}, 1000, 1000, 1010},
		{"plain, empty", SnapshotPlan{}, 0, 0, 10},
		{"resumable, all", SnapshotPlan{Resumable: true}, 1000, 1000, 1014},
		{"resumable, the rest", SnapshotPlan{Resumable: true, Offset: 300}, 1000, 700, 714},
		{"resumable, nothing", SnapshotPlan{Resumable: true, Offset: 1000}, 1000, 0, 14},
		{"plain, though the reader is further", SnapshotPlan{}, 1000, 700, -1},
		{"plain, from the middle", SnapshotPlan{Offset: 300}, 1000, 700, -1},
		{"the reader is not there yet", SnapshotPlan{Resumable: true, Offset: 300}, 1000, 1000, -1},
		{"the reader is further", SnapshotPlan{Resumable: true, Offset: 300}, 1000, 600, -1},
		{"beyond the end", SnapshotPlan{Resumable: true, Offset: 1001}, 1000, -1, -1},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			got, err := tc.p.ContentLength(10, tc.size, tc.remaining)
			if tc.want < 0 {
				require.ErrorIs(t, err, ErrSnapshotPlan)
				return
			}
			require.NoError(t, err)
			require.Equal(t, tc.want, got)
		})
	}
}

// TestPlanBothWays: the receiver reads the plan that the sender states.
func TestPlanBothWays(t *testing.T) {
	for _, p := range []SnapshotPlan{{}, {TellsWork: true}, {Resumable: true}, {Resumable: true, Offset: math.MaxInt64, TellsWork: true}} {
		h := http.Header{}
		p.StateIn(h, 2)
		got, err := SnapshotPlanIn(h)
		require.NoError(t, err)
		require.Equal(t, p, got)
	}
}

// TestQuestionBothWays: so with the question and its answer.
func TestQuestionBothWays(t *testing.T) {
	want := snap.Transfer{From: 1, Term: math.MaxUint64, Index: 7, Size: math.MaxInt64}
	for _, id := range []TransferID{0, 1, math.MaxUint64} {
		got, err := SnapshotQuestionIn(SnapshotQuestion{want, id}.Header(2), 1)
		require.NoError(t, err)
		require.Equal(t, SnapshotQuestion{want, id}, got)
	}
	require.Zero(t, TransferIn(http.Header{headerTransfer: {"not a number"}}))
	h := http.Header{}
	SnapshotOffset{5, 0xabc}.StateIn(h)
	has, err := SnapshotOffsetIn(h, 5)
	require.NoError(t, err)
	require.Equal(t, SnapshotOffset{5, 0xabc}, has)
	_, err = SnapshotOffsetIn(h, 4)
	require.Error(t, err)
}

// TestExtensionsBothWays: members of before know one name alone, later ones may state more.
func TestExtensionsBothWays(t *testing.T) {
	h := http.Header{}
	h.Set(HeaderExtensions, Extensions(true))
	require.True(t, HasExtension(h, ExtensionResuming))
	require.True(t, HasExtension(h, ExtensionWorking))
	h.Set(HeaderExtensions, Extensions(false))
	require.False(t, HasExtension(h, ExtensionResuming))
	require.True(t, HasExtension(h, ExtensionWorking))
	for list, want := range map[string]bool{
		"": false, "snapshot-1": true, "other,snapshot-1": true, " snapshot-1 , other": true, "snapshot-12": false, "snapshot": false,
	} {
		require.Equal(t, want, HasExtension(http.Header{HeaderExtensions: {list}}, ExtensionResuming), list)
	}
}
