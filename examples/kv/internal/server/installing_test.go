package server

import (
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.etcd.io/raft/v3/raftpb"

	"github.com/seed-4d73690b/rafthttp/examples/kv/internal/crashdisk"
)

// To open the database of a snapshot takes its time (bbolt reads all of it to find the free pages), and so does a sync.
// Messages of others are taken meanwhile: with AsyncStorageWrites a member answers heartbeats while it installs a snapshot.
func TestMessagesWhileASnapshotIsInstalled(t *testing.T) {
	var armed atomic.Bool
	steps, goOn := make(chan string), make(chan struct{})
	disk := &crashdisk.Disk{Crashes: func(_ int, what string) *crashdisk.Crash {
		if armed.Load() && (strings.HasPrefix(what, "open ") || strings.HasPrefix(what, "sync ")) {
			steps <- what
			<-goOn
		}
		return nil
	}}
	s := startStepped(t, true, disk)
	m := s.snapshot()
	armed.Store(true)
	require.NoError(t, receiver{s.Server}.Process(t.Context(), m))
	seen := 0
	s.await(func() bool {
		select {
		case what := <-steps:
			seen++
			taken := make(chan error, 1)
			go func() { taken <- receiver{s.Server}.Process(t.Context(), message(raftpb.MsgHeartbeat)) }()
			select {
			case err := <-taken:
				if err != nil {
					assert.Fail(t, "a message is refused", "%s: %v", what, err)
				}
			case <-time.After(5 * time.Second):
				assert.Fail(t, "no message is taken", what)
			}
			goOn <- struct{}{}
			return false
		default:
			return s.node.Status().Applied == 20
		}
	})
	require.GreaterOrEqual(t, seen, 3)
}
