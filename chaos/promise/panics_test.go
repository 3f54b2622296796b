package promise_test

import (
	"context"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.etcd.io/etcd/client/pkg/v3/types"
	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"

	"github.com/seed-4d73690b/rafthttp"
	"github.com/seed-4d73690b/rafthttp/internal/bubble"
	"github.com/seed-4d73690b/rafthttp/memnet"
)

// panicWay says which way the message comes whose Process panics, in a process that has to end by it.
const panicWay = "PROMISE_PANIC"

// TestPromisesOfPanics: a panic of Process ends the process, whichever way the message came. Each is one of its own.
func TestPromisesOfPanics(t *testing.T) {
	for _, way := range []string{"stream", "post"} {
		cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run", "^TestPanicOfProcess$", "-test.v")
		cmd.Env = append(os.Environ(), panicWay+"="+way)
		output, err := cmd.CombinedOutput()
		if err == nil || !strings.Contains(string(output), "panic: "+panicText) {
			t.Fatalf("panic: a panic of Process, whose message came by %s, has not ended the process (after 0s)\n%s", way, output)
		}
	}
}

const panicText = "raft has found its log corrupt"

// panicking is a Raft that panics.
type panicking struct{}

func (panicking) Process(context.Context, *raftpb.Message) error { panic(panicText) }
func (panicking) IsIDRemoved(uint64) bool                        { return false }
func (panicking) ReportUnreachable(uint64)                       {}
func (panicking) ReportSnapshot(uint64, raft.SnapshotStatus)     {}

// TestPanicOfProcess is what the processes run.
func TestPanicOfProcess(t *testing.T) {
	way := os.Getenv(panicWay)
	if way == "" {
		t.Skip("it ends the process")
	}
	bubble.Test(t, func(t *testing.T) {
		n := memnet.New()
		start := func(id uint64, host string) *rafthttp.Transport {
			tr := &rafthttp.Transport{ID: types.ID(id), ClusterID: 1, Raft: panicking{}, DialContext: n.Host(host).DialContext}
			require.NoError(t, tr.Start())
			ln, err := n.Host(host).Listen("80")
			require.NoError(t, err)
			server := &http.Server{Handler: tr.Handler(), ReadHeaderTimeout: time.Minute} // which recovers panics
			go func() { _ = server.Serve(ln) }()
			t.Cleanup(func() {
				tr.Stop()
				_ = server.Close()
			})
			return tr
		}
		one, two := start(1, "one"), start(2, "two")
		if way == "stream" {
			two.AddPeer(1, []string{"http://one:80"})
			one.AddPeer(2, []string{"http://two:80"})
			time.Sleep(time.Second)
		} else {
			one.AddRemote(2, []string{"http://two:80"})
		}
		one.Send([]*raftpb.Message{{Type: raftpb.MsgHeartbeat.Enum(), From: new(uint64(1)), To: new(uint64(2)), Term: new(uint64(1))}})
		time.Sleep(time.Minute)
	})
}
