package observe_test

import (
	"expvar"
	"fmt"
	"log/slog"
	"os"

	"go.etcd.io/etcd/client/pkg/v3/types"

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
