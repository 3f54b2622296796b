package promise

import (
	"context"
	"errors"
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.etcd.io/etcd/client/pkg/v3/types"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/seed-4d73690b/rafthttp"
	"github.com/seed-4d73690b/rafthttp/internal/bubble"
)

// insideLog calls a function where a Transport begins to log about a member, inside AddPeer.
type insideLog struct {
	zapcore.Core
	call func()
}

// With implements zapcore.Core.
func (l insideLog) With([]zapcore.Field) zapcore.Core {
	l.call()
	return l
}

// TestAlternatingCallbacks: Process and Received alternate, and each is looked at from time to time.
func TestAlternatingCallbacks(t *testing.T) {
	for _, inside := range []string{"Process", "Received", "IsIDRemoved"} {
		t.Run(inside, func(t *testing.T) {
			bubble.Test(t, func(*testing.T) {
				s := &simulation{book: newBook(), start: time.Now(), report: newReport()}
				m := &member{s: s, id: 1}
				for range 1000 {
					m.lookAtCaller("Process")
					m.lookAtCaller("Received")
				}
				require.Nil(t, s.violation)
				adding := false
				tr := &rafthttp.Transport{
					ID: 1, ClusterID: cluster, Raft: &actor{unreachable: map[uint64]int{}}, URLs: types.MustNewURLs([]string{"http://m1:80"}),
					DialContext: func(context.Context, string, string) (net.Conn, error) { return nil, errors.New("no network") },
					Logger: zap.New(insideLog{zapcore.NewNopCore(), func() {
						if adding {
							adding = false // the call of the other kind comes next
							m.lookAtCaller(inside)
						}
					}}),
				}
				require.NoError(t, tr.Start())
				defer tr.Stop()
				for id := range types.ID(8) { // one of eight is looked at
					adding = true
					tr.AddPeer(2+id, []string{"http://m2:80"})
					require.False(t, adding)
					m.lookAtCaller(map[string]string{"Process": "Received", "Received": "Process"}[inside])
				}
				require.NotNil(t, s.violation)
				require.Equal(t, "send", s.violation.Judge)
			})
		})
	}
}
