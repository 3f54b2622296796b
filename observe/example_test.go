package observe_test

import (
	"expvar"
	"fmt"
	"log/slog"
	"os"

	"go.etcd.io/etcd/client/pkg/v3/types"
	"go.uber.org/zap"

	"github.com/seed-4d73690b/rafthttp"
	"github.com/seed-4d73690b/rafthttp/observe"
)

func ExampleChain() {
	events := new(expvar.Map) // expvar.NewMap publishes one
	mine := &rafthttp.Observer{PeerState: func(id types.ID, active bool, _ error) { fmt.Println("peer", id, active) }}
	t := &rafthttp.Transport{
		ID: 1, Raft: noRaft{},
		Logger:   observe.Zap(slog.NewTextHandler(os.Stderr, nil)),
		Observer: observe.Chain(observe.Counters(events), mine),
	}
	t.Observer.PeerState(2, true, nil) // as the transport does
	fmt.Println(events.Get("peers_activated"))
	// Output:
	// peer 2 true
	// 1
}

// The transport's own log, as lines of log/slog: here in the format of logfmt, without the time.
func ExampleZap() {
	h := slog.NewTextHandler(os.Stdout, &slog.HandlerOptions{ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
		if a.Key == slog.TimeKey {
			return slog.Attr{}
		}
		return a
	}})
	t := &rafthttp.Transport{ID: 1, Raft: noRaft{}, Logger: observe.Zap(h)}
	t.Logger.Info("peer became active", zap.String("remote-peer-id", "2")) // as the transport does
	// Output: level=INFO msg="peer became active" remote-peer-id=2
}
