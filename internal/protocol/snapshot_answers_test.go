package protocol

import (
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed-4d73690b/rafthttp/internal/errs"
	"github.com/seed-4d73690b/rafthttp/snap"
)

// TestRefusalsBothWays: a sender takes each refusal, and each reason, for what it is.
func TestRefusalsBothWays(t *testing.T) {
	for _, r := range snapshotRefusals {
		require.ErrorIs(t, snapshotMeaning(r.code, r.err.Error()), r.means)
	}
	for err, want := range map[error]error{
		syscall.ENOSPC: ErrSnapshotDiskFull, syscall.EDQUOT: ErrSnapshotDiskFull,
		fs.ErrPermission: ErrSnapshotPermission, syscall.EROFS: ErrSnapshotPermission,
		syscall.EIO: ErrSnapshotDisk, snap.ErrChecksum: ErrSnapshotChecksum, ErrSnapshotCut: ErrSnapshotCut,
		errs.ErrStalled: errs.ErrStalled, errors.New("else"): ErrSnapshotNotSaved,
	} {
		saved := SnapshotNotSaved(fmt.Errorf("snap: %w\nand more", err))
		require.ErrorIs(t, saved, want)
		require.ErrorIs(t, saved, err)
		require.Equal(t, want, snapshotMeaning(http.StatusInternalServerError, saved.Error()))
		require.NotContains(t, saved.Error(), "\n")
	}
	require.Len(t, SnapshotNotSaved(errors.New(strings.Repeat("x", 1000))).Error(), maxReason)
	require.Equal(t, ErrSnapshotRefused, snapshotMeaning(http.StatusInternalServerError, "failed to process raft message: no"))
	require.ErrorIs(t, snapshotMeaning(http.StatusServiceUnavailable, "transport stopped"), ErrSnapshotRefused)
	require.Equal(t, ErrSnapshotOffset, snapshotMeaning(http.StatusConflict, "of another version"))
}
