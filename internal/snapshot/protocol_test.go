package snapshot

import (
	"errors"
	"fmt"
	"io/fs"
	"math"
	"net/http"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed-4d73690b/rafthttp/snap"
)

// TestContentLength: what is declared is what is written, or nothing is.
func TestContentLength(t *testing.T) {
	tests := []struct {
		name            string
		p               Plan
		size, remaining int64
		want            int64 // below 0: none
	}{
		{"plain", Plan{}, 1000, 1000, 1010},
		{"plain, empty", Plan{}, 0, 0, 10},
		{"resumable, all", Plan{Resumable: true}, 1000, 1000, 1014},
		{"resumable, the rest", Plan{Resumable: true, Offset: 300}, 1000, 700, 714},
		{"resumable, nothing", Plan{Resumable: true, Offset: 1000}, 1000, 0, 14},
		{"plain, though the reader is further", Plan{}, 1000, 700, -1},
		{"plain, from the middle", Plan{Offset: 300}, 1000, 700, -1},
		{"the reader is not there yet", Plan{Resumable: true, Offset: 300}, 1000, 1000, -1},
		{"the reader is further", Plan{Resumable: true, Offset: 300}, 1000, 600, -1},
		{"beyond the end", Plan{Resumable: true, Offset: 1001}, 1000, -1, -1},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			got, err := tc.p.ContentLength(10, tc.size, tc.remaining)
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
	for _, p := range []Plan{{}, {TellsWork: true}, {Resumable: true}, {Resumable: true, Offset: math.MaxInt64, TellsWork: true}} {
		h := http.Header{}
		p.State(h, 2)
		got, err := PlanOf(h)
		require.NoError(t, err)
		require.Equal(t, p, got)
	}
}

// TestQuestionBothWays: so with the question and its answer.
func TestQuestionBothWays(t *testing.T) {
	want := snap.Transfer{From: 1, Term: math.MaxUint64, Index: 7, Size: math.MaxInt64}
	got, err := TransferOf(Question(want, 2), 1)
	require.NoError(t, err)
	require.Equal(t, want, got)
	h := http.Header{}
	StateOffset(h, 5, 0xabc)
	has, err := AckedIn(h, 5)
	require.NoError(t, err)
	require.Equal(t, Acked{5, 0xabc}, has)
	_, err = AckedIn(h, 4)
	require.Error(t, err)
}

// TestExtensionsBothWays: members of before know one name alone, later ones may state more.
func TestExtensionsBothWays(t *testing.T) {
	h := http.Header{}
	State(h, true)
	require.True(t, States(h, ExtensionResuming))
	require.True(t, States(h, ExtensionWorking))
	State(h, false)
	require.False(t, States(h, ExtensionResuming))
	require.True(t, States(h, ExtensionWorking))
	for list, want := range map[string]bool{
		"": false, "snapshot-1": true, "other,snapshot-1": true, " snapshot-1 , other": true, "snapshot-12": false, "snapshot": false,
	} {
		require.Equal(t, want, States(http.Header{headerExtensions: {list}}, ExtensionResuming), list)
	}
}

// TestRefusalsBothWays: a sender takes each refusal, and each reason, for what it is.
func TestRefusalsBothWays(t *testing.T) {
	for _, r := range Refusals {
		require.ErrorIs(t, Meaning(r.Code, r.Err.Error()), r.means)
	}
	for err, want := range map[error]error{
		syscall.ENOSPC: ErrDiskFull, syscall.EDQUOT: ErrDiskFull, fs.ErrPermission: ErrPermission, syscall.EROFS: ErrPermission,
		syscall.EIO: ErrDisk, snap.ErrChecksum: ErrChecksum, ErrCut: ErrCut, ErrStalled: ErrStalled, errors.New("else"): ErrNotSaved,
	} {
		saved := NotSaved(fmt.Errorf("snap: %w\nand more", err))
		require.ErrorIs(t, saved, want)
		require.ErrorIs(t, saved, err)
		require.Equal(t, want, Meaning(http.StatusInternalServerError, saved.Error()))
		require.NotContains(t, saved.Error(), "\n")
	}
	require.Len(t, NotSaved(errors.New(strings.Repeat("x", 1000))).Error(), maxReason)
	require.Equal(t, ErrRefused, Meaning(http.StatusInternalServerError, "failed to process raft message: no"))
	require.Equal(t, ErrRefused, Meaning(http.StatusServiceUnavailable, "transport stopped"))
	require.Equal(t, ErrOffset, Meaning(http.StatusConflict, "of another version"))
}
