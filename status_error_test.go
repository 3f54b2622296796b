package rafthttp_test

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/stretchr/testify/require"
	"go.etcd.io/etcd/client/pkg/v3/types"
	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"

	"github.com/seed-4d73690b/rafthttp"
)

// TestStatusErrorOfPost: what users are told of an answer without a meaning is its status and text, and wraps nothing; for
// DropReasonOf it is a refusal, whoever made it.
func TestStatusErrorOfPost(t *testing.T) {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "no", http.StatusTeapot) }))
	defer s.Close()
	causes := make(chan error, 1)
	tr := &rafthttp.Transport{ID: 1, Raft: ignores{}, Observer: &rafthttp.Observer{Dropped: func(_ types.ID, _ string, _ int, err error) {
		select {
		case causes <- err:
		default:
		}
	}}}
	require.NoError(t, tr.Start())
	defer tr.Stop()
	tr.AddPeer(2, []string{s.URL})
	tr.Send([]*raftpb.Message{{Type: raftpb.MsgHeartbeat.Enum(), From: new(uint64(1)), To: new(uint64(2)), Term: new(uint64(1))}})
	err := <-causes
	status, ok := errors.AsType[*rafthttp.StatusError](err)
	require.True(t, ok, err)
	require.Equal(t, &rafthttp.StatusError{Code: http.StatusTeapot, Body: "no"}, status)
	require.NoError(t, status.Unwrap())
	require.Equal(t, rafthttp.DropRefused, rafthttp.DropReasonOf(err))

	own := &rafthttp.StatusError{Code: 500}
	require.Equal(t, rafthttp.DropRefused, rafthttp.DropReasonOf(fmt.Errorf("post: %w", own)))
	require.Equal(t, rafthttp.DropEnded, rafthttp.DropReasonOf(fmt.Errorf("%w: %w", rafthttp.ErrPeerRemoved, own)))
}

type ignores struct{ rafthttp.Raft }

func (ignores) IsIDRemoved(uint64) bool                    { return false }
func (ignores) ReportUnreachable(uint64)                   {}
func (ignores) ReportSnapshot(uint64, raft.SnapshotStatus) {}
