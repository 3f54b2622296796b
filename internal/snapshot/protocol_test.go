package snapshot

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
		p               plan
		size, remaining int64
		want            int64 // below 0: none
	}{
		{"plain", plan{}, 1000, 1000, 1010},
		{"plain, empty", plan{}, 0, 0, 10},
		{"resumable, all", plan{resumable: true}, 1000, 1000, 1014},
		{"resumable, the rest", plan{resumable: true, offset: 300}, 1000, 700, 714},
		{"resumable, nothing", plan{resumable: true, offset: 1000}, 1000, 0, 14},
		{"plain, though the reader is further", plan{}, 1000, 700, -1},
		{"plain, from the middle", plan{offset: 300}, 1000, 700, -1},
		{"the reader is not there yet", plan{resumable: true, offset: 300}, 1000, 1000, -1},
		{"the reader is further", plan{resumable: true, offset: 300}, 1000, 600, -1},
		{"beyond the end", plan{resumable: true, offset: 1001}, 1000, -1, -1},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			got, err := tc.p.contentLength(10, tc.size, tc.remaining)
			if tc.want < 0 {
				require.ErrorIs(t, err, errPlan)
				return
			}
			require.NoError(t, err)
			require.Equal(t, tc.want, got)
		})
	}
}

// TestPlanBothWays: the receiver reads the plan that the sender states.
func TestPlanBothWays(t *testing.T) {
	for _, p := range []plan{{}, {tellsWork: true}, {resumable: true}, {resumable: true, offset: math.MaxInt64, tellsWork: true}} {
		h := http.Header{}
		p.state(h, 2)
		got, err := planOf(h)
		require.NoError(t, err)
		require.Equal(t, p, got)
	}
}

// TestQuestionBothWays: so with the question and its answer.
func TestQuestionBothWays(t *testing.T) {
	want := snap.Transfer{From: 1, Term: math.MaxUint64, Index: 7, Size: math.MaxInt64}
	for _, id := range []transferID{0, 1, math.MaxUint64} {
		got, err := QuestionIn(question(want, id, 2), 1)
		require.NoError(t, err)
		require.Equal(t, Question{want, id}, got)
	}
	require.Zero(t, transferIn(http.Header{headerTransfer: {"not a number"}}))
	h := http.Header{}
	StateOffset(h, 5, 0xabc)
	has, err := ackedIn(h, 5)
	require.NoError(t, err)
	require.Equal(t, acked{5, 0xabc}, has)
	_, err = ackedIn(h, 4)
	require.Error(t, err)
}

// TestExtensionsBothWays: members of before know one name alone, later ones may state more.
func TestExtensionsBothWays(t *testing.T) {
	h := http.Header{}
	State(h, true)
	require.True(t, states(h, extensionResuming))
	require.True(t, states(h, extensionWorking))
	State(h, false)
	require.False(t, states(h, extensionResuming))
	require.True(t, states(h, extensionWorking))
	for list, want := range map[string]bool{
		"": false, "snapshot-1": true, "other,snapshot-1": true, " snapshot-1 , other": true, "snapshot-12": false, "snapshot": false,
	} {
		require.Equal(t, want, states(http.Header{headerExtensions: {list}}, extensionResuming), list)
	}
}
